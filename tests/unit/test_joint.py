"""Joint histograms and the figures made from them, against SciPy, scikit-learn and NumPy."""

import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from confsim.confidence import extremes
from confsim.joint import Axes, Relation, relate


def trial(n, members, rng, *, ties=False, missing=0.0):
    """Confidence, both distances and membership of a made-up trial."""
    is_member = np.zeros(n, dtype=bool)
    is_member[rng.choice(n, members, replace=False)] = True
    confidence = rng.gamma(2.0, size=n)
    distance = np.abs(rng.normal(size=n)) + 0.3 * confidence
    if ties:
        confidence, distance = np.round(confidence, 1), np.round(distance, 1)
    other = distance.copy()
    distance[is_member] = 0.0
    scale = distance.max() or 1.0
    distance, other = distance / scale, other / scale
    if missing:
        gone = (rng.random(n) < missing) & ~is_member
        distance[gone] = other[gone] = np.nan
        other[is_member & (rng.random(n) < missing)] = np.nan
    return confidence, distance, other, is_member


def related(confidence, distance, other, is_member, percent=10.0, threads=1, grid=(0.0, 20.0)):
    bottom, top = extremes(confidence, percent)
    joint, found = relate(
        confidence, distance, other, is_member, bottom, top, grid=grid, threads=threads
    )
    return joint, found, bottom, top


CASES = [
    {"n": 100, "members": 10},
    {"n": 5000, "members": 50},
    {"n": 5000, "members": 2500, "ties": True},
    {"n": 50_000, "members": 400, "missing": 0.2},
]


def exact(confidence, distance, other, is_member):
    """Rank statistics by SciPy and scikit-learn."""
    found = {"auc_confidence": roc_auc_score(is_member, confidence)}
    for suffix, d in (("self", distance), ("other", other)):
        known = ~np.isnan(d)
        pairs = confidence[known], d[known]
        found[f"pearson_{suffix}"] = scipy.stats.pearsonr(*pairs).statistic
        found[f"spearman_{suffix}"] = scipy.stats.spearmanr(*pairs).statistic
        found[f"auc_closeness_{suffix}"] = roc_auc_score(is_member[known], -d[known])
    return found


@pytest.mark.parametrize("case", CASES)
def test_correlations_and_auc_are_exact(case):
    data = trial(rng=np.random.default_rng(1), **case)
    found = related(*data)[1]
    for name, value in exact(*data).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert found["spearman_error_bound"] == found["auc_error_bound"] == 0
    members = case["members"]
    assert found["auc_closeness_other_null"] == (members - 1) / (2 * members - 1)


