"""Exact nearest training points beside the libraries people use: equal threads, answers checked.

Options take turns with the plain search. ``CONFSIM_BENCH_THREADS`` sets the threads of everybody
(default 2; it has to be set before the process starts, for libraries read ``OMP_NUM_THREADS`` when
they are loaded).
"""

import os

THREADS = int(os.environ.get("CONFSIM_BENCH_THREADS", "2"))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from tracking import record  # noqa: E402
from turns import in_turns  # noqa: E402

from confsim.linear.lattice import Lattice  # noqa: E402
from confsim.neighbors import nearest_training  # noqa: E402

QUERIES = 1_000_000


class Case:
    """A regime's points, and our answer to hold the peers' against."""

    def __init__(self, kind, d, n):
        rng = np.random.default_rng([d, n])
        self.lattice = Lattice(dimensions=d) if d <= 3 else None
        if kind == "whole":
            self.queries = self.lattice.points(range(self.lattice.size))
            self.members = self.lattice.sample(n, rng)
            self.training = self.lattice.points(self.members)
        elif kind == "sampled":
            self.ids = self.lattice.sample(QUERIES, rng)
            self.queries = self.lattice.points(self.ids)
            self.members = np.sort(rng.choice(QUERIES, n, replace=False))
            self.training = self.queries[self.members]
        else:
            self.queries, self.training = rng.random((QUERIES, d)), rng.random((n, d))
            self.members = rng.choice(QUERIES, n, replace=False)
            self.queries[self.members] = self.training
        self.kind = kind

    def own(self):
        rows = np.full(len(self.queries), -1)
        rows[self.members] = np.arange(len(self.training))
        return rows

    def labels(self):
        """Sides of a hyperplane through the middle."""
        normal = (-1.0) ** np.arange(self.queries.shape[1])
        middle = self.queries.mean(axis=0)
        return tuple(
            np.where((points - middle) @ normal > 0, 1, -1).astype(np.int8)
            for points in (self.queries, self.training)
        )


@pytest.fixture(scope="module")
def case():
    """Make a case once; only the latest is kept in memory."""
    kept = {}

    def make(*key):
        if key not in kept:
            kept.clear()
            kept[key] = Case(*key)
            kept[key].answer = ours(kept[key], {})
        return kept[key]

    return make


def ours(case, pairing):
    if case.kind == "whole":
        return case.lattice.nearest(case.training, n_threads=THREADS, **pairing)
    return nearest_training(case.queries, case.training, n_threads=THREADS, **pairing)


def ours_by_ids(case, pairing):
    return case.lattice.nearest(case.training, case.ids, n_threads=THREADS, **pairing)


def pykdtree(case):
    tree = pytest.importorskip("pykdtree.kdtree")
    return lambda: tree.KDTree(case.training).query(case.queries, k=1)[0]


def ckdtree(case):
    spatial = pytest.importorskip("scipy.spatial")
    return lambda: spatial.cKDTree(case.training).query(case.queries, workers=THREADS)[0]


def edt(case):
    module = pytest.importorskip("edt")
    m = case.lattice.points_per_axis

    def transform():
        grid = np.ones((m, m), np.uint8)
        grid.ravel()[case.members] = 0
        return module.edt(grid, parallel=THREADS).ravel()

    return transform


def faiss(case):
    module = pytest.importorskip("faiss")
    module.omp_set_num_threads(THREADS)
    queries, training = case.queries.astype(np.float32), case.training.astype(np.float32)

    def search():
        index = module.IndexFlatL2(queries.shape[1])
        index.add(training)
        return np.sqrt(index.search(queries, 1)[0][:, 0])

    return search


def sklearn(case):
    metrics = pytest.importorskip("sklearn.metrics")
    return lambda: metrics.pairwise_distances_argmin_min(case.queries, case.training)[1]


PEERS = {"pykdtree": pykdtree, "cKDTree": ckdtree, "edt": edt, "faiss": faiss, "sklearn": sklearn}

#: Peers that take more than ten seconds.
SLOW = ("cKDTree/20", "sklearn/20")

#: (regime, kind, d, n, contestants); a contestant with "/20" gets one query in twenty.
REGIMES = [
    *[
        (
            f"1 whole lattice 1001^2, n={n}",
            "whole",
            2,
            n,
            ("confsim", "same class", "excluding self", "pykdtree", "edt")
            + (("cKDTree",) if n == 5000 else ()),
        )
        for n in (10, 100, 5000)
    ],
    *[
        (
            f"2 {kind} queries, d={d}, n=5000",
            kind,
            d,
            5000,
            ("confsim", "same class", "excluding self", "pykdtree")
            + (("confsim by ids",) if kind == "sampled" else ()),
        )
        for kind in ("sampled", "random")
        for d in (2, 3)
    ],
    (
        "3 random queries, d=10, n=5000",
        "random",
        10,
        5000,
        ("confsim", "same class", "excluding self", "faiss", "cKDTree/20", "sklearn/20"),
    ),
]


