"""Nearest training points by angle: confsim beside faiss and scikit-learn, at equal threads.

Both sides start from raw float32 rows,
so the time includes all preparation (faiss: normalising and adding to the index). Answers are
verified: the cosines of both sides agree to float32 rounding, also where the rows differ.
"""

import os
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from tracking import record
from turns import in_turns

from confsim._kernels import nearest, resolve_isa

THREADS = 2

#: How many times as long as confsim faiss is to take, at least.
GOALS = {"real": 6, "isotropic": 1}


def real_features():
    """Features of a trained CNN with labels; without the file, rows with the same spectrum."""
    here = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("CONFSIM_TEST_DATA", here)) / "cnn-features.npz"
    if path.exists():
        with np.load(path) as data:
            return data["features"], data["label"].astype(np.int64)
    print(f"\n{path} not found: made-up features of the same spectrum, without clusters")
    rng = np.random.default_rng(0)
    energy = np.interp(np.arange(128), [0, 3, 7, 15, 127], [0.26, 0.1, 0.05, 0.01, 1e-4])
    labels = rng.integers(0, 10, 16000)
    return (rng.normal(size=(16000, 128)) * np.sqrt(energy)).astype(np.float32), labels


def isotropic(q, n):
    rng = np.random.default_rng(1)
    return (rng.standard_normal((rows, 128), dtype=np.float32) for rows in (q, n))


def ours(queries, training, query_labels=None, training_labels=None, self_index=None):
    return nearest.angular(
        queries, training, query_labels, training_labels, self_index, THREADS, resolve_isa()
    )


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def faiss_search(queries, training):
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(THREADS)
    index = faiss.IndexFlatIP(training.shape[1])
    index.add(unit(training))
    return index.search(unit(queries), 1)


def compare(benchmark, group, who, work, rounds):
    """Time one side."""
    benchmark.group = f"angular: {group}"
    goal = GOALS[group.split()[0]] if who.startswith("faiss") else None
    record(benchmark, benchmark.group, who, goal=goal)
    return benchmark.pedantic(work, rounds=rounds, warmup_rounds=1)


def verify(queries, training, products, index):
    """Compare with faiss: its product is right to float32, its row need not be the nearest."""
    distance, row, _, _ = ours(queries, training)
    assert np.abs(np.cos(np.pi * distance) - products[:, 0]).max() < 1e-5
    differ = row != index[:, 0]
    theirs = np.einsum("ij,ij->i", unit(queries[differ]), unit(training[index[differ, 0]]))
    assert np.abs(theirs - np.cos(np.pi * distance[differ])).max(initial=0) < 1e-5


CASES = {
    "real 16,000 x 8,000 x 128": lambda: (real_features()[0], real_features()[0][:8000].copy()),
    "isotropic 16,000 x 8,000 x 128": lambda: tuple(isotropic(16_000, 8_000)),
    "isotropic 60,000 x 30,000 x 128": lambda: tuple(isotropic(60_000, 30_000)),
}


@pytest.mark.parametrize("who", ["confsim", "faiss IndexFlatIP"])
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.full] * ("60,000" in case)) for case in CASES],
)
def test_search(benchmark, case, who):
    queries, training = CASES[case]()
    rounds = 2 if len(queries) > 16_000 else 7
    if who == "confsim":
        compare(benchmark, case, who, lambda: ours(queries, training), rounds)
    else:
        found = compare(benchmark, case, who, lambda: faiss_search(queries, training), rounds)
        verify(queries, training, *found)


def test_scikit_learn(benchmark):
    metrics = pytest.importorskip("sklearn.metrics")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    queries, training = CASES["real 16,000 x 8,000 x 128"]()
    with threadpoolctl.threadpool_limits(THREADS):
        compare(
            benchmark,
            "real 16,000 x 8,000 x 128",
            "scikit-learn",
            lambda: metrics.pairwise_distances_argmin_min(queries, training, metric="cosine"),
            1,
        )


@pytest.mark.parametrize("kind", ["excluding self", "same class", "both"])
def test_cost_of_options(benchmark, kind):
    features, labels = real_features()
    own = np.arange(len(features))
    own[8000:] = -1
    pair = (labels, labels[:8000].copy()) if kind in ("same class", "both") else (None, None)
    self_index = own if kind in ("excluding self", "both") else None
    training = features[:8000].copy()
    benchmark.group = "options, real"
    _, plain = in_turns(
        benchmark,
        lambda: ours(features, training, *pair, self_index),
        lambda: ours(features, training),
        rounds=30,
    )
    record(benchmark, "angular: real, an option", kind, goal=1.2, plain=plain)


def test_memory():
    """60,000 x 30,000 x 128 takes under 200 MB beyond inputs and outputs."""
    queries, training = isotropic(60_000, 30_000)
    ours(queries[:10], training[:10])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    found = ours(queries, training)
    seconds = time.perf_counter() - began
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"\n60,000 x 30,000 x 128: {grown:.0f} MB more at the peak, {seconds:.2f} s")
    assert statistics.fmean(found[0]) > 0
    assert grown < 200
