"""What is made of scores: transferred thresholds, agreement, false discoveries, leverage."""

import doctest
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from confsim.membership import (
    agreement,
    benjamini_hochberg,
    best_attack,
    blind_baseline,
    discoveries,
    evaluate,
    leverage,
    leverage_without,
    lira,
    p_values,
    success_by,
    transfer,
    transferred_thresholds,
)
from confsim.membership.leverage import leverage_among, too_wide
from confsim.statistics import clopper_pearson, roc

module = sys.modules["confsim.membership.leverage"]


def balanced(rng, trials, examples):
    member = rng.random((trials, examples)) < 0.5
    member[1::2] = ~member[::2]
    return member, np.arange(trials) ^ 1


# ---- transferred thresholds --------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(0.3, 0.1, 0.01, 0.0, 1.0), (0.1, 0.01), (0.0,), (0.3,)]),
)
def test_thresholds_equal_their_definition(seed, paired, ties, gaps, levels):
    rng = np.random.default_rng(seed)
    member, partner = balanced(rng, 6, 30)
    partner = partner if paired else None
    scores = rng.normal(size=member.shape)
    scores = np.round(scores) if ties else scores
    scores[rng.random(scores.shape) < (0.2 if gaps else 0)] = np.nan
    found = transferred_thresholds(scores, member, levels=levels, partner=partner)
    for t in range(6):
        others = [i for i in range(6) if i != t and not (paired and i == t ^ 1)]
        pool = scores[others][~member[others]]
        pool = pool[~np.isnan(pool)]
        for level, threshold in zip(levels, found[t], strict=True):
            assert np.mean(pool >= threshold) <= level
            smaller = np.nextafter(threshold, -np.inf)
            assert threshold == -np.inf or np.mean(pool >= smaller) > level


def test_transferred_rates_equal_a_literal_count():
    rng = np.random.default_rng(1)
    member, partner = balanced(rng, 6, 500)
    scores = rng.normal(size=member.shape) + member
    rows = transfer(scores, member, levels=(0.1, 0.01), partner=partner, targets=range(10, 16))
    cuts = transferred_thresholds(scores, member, levels=(0.1, 0.01), partner=partner)
    row = next(r for r in rows if r["target"] == 13 and r["level"] == 0.01)
    called = scores[3] >= cuts[3, 1]
    assert row["tpr"] == np.mean(called[member[3]])
    assert row["realised_fpr"] == np.mean(called[~member[3]])
    low, high = clopper_pearson(np.sum(called & member[3]), np.sum(member[3]))
    assert (row["tpr_low"], row["tpr_high"]) == (low, high)
    hits, false = 0.1 * row["tpr"], 0.9 * row["realised_fpr"]
    assert row["precision_prior_10pct"] == pytest.approx(hits / (hits + false))
    assert row["precision_prior_10pct_low"] < row["precision_prior_10pct"]
    assert row["oracle_tpr"] == roc(scores[3], member[3]).at_fpr(0.01).tpr
    assert row["few_false_positives"] == (0.01 * np.sum(~member[3]) < 5)
    mean = next(r for r in rows if r["target"] == "mean" and r["level"] == 0.1)
    each = [r["tpr"] for r in rows if r["target"] != "mean" and r["level"] == 0.1]
    assert mean["tpr"] == pytest.approx(np.mean(each))
    assert mean["tpr_low"] < mean["tpr"] < mean["tpr_high"]
    hits, false = 0.01 * mean["tpr"], 0.99 * mean["realised_fpr"]
    assert mean["precision_prior_1pct"] == pytest.approx(hits / (hits + false))


def test_realised_rates_are_those_wanted_where_targets_are_alike():
    rng = np.random.default_rng(2)
    member = rng.random((20, 2000)) < 0.5
    log_odds = 3 * rng.normal(size=2000) + rng.normal(size=member.shape) + member
    rows = transfer(lira(log_odds, member), member, levels=(0.1, 0.01))
    for row in rows[-2:]:
        assert row["target"] == "mean"
        assert row["realised_fpr"] == pytest.approx(row["level"], rel=0.15)


