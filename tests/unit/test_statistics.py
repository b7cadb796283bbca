"""confsim.statistics against literal definitions, scikit-learn, SciPy and simulated coverage."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from confsim import ConfsimWarning
from confsim._kernels.stats import resample_counts
from confsim.statistics import (
    CORRELATION,
    POSITIVE,
    RATE,
    UNBOUNDED,
    CrossedAuc,
    Roc,
    agresti_caffo,
    auc,
    auc_by_column,
    average_ranks,
    check_membership,
    clopper_pearson,
    corrected_for_attenuation,
    delong,
    delong_interval,
    mean_interval,
    percent_name,
    roc,
    spearman,
    spearman_brown,
    spearman_interval,
    student_t_interval,
    tpr_at_fpr,
    two_way_bootstrap,
)


@st.composite
def labelled_scores(draw):
    count = draw(st.integers(2, 40))
    values = st.one_of(
        st.integers(-3, 3).map(float),
        st.floats(-10, 10),
        st.sampled_from([np.inf, -np.inf, 0.0, -0.0]),
    )
    scores = np.array(draw(st.lists(values, min_size=count, max_size=count)))
    member = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    member[0], member[1] = True, False
    return scores, member


def literal_points(scores, member):
    """(tpr, fpr, threshold) of every threshold, the one that calls nobody a member included."""
    rates = [
        (np.mean(scores[member] >= t), np.mean(scores[~member] >= t), t) for t in np.unique(scores)
    ]
    return [(0.0, 0.0, np.inf), *rates]


@settings(max_examples=150)
@given(labelled_scores(), st.sampled_from([0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 1.0]))
def test_roc_equals_the_definition(case, level):
    scores, member = case
    curve = roc(scores, member)
    pairs = [(m > n) + 0.5 * (m == n) for m in scores[member] for n in scores[~member]]
    assert curve.auc == pytest.approx(np.mean(pairs), abs=1e-12)
    points = literal_points(scores, member)
    assert curve.advantage == pytest.approx(max(t - f for t, f, _ in points), abs=1e-12)
    assert curve.balanced_accuracy == (1 + curve.advantage) / 2
    best = max(t for t, f, _ in points if f <= level)
    found = curve.at_fpr(level)
    assert found.tpr == pytest.approx(best, abs=1e-12)
    assert found.fpr <= level
    if found.true_positives:
        assert found.tpr == np.mean(scores[member] >= found.threshold)
        assert found.fpr == pytest.approx(np.mean(scores[~member] >= found.threshold), abs=1e-12)
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(curve.fpr) >= 0)
    assert np.all(np.diff(curve.tpr) >= 0)
    trapezoid = np.sum(np.diff(curve.fpr) * (curve.tpr[1:] + curve.tpr[:-1]) / 2)
    assert trapezoid == pytest.approx(curve.auc, abs=1e-12)


@settings(max_examples=100)
@given(labelled_scores())
def test_auc_equals_sklearn(case):
    scores, member = case
    finite = np.nan_to_num(scores, posinf=100, neginf=-100)
    assert auc(finite, member) == pytest.approx(metrics.roc_auc_score(member, finite), abs=1e-12)


def test_curve_equals_sklearn_on_ties():
    rng = np.random.default_rng(1)
    scores, member = rng.integers(0, 20, 500) / 4, rng.random(500) < 0.4
    fpr, tpr, _ = metrics.roc_curve(member, scores, drop_intermediate=False)
    curve = roc(scores, member)
    np.testing.assert_allclose(curve.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.tpr, tpr, atol=1e-12)


@settings(max_examples=60)
@given(st.integers(1, 300), st.sampled_from([0.1, 0.01, 0.001, 0.3, 0.7, 1 / 3]))
def test_an_fpr_that_equals_the_level_is_allowed(count, level):
    """0.1 * 30 is 3.0000000000000004 in floats; three in thirty is still ten percent."""
    scores = np.concatenate([np.arange(count), np.arange(count) + 0.5])
    member = np.arange(2 * count) >= count
    point = roc(scores, member).at_fpr(level)
    assert point.fpr <= level
    assert (point.false_positives + 1) / count > level or point.tpr == 1


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 5))
def test_auc_by_column(seed, rows, columns):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (rows, columns)).astype(float)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    member = rng.random(scores.shape) < 0.5
    found = auc_by_column(scores, member)
    for j in range(columns):
        known = ~np.isnan(scores[:, j])
        kinds = member[known, j]
        if kinds.all() or not kinds.any():
            assert np.isnan(found[j])
        else:
            assert found[j] == pytest.approx(auc(scores[known, j], kinds), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "member", "words"),
    [
        ([1.0, 2.0], [True], "same shape"),
        ([1.0, np.nan], [True, False], "entry 1"),
        ([1.0, 2.0], [True, True], "no non-member"),
        ([1.0, 2.0], [0, 0], "no member"),
        ([1.0, 2.0], [0, 2], "only 0 and 1"),
    ],
)
def test_bad_scores(scores, member, words):
    with pytest.raises(ValueError, match=words):
        roc(scores, member)


def test_scores_must_be_numbers():
    with pytest.raises(TypeError, match="scores"):
        roc(["a", "b"], [True, False])


def test_few_false_positives_warn():
    scores, member = np.arange(100.0), np.arange(100) % 2 == 0
    with pytest.warns(ConfsimWarning, match="fewer than 5"):
        tpr_at_fpr(scores, member, 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tpr_at_fpr(scores, member, 0.1)
        tpr_at_fpr(scores, member, 0)


def test_precision():
    point = roc([3.0, 2, 1, 0], [True, False, True, False]).at_fpr(0.5)
    assert (point.tpr, point.fpr) == (1.0, 0.5)
    assert point.precision(0.1) == pytest.approx(0.1 / (0.1 + 0.9 * 0.5))
    zero = roc([3.0, 2, 1, 0], [True, False, True, False]).at_fpr(0)
    assert zero.precision(0.01) == 1
    upper = stats.binomtest(0, 2).proportion_ci().high
    assert zero.precision_bound(0.01) == pytest.approx(0.01 * 0.5 / (0.005 + 0.99 * upper))
    assert np.isnan(roc([0.0, 1], [True, False]).at_fpr(0).precision(0.5))


def test_clopper_pearson_equals_scipy():
    for k, n in [(0, 1), (1, 1), (3, 10), (10, 10), (0, 500), (499, 500)]:
        expected = stats.binomtest(k, n).proportion_ci(0.95, "exact")
        np.testing.assert_allclose(clopper_pearson(k, n), tuple(expected), rtol=1e-10)
    assert clopper_pearson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="successes"):
        clopper_pearson(3, 2)


def test_student_t_equals_scipy():
    values = np.random.default_rng(2).normal(size=9)
    mean, low, high = student_t_interval(values, 0.9)
    expected = stats.t.interval(0.9, 8, values.mean(), stats.sem(values))
    np.testing.assert_allclose((low, high), expected)
    assert student_t_interval([*values, np.nan], 0.9) == (mean, low, high)
    assert np.isnan(student_t_interval([1.0])[1])
    assert np.isnan(student_t_interval([1.0, 2.0])[1])
    with pytest.raises(ValueError, match="level"):
        student_t_interval(values, 1.0)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30))
def test_spearman_equals_scipy(pairs):
    x, y = np.array(pairs, dtype=float).T
    np.testing.assert_array_equal(average_ranks(x), stats.rankdata(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stats.spearmanr(x, y).statistic
    assert spearman(x, y) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_ranks_within_groups():
    rng = np.random.default_rng(3)
    x, group = rng.integers(0, 6, 200), rng.integers(0, 7, 200)
    found = average_ranks(x, group)
    for g in range(7):
        np.testing.assert_array_equal(found[group == g], stats.rankdata(x[group == g]))


def test_spearman_leaves_nan_out():
    assert spearman_interval([1, 2, 3, np.nan], [1, 2, 3, 0]).pairs == 3
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert np.isnan(spearman([np.nan], [1]))


def test_percent_name():
    assert [percent_name(a) for a in (0.1, 0.01, 0.0001, 0)] == ["10pct", "1pct", "0.01pct", "0pct"]


def test_bootstrap_ignores_threads_and_nan():
    rng = np.random.default_rng(4)
    member = rng.random((8, 50)) < 0.5
    scores = rng.normal(size=member.shape) + member
    one = two_way_bootstrap(scores, member, n_threads=1, replicates=50)
    assert one == two_way_bootstrap(scores, member, n_threads=2, replicates=50)
    wider = np.hstack([scores, np.full((8, 1), np.nan)])
    found = two_way_bootstrap(wider, np.hstack([member, member[:, :1]]), replicates=50)
    assert found["auc"] == pytest.approx(one["auc"], abs=0.05)
    few = two_way_bootstrap(scores[:3], member[:3])
    assert all(np.isnan(low) for low, _ in few.values())


def test_bootstrap_beyond_the_thresholds():
    """A matrix with more scores than thresholds gives the interval of the same matrix rounded."""
    rng = np.random.default_rng(5)
    member = rng.random((20, 2000)) < 0.5
    scores = rng.normal(size=member.shape) + member
    fine = two_way_bootstrap(scores, member, replicates=100)
    coarse = two_way_bootstrap(np.round(scores, 3), member, replicates=100)
    for name in ("auc", "advantage", "tpr_at_fpr_10pct", "tpr_at_fpr_1pct"):
        np.testing.assert_allclose(fine[name], coarse[name], atol=0.004)
    curve = roc(scores, member)
    low, high = fine["tpr_at_fpr_0.1pct"]
    assert low < curve.at_fpr(0.001).tpr < high


def test_bootstrap_draws_groups_together():
    rng = np.random.default_rng(6)
    member = rng.random((8, 400)) < 0.5
    scores = rng.normal(size=member.shape) + member
    doubled = two_way_bootstrap(
        np.repeat(scores, 2, axis=0), np.repeat(member, 2, axis=0), row_groups=np.arange(16) // 2
    )
    alone = two_way_bootstrap(scores, member)
    assert doubled["auc"] == pytest.approx(alone["auc"], abs=1e-12)


def test_resample_counts_equals_the_definition():
    rng = np.random.default_rng(7)
    codes = rng.integers(0, 9, (5, 40)).astype(np.uint16)
    rows = rng.integers(0, 3, (6, 5)).astype(np.uint16)
    columns = rng.integers(0, 3, (6, 40)).astype(np.uint16)
    for threads in (1, 3):
        found = resample_counts(codes, rows, columns, 9, threads, 0)
        for replicate in range(6):
            weights = np.outer(rows[replicate], columns[replicate])
            expected = np.bincount(codes.ravel(), weights.ravel(), minlength=9)
            np.testing.assert_array_equal(found[replicate], expected)
    for change in (
        {"bins": 8},
        {"row_weights": rows[:, :4].copy()},
        {"column_weights": columns[:5]},
        {"codes": codes[:0], "row_weights": rows[:, :0]},
    ):
        given = {"codes": codes, "row_weights": rows, "column_weights": columns, "bins": 9}
        with pytest.raises(ValueError, match=r"codes|weights"):
            resample_counts(**(given | change), threads=1, isa=0)


# ---- simulated coverage: fixed seeds, so these never fail by chance ----------------------------


def covered(low, high, truth):
    return (low <= truth) & (truth <= high)


def test_clopper_pearson_covers():
    rng = np.random.default_rng(10)
    for rate, n in [(0.01, 300), (0.1, 50), (0.5, 30), (0.97, 80)]:
        low, high = clopper_pearson(rng.binomial(n, rate, 4000), n)
        assert covered(low, high, rate).mean() >= 0.94


def test_agresti_caffo_covers():
    rng = np.random.default_rng(11)
    for a, b in [(0.9, 0.5), (0.99, 0.7), (0.5, 0.5)]:
        low, high = agresti_caffo(rng.binomial(20, a, 4000), 20, rng.binomial(20, b, 4000), 20)
        assert covered(low, high, a - b).mean() >= 0.92


def target_scores(rng, targets, examples):
    """Independent targets whose strength varies, examples that are easier or harder to attack."""
    member = rng.random((targets, examples)) < 0.5
    strength = 1 + 0.3 * rng.normal(size=(targets, 1)) + 0.5 * rng.normal(size=(1, examples))
    return rng.normal(size=member.shape) + strength * member, member


def test_student_t_over_targets_covers():
    rng = np.random.default_rng(12)
    strengths = stats.norm.rvs(1, 0.3, size=(1500, 16), random_state=rng)
    per_target = stats.norm.cdf(strengths / np.sqrt(2))  # the AUC at that strength
    truth = stats.norm.cdf(1 / np.sqrt(2) / np.sqrt(1 + 0.3**2 / 2))
    intervals = [student_t_interval(row) for row in per_target]
    assert np.mean([low <= truth <= high for _, low, high in intervals]) >= 0.92


def test_two_way_bootstrap_covers():
    rng = np.random.default_rng(13)
    truth = roc(*target_scores(rng, 1500, 1500))
    wanted = {
        "auc": truth.auc,
        "tpr_at_fpr_10pct": truth.at_fpr(0.1).tpr,
        "tpr_at_fpr_1pct": truth.at_fpr(0.01).tpr,
    }
    hits = dict.fromkeys(wanted, 0)
    repeats = 160
    for repeat in range(repeats):
        found = two_way_bootstrap(*target_scores(rng, 16, 150), replicates=200, seed=repeat)
        for name, value in wanted.items():
            hits[name] += found[name][0] <= value <= found[name][1]
    assert min(hits.values()) >= 0.92 * repeats, hits


def test_spearman_interval_covers():
    rng = np.random.default_rng(14)
    pearson = 0.5
    truth = 6 / np.pi * np.arcsin(pearson / 2)
    hits = 0
    for _ in range(500):
        x = rng.normal(size=100)
        y = pearson * x + np.sqrt(1 - pearson**2) * rng.normal(size=100)
        found = spearman_interval(x, y)
        hits += found.low <= truth <= found.high
    assert hits >= 0.92 * 500


# ---- intervals within bounds -------------------------------------------------------------------

SCALES = {"rate": RATE, "correlation": CORRELATION, "positive": POSITIVE, "any": UNBOUNDED}


@given(
    st.sampled_from(sorted(SCALES)),
    st.lists(st.floats(0, 1), min_size=3, max_size=12),
    st.floats(0.5, 0.999),
)
def test_mean_intervals_hold_the_mean_and_stay_in_bounds(scale, values, level):
    low, high = SCALES[scale]
    mean, bottom, top = mean_interval(values, (low, high), level)
    assert mean == pytest.approx(np.mean(values))
    assert low <= bottom <= mean + 1e-12
    assert mean - 1e-12 <= top <= high


def test_mean_intervals_are_student_t_on_their_scale():
    values = np.array([0.91, 0.95, 0.93, 0.9])
    half = stats.t.ppf(0.975, 3) * values.std(ddof=1) / 2
    mean = values.mean()
    logit = np.log(mean / (1 - mean)) + np.array([-1, 1]) * half / (mean * (1 - mean))
    assert mean_interval(values, RATE)[1:] == pytest.approx(tuple(1 / (1 + np.exp(-logit))))
    fisher = np.arctanh(mean) + np.array([-1, 1]) * half / (1 - mean**2)
    assert mean_interval(values, CORRELATION)[1:] == pytest.approx(tuple(np.tanh(fisher)))
    log = np.log(mean) + np.array([-1, 1]) * half / mean
    assert mean_interval(values, POSITIVE)[1:] == pytest.approx(tuple(np.exp(log)))


def test_mean_intervals_at_the_ends():
    assert mean_interval([1.0, 1.0, 1.0], RATE) == (1.0, 1.0, 1.0)
    assert np.isnan(mean_interval([0.9, 1.0], RATE)[1:]).all()
    assert np.isnan(mean_interval([np.nan], RATE)).all()
    with pytest.raises(ValueError, match="values must be between 0 and 1"):
        mean_interval([0.5, 1.1, 0.7], RATE)


def share_covered(intervals, truth):
    return np.mean([covered(low, high, truth) for _, low, high in intervals])


@pytest.mark.parametrize("trials", [3, 5, 20])
@pytest.mark.parametrize(("a", "b"), [(5, 1), (50, 50), (100, 0.5)])
def test_mean_intervals_of_rates_cover(trials, a, b):
    """At least as well as Student's t, which is about 95% where rates are far from 0 and 1."""
    values = np.random.default_rng(0).beta(a, b, (1500, trials))
    found = share_covered([mean_interval(row, RATE) for row in values], a / (a + b))
    plain = share_covered([student_t_interval(row) for row in values], a / (a + b))
    assert found >= plain - 0.005
    assert found > 0.9
    if a == b:
        assert found == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("trials", [3, 10])
