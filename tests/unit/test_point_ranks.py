"""Exact rank statistics of queries in memory, against SciPy and scikit-learn."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import confsim.joint
import confsim.point_ranks
from confsim.joint import Axes, Kept, Relation


def lattice_trial(size, members, span, rng, granularity=1.0):
    """Return confidence, distances including and excluding self, and the rows of the members."""
    points = granularity * rng.integers(0, span, (size, 2))
    rows = np.sort(rng.choice(size, members, replace=False))
    apart = np.sqrt(((points[:, None] - points[rows]) ** 2).sum(axis=2))
    distance = apart.min(axis=1)
    apart[rows, np.arange(members)] = np.nan
    with np.errstate(all="ignore"):
        other = np.fmin.reduce(apart[rows], axis=1)
    confidence = np.abs(points @ [0.3, -0.7] + 1)
    return confidence, distance, other, rows


def exact(confidence, distance, other, rows):
    is_member = np.zeros(len(confidence), dtype=bool)
    is_member[rows] = True
    found = {"auc_confidence": roc_auc_score(is_member, confidence)}
    excluding = distance.copy()
    excluding[rows] = other
    for kind, values in (("self", distance), ("other", excluding)):
        known = ~np.isnan(values)
        if not (known & is_member).any():
            found[f"auc_closeness_{kind}"] = np.nan
        else:
            found[f"auc_closeness_{kind}"] = roc_auc_score(is_member[known], -values[known])
        found[f"spearman_{kind}"] = scipy.stats.spearmanr(confidence[known], values[known])[0]
    return found


def statistics(confidence, distance, other, rows, step):
    axes = Axes(
        confidence_low=confidence.min(),
        confidence_high=confidence.max(),
        distance_high=np.nanmax(np.concatenate([distance, other])),
        distance_step=step,
    )
    relation = Relation(axes, 1)
    codes = relation.add(confidence, distance)
    relation.set_members(confidence[rows], distance[rows], other)
    return relation.statistics(Kept(confidence, distance, codes, lambda: rows))


#: Distances in bins of their own, squares that are counted, and ranks; the step may be unknown.
@pytest.mark.parametrize("span", [40, 400, 4000])
@pytest.mark.parametrize("members", [1, 20, 500])
@pytest.mark.parametrize("known_step", [True, False])
def test_points_of_a_lattice(span, members, known_step):
    data = lattice_trial(3000, members, span, np.random.default_rng(span + members), 0.5)
    found = statistics(*data, 0.25 if known_step else 0.0)
    for name, value in exact(*data).items():
        assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    assert found["spearman_error_bound"] == found["auc_error_bound"] == 0


@given(st.integers(3, 60), st.integers(0, 2**32), st.sampled_from([3, 300, 30_000]))
@settings(max_examples=60)
def test_all_ways_agree(size, seed, span):
    data = lattice_trial(size, size // 3, span, np.random.default_rng(seed))
    ways = [statistics(*data, step) for step in (1.0, 0.0)]
    for name, value in ways[0].items():
        assert ways[1][name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize(("members", "sorted_apart"), [(5, True), (2000, False)])
def test_more_points_than_are_ranked(monkeypatch, members, sorted_apart):
    """AUCs are exact where few points share a bin with a member, and all is within its bound."""
    monkeypatch.setattr(confsim.joint, "RANKED_QUERIES", 1000)
    data = lattice_trial(20_000, members, 3000, np.random.default_rng(members))
    found = statistics(*data, 1.0)
    assert (found["auc_error_bound"] == 0) == sorted_apart
    assert 0 < found["spearman_error_bound"] < 5e-3
    for name, value in exact(*data).items():
        bound = found[f"{name.partition('_')[0]}_error_bound"]
        assert abs(found[name] - value) <= bound + 1e-12, name


def test_both_ways_are_taken(monkeypatch):
    taken = []
    for name in ("_counted", "_ranked"):
        whole = getattr(confsim.point_ranks.Points, name)
        monkeypatch.setattr(
            confsim.point_ranks.Points,
            name,
            lambda *a, whole=whole, name=name: taken.append(name) or whole(*a),
        )
    data = lattice_trial(500, 20, 400, np.random.default_rng(1))
    statistics(*data, 1.0)
    statistics(*data, 0.0)
    assert taken == ["_counted", "_ranked", "_ranked"]