def test_the_target_never_chooses_its_threshold():
    rng = np.random.default_rng(3)
    member, partner = balanced(rng, 6, 100)
    scores = rng.normal(size=member.shape)
    before = transferred_thresholds(scores, member, partner=partner)
    scores[2:4] = 50.0
    after = transferred_thresholds(scores, member, partner=partner)
    np.testing.assert_array_equal(before[2:4], after[2:4])
    assert not np.array_equal(before[0], after[0])


def test_intervals_cover_the_rates_of_new_examples():
    """Clopper-Pearson of one target at a given threshold: at least 95%, over new examples."""
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(300):
        member = rng.random((4, 400)) < 0.5
        scores = rng.normal(size=member.shape) + member
        row = transfer(scores, member, levels=(0.1,))[0]
        true = math.erfc(row["threshold"] / math.sqrt(2)) / 2
        covered.append(row["realised_fpr_low"] <= true <= row["realised_fpr_high"])
    assert np.mean(covered) > 0.93


def test_pooled_targets_count_distinct_examples():
    """100 trials of 600 examples are 600 examples, not 30,000: 0.1% of them is nothing."""
    rng = np.random.default_rng(18)
    member = rng.random((100, 600)) < 0.5
    rows = evaluate(rng.normal(size=member.shape), member, replicates=2)
    assert rows[-1]["few_false_positives"] == "0.1pct 0.01pct"


# ---- agreement ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["transferred", "oracle"])
def test_agreement_equals_literal_sets(how):
    rng = np.random.default_rng(5)
    member = rng.random((7, 120)) < 0.5
    skill = rng.random(120) < 0.2
    one = rng.normal(size=member.shape) + 3 * member * skill
    two = one + rng.normal(size=member.shape)
    two[0, :5] = np.nan
    found = agreement({"one": one, "two": two}, member, level=0.1, threshold=how)
    sets = {}
    for name, scores in (("one", one), ("two", two)):
        for t in range(7):
            cut = transferred_thresholds(scores, member, levels=[0.1])[t, 0]
            if how == "oracle":
                known = ~np.isnan(scores[t])
                cut = roc(scores[t, known], member[t, known]).at_fpr(0.1).threshold
            sets[name, t] = set(np.flatnonzero((scores[t] >= cut) & member[t]))
    row = found.attacks[0]
    times = np.array([sum(x in sets["one", t] for t in range(7)) for x in range(120)])
    np.testing.assert_array_equal(times, found.times_found["one"])
    held = member.sum(axis=0)
    assert row["found"] == times.sum()
    assert row["coverage"] == np.mean(times[held >= 1] > 0)
    assert row["stability"] == np.mean((times == held)[held >= 2])
    each = []
    for i in range(7):
        for j in range(i):
            common = set(np.flatnonzero(member[i] & member[j]))
            a, b = sets["one", i] & common, sets["one", j] & common
            if a | b:
                each.append(len(a & b) / len(a | b))
    assert row["jaccard_trials"] == pytest.approx(np.mean(each), rel=1e-6)
    pair = found.pairs[0]
    both = [(sets["one", t], sets["two", t]) for t in range(7)]
    assert pair["intersection"] == sum(len(a & b) for a, b in both)
    assert pair["union"] == sum(len(a | b) for a, b in both)
    jaccard = np.mean([len(a & b) / len(a | b) for a, b in both if a | b])
    assert pair["jaccard"] == pytest.approx(jaccard)
    assert found.union == pair["union"] / member.sum()


def test_agreement_of_noise_is_that_of_chance():
    rng = np.random.default_rng(6)
    member = rng.random((10, 5000)) < 0.5
    found = agreement({"noise": rng.normal(size=member.shape)}, member, level=0.1).attacks[0]
    assert found["jaccard_trials"] == pytest.approx(found["jaccard_trials_chance"], abs=0.01)