#: How many times as long as confsim a peer is to take, at least.
GOALS = {
    ("1 whole lattice 1001^2, n=10", "pykdtree"): 40,
    ("1 whole lattice 1001^2, n=5000", "pykdtree"): 25,
    **{(f"1 whole lattice 1001^2, n={n}", "edt"): 4 for n in (10, 100, 5000)},
    **{
        (f"2 {kind} queries, d={d}, n=5000", "pykdtree"): 5
        for kind in ("sampled", "random")
        for d in (2, 3)
    },
    ("3 random queries, d=10, n=5000", "faiss"): 1.2,
    ("3 random queries, d=10, n=5000", "cKDTree/20"): 10,
}

#: What an option may cost, at most.
OPTION = 1.2


@pytest.mark.parametrize(
    ("group", "kind", "d", "n", "name"),
    [
        pytest.param(group, kind, d, n, name, marks=[pytest.mark.full] * (name in SLOW))
        for group, kind, d, n, names in REGIMES
        for name in names
    ],
)
def test_nearest(benchmark, case, group, kind, d, n, name):
    benchmark.group = group
    points, share = case(kind, d, n), 1
    if name in ("confsim", "confsim by ids", "same class", "excluding self"):
        pairing = {}
        if name == "same class":
            pairing = dict(zip(("query_labels", "training_labels"), points.labels(), strict=True))
        elif name == "excluding self":
            pairing = {"self_index": points.own()}
        method = ours_by_ids if name == "confsim by ids" else ours

        def search():
            return method(points, pairing).distance
    else:
        peer, _, part = name.partition("/")
        share = int(part or 1)
        if share > 1:
            whole, points = points, object.__new__(Case)
            points.__dict__.update(whole.__dict__, queries=whole.queries[::share])
        search = PEERS[peer](points)
    slow = share > 1 or d > 3
    quick = name not in PEERS  # so short that the scheduler would decide a few rounds
    rounds = 3 if slow else 15 if not quick else 150 if kind == "whole" else 50
    settings = {"rounds": rounds, "warmup_rounds": 0 if slow else rounds // 7}
    plain = None
    if name in ("same class", "excluding self"):
        found, plain = in_turns(benchmark, search, lambda: method(points, {}), **settings)
    else:
        found = benchmark.pedantic(search, **settings)
    goal = GOALS.get((group, name)) if plain is None else OPTION
    record(benchmark, group, name, goal=goal, share=share, plain=plain)
    if name != "same class":
        tolerance = 2e-3 if name in ("faiss", "sklearn/20") else 1e-6
        expected = points.answer.distance[::share]
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def _repeats(rng, shape):
    return rng.random((7, shape[1]))[rng.integers(0, 7, shape[0])]


#: Training sets whose points say little; a search may not be quicker on others alone.
DEGENERATE = {
    "cube": lambda rng, shape: rng.random(shape),
    "plane": lambda rng, shape: np.c_[rng.random((shape[0], shape[1] - 1)), np.ones(shape[0])],
    "line": lambda rng, shape: np.c_[rng.random(shape[0]), np.full((shape[0], shape[1] - 1), 0.5)],
    "all equal": lambda rng, shape: np.full(shape, 3.0),
    "7 distinct": _repeats,
    "integers": lambda rng, shape: rng.integers(0, 10, shape).astype(float),
    "outliers": lambda rng, shape: rng.random(shape) * np.r_[1e6, np.ones(shape[0] - 1)][:, None],
    "offset": lambda rng, shape: rng.random(shape) + 1e6,
    "tight clusters": lambda rng, shape: (
        rng.random((20, shape[1]))[rng.integers(0, 20, shape[0])] + 1e-6 * rng.normal(size=shape)
    ),
}


@pytest.mark.parametrize("name", ["confsim", "cKDTree", "pykdtree"])
@pytest.mark.parametrize(
    "d", [pytest.param(2, marks=pytest.mark.full), 3, pytest.param(5, marks=pytest.mark.full)]
)
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate(benchmark, kind, d, name):
    """At most three times as long as the quickest tree, whatever the points."""
    benchmark.group = f"4 {kind}, d={d}, n=60000"
    rng = np.random.default_rng(d)
    points = object.__new__(Case)
    points.kind = "random"
    points.queries, points.training = rng.random((60_000, d)), DEGENERATE[kind](rng, (60_000, d))
    expected = ours(points, {}).distance
    peers = {"confsim": lambda: lambda: ours(points, {}).distance}
    search = peers.get(name, lambda: PEERS[name](points))()
    found = benchmark.pedantic(search, rounds=3)
    record(benchmark, benchmark.group, name, goal=None if name == "confsim" else 1 / 3)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
