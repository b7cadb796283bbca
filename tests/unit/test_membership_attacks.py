"""LiRA against slow, literal float64 transcriptions of its formulas; what holds for all attacks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from confsim.membership import Design, fit_gaussians, lira, rmia, threshold_scores
from confsim.statistics import auc


def shadow_sets(member, t, x, partner):
    """Trials that speak about target t and example x: with it, and without it."""
    silent = {t} if partner is None else {t, partner[t]}
    others = [i for i in range(len(member)) if i not in silent]
    return [i for i in others if member[i, x]], [i for i in others if not member[i, x]]


def literal_lira(log_odds, member, *, online, fixed, partner=None, reading="confsim"):
    trials, examples = member.shape
    scores = np.full(member.shape, np.nan)
    for t in range(trials):
        sets = [shadow_sets(member, t, x, partner) for x in range(examples)]
        values = [[log_odds[list(s[k]), x] for x, s in enumerate(sets)] for k in (0, 1)]
        pooled = []
        for side in values:
            residuals = [v - np.median(v) for v in side if len(v)]
            pooled.append(np.std(np.concatenate(residuals)) if residuals else np.nan)
        for x in range(examples):
            found = []
            for k in (0, 1):
                v = values[k][x]
                enough = len(v) >= (1 if fixed else 2)
                spread = (pooled[k] if fixed else np.std(v)) + 1e-30 if enough else np.nan
                found.append((np.median(v) if enough else np.nan, spread))
            (m_in, s_in), (m_out, s_out) = found
            target = log_odds[t, x]
            if online:
                scores[t, x] = norm.logpdf(target, m_in, s_in) - norm.logpdf(target, m_out, s_out)
            elif reading == "tfp":
                scores[t, x] = -norm.logpdf(target, m_out, s_out)
            else:
                scores[t, x] = (target - m_out) / s_out
    return scores


def case(seed, trials=9, examples=13, balanced=False, points=7):
    rng = np.random.default_rng(seed)
    if balanced:
        half = rng.random((trials // 2, examples)) < 0.5
        member = np.stack([half, ~half], axis=1).reshape(-1, examples)
        partner = np.arange(len(member)) ^ 1
    else:
        member, partner = rng.random((trials, examples)) < rng.choice([0.2, 0.5]), None
    log_odds = 4 * rng.normal(size=examples) + 2 * rng.normal(size=member.shape) + member
    return log_odds, member, partner, 3 * rng.normal(size=(len(member), points))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.booleans())
def test_lira_equals_the_formulas(seed, online, fixed, balanced):
    log_odds, member, partner, _ = case(seed, trials=8, balanced=balanced)
    expected = literal_lira(log_odds, member, online=online, fixed=fixed, partner=partner)
    found = lira(log_odds, member, online=online, fixed_variance=fixed, partner=partner)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("fixed", [False, True])
def test_lira_reading_of_tensorflow_privacy(fixed):
    log_odds, member, _, _ = case(3)
    for online in (True, False):
        expected = literal_lira(log_odds, member, online=online, fixed=fixed, reading="tfp")
        found = lira(log_odds, member, online=online, fixed_variance=fixed, reading="tfp")
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("online", [False, True])
def test_lira_reading_of_the_published_script(online, fixed):
    """What its ``generate_ours`` and ``generate_ours_offline`` compute, negated."""
    rng = np.random.default_rng(4)
    member = rng.random((12, 30)) < 0.5
    member[:3], member[3:6] = True, False
    scores = rng.normal(size=(12, 30, 2))
    found = lira(scores, member, online=online, fixed_variance=fixed, reading="carlini-code")
    for t in range(12):
        keep, dat = np.delete(member, t, axis=0), np.delete(scores, t, axis=0)
        dat_in = [dat[keep[:, j], j, :] for j in range(30)]
        dat_out = [dat[~keep[:, j], j, :] for j in range(30)]
        dat_in = np.array([v[: min(map(len, dat_in))] for v in dat_in])
        dat_out = np.array([v[: min(map(len, dat_out))] for v in dat_out])
        mean_in, mean_out = np.median(dat_in, 1), np.median(dat_out, 1)
        if online:
            std_in = np.std(dat_in) if fixed else np.std(dat_in, 1)
            std_out = np.std(dat_in) if fixed else np.std(dat_out, 1)
            pr_in = -norm.logpdf(scores[t], mean_in, std_in + 1e-30)
            pr_out = -norm.logpdf(scores[t], mean_out, std_out + 1e-30)
            prediction = (pr_in - pr_out).mean(1)
        else:
            std_out = np.std(dat_out) if fixed else np.std(dat_out, 1)
            prediction = norm.logpdf(scores[t], mean_out, std_out + 1e-30).mean(1)
        np.testing.assert_allclose(found[t], -prediction, rtol=1e-9)


def test_lira_averages_over_augmentations():
    rng = np.random.default_rng(5)
    member = rng.random((10, 20)) < 0.5
    views = rng.normal(size=(10, 20, 3)) + member[..., None]
    found = lira(views, member, fixed_variance=False)
    each = [lira(views[..., k], member, fixed_variance=False) for k in range(3)]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-12)
    one_variance = lira(views, member, fixed_variance=True)
    side = [[], []]
    for x in range(20):  # TensorFlow Privacy: one standard deviation over models, examples, views
        for k, models in enumerate(shadow_sets(member, 0, x, None)):
            side[k].append(views[models, x] - np.median(views[models, x], axis=0))
    s_in, s_out = (np.std(np.concatenate(residuals)) for residuals in side)
    held, out = shadow_sets(member, 0, 7, None)
    log_in = norm.logpdf(views[0, 7], np.median(views[held, 7], axis=0), s_in)
    log_out = norm.logpdf(views[0, 7], np.median(views[out, 7], axis=0), s_out)
    assert one_variance[0, 7] == pytest.approx(np.mean(log_in - log_out))


def test_lira_chooses_its_variance_by_the_number_of_shadow_models():
    rng = np.random.default_rng(6)
    for trials, fixed in ((64, True), (65, False)):
        member = rng.random((trials, 5)) < 0.5
        log_odds = rng.normal(size=member.shape)
        chosen = lira(log_odds, member, fixed_variance=fixed)
        np.testing.assert_array_equal(lira(log_odds, member), chosen)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([0.5, 4.0, 1000.0]))
def test_lira_with_shrunken_variance(seed, balanced, k):
    """The pooled variance counts as k models."""
    log_odds, member, partner, _ = case(seed, trials=8, balanced=balanced)
    fit = fit_gaussians(log_odds, Design(member, partner))
    found = lira(log_odds, member, shrinkage=k, partner=partner)
    expected = np.full(member.shape, np.nan)
    for t, x in np.ndindex(member.shape):
        log_density = []
        for side, models in enumerate(shadow_sets(member, t, x, partner)):
            v = log_odds[models, x]
            if not len(v):
                break
            pooled = fit.pooled_deviation[side, t]
            spread = np.sqrt((len(v) * np.var(v) + k * pooled**2) / (len(v) + k)) + 1e-30
            log_density.append(norm.logpdf(log_odds[t, x], np.median(v), spread))
        else:
            expected[t, x] = log_density[0] - log_density[1]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_shrinkage_runs_from_own_to_fixed_variance():
    log_odds, member, _, _ = case(15, trials=12)
    for k, fixed in ((0, False), (np.inf, True)):
        found = lira(log_odds, member, shrinkage=k)
        np.testing.assert_array_equal(found, lira(log_odds, member, fixed_variance=fixed))
    with pytest.raises(ValueError, match="shrinkage or fixed_variance, not both"):
        lira(log_odds, member, shrinkage=1.0, fixed_variance=True)
    with pytest.raises(ValueError, match="shrinkage must be at least 0"):
        lira(log_odds, member, shrinkage=-1.0)


def test_float32_and_memory_maps_are_read_as_they_are(tmp_path):
    rng = np.random.default_rng(16)
    member = rng.random((10, 3000)) < 0.5
    views = (rng.normal(size=(10, 3000, 3)) + member[..., None]).astype(np.float32)
    np.save(tmp_path / "views.npy", views)
    mapped = np.load(tmp_path / "views.npy", mmap_mode="r")
    for fixed in (True, False):
        exact = lira(views.astype(np.float64), member, fixed_variance=fixed, n_threads=1)
        found = lira(mapped, member, fixed_variance=fixed, n_threads=3)
        np.testing.assert_array_equal(found, exact)


def test_lira_survives_outliers_and_constants():
    """Nothing cancels: one huge value among equal ones leaves their variance at exactly 0."""
    member = np.zeros((6, 2), dtype=bool)
    member[:3] = True
    log_odds = np.full((6, 2), 0.1)
    log_odds[0, 0] = 1e12
    fit = fit_gaussians(log_odds, Design(member))
    assert fit.deviation[0, 0, 0] == 0
    assert fit.deviation[1].max() == 0
    assert fit.median[0, 0, 0] == 0.1
    scores = lira(log_odds, member, fixed_variance=False)
    assert not np.isnan(scores).any()


def test_too_few_models_give_nan():
    member = np.array([[True, True], [True, False], [False, False], [False, False]])
    log_odds = np.arange(8.0).reshape(4, 2)
    scores = lira(log_odds, member, fixed_variance=False)
    assert np.isnan(scores).all()  # nowhere two models in
    offline = lira(log_odds, member, fixed_variance=False, online=False)
    np.testing.assert_array_equal(np.isnan(offline[:, 0]), [False, False, True, True])
    fixed = lira(log_odds, member, fixed_variance=True)
    np.testing.assert_array_equal(np.isnan(fixed[:, 1]), [True, False, False, False])


NOISE_ATTACKS = {
    "lira online": {},
    "lira online, own variance": {"fixed_variance": False},
    "lira offline": {"online": False},
    "lira offline, own variance": {"online": False, "fixed_variance": False},
    "lira online, shrunken variance": {"shrinkage": 16.0},
}

#: RMIA in all its forms; with ``gamma`` above 1 a score is a count.
NOISE_RATIOS = {
    "rmia": {},
    "rmia offline": {"online": False},
    "rmia, gamma 2": {"gamma": 2.0},
    "rmia offline, gamma 2": {"gamma": 2.0, "online": False},
    "rmia without holdout": {"z": "non-members"},
    "rmia without holdout, gamma 2": {"z": "non-members", "gamma": 2.0},
    "rmia, population": {"z": "population"},
    "rmia, population, gamma 2": {"z": "population", "gamma": 2.0},
    "rmia, trimmed mean": {"cut": 0.2},
}


@pytest.mark.parametrize("kind", ["independent", "balanced", "fixed counts"])
def test_noise_gives_one_half(kind):
    """Scores that know nothing of membership: what is left would come from the counts alone."""
    rng = np.random.default_rng(11)
    trials, examples = 12, 12_000
    options = {}
    if kind == "independent":
        member = rng.random((trials, examples)) < 0.5
    elif kind == "balanced":
        half = rng.random((trials // 2, examples)) < 0.5
        member = np.stack([half, ~half], axis=1).reshape(trials, examples)
        options["partner"] = np.arange(trials) ^ 1
    else:  # each example in exactly four of twelve models, as audited models may have it
        member = np.argsort(rng.random((trials, examples)), axis=0) < 4
        options["trim"] = True
    log_odds = rng.normal(size=member.shape)
    holdout = rng.normal(size=(trials, 300))
    scores = {n: lira(log_odds, member, **kw, **options) for n, kw in NOISE_ATTACKS.items()}
    for name, kw in NOISE_RATIOS.items():
        points = None if "z" in kw else holdout
        scores[name] = rmia(log_odds, member, holdout_log_odds=points, **kw, **options)
    views = rng.normal(size=(*member.shape, 3))
    scores["lira of views"] = lira(views, member, **options)
    points = rng.normal(size=(trials, 300, 3))
    for how in ("mean", "majority"):
        scores[f"rmia, {how} of views"] = rmia(
            views, member, holdout_log_odds=points, views=how, **options
        )
    scores |= threshold_scores(log_odds_true=log_odds, correct=log_odds > 0)
    for name, values in scores.items():
        known = ~np.isnan(values)
        assert abs(auc(values[known], member[known]) - 0.5) < 0.01, name


def test_untrimmed_counts_would_give_membership_away():
    rng = np.random.default_rng(12)
    member = np.argsort(rng.random((12, 12_000)), axis=0) < 6
    log_odds = rng.normal(size=member.shape)
    scores = lira(log_odds, member, fixed_variance=False)
    assert abs(auc(scores, member) - 0.5) > 0.02


def test_trim_uses_equally_many_models():
    rng = np.random.default_rng(13)
    member = rng.random((15, 2500)) < rng.random(2500)
    design = Design(member, trim=True, seed=3)
    fewest = np.minimum(member.sum(axis=0), (~member).sum(axis=0))
    found = fit_gaussians(rng.normal(size=member.shape), design).models
    expected = np.maximum(fewest - 1, 0)
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def test_threads_change_nothing():
    log_odds, member, _, holdout = case(14, trials=10, examples=3000)
    for attack in (lira, lambda *a, **k: rmia(*a, holdout_log_odds=holdout, **k)):
        one = attack(log_odds, member, n_threads=1)
        np.testing.assert_array_equal(one, attack(log_odds, member, n_threads=3))


def test_threshold_scores_point_to_members():
    scores = threshold_scores(
        log_odds_max=np.array([[3.0, 1.0]]),
        modified_entropy=np.array([[0.1, 2.0]]),
        distance_excluding_self=np.array([[0.1, 0.4]]),
    )
    assert list(scores) == ["confidence", "modified_entropy", "closeness"]
    assert all(s[0, 0] > s[0, 1] for s in scores.values())


GOOD = np.zeros((4, 3)), np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]], dtype=bool)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"log_odds": np.zeros((4, 2))}, ValueError, r"shape .*\(4, 2\)"),
        ({"log_odds": np.zeros(4)}, ValueError, "shape"),
        ({"log_odds": np.full((4, 3), np.nan)}, ValueError, "log_odds must be finite"),
        ({"log_odds": np.diag([0, 1, -1e300, 0])[:, :3]}, ValueError, r"row 2 holds -1e\+300"),
        ({"is_member": np.full((4, 3), "True")}, ValueError, "is_member must be boolean"),
        ({"is_member": np.where(GOOD[1], 1, -1)}, ValueError, "0 and 1, but .* holds -1"),
        ({"is_member": np.where(GOOD[1], 1, np.nan)}, ValueError, "0 and 1, but .* holds nan"),
        ({"log_odds": np.full((4, 3), "x")}, TypeError, "log_odds must be numbers"),
        ({"partner": [1, 0, 3, 3]}, ValueError, "pair"),
        ({"partner": [1, 0, 3, 9]}, ValueError, "number of a trial"),
        ({"partner": [2, 3, 0, 1]}, ValueError, "complement"),
        ({"partner": [1, 0, 3, 2], "trim": True}, ValueError, "trim"),
        ({"reading": "mine"}, ValueError, "reading must be one of"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_input(change, error, words):
    arguments = {"log_odds": GOOD[0], "is_member": GOOD[1], **change}
    for attack in (lira, rmia):
        with pytest.raises(error, match=words):
            attack(**arguments)