# ---- success by similarity ---------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([3, None]))
def test_success_equals_literal_counts(seed, bins):
    rng = np.random.default_rng(seed)
    member = rng.random((6, 40)) < 0.5
    member[:, 0], member[:, 1] = True, False
    called = {"one": rng.random(member.shape) < 0.3, "two": rng.random(member.shape) < 0.9}
    values, memorized = rng.integers(0, 4, 40).astype(float), rng.normal(size=40)
    values[2] = np.nan
    rows = success_by(values, called, member, bins=bins, memorization=memorized)
    seen = dict.fromkeys(called, 0)
    for row in rows:
        name, hits = row["attack"], called[row["attack"]]
        seen[name] += row["examples"]
        if bins is not None:
            continue
        chosen = np.flatnonzero(values == row["value_low"])
        assert row["examples"] == len(chosen)
        shares, others, once, always = [], [], [], []
        for x in chosen:
            held = member[:, x]
            if held.any():
                shares.append(hits[held, x].mean())
                once.append(hits[held, x].any())
            if held.sum() >= 2:
                always.append(hits[held, x].all())
            if not held.all():
                others.append(hits[~held, x].mean())
        assert row["memorization"] == pytest.approx(memorized[chosen].mean())
        for key, literal in (("tpr", shares), ("fpr", others), ("coverage", once),
                             ("stability", always)):  # fmt: skip
            expected = np.mean(literal) if literal else np.nan
            assert row[key] == pytest.approx(expected, nan_ok=True), key
    assert seen == {"one": 39, "two": 39}


def test_intervals_of_success_cover_new_examples():
    rng = np.random.default_rng(19)
    covered = []
    for _ in range(300):
        member = rng.random((12, 60)) < 0.5
        called = rng.random(member.shape) < rng.beta(2, 3, size=60)  # 0.4 in the mean
        row = success_by(np.zeros(60), {"a": called}, member, bins=1)[0]
        covered.append(row["tpr_low"] <= 0.4 <= row["tpr_high"])
    assert np.mean(covered) > 0.92


# ---- false discoveries -------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.booleans())
def test_rank_p_values_equal_their_definition(seed, ties):
    rng = np.random.default_rng(seed)
    member = rng.random((8, 12)) < 0.5
    x = rng.normal(size=member.shape)
    x = np.round(x) if ties else x
    found = p_values(x, member)
    for t, i in np.ndindex(member.shape):
        out = [x[u, i] for u in range(8) if u != t and not member[u, i]]
        expected = (1 + np.sum(np.array(out) >= x[t, i])) / (1 + len(out)) if out else np.nan
        assert found[t, i] == pytest.approx(expected, nan_ok=True)


def test_adjusted_p_values_equal_scipys():
    p = np.random.default_rng(7).random((5, 40)) ** 2
    expected = false_discovery_control(p.reshape(-1)).reshape(p.shape)
    np.testing.assert_allclose(benjamini_hochberg(p), expected)
    p[2, 3] = np.nan
    found = benjamini_hochberg(p)
    known = ~np.isnan(p)
    np.testing.assert_allclose(found[known], false_discovery_control(p[known]))
    assert np.isnan(found[2, 3])


@pytest.mark.parametrize("kind", ["rank", "normal"])
def test_lists_hold_no_more_false_ones_than_they_say(kind):
    rng = np.random.default_rng(8)
    member = rng.random((100, 800)) < 0.5
    log_odds = rng.normal(size=member.shape) + 5 * member * (rng.random(800) < 0.6)
    rows = discoveries(p_values(log_odds, member, kind=kind), member, q=0.1)
    assert rows[-1]["target"] == "pooled"
    assert rows[-1]["flagged"] > 1000
    assert np.nanmean([row["false_share"] for row in rows[:-1]]) <= 0.1
    assert rows[-1]["false_share_low"] <= rows[-1]["false_share"] <= rows[-1]["false_share_high"]
    assert rows[-1]["expected_false"] == pytest.approx(0.1 * rows[-1]["flagged"])


