"""RMIA against a slow, literal float64 transcription of its formulas, and of another program."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import trim_mean

from confsim.membership import class_log_odds, rmia, rmia_resolution, tune_rmia
from confsim.statistics import auc


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def voters(member, target, partner):
    silent = {target} if partner is None else {target, partner[target]}
    return [i for i in range(len(member)) if i not in silent]


def literal_ratios(p, member, target, partner, *, online, a, cut):
    """p(x | theta) / p(x) of every example of one view; NaN where p(x) has no model."""
    found = np.full(p.shape[1], np.nan)
    for x in range(p.shape[1]):
        others = voters(member, target, partner)
        held = [i for i in others if member[i, x]]
        out = [i for i in others if not member[i, x]]
        if not out or (online and not held):
            continue
        mean_out = trim_mean(p[out, x], cut)
        prior = ((1 + a) * mean_out + 1 - a) / 2
        if online:
            prior = (trim_mean(p[held, x], cut) + mean_out) / 2
        found[x] = p[target, x] / prior
    return found


def literal_holdout_ratios(p, member, target, partner, *, online, a, cut):
    mean = np.array([trim_mean(column, cut) for column in p[voters(member, target, partner)].T])
    return p[target] / (mean if online else ((1 + a) * mean + 1 - a) / 2)


def literal_rmia(
    log_odds, member, holdout=None, *, z, online=True, gamma=1.0, a=0.3, cut=0.0, partner=None,
    majority=False,
):  # fmt: skip
    views = np.moveaxis(log_odds[..., None] if log_odds.ndim == 2 else log_odds, 2, 0)
    how = {"online": online, "a": a, "cut": cut}
    scores = np.full(member.shape, np.nan)
    for t in range(len(member)):
        x = np.array([literal_ratios(sigmoid(v), member, t, partner, **how) for v in views])
        points = x
        if z == "holdout":
            parts = np.moveaxis(holdout[..., None] if holdout.ndim == 2 else holdout, 2, 0)
            points = np.array(
                [literal_holdout_ratios(sigmoid(v), member, t, partner, **how) for v in parts]
            )
        if not majority:
            x, points = x.mean(axis=0)[None], points.mean(axis=0)[None]
        for i in range(member.shape[1]):
            use = ~np.isnan(points[0])
            if z != "holdout":
                use[i] = False
            if z == "non-members":
                use &= ~member[t]
            if not np.isnan(x[0, i]):
                wins = (x[:, i, None] / points[:, use] >= gamma).sum(axis=0) > len(x) / 2
                scores[t, i] = np.mean(wins)
    return scores


def case(seed, trials=8, examples=13, balanced=False, points=7, views=0):
    rng = np.random.default_rng(seed)
    if balanced:
        half = rng.random((trials // 2, examples)) < 0.5
        member = np.stack([half, ~half], axis=1).reshape(-1, examples)
        partner = np.arange(len(member)) ^ 1
    else:
        member, partner = rng.random((trials, examples)) < rng.choice([0.2, 0.5]), None
        member[:, 0], member[:2, 0] = False, True
        member[:, 1] = ~member[:, 0]
        member[:, :2] = member[:, :2] != (rng.random((trials, 1)) < 0.2)
    shape = (views,) if views else ()
    log_odds = 4 * rng.normal(size=(examples, *shape)) + 2 * rng.normal(
        size=(*member.shape, *shape)
    )
    log_odds += member.reshape(*member.shape, *[1] * len(shape))
    return log_odds, member, partner, 3 * rng.normal(size=(len(member), points, *shape))


@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["holdout", "population"]),
    st.floats(0.2, 3),
    st.sampled_from([0.0, 0.1, 0.2, 0.35]),
    st.sampled_from([0, 3]),
)
def test_rmia_equals_the_formulas(seed, online, balanced, z, gamma, cut, views):
    log_odds, member, partner, holdout = case(seed, balanced=balanced, views=views)
    how = {"z": z, "online": online, "gamma": gamma, "cut": cut, "partner": partner}
    expected = literal_rmia(log_odds, member, holdout, **how)
    found = rmia(log_odds, member, holdout_log_odds=holdout, **how)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_non_members_without_x(seed, online, balanced):
    log_odds, member, partner, _ = case(seed, examples=25, balanced=balanced)
    expected = literal_rmia(log_odds, member, z="non-members", online=online, partner=partner)
    found = rmia(log_odds, member, online=online, partner=partner)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.8, 1.5]), st.sampled_from([2, 3]))
def test_majority_vote_of_views(seed, gamma, views):
    log_odds, member, _, holdout = case(seed, views=views)
    for z in ("holdout", "population"):
        how = {"z": z, "gamma": gamma}
        expected = literal_rmia(log_odds, member, holdout, majority=True, **how)
        found = rmia(log_odds, member, holdout_log_odds=holdout, views="majority", **how)
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.2, 2.0])
@pytest.mark.parametrize("kind", ["spread", "narrow", "ties"])
def test_denominators_do_not_betray_non_members(kind, gamma):
    """A non-member has one point fewer to be compared with; many examples share a count."""
    rng = np.random.default_rng(2)
    member = rng.random((8, 4000)) < 0.5
    log_odds = rng.normal(size=member.shape) * (0.05 if kind == "narrow" else 2.0)
    if kind == "ties":
        log_odds = np.round(log_odds / 4)
    scores = rmia(log_odds, member, z="non-members", gamma=gamma)
    each = [auc(s[~np.isnan(s)], m[~np.isnan(s)]) for s, m in zip(scores, member, strict=True)]
    assert abs(np.mean(each) - 0.5) < 0.01


def literal_privacy_meter(log_odds, member, population, a):
    """Transcribed: probabilities, the largest signals of out models, gamma 1 exceeded."""
    all_signals, population_signals = sigmoid(log_odds).T, sigmoid(population).T

    def out_signals(signals, memberships, target, count):
        paired = target + 1 if target % 2 == 0 else target - 1
        columns = [i for i in range(signals.shape[1]) if i not in (target, paired)][: 2 * count]
        out = signals[:, columns] * ~memberships[:, columns]
        return -np.sort(-out, axis=1)[:, :count]

    scores = np.empty(member.shape)
    nobody = np.zeros(population_signals.shape, dtype=bool)
    count = (len(member) - 2) // 2
    for t in range(len(member)):
        mean_x = np.mean(out_signals(all_signals, member.T, t, count), axis=1)
        ratio_x = all_signals[:, t] / ((1 + a) / 2 * mean_x + (1 - a) / 2)
        mean_z = np.mean(out_signals(population_signals, nobody, t, count), axis=1)
        ratio_z = population_signals[:, t] / ((1 + a) / 2 * mean_z + (1 - a) / 2)
        scores[t] = np.average(ratio_x[:, None] / ratio_z > 1.0, axis=1)
    return scores


@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("with_partner", [False, True])
def test_reading_of_privacy_meter(a, with_partner):
    log_odds, member, partner, holdout = case(8, trials=10, examples=40, balanced=True, points=30)
    holdout[:, :3] = holdout[:, 3:6]  # ties
    expected = literal_privacy_meter(log_odds, member, holdout, a)
    found = rmia(
        log_odds,
        member,
        holdout_log_odds=holdout,
        reading="privacy-meter",
        a=a,
        partner=partner if with_partner else None,
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("z", ["non-members", "population"])
def test_ties_with_gamma_one(z):
    """An example that equals a point of Z in every model ties with it, and never with itself."""
    log_odds, member, _, _ = case(9, trials=6)
    log_odds[:, 4], member[:, 4] = log_odds[:, 5], member[:, 5]
    expected = literal_rmia(log_odds, member, z=z, online=False)
    np.testing.assert_allclose(rmia(log_odds, member, z=z, online=False), expected, atol=1e-12)


def test_nothing_underflows():
    """Probabilities of 1e-400 are below every float; their ratios are not."""
    rng = np.random.default_rng(10)
    member = rng.random((6, 10)) < 0.5
    member[0], member[1] = True, False
    log_odds = rng.normal(size=(6, 10)) - 921.0
    shifted = rmia(log_odds, member, z="population")
    known = ~np.isnan(shifted)
    assert known.mean() > 0.8
    assert len(np.unique(shifted[known])) == 10
    expected = rmia(log_odds + 880.0, member, z="population")
    np.testing.assert_allclose(shifted, expected, atol=1e-12)


def test_one_confident_model_does_not_swallow_the_others():
    """Leaving out a term that is 1e300 times the others must leave the others exact."""
    rng = np.random.default_rng(11)
    member = rng.random((9, 30)) < 0.5
    log_odds = rng.normal(size=(9, 30)) - 700.0
    log_odds[3] = 5.0
    with np.errstate(all="ignore"):
        expected = literal_rmia(log_odds, member, z="population")
    np.testing.assert_allclose(rmia(log_odds, member, z="population"), expected, atol=1e-12)


def test_the_target_and_its_partner_never_vote():
    log_odds, member, partner, holdout = case(12, balanced=True, examples=40)
    before = rmia(log_odds, member, holdout_log_odds=holdout, partner=partner)
    changed, held = log_odds.copy(), holdout.copy()
    changed[3], held[3] = 9.0, -9.0
    after = rmia(changed, member, holdout_log_odds=held, partner=partner)
    np.testing.assert_array_equal(after[2], before[2])
    assert not np.array_equal(after[4], before[4])


def test_float32_and_memory_maps_are_read_as_they_are(tmp_path):
    log_odds, member, _, holdout = case(13, trials=10, examples=3000, views=2)
    np.save(tmp_path / "values.npy", log_odds.astype(np.float32))
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    exact = rmia(np.asarray(mapped, dtype=np.float64), member, holdout_log_odds=holdout)
    for threads in (1, 3):
        found = rmia(mapped, member, holdout_log_odds=holdout, n_threads=threads)
        np.testing.assert_array_equal(found, exact)


# ---- tuning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("online", [False, True])
def test_tuning_equals_attacking_the_mock_target(balanced, online):
    log_odds, member, partner, holdout = case(20, balanced=balanced, examples=60, points=30)
    grid = {"gammas": (1.0, 1.3), "offline_as": (0.0, 0.5)}
    found = tune_rmia(
        log_odds, member, holdout_log_odds=holdout, online=online, partner=partner, **grid
    )
    for t in range(len(member)):
        rows = voters(member, t, partner)
        mock = found.mock[t]
        assert mock in rows
        pairs = None if partner is None else [rows.index(partner[i]) for i in rows]
        best = 0.0
        for a in grid["offline_as"]:
            for gamma in grid["gammas"]:
                how = {"online": online, "gamma": gamma, "a": a, "partner": pairs}
                every = rmia(log_odds[rows], member[rows], holdout_log_odds=holdout[rows], **how)
                score, held = every[rows.index(mock)], member[mock]
                known = ~np.isnan(score)
                best = max(best, auc(score[known], held[known]))
        assert found.auc[t] == pytest.approx(best)


def test_tuning_does_not_look_at_the_target():
    log_odds, member, _, holdout = case(21, examples=60, trials=9)
    before = tune_rmia(log_odds, member, holdout_log_odds=holdout, online=False)
    changed, labels, held = log_odds.copy(), member.copy(), holdout.copy()
    changed[4], labels[4], held[4] = 0.0, ~labels[4], 1.0
    after = tune_rmia(changed, labels, holdout_log_odds=held, online=False)
    assert (before.gamma[4], before.a[4], before.auc[4]) == (
        after.gamma[4],
        after.a[4],
        after.auc[4],
    )
    scores = rmia(log_odds, member, gamma=before.gamma, a=before.a, online=False)
    alone = rmia(log_odds, member, gamma=before.gamma[4], a=before.a[4], online=False)
    np.testing.assert_array_equal(scores[4], alone[4])


# ---- signals -----------------------------------------------------------------------------------


def literal_probability(logits, label, signal, temperature, order, margin):
    z = np.asarray(logits, dtype=np.float64) / temperature
    if signal == "softmax":
        terms = np.exp(z)
        return terms[label] / terms.sum()

    def taylor(v):
        return sum(v**i / np.prod(np.arange(1.0, i + 1)) for i in range(order + 1))

    top = taylor(z[label] - (margin if signal == "sm-taylor" else 0.0))
    return top / (top + sum(taylor(z[k]) for k in range(len(z)) if k != label))


@pytest.mark.parametrize("signal", ["softmax", "taylor", "sm-taylor"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_signals_equal_their_formulas(signal, shape):
    rng = np.random.default_rng(30)
    logits, labels = 3 * rng.normal(size=(*shape, 6)), rng.integers(6, size=5)
    how = {"temperature": 2.0, "order": 4, "margin": 0.6}
    found = class_log_odds(logits, labels, signal=signal, **how)
    assert found.shape == shape
    for index in np.ndindex(shape):
        p = literal_probability(logits[index], labels[index[1]], signal, 2.0, 4, 0.6)
        assert found[index] == pytest.approx(np.log(p) - np.log1p(-p), abs=1e-9)


def test_softmax_signal_is_stable():
    logits = np.array([[[1000.0, 0.0, -1000.0]]])
    assert class_log_odds(logits, [0])[0, 0] == 1000.0
    assert class_log_odds(logits, [2])[0, 0] == -2000.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": [0, 6]}, r"labels must be in \[0, 3\), but row 1 is 6"),
        ({"labels": [0]}, "one for each of the 2 examples"),
        ({"logits": np.zeros((2, 3))}, "logits must have shape"),
        ({"logits": np.zeros((4, 2, 1))}, "at least two classes"),
        ({"logits": np.full((4, 2, 3), np.nan)}, "logits must be finite"),
        ({"signal": "tailor"}, "signal must be one of"),
        ({"temperature": 0}, "temperature must be greater than 0"),
        ({"signal": "taylor", "order": 3}, "order must be even"),
        ({"margin": -1}, "margin must be at least 0"),
    ],
)
def test_bad_signals(change, words):
    with pytest.raises(ValueError, match=words):
        class_log_odds(**{"logits": np.zeros((4, 2, 3)), "labels": [0, 1], **change})


# ---- resolution and bad input ------------------------------------------------------------------


def test_resolution_names_what_cannot_be_resolved():
    rng = np.random.default_rng(40)
    member = rng.random((4, 3000)) < 0.5
    found = rmia_resolution(member, holdout_points=50)
    scores = rmia(rng.normal(size=member.shape), member, holdout_log_odds=rng.normal(size=(4, 50)))
    assert found.levels == 51 == len(np.unique(np.round(scores[0] * 50)))
    assert found.unresolved(1500) == (0.01, 0.001, 0.0001, 0.0)
    assert rmia_resolution(member).points == (~member).sum(axis=1).min() - 1
    assert rmia_resolution(member, z="population").points == 2999
    assert rmia_resolution(member).unresolved(1400) == ()


GOOD = np.zeros((4, 3)), np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]], dtype=bool)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gamma": 0}, "gamma"),
        ({"gamma": [1.0, 2.0]}, "one for each trial"),
        ({"gamma": [1.0, 2.0, 0.0, 1.0]}, "gamma must be greater than 0"),
        ({"a": 2}, "a must be at most 1"),
        ({"cut": 0.5}, "cut must be less than 0.5"),
        ({"cut": -0.1}, "cut must be at least 0"),
        ({"views": "vote"}, "views must be one of"),
        ({"z": "holdout"}, "needs holdout_log_odds"),
        ({"z": "everyone"}, "z must be one of"),
        ({"reading": "privacy-meter"}, "needs holdout_log_odds"),
        ({"holdout_log_odds": np.zeros((3, 5))}, "holdout_log_odds"),
        ({"holdout_log_odds": np.zeros((4, 0))}, "at least one point"),
        ({"holdout_log_odds": np.zeros((4, 5, 2))}, "trials and augmentations"),
        ({"holdout_log_odds": np.full((4, 5), np.inf)}, "holdout_log_odds must be finite"),
        ({"holdout_log_odds": np.full((4, 5), 1e200)}, "holdout_log_odds must be at most"),
    ],
)
def test_bad_input(change, words):
    with pytest.raises(ValueError, match=words):
        rmia(*GOOD, **change)
