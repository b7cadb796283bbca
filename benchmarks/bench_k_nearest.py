"""The k nearest training points: confsim beside faiss and k-d trees, at equal threads.

Both sides start from raw rows, so the time includes all preparation. Goals: three times faiss
``IndexFlat`` on real features, never slower on isotropic ones.
"""

import numpy as np
import pytest
from bench_angular import isotropic, real_features, unit
from scipy.spatial import cKDTree
from tracking import record
from turns import in_turns

from confsim import nearest_training

THREADS = 2
HIGH = {
    "real 16,000 x 8,000 x 128": (
        3.0,
        lambda: (real_features()[0], real_features()[0][:8000].copy()),
    ),
    "isotropic 16,000 x 8,000 x 128": (1.0, lambda: tuple(isotropic(16_000, 8_000))),
}


def faiss_search(queries, training, metric, k):
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(THREADS)
    flat = faiss.IndexFlatIP if metric == "angular" else faiss.IndexFlatL2
    rows = (unit(queries), unit(training)) if metric == "angular" else (queries, training)
    index = flat(training.shape[1])
    index.add(rows[1])
    return index.search(rows[0], k)


@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize("metric", ["angular", "euclidean"])
@pytest.mark.parametrize("case", HIGH)
def test_beside_faiss(benchmark, case, metric, k):
    goal, make = HIGH[case]
    queries, training = make()
    benchmark.group = f"k nearest, {metric}"
    found, theirs = in_turns(
        benchmark,
        lambda: nearest_training(queries, training, metric=metric, k=k, n_threads=THREADS),
        lambda: faiss_search(queries, training, metric, k),
        rounds=5,
    )
    assert found.index.shape == (len(queries), k)
    record(benchmark, f"{case}, {metric}, k={k}", "faiss", goal=goal, beside=theirs)


@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize("d", [2, 3, 8])
def test_beside_trees(benchmark, d, k):
    rng = np.random.default_rng(0)
    queries, training = rng.random((50_000, d)), rng.random((20_000, d))
    benchmark.group = "k nearest, few dimensions"
    found, theirs = in_turns(
        benchmark,
        lambda: nearest_training(queries, training, k=k, n_threads=THREADS),
        lambda: cKDTree(training).query(queries, k, workers=THREADS),
        rounds=3,
    )
    np.testing.assert_allclose(
        found.distance, cKDTree(training).query(queries, k)[0].reshape(len(queries), k), rtol=1e-12
    )
    record(benchmark, f"{d} dimensions, k={k}", "cKDTree", goal=1, beside=theirs)