def test_nothing_is_flagged_where_nothing_leaks():
    rng = np.random.default_rng(9)
    member = rng.random((40, 500)) < 0.5
    log_odds = rng.normal(size=member.shape)
    rows = discoveries(p_values(log_odds, member), member, q=0.05)
    assert sum(row["flagged"] > 0 for row in rows[:-1]) <= 6
    assert rows[0]["needed"] >= 1


# ---- blind baseline ----------------------------------------------------------------------------


def test_the_blind_baseline_finds_nothing_in_a_randomised_design():
    rng = np.random.default_rng(10)
    found = {"logistic regression": [], "gradient boosting": []}
    for seed in range(15):
        x, labels = rng.normal(size=(200, 3)), rng.integers(3, size=200)
        for baseline in blind_baseline(x, rng.random(200) < 0.5, labels=labels, seed=seed):
            found[baseline.classifier].append(baseline)
    for each in found.values():
        areas = np.array([baseline.auc for baseline in each])
        assert abs(areas.mean() - 0.5) < 3 * areas.std() / np.sqrt(len(areas))
        assert np.mean([baseline.tells_members for baseline in each]) <= 0.2


def test_the_blind_baseline_finds_a_shift_and_keeps_groups_together():
    rng = np.random.default_rng(11)
    x = rng.normal(size=(400, 2))
    member = rng.random(400) < 1 / (1 + np.exp(-2 * x[:, 0]))
    for found in blind_baseline(x, member):
        assert found.tells_members
        assert "by themselves" in str(found)
    # Copies with equal membership: only groups keep them from being recognised.
    x, member = np.repeat(rng.normal(size=(150, 2)), 4, axis=0), np.repeat(np.arange(150) % 2, 4)
    loose = blind_baseline(x, member)[1].auc
    grouped = blind_baseline(x, member, groups=np.repeat(np.arange(150), 4))[1].auc
    assert loose > 0.75
    assert grouped < 0.65


# ---- the best attack ---------------------------------------------------------------------------


def test_the_best_of_equal_attacks_is_not_overstated():
    rng = np.random.default_rng(16)
    honest, naive = [], []
    for seed in range(300):
        found = best_attack({str(k): 0.6 + 0.05 * rng.normal(size=8) for k in range(20)}, seed=seed)
        honest.append(found.value)
        naive.append(found.naive)
        assert not set(found.chosen_on) & set(found.quoted_on)
    assert np.mean(honest) == pytest.approx(0.6, abs=0.005)
    assert np.mean(naive) > 0.62


def test_best_attack_keeps_pairs_together_and_says_so():
    assert best_attack({"a": np.arange(8) / 8, "b": np.full(8, np.nan)}) is None
    found = best_attack({"a": np.arange(8) / 8, "b": np.zeros(8)}, partner=np.arange(8) ^ 1)
    assert {t ^ 1 for t in found.quoted_on} == set(found.quoted_on)
    assert found.sentence().startswith("The best of the attacks, chosen on 4 targets, is a: AUC")
    with pytest.raises(ValueError, match="equally long, but 'b'"):
        best_attack({"a": [1.0, 2.0], "b": [1.0]})


# ---- leverage ----------------------------------------------------------------------------------


def literal_leverage(x, rows, ridge, intercept):
    penalty = ridge * np.eye(len(x))
    if intercept:
        rows, x = np.column_stack([np.ones(len(rows)), rows]), np.append(1.0, x)
        penalty = np.pad(penalty, ((1, 0), (1, 0)))
    return x @ np.linalg.solve(rows.T @ rows + penalty, x)