def test_mean_intervals_of_correlations_cover(trials):
    rng = np.random.default_rng(1)
    values = np.tanh(rng.normal(0.3, 0.2, (1500, trials)))
    truth = np.tanh(rng.normal(0.3, 0.2, 200_000)).mean()
    found = share_covered([mean_interval(row, CORRELATION) for row in values], truth)
    assert found == pytest.approx(0.95, abs=0.02)


# ---- DeLong ------------------------------------------------------------------------------------


@given(labelled_scores())
def test_delong_equals_the_definition(case):
    scores, member = case
    area, deviation, fewest = delong(scores, member)
    x, y = scores[member], scores[~member]
    won = (x[:, None] > y) + (x[:, None] == y) / 2
    assert area == pytest.approx(won.mean())
    assert fewest == min(won.shape)
    if fewest < 2:
        assert np.isnan(deviation)
    else:
        by_member, by_other = (np.var(won.mean(axis=k), ddof=1) / won.shape[1 - k] for k in (1, 0))
        assert deviation == pytest.approx(np.sqrt(by_member + by_other))
    _, low, high = delong_interval(scores, member)
    assert np.isnan(low) == (fewest < 2)
    if fewest >= 2:
        assert 0 <= low <= area + 1e-12
        assert area - 1e-12 <= high <= 1


