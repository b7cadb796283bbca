"""Attacks beside LiRA and RMIA against slow, literal float64 transcriptions of their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim.membership import (
    attack_p,
    attack_r,
    base,
    class_thresholds,
    difficulty_calibration,
    quantile_regression,
    trace_scores,
)
from confsim.statistics import auc


def case(seed, trials=8, examples=15, balanced=False, views=0, ties=False):
    rng = np.random.default_rng(seed)
    partner = None
    member = rng.random((trials, examples)) < 0.5
    if balanced:
        member[1::2] = ~member[::2]
        partner = np.arange(trials) ^ 1
    shape = (*member.shape, views) if views else member.shape
    log_odds = 2 * rng.normal(size=shape) + (member[..., None] if views else member)
    return np.round(log_odds) if ties else log_odds, member, partner


def models(member, t, x, partner):
    others = [i for i in range(len(member)) if i != t and (partner is None or i != partner[t])]
    return [i for i in others if member[i, x]], [i for i in others if not member[i, x]]


def by_example(log_odds, member, partner, score):
    views = log_odds[..., None] if log_odds.ndim == 2 else log_odds
    found = np.zeros(member.shape)
    for t, x in np.ndindex(member.shape):
        held, out = models(member, t, x, partner)
        found[t, x] = np.mean(
            [score(v[t, x], v[held, x], v[out, x]) for v in np.moveaxis(views, 2, 0)]
        )
    return found


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def mean(values):
    return np.mean(values) if len(values) else np.nan


LITERAL = {
    attack_r: lambda x, held, out: mean(out < x),
    difficulty_calibration: lambda x, held, out: x - mean(out),
    base: lambda x, held, out: np.log(
        sigmoid(x) / ((mean(sigmoid(held)) + mean(sigmoid(out))) / 2)
    ),
}


@settings(max_examples=40)
@given(
    st.sampled_from(list(LITERAL)),
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from([0, 3]),
    st.booleans(),
)
def test_attacks_equal_their_formulas(attack, seed, balanced, views, ties):
    log_odds, member, partner = case(seed, balanced=balanced, views=views, ties=ties)
    expected = by_example(log_odds, member, partner, LITERAL[attack])
    found = attack(log_odds, member, partner=partner)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_base_offline():
    log_odds, member, _ = case(3)
    expected = by_example(
        log_odds, member, None, lambda x, held, out: np.log(sigmoid(x) / mean(sigmoid(out)))
    )
    np.testing.assert_allclose(base(log_odds, member, online=False), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["holdout", "non-members"])
def test_attack_p_is_a_rank(kind):
    log_odds, member, _ = case(4, ties=True, views=2)
    holdout = np.round(2 * np.random.default_rng(5).normal(size=(8, 20, 2)))
    found = attack_p(log_odds, member, holdout_log_odds=holdout, z=kind)
    for t, x in np.ndindex(member.shape):
        value = log_odds[t, x].mean()
        z = holdout[t].mean(axis=1) if kind == "holdout" else log_odds[t, ~member[t]].mean(axis=1)
        assert found[t, x] == pytest.approx(np.mean(z < value) + np.mean(z == value) / 2)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("ties", [False, True])
def test_class_thresholds_equal_the_formula(balanced, ties):
    scores, member, partner = case(6, examples=30, balanced=balanced, ties=ties)
    labels = np.arange(30) % 3
    found = class_thresholds(scores, member, labels, partner=partner)
    if partner is not None:
        strided = np.repeat(partner, 2)[::2]
        again = class_thresholds(scores, member, labels, partner=strided)
        np.testing.assert_array_equal(again, found)
    for t in range(8):
        others = [i for i in range(8) if i != t and (partner is None or i != partner[t])]
        for label in range(3):
            v, m = (a[others][:, labels == label].ravel() for a in (scores, member))
            cuts = np.unique(v)[::-1]
            gain = [np.sum(v[m] >= c) * np.sum(~m) - np.sum(v[~m] >= c) * np.sum(m) for c in cuts]
            threshold = cuts[int(np.argmax(gain))]
            np.testing.assert_allclose(
                found[t, labels == label], scores[t, labels == label] - threshold
            )


def test_trace_scores_equal_the_formulas():
    traces = 3 * np.random.default_rng(7).normal(size=(2, 11, 9))
    found = trace_scores(traces)
    loss = np.log1p(np.exp(-traces))
    quartiles = np.percentile(loss, [25, 75], axis=1)
    np.testing.assert_allclose(found["lt_iqr"], quartiles[1] - quartiles[0])
    np.testing.assert_allclose(found["final_minus_mean"], traces[:, -1] - traces.mean(axis=1))
    alone = trace_scores(traces[1].astype(np.float32))
    np.testing.assert_allclose(alone["lt_iqr"], found["lt_iqr"][1], rtol=1e-5)


def noise_scores(log_odds, member, labels, options):
    trim = options.get("trim", False)
    partner = {"partner": options.get("partner")}
    rng = np.random.default_rng(12)
    holdout = rng.normal(size=(len(member), 300))
    yield "attack_p", attack_p(log_odds, member, holdout_log_odds=holdout)
    yield "attack_p, non-members", attack_p(log_odds, member)
    yield "attack_r", attack_r(log_odds, member, **options)
    yield "calibration", difficulty_calibration(log_odds, member, **options)
    yield "base", base(log_odds, member, **options)
    yield "base, offline", base(log_odds, member, online=False, **options)
    if not trim:
        yield "class thresholds", class_thresholds(log_odds, member, labels, **partner)
    traces = rng.normal(size=(len(member), 10, member.shape[1]))
    yield from trace_scores(traces).items()
    features = rng.normal(size=(member.shape[1], 2))
    yield (
        "quantile regression",
        quantile_regression(
            log_odds,
            features,
            labels,
            holdout_log_odds=holdout,
            holdout_features=rng.normal(size=(300, 2)),
            holdout_labels=rng.integers(3, size=300),
            fpr=0.1,
        ),
    )


@pytest.mark.parametrize("kind", ["independent", "balanced", "fixed counts"])
def test_noise_gives_one_half(kind):
    rng = np.random.default_rng(11)
    trials, examples = 12, 12_000
    options = {}
    member = rng.random((trials, examples)) < 0.5
    if kind == "balanced":
        member[1::2] = ~member[::2]
        options["partner"] = np.arange(trials) ^ 1
    elif kind == "fixed counts":
        member = np.argsort(rng.random((trials, examples)), axis=0) < 4
        options["trim"] = True
    labels = rng.integers(3, size=examples)
    for name, scores in noise_scores(rng.normal(size=member.shape), member, labels, options):
        known = ~np.isnan(scores)
        assert abs(auc(scores[known], member[known]) - 0.5) < 0.01, name


@pytest.mark.parametrize("attack", [attack_r, difficulty_calibration, base, class_thresholds])
def test_the_target_and_its_partner_never_vote(attack):
    log_odds, member, partner = case(13, examples=40, balanced=True)
    extra = (np.zeros(40, dtype=int),) if attack is class_thresholds else ()
    before = attack(log_odds, member, *extra, partner=partner)
    changed = log_odds.copy()
    changed[3] = 9.0
    after = attack(changed, member, *extra, partner=partner)
    np.testing.assert_allclose(after[2], before[2], rtol=1e-13, atol=1e-13)
    assert not np.array_equal(after[4], before[4])


def test_quantile_regression_finds_what_exceeds_its_quantile():
    rng = np.random.default_rng(14)
    z, x = rng.uniform(size=(2000, 1)), rng.uniform(size=(1000, 1))
    member = rng.random(1000) < 0.5
    scores = quantile_regression(
        5 * x[:, 0] + 0.1 * rng.normal(size=1000) + 0.5 * member,
        x,
        np.zeros(1000, int),
        holdout_log_odds=5 * z[:, 0] + 0.1 * rng.normal(size=2000),
        holdout_features=z,
        holdout_labels=np.zeros(2000, int),
        fpr=0.1,
    )
    assert np.mean(scores[~member] >= 0) < 0.2
    assert np.mean(scores[member] >= 0) > 0.7


QUANTILE = {
    "log_odds": np.zeros(4),
    "features": np.zeros((4, 2)),
    "labels": np.zeros(4, int),
    "holdout_log_odds": np.zeros(6),
    "holdout_features": np.zeros((6, 2)),
    "holdout_labels": np.zeros(6, int),
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fpr": 1.0}, r"fpr must be in \(0, 1\)"),
        ({"holdout_log_odds": np.zeros((2, 6))}, "trials of log_odds"),
        ({"features": np.zeros((3, 2))}, "a row for each of the 4 points"),
        ({"holdout_features": np.zeros((6, 3))}, "2 columns of features, not 3"),
        ({"log_odds": np.full(4, np.nan)}, "log_odds must be finite"),
    ],
)
def test_bad_input_of_quantile_regression(change, words):
    with pytest.raises(ValueError, match=words):
        quantile_regression(**{**QUANTILE, **change})


@pytest.mark.parametrize(
    ("traces", "words"),
    [
        ([np.zeros((3, 4)), np.zeros((2, 4))], r"equally long, but entry 1 has shape \(2, 4\)"),
        ([[0.0, 1.0], [1.0]], "equally long"),
        (np.zeros((1, 4)), "at least two epochs"),
        (np.full((2, 4), np.inf), "traces must be finite"),
        (np.full((2, 4), 1e200), r"traces must be at most 1e\+100 in size"),
        (np.zeros(4), "traces must have shape"),
    ],
)
def test_bad_traces(traces, words):
    with pytest.raises(ValueError, match=words):
        trace_scores(traces)


GOOD = np.zeros((4, 3)), np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("attack", [attack_p, attack_r, difficulty_calibration, base])
def test_bad_input(attack):
    attack(*GOOD)
    with pytest.raises(ValueError, match=r"0 and 1, but .* holds -1"):
        attack(GOOD[0], np.where(GOOD[1], 1, -1))
    with pytest.raises(ValueError, match="finite"):
        attack(np.full((4, 3), np.nan), GOOD[1])
    with pytest.raises(ValueError, match="shape"):
        attack(np.zeros((4, 2)), GOOD[1])


def test_bad_input_of_class_thresholds():
    with pytest.raises(ValueError, match="labels must be one for each of the 3 examples"):
        class_thresholds(*GOOD, [0, 1])
    with pytest.raises(ValueError, match="scores must have shape"):
        class_thresholds(np.zeros((4, 3, 2)), GOOD[1], [0, 1, 2])
    with pytest.raises(ValueError, match="z must be one of holdout, non-members"):
        attack_p(*GOOD, z="population")