@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.sampled_from([(30, 4, 0.0), (30, 4, 0.5), (5, 9, 0.5), (5, 9, 30.0)]),
    st.booleans(),
)
def test_leverage_equals_the_hat_matrix(seed, shape, intercept):
    rng = np.random.default_rng(seed)
    n, d, ridge = shape
    training = rng.normal(size=(n, d)) * rng.uniform(0.1, 10, size=d)
    points = np.vstack([training, rng.normal(size=(6, d))])
    own = np.append(np.arange(n), np.full(6, -1))
    found = leverage(points, training, self_index=own, ridge=ridge, intercept=intercept)
    expected = [literal_leverage(x, training, ridge, intercept) for x in points]
    without = [
        literal_leverage(
            x, np.delete(training, i, axis=0) if i >= 0 else training, ridge, intercept
        )
        for x, i in zip(points, own, strict=True)
    ]
    np.testing.assert_allclose(found.leverage, expected, rtol=1e-7)
    np.testing.assert_allclose(found.excluding_self, without, rtol=1e-6)
    assert found.degrees_of_freedom == pytest.approx(sum(expected[:n]))


def test_leverage_where_columns_depend_on_each_other():
    rng = np.random.default_rng(17)
    training = rng.normal(size=(20, 3))
    training = np.column_stack([training, training[:, 0] + training[:, 1]])
    found = leverage(training)
    np.testing.assert_allclose(found.leverage, leverage(training[:, :3]).leverage)
    outside = leverage(np.array([[1.0, 0.0, 0.0, 5.0]]), training)
    assert outside.leverage[0] == np.inf
    few = leverage(rng.normal(size=(4, 9)).astype(np.float32), intercept=False)
    np.testing.assert_allclose(few.leverage, 1.0)
    assert np.isinf(few.excluding_self).all()


