"""No quadratic cliffs: forty kinds of points that make searches slow, beside the best peer.

The peers are cKDTree, pykdtree (where
it is installed) and a float64 matrix product; for angles they get unit rows. The goal is never to
take more than three times as long as the best of them, whatever the points are.
"""

import os
import time

import numpy as np
import pytest
from scipy.spatial import cKDTree
from tracking import record

from confsim import nearest_training

POINTS, THREADS, GOAL = 20_000, 1, 3.0


def clusters(rng, count, d):
    """Clusters of clusters of clusters, each ten times narrower."""
    return sum(
        rng.normal(size=(9, d))[rng.integers(0, 9, count)] * 10.0**-level for level in range(5)
    )


def curve(rng, count, d):
    turn = np.sort(rng.random(count)) * 40
    return np.column_stack([turn * np.cos(turn), turn * np.sin(turn), turn][:d])


def sphere(rng, count, d):
    rows = rng.normal(size=(count, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def with_constant(rows, value=5.0):
    rows[:, -1] = value
    return rows


def with_outlier(rows):
    rows[0] = 1e6
    return rows


#: name: (dimensions, (rng, count, d) -> rows)
EUCLIDEAN = {
    "uniform": ((2, 3, 8, 32), lambda rng, n, d: rng.random((n, d))),
    "one constant coordinate": ((3, 8, 32), lambda rng, n, d: with_constant(rng.random((n, d)))),
    "all equal": ((3, 32), lambda rng, n, d: np.full((n, d), 2.5)),
    "on a line": ((3, 32), lambda rng, n, d: rng.random((n, 1)) * np.arange(1.0, d + 1)),
    "few distinct values": ((3, 8, 32), lambda rng, n, d: rng.integers(0, 4, (n, d)) * 1.0),
    "100 points, repeated": (
        (3, 32),
        lambda rng, n, d: np.random.default_rng(7).random((100, d))[rng.integers(0, 100, n)],
    ),
    "clusters in clusters": ((2, 3, 8, 32), clusters),
    "heavy tails": ((2, 3, 8, 32), lambda rng, n, d: rng.standard_cauchy((n, d))),
    "an outlier, 10^6 times farther": (
        (2, 3, 32),
        lambda rng, n, d: with_outlier(rng.random((n, d))),
    ),
    "a large common offset": ((3, 32), lambda rng, n, d: 1e6 + rng.random((n, d))),
    "a lattice": ((2, 3), lambda rng, n, d: rng.integers(0, 40, (n, d)) * 1.0),
    "a curve": ((2, 3), curve),
    "scales from 1 to 10^-7": (
        (8, 32),
        lambda rng, n, d: rng.random((n, d)) * np.logspace(0, -7, d),
    ),
    "a sphere": ((3, 32), sphere),
}
ANGULAR = {
    "angles, uniform": ((32,), lambda rng, n, d: rng.normal(size=(n, d))),
    "angles, a large constant column": (
        (32,),
        lambda rng, n, d: with_constant(rng.normal(size=(n, d)), 100.0),
    ),
    "angles, nearly parallel": ((32,), lambda rng, n, d: 1 + 1e-6 * rng.normal(size=(n, d))),
    "angles, few distinct": ((32,), lambda rng, n, d: rng.integers(0, 2, (n, d)) * 1.0),
    "angles, clusters in clusters": ((32,), clusters),
}
CASES = [
    (f"{name}, {d} dimensions", metric, d, make)
    for metric, families in (("euclidean", EUCLIDEAN), ("angular", ANGULAR))
    for name, (dimensions, make) in families.items()
    for d in dimensions
]


def matrix_product(queries, training):
    halves = (training**2).sum(axis=1) / 2
    index = np.empty(len(queries), np.int64)
    for begin in range(0, len(queries), 1000):
        part = slice(begin, begin + 1000)
        index[part] = np.argmin(halves - queries[part] @ training.T, axis=1)
    return index


def peers():
    found = {
        "cKDTree": lambda q, t: cKDTree(t).query(q, workers=THREADS),
        "product": matrix_product,
    }
    try:
        from pykdtree.kdtree import KDTree

        os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
        found["pykdtree"] = lambda q, t: KDTree(t).query(q)
    except ImportError:
        print("pykdtree is not installed, and not compared")
    return found


def seconds(work, *rows, limit=np.inf):
    """Return the best of up to three runs; of one, where it took longer than ``limit``."""
    best = np.inf
    for _ in range(3):
        begin = time.perf_counter()
        work(*rows)
        best = min(best, time.perf_counter() - begin)
        if best > limit:
            break
    return best


@pytest.mark.full
@pytest.mark.parametrize(("name", "metric", "d", "make"), CASES, ids=[case[0] for case in CASES])
def test_family(benchmark, name, metric, d, make):
    queries, training = (make(np.random.default_rng(seed), POINTS, d) for seed in (1, 2))
    benchmark.group = "families"
    benchmark.pedantic(
        lambda: nearest_training(queries, training, metric=metric, n_threads=THREADS),
        rounds=3,
        warmup_rounds=1,
    )
    if not benchmark.stats:
        return
    if metric == "angular":
        queries, training = (
            rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
            for rows in (queries, training)
        )
    theirs = {who: seconds(work, queries, training, limit=1.0) for who, work in peers().items()}
    best = min(theirs, key=theirs.get)
    record(benchmark, f"family: {name}", best, goal=1 / GOAL, beside=[theirs[best]])