@pytest.mark.parametrize(("members", "others"), [(12, 12), (40, 200)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_delong_interval_covers(members, others, shift):
    rng = np.random.default_rng(2)
    member = np.arange(members + others) < members
    truth = stats.norm.cdf(shift / np.sqrt(2))
    scores = rng.normal(size=(800, len(member))) + shift * member
    found = share_covered([delong_interval(row, member) for row in scores], truth)
    assert 0.91 < found < 0.99


def test_delong_interval_of_a_perfect_attack():
    member = np.arange(30) < 10
    area, low, high = delong_interval(member, member)
    assert (area, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025**0.1)
    assert delong_interval(~member, member) == pytest.approx((0.0, 0.0, 1 - 0.025**0.1))
    assert np.isnan(delong_interval([1.0, 2.0], [True, True])).all()


# ---- membership --------------------------------------------------------------------------------


def test_membership_errors_name_the_row():
    with pytest.raises(ValueError, match=r"held must be boolean.* but row 2 holds nan"):
        check_membership([0, 1, np.nan], "held")
    with pytest.raises(ValueError, match="row 0, column 1 holds 'yes'"):
        check_membership(np.array([[True, "yes"]], dtype=object))
    with pytest.raises(ValueError, match="row 1 holds masked"):
        check_membership(np.ma.masked_array([True, False], mask=[False, True]))
    assert check_membership(np.array([1, True, 0.0], dtype=object)).tolist() == [True, True, False]
    assert check_membership(np.zeros((0, 3))).shape == (0, 3)


# ---- reliability -------------------------------------------------------------------------------


def test_correction_for_attenuation_recovers_the_correlation():
    """Two noisy halves of a figure that goes with another one."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=20_000)
    other = truth + rng.normal(size=truth.size)
    halves = [truth + 2 * rng.normal(size=truth.size) for _ in range(2)]
    reliability = spearman_brown(spearman(*halves))
    plain = spearman_interval(sum(halves), other)
    found = corrected_for_attenuation(plain, reliability)
    assert plain.value < 0.45
    assert found.value == pytest.approx(spearman(truth, other), abs=0.03)
    assert found.low < found.value < found.high
    assert np.isnan(corrected_for_attenuation(plain, 0.01).value)
    assert np.isnan(corrected_for_attenuation(plain, np.nan).value)
    assert np.isnan(spearman_brown(-1.0))


# ---- new trials and new examples -----------------------------------------------------------------


def crossed(scores, member, pairs=False):
    found = CrossedAuc(scores.shape[1])
    curves = []
    for row, held in zip(scores, member, strict=True):
        order = np.argsort(row)
        inside = held[order]
        curves.append((Roc(row[order][inside], row[order][~inside]), order[inside], order[~inside]))
    for group in zip(curves[::2], curves[1::2], strict=True) if pairs else [[c] for c in curves]:
        found.add(list(group))
    return found


def test_placements_give_the_auc_and_delongs_interval():
    rng = np.random.default_rng(30)
    for ties in (False, True):
        member = rng.random(300) < 0.3
        scores = rng.normal(size=300) + member
        scores = np.round(scores, 1) if ties else scores
        curve = roc(scores, member)
        for found, own, others in (
            (curve.placements()[0], curve.member_scores, curve.non_member_scores),
            (1 - curve.placements()[1], curve.non_member_scores, curve.member_scores),
        ):
            literal = [np.mean(others < x) + np.mean(others == x) / 2 for x in own]
            np.testing.assert_allclose(found, literal)
        found = curve.auc, *curve.auc_interval()
        assert found == pytest.approx(delong_interval(scores, member), rel=1e-14)


@pytest.mark.parametrize("pairs", [False, True])
def test_crossed_variances_equal_their_definition(pairs):
    """With a jackknife for what an example contributes, which an AUC equals to first order."""
    rng = np.random.default_rng(31)
    trials, examples = 8, 400
    member = rng.random((trials, examples)) < 0.5
    scores = rng.normal(size=member.shape) + member * (0.5 + rng.normal(size=examples))
    keep = np.arange(examples)[:, None] != np.arange(examples)[None]
    areas = np.array([auc(s, m) for s, m in zip(scores, member, strict=True)])
    moved = np.array(
        [[area - auc(s[k], m[k]) for k in keep]
         for s, m, area in zip(scores, member, areas, strict=True)]
    )  # fmt: skip
    if pairs:
        areas, moved = (
            areas.reshape(-1, 2).mean(axis=1),
            moved.reshape(-1, 2, examples).mean(axis=1),
        )
    groups = len(areas)
    of_examples = np.sum(moved.mean(axis=0) ** 2)
    noise = (np.sum(moved**2) / groups - of_examples) / (groups - 1)
    of_trials = np.var(areas, ddof=1) / groups
    variance = max(of_trials + of_examples - noise, of_trials, of_examples)
    freedom = variance**2 / (of_trials**2 / (groups - 1) + of_examples**2 / (examples - 1))
    mean, low, high = crossed(scores, member, pairs).interval()
    assert mean == pytest.approx(areas.mean())
    odds = [np.log(x / (1 - x)) for x in (low, high)]
    half = (odds[1] - odds[0]) / 2 * mean * (1 - mean)
    expected = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    assert half == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("trials", "examples", "by_trial", "by_example", "share"),
    [(5, 200, 0.3, 0.0, 0.5), (20, 100, 0.2, 1.0, 0.5), (40, 300, 0.0, 2.0, 0.5),
     (20, 800, 0.3, 1.0, 0.03)],
)  # fmt: skip
def test_crossed_intervals_cover_new_trials_and_new_examples(
    trials, examples, by_trial, by_example, share
):
    rng = np.random.default_rng(32)

    def draw(trials, examples):
        member = rng.random((trials, examples)) < share
        leak = (
            0.5 + by_trial * rng.normal(size=(trials, 1)) + by_example * rng.normal(size=examples)
        )
        return rng.normal(size=member.shape) + member * leak, member

    truth = np.mean([crossed(*draw(4, 5000)).interval()[0] for _ in range(60)])
    found = np.array([crossed(*draw(trials, examples)).interval() for _ in range(300)])
    covered = np.mean((found[:, 1] <= truth) & (truth <= found[:, 2]))
    assert 0.92 <= covered <= 0.99


def test_crossed_intervals_of_few_trials_and_of_none_that_differ():
    member = np.arange(20) < 10
    apart = np.tile(np.arange(20)[::-1] * 1.0, (3, 1))
    assert np.isnan(crossed(apart[:2], np.tile(member, (2, 1))).interval()[1:]).all()
    assert crossed(apart, np.tile(member, (3, 1))).interval() == (1.0, 1.0, 1.0)