@pytest.mark.parametrize(("n", "d", "ridge"), [(30, 4, 0.0), (30, 4, 0.5), (6, 9, 0.5)])
@pytest.mark.parametrize("intercept", [False, True])
def test_leverage_without_any_row_equals_the_hat_matrix(n, d, ridge, intercept):
    rng = np.random.default_rng(18)
    training = rng.normal(size=(n, d)) * rng.uniform(0.1, 10, size=d)
    points = np.vstack([training, 3 * rng.normal(size=(8, d))])
    gone = rng.integers(-1, n, size=len(points))
    gone[0], gone[-1] = 0, -1
    found = leverage_without(points, training, gone, ridge=ridge, intercept=intercept)
    expected = [
        literal_leverage(
            x, np.delete(training, i, axis=0) if i >= 0 else training, ridge, intercept
        )
        for x, i in zip(points, gone, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_leverage_without_the_only_row_of_a_direction():
    training = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    points = np.array([[3.0, 0.0], [3.0, 1.0], [3.0, 1.0]])
    found = leverage_without(points, training, [3, 3, 0])
    assert found[0] == pytest.approx(leverage(points[:1, :1], training[:3, :1]).leverage[0])
    assert found[1] == np.inf
    assert np.isfinite(found[2])


# ---- documentation -----------------------------------------------------------------------------

MODULES = [
    *("agreement", "attacks", "best", "blind", "calibration", "discoveries", "epsilon", "leverage"),
    *("lira", "population", "quantile", "rmia", "signals", "success", "thresholds", "traces"),
    "transfer",
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_the_documentation(module):
    found = doctest.testmod(sys.modules[f"confsim.membership.{module}"])
    assert found.attempted > 0
    assert found.failed == 0


# ---- bad input ---------------------------------------------------------------------------------

SCORES, MEMBER = np.zeros((3, 4)), np.array([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: transfer(SCORES, MEMBER * 2 - 1), "0 and 1, but .* holds -1"),
        (lambda: transfer(SCORES[:2], MEMBER), "both have shape"),
        (lambda: transfer(SCORES, MEMBER, levels=[2.0]), "levels must be at most 1"),
        (lambda: transfer(SCORES, MEMBER, priors=[0.0]), "priors must be greater than 0"),
        (lambda: transfer(SCORES, MEMBER, partner=[1, 0, 2]), "partner must pair"),
        (lambda: success_by([1.0], {}, MEMBER), "values must be a number for each of the"),
        (lambda: success_by([1, 2, 3, 4], {"a": SCORES - 1}, MEMBER), "called.'a'. must be bool"),
        (lambda: success_by([1, 2, 3, 4], {"a": [1]}, MEMBER), "must have the shape of is_member"),
        (lambda: agreement({}, MEMBER), "at least one attack"),
        (lambda: agreement({"a": SCORES}, MEMBER, level=-1), "level must be at least 0"),
        (lambda: agreement({"a": SCORES}, MEMBER, threshold="b"), "threshold must be one of"),
        (lambda: p_values(SCORES, MEMBER, kind="exact"), "kind must be one of"),
        (lambda: benjamini_hochberg([0.1, 1.2]), r"p must be in \[0, 1\]"),
        (lambda: discoveries(SCORES, MEMBER, q=1.0), r"q must be in \(0, 1\)"),
        (lambda: discoveries([[-0.2, 0.5]], [[1, 0]]), r"p must be in \[0, 1\]"),
        (lambda: blind_baseline(np.zeros((4, 2)), [1, 1, 1, 1]), "no non-member"),
        (lambda: blind_baseline(np.zeros((4, 2)), [1, 0, 1, 0]), "at least 5 of either class"),
        (lambda: blind_baseline(np.zeros((3, 2)), [1, 0, 1, 0]), "features must have shape"),
        (lambda: leverage(np.zeros((3, 2)), np.zeros((3, 4))), "4 columns of training, not 2"),
        (
            lambda: leverage_without(np.zeros((1, 2)), np.zeros((3, 2)), [-2]),
            r"left_out must be in \[-1, 3\), but row 0 is -2",
        ),
        (lambda: leverage(np.zeros((3, 2)), ridge=-1), "ridge must be at least 0"),
        (
            lambda: leverage(np.zeros((1, 2)), np.zeros((3, 2)), self_index=[3]),
            r"self_index must be in \[-1, 3\), but row 0 is 3",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, words):
    with pytest.raises((ValueError, TypeError), match=words) as error:
        call()
    assert "\n" not in str(error.value)


# ---- leverage among examples -------------------------------------------------------------------


@pytest.mark.parametrize(("count", "columns"), [(60, 5), (30, 40), (12, 12), (2, 3), (1, 2)])
@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_leverage_among_examples_equals_the_hat_matrix(count, columns, kind, monkeypatch):
    monkeypatch.setattr(module, "_ENTRIES", 50)  # some rows, or columns, at a time
    rng = np.random.default_rng(count)
    points = (40 * rng.random((count, columns)) + 5).astype(kind)
    points[:, 0] = 7  # as a pixel at the border
    found = leverage_among(points.reshape(count, columns, 1))
    x = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    ridge = (x**2).sum() / max(1, min(count - 1, columns))
    if ridge == 0:
        assert found.tolist() == [1.0]
        return
    hat = x @ np.linalg.inv(x.T @ x + ridge * np.eye(columns)) @ x.T + 1 / count
    assert found == pytest.approx(np.diag(hat), rel=1e-9)
    assert found == pytest.approx(leverage(points, ridge=ridge).leverage, rel=1e-9)


def test_leverage_of_equal_examples_is_their_share():
    assert leverage_among(np.ones((4, 3), np.uint8)).tolist() == [0.25] * 4


def test_leverage_that_would_take_minutes_is_not_begun():
    assert not too_wide(60_000, 784)
    assert not too_wide(50_000, 3072)
    assert not too_wide(1000, 150_528)
    assert too_wide(100_000, 12_288)
    assert too_wide(10_000, 150_528)