@given(st.integers(2, 200), st.integers(0, 2**32), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_values_that_crowd_into_few_bins_are_told_apart(n, seed, crowded, ties):
    """The hard case for histograms."""
    rng = np.random.default_rng(seed)
    confidence, distance, other, is_member = trial(n, max(1, n // 3), rng, ties=ties)
    if crowded:
        confidence[0], other[np.argmax(~is_member)] = 1e9, 1e9
        distance[np.argmax(~is_member)] = 1e9
    found = related(confidence, distance, other, is_member)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant input
        expected = exact(confidence, distance, other, is_member)
    for name, value in expected.items():
        if not name.startswith("pearson"):
            assert found[name] == pytest.approx(value, abs=1e-9, nan_ok=True), name


def streamed(confidence, distance, other, is_member, step=0.0):
    """The figures of queries that are counted block by block."""
    axes = Axes(
        confidence_low=confidence.min(),
        confidence_high=confidence.max(),
        distance_high=np.nanmax([distance, other]),
        distance_step=step,
    )
    relation = Relation(axes, 1)
    blocks = np.array_split(np.arange(len(confidence)), 7)
    for rows in blocks:
        relation.add(confidence[rows], distance[rows])
    relation.set_members(*(x[is_member] for x in (confidence, distance, other)))
    for rows in blocks:
        codes = relation.codes(confidence[rows], distance[rows])
        relation.add_ranks(codes, distance[rows])
    return relation.statistics()


@given(st.integers(2, 200), st.integers(0, 2**32), st.booleans())
@settings(max_examples=40)
def test_streamed_figures_are_within_their_bounds(n, seed, crowded):
    rng = np.random.default_rng(seed)
    confidence, distance, other, is_member = trial(n, max(1, n // 3), rng)
    if crowded:
        confidence[0] = 1e9
    found = streamed(confidence, distance, other, is_member)
    for name, value in exact(confidence, distance, other, is_member).items():
        bound = found[f"{name.partition('_')[0]}_error_bound"] if "pearson" not in name else 0
        if not (np.isnan(value) or np.isnan(found[name]) or "pearson" in name):
            assert abs(found[name] - value) <= bound + 1e-9, name


def test_streamed_bounds_are_close():
    """For many distinct values, and for distances whose ties are known to be ties."""
    rng = np.random.default_rng(6)
    confidence, distance, other, is_member = trial(300_000, 3000, rng)
    found = streamed(confidence, distance, other, is_member)
    assert found["spearman_error_bound"] < 2e-3
    assert found["auc_error_bound"] < 1e-3
    steps = [np.round(100 * d) / 100 for d in (distance, other)]
    rough = streamed(confidence, *steps, is_member)
    found = streamed(confidence, *steps, is_member, step=0.01**2)
    assert found["spearman_error_bound"] < 2e-4 < rough["spearman_error_bound"]
    expected = exact(confidence, *steps, is_member)
    assert found["auc_closeness_other"] == pytest.approx(expected["auc_closeness_other"], abs=1e-12)
    assert abs(found["spearman_other"] - expected["spearman_other"]) < 1e-6


@pytest.mark.parametrize("same_class", [False, True])
def test_chance_follows_the_classes(same_class):
    confidence, distance, other, _ = trial(600, 300, np.random.default_rng(7))
    classes = np.repeat(np.arange(60), 10)
    is_member = np.arange(600) % 2 == 0
    bottom, top = extremes(confidence, 10.0)
    found = relate(
        *(confidence, distance, other, is_member, bottom, top),
        grid=(0.0, 20.0),
        threads=1,
        classes=classes if same_class else None,
    )[1]
    expected = 4 / 9 if same_class else 299 / 599
    assert found["auc_closeness_other_null"] == pytest.approx(expected)


@pytest.mark.parametrize("case", CASES)
def test_joint_counts_equal_numpy(case):
    confidence, distance, other, is_member = trial(rng=np.random.default_rng(2), **case)
    joint, _, bottom, top = related(confidence, distance, other, is_member)
    edges = [joint["confidence_edges"], joint["distance_edges"]]
    rows = [np.arange(len(confidence)), bottom, top]
    for name, d in (("including_self", distance), ("excluding_self", other)):
        assert joint[name].shape == (3, 2, 128, 128)
        for g, chosen in enumerate(rows):
            for m, member in enumerate((True, False)):
                use = chosen[(is_member[chosen] == member) & ~np.isnan(d[chosen])]
                inside = np.minimum(d[use], np.nextafter(1, 0))  # beyond 1: the last bin
                expected = np.histogram2d(confidence[use], inside, bins=edges)[0]
                assert np.array_equal(joint[name][g, m], expected)


@pytest.mark.parametrize("case", CASES)
def test_extremes_summary_equals_numpy(case):
    confidence, distance, other, is_member = trial(rng=np.random.default_rng(3), **case)
    _, found, bottom, top = related(confidence, distance, other, is_member)
    for side, rows in (("bottom", bottom), ("top", top)):
        assert found[f"{side}_count"] == len(rows)
        assert found[f"{side}_membership_rate"] == is_member[rows].mean()
        for suffix, d in (("self", distance), ("other", other)):
            assert found[f"{side}_distance_mean_{suffix}"] == pytest.approx(np.nanmean(d[rows]))
            assert found[f"{side}_distance_median_{suffix}"] == np.nanmedian(d[rows])


def test_nothing_depends_on_threads_or_instruction_set(monkeypatch):
    from confsim._kernels import isa

    data = trial(200_000, 3000, np.random.default_rng(4), missing=0.1)
    results = []
    for name in isa.available():
        monkeypatch.setenv("CONFSIM_ISA", name)
        for threads in (1, 2, 3):
            joint, found, _, _ = related(*data, threads=threads)
            results.append(({k: v.tobytes() for k, v in joint.items()}, repr(found)))
    assert all(result == results[0] for result in results)


def test_constant_confidence_and_distance_have_no_correlation():
    n = 100
    is_member = np.arange(n) < 10
    found = related(np.ones(n), np.zeros(n), np.full(n, 0.5), is_member)[1]
    for name in ("pearson_self", "pearson_other", "spearman_self", "spearman_other"):
        assert np.isnan(found[name]), name
    assert found["auc_confidence"] == 0.5
    assert found["auc_closeness_self"] == 0.5


def test_no_known_distance_at_all():
    nothing = np.full(10, np.nan)
    found = related(np.arange(10.0), nothing, nothing, np.arange(10) < 3)[1]
    assert np.isnan(found["auc_closeness_other"])
    assert np.isnan(found["bottom_distance_mean_self"])
    assert np.isnan(found["spearman_self"])


def test_far_hyperplane_keeps_its_correlation():
    """Confidences that differ only in their last digits."""
    rng = np.random.default_rng(5)
    confidence, distance, other, is_member = trial(4000, 40, rng)
    far = confidence + 1e7
    found = related(far, distance, other, is_member, grid=(0.0, 1e8))[1]
    exact = scipy.stats.pearsonr(far - 1e7, distance).statistic
    assert found["pearson_self"] == pytest.approx(exact, abs=1e-9)
