"""What closeness achieves where membership means nothing, against simulated noise."""

import doctest

import numpy as np
import pytest

import confsim.statistics.chance as formula
from confsim.linear.chance import SIMULATED, Chance, closeness
from confsim.linear.experiment import LinearExperiment
from confsim.statistics import auc, closeness_chance


def test_examples_in_docstrings():
    assert doctest.testmod(formula) == (0, 4)


def literal(held, others, matched):
    """Draw distances of every point's candidates from one law, and compare the nearest."""
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(600):
        near = [rng.random(h - 1).min() for h in held for _ in range(h) if h > 1]
        lost = int(matched)
        far = [
            rng.random(h - lost).min()
            for h, o in zip(held, others, strict=True)
            for _ in range(o)
            if h > lost
        ]
        areas.append(auc(-np.array(near + far), np.arange(len(near + far)) < len(near)))
    return np.mean(areas), np.std(areas) / np.sqrt(len(areas))


@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize(
    ("held", "others"), [([10], [30]), ([5, 5, 5], [5, 5, 5]), ([8, 2], [10, 20]), ([6, 1], [3, 9])]
)
def test_formula_is_right_for_independent_distances(held, others, matched):
    mean, error = literal(held, others, matched)
    assert closeness_chance(held, others, matched=matched) == pytest.approx(mean, abs=4 * error)


def test_formula_without_candidates():
    assert np.isnan(closeness_chance([1, 1], [5, 5]))
    assert np.isnan(closeness_chance([3], [0]))
    assert closeness_chance(3, 100) == 2 / 5
    assert closeness_chance(1000, 5, matched=True) == 0.5


def literal_trials(experiment, matched, trials):
    """The AUC of closeness in trials that are drawn and searched point by point."""
    rng = np.random.default_rng(1)
    lattice, n, found = experiment.lattice, experiment.n, []
    queries = np.asarray(experiment.query_ids())
    labels = lattice.labels(queries, *experiment.ideal)
    points = lattice.points(queries)
    while len(found) < trials:
        rows = rng.permutation(len(queries))[: n + 60]
        noisy = np.where(rng.random(n) < experiment.label_noise, -1, 1) * labels[rows[:n]]
        if noisy.min() == noisy.max():
            continue
        gaps = np.linalg.norm(points[rows][:, None] - points[rows[:n]][None], axis=2)
        if experiment.same_class:
            gaps[labels[rows][:, None] != labels[rows[:n]][None]] = np.inf
        gaps[np.arange(n), np.arange(n)] = np.inf
        if matched:
            for row in gaps[n:]:
                if np.isfinite(row).any():
                    row[rng.choice(np.flatnonzero(np.isfinite(row)))] = np.inf
        nearest = gaps.min(axis=1)
        known = np.isfinite(nearest)
        member = np.arange(len(rows)) < n
        if known[:n].any() and known[n:].any():
            found.append(auc(-nearest[known], member[known]))
    return np.mean(found), np.std(found) / np.sqrt(trials)


@pytest.mark.parametrize("matched", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"n": 3},
        {"n": 10},
        {"n": 6, "same_class": True},
        {"n": 8, "dimensions": 1, "weights": (1.0,)},
        {"n": 5, "same_class": True, "bias": 250.0, "label_noise": 0.1},
    ],
)
def test_simulation_is_what_trials_find(settings, matched):
    experiment = LinearExperiment(queries=None if settings.get("dimensions") else 3000, **settings)
    mean, error = literal_trials(experiment, matched, 700)
    found = closeness(experiment, matched)
    assert found.mean == pytest.approx(mean, abs=4 * error + 0.003)


def test_few_training_points_are_not_what_the_formula_says():
    assert closeness(LinearExperiment(n=3)).mean == pytest.approx(0.336, abs=0.004)
    found = closeness(LinearExperiment(n=SIMULATED))
    assert found.mean == pytest.approx(closeness_chance(SIMULATED, 1000), abs=0.005)
    assert closeness(LinearExperiment(n=SIMULATED + 1)) is None
    assert closeness(LinearExperiment(n=9, queries=9, grid_size=3.0)) is None


def test_simulation_is_repeatable_and_seeded():
    closeness.cache_clear()
    first = closeness(LinearExperiment(n=4))
    closeness.cache_clear()
    assert closeness(LinearExperiment(n=4)) == first
    assert closeness(LinearExperiment(n=4, seed=1)) != first


def test_pooled_pairs_are_mostly_across_trials():
    assert Chance(0.4, 0.5).pooled(1) == 0.4
    assert Chance(0.4, 0.5).pooled(10) == pytest.approx(0.49)
