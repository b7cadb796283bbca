"""Nearest training points are exactly those of the float64 definition, whatever the method."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim._kernels import isa, nearest
from confsim.neighbors import Nearest, nearest_training, why_not


def oracle(queries, training, query_labels=None, training_labels=None, self_index=None):
    """All pairs, in float64, in the order of the coordinates."""
    queries, training = np.asarray(queries, np.float64), np.asarray(training, np.float64)
    sums = np.zeros((len(queries), len(training)))
    for k in range(queries.shape[1]):
        sums += (queries[:, k, None] - training[None, :, k]) ** 2
    distance = np.sqrt(sums)
    allowed = np.ones(distance.shape, bool)
    if query_labels is not None:
        allowed &= np.asarray(query_labels)[:, None] == np.asarray(training_labels)[None]

    def best(allowed):
        masked = np.where(allowed, distance, np.inf)
        index = masked.argmin(axis=1)
        found = masked[np.arange(len(queries)), index]
        nobody = ~allowed.any(axis=1)
        return np.where(nobody, np.nan, found), np.where(nobody, -1, index)

    answers = best(allowed)
    if self_index is None:
        return *answers, None, None
    member = np.flatnonzero(self_index >= 0)
    allowed[member, self_index[member]] = False
    return *answers, *best(allowed)


def assert_exact(found, queries, training, **arguments):
    expected = oracle(queries, training, **arguments)
    names = ("distance", "index", "distance_excluding_self", "index_excluding_self")
    for name, value in zip(names, expected, strict=True):
        if value is None:
            assert getattr(found, name) is None
        else:
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name, strict=True)


@pytest.fixture(params=isa.available())
def instruction_set(request, monkeypatch):
    monkeypatch.setenv("CONFSIM_ISA", request.param)
    return request.param


def circle(rng, shape):
    angle = rng.random(shape[0]) * 7
    points = np.zeros(shape)
    points[:, 0] = np.cos(angle)
    points[:, -1] = np.sin(angle)
    return points


#: (queries, training) of shapes (q, d) and (n, d), each hard for some method.
CLOUDS = {
    "integers": lambda rng, q, t: (rng.integers(0, 4, q) * 1.0, rng.integers(0, 4, t) * 1.0),
    "uniform": lambda rng, q, t: (rng.random(q), rng.random(t)),
    "tenths": lambda rng, q, t: (rng.integers(0, 30, q) * 0.1, rng.integers(0, 30, t) * 0.1),
    "all equal": lambda rng, q, t: (np.full(q, 0.1), np.full(t, 0.1)),
    "tiny cluster": lambda rng, q, t: (rng.normal(size=q), rng.normal(size=t) * 1e-9),
    "far outside": lambda rng, q, t: (rng.normal(size=q) * 1e3 + 1e9, rng.normal(size=t)),
    "one far query": lambda rng, q, t: (
        np.concatenate([rng.random((q[0] - 1, q[1])), np.full((1, q[1]), 1e12)]),
        rng.random(t),
    ),
    "on a line": lambda rng, q, t: (
        rng.random((q[0], 1)) * np.ones(q[1]),
        rng.random((t[0], 1)) * np.ones(t[1]),
    ),
    "on a circle": lambda rng, q, t: (rng.normal(size=q) * 1e-3, circle(rng, t)),
    "large": lambda rng, q, t: (rng.normal(size=q) * 1e150, rng.normal(size=t) * 1e150),
    "small": lambda rng, q, t: (rng.normal(size=q) * 1e-150, rng.normal(size=t) * 1e-150),
    "subnormal squares": lambda rng, q, t: (
        rng.normal(size=q) * 1e-161,
        rng.normal(size=t) * 1e-161,
    ),
    "subnormal": lambda rng, q, t: (rng.normal(size=q) * 1e-310, rng.normal(size=t) * 1e-310),
    "nearly equal": lambda rng, q, t: (
        1 + rng.integers(0, 4, q) * 2.0**-52,
        1 + rng.integers(0, 4, t) * 2.0**-52,
    ),
}


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("d", [1, 2, 3, 4, 10, 127])
def test_answers_are_those_of_the_definition(cloud, d, instruction_set):
    rng = np.random.default_rng([d, len(cloud)])
    for q, n in [(1, 1), (63, 25), (300, 24), (700, 150)]:
        queries, training = CLOUDS[cloud](rng, (q, d), (n, d))
        member = np.where(rng.random(q) < 0.2, rng.integers(0, n, q), -1)
        queries[member >= 0] = training[member[member >= 0]]
        pairing = {
            "query_labels": rng.integers(0, 4, q),
            "training_labels": rng.integers(0, 3, n),
            "self_index": member,
        }
        assert_exact(nearest_training(queries, training), queries, training)
        assert_exact(nearest_training(queries, training, **pairing), queries, training, **pairing)


@pytest.mark.parametrize("d", [128, 129, 2048])
def test_many_dimensions(d, instruction_set):
    rng = np.random.default_rng(d)
    queries, training = rng.normal(size=(70, d)), rng.normal(size=(50, d))
    queries[:50] = training
    members = np.r_[np.arange(50), np.full(20, -1)]
    found = nearest_training(queries, training, self_index=members)
    assert_exact(found, queries, training, self_index=members)
    assert (found.distance[:50] == 0).all()


def near_a_subspace(rng, rows, d, rank=6, noise=0.05):
    """Points of few dimensions in many, in an unknown direction, and a little off them."""
    axes = np.linalg.qr(np.random.default_rng(rank).normal(size=(d, rank)))[0]
    return rng.normal(size=(rows, rank)) @ axes.T + noise * rng.normal(size=(rows, d))


#: Queries and training points, enough of them for bounds by principal axes.
NEAR = {
    "noise": lambda rng, q, n, d: (near_a_subspace(rng, q, d), near_a_subspace(rng, n, d)),
    "exactly": lambda rng, q, n, d: (
        near_a_subspace(rng, q, d, noise=0),
        near_a_subspace(rng, n, d, noise=0),
    ),
    "far from 0": lambda rng, q, n, d: (
        near_a_subspace(rng, q, d) + 1e7,
        near_a_subspace(rng, n, d) + 1e7,
    ),
    "repeats": lambda rng, q, n, d: (
        np.round(near_a_subspace(rng, q, d, noise=0.3)),
        np.round(near_a_subspace(rng, n, d, noise=0.3)),
    ),
    "small": lambda rng, q, n, d: (
        1e-120 * near_a_subspace(rng, q, d),
        1e-120 * near_a_subspace(rng, n, d),
    ),
    "large": lambda rng, q, n, d: (
        1e150 * near_a_subspace(rng, q, d),
        1e150 * near_a_subspace(rng, n, d),
    ),
    "queries elsewhere": lambda rng, q, n, d: (rng.normal(size=(q, d)), near_a_subspace(rng, n, d)),
    "one axis": lambda rng, q, n, d: (
        near_a_subspace(rng, q, d, rank=1, noise=0),
        near_a_subspace(rng, n, d, rank=1, noise=1e-9),
    ),
}


@pytest.mark.parametrize("kind", NEAR)
def test_points_near_a_subspace(kind, instruction_set):
    q, n, d = 4500, 1000, 50
    rng = np.random.default_rng(len(kind))
    queries, training = NEAR[kind](rng, q, n, d)
    member = np.where(rng.random(q) < 0.2, rng.integers(0, n, q), -1)
    queries[member >= 0] = training[member[member >= 0]]
    assert_exact(nearest_training(queries, training), queries, training)
    pairing = {
        "query_labels": rng.integers(0, 3, q),
        "training_labels": np.minimum(rng.integers(0, 40, n), 1),
        "self_index": member,
    }
    assert_exact(nearest_training(queries, training, **pairing), queries, training, **pairing)
    if kind not in ("small", "large"):  # than float32 can be
        single = queries.astype(np.float32), training.astype(np.float32)
        assert_exact(nearest_training(*single, n_threads=3), *single)


@pytest.mark.parametrize("q", [63, 64, 65, 255, 256, 257, 4096, 4097])
@pytest.mark.parametrize("n", [7, 8, 9, 23, 24, 25, 48])
@pytest.mark.parametrize("d", [2, 5])
def test_sizes_around_block_boundaries(q, n, d):
    rng = np.random.default_rng([q, n, d])
    queries, training = rng.integers(0, 9, (q, d)), rng.integers(0, 9, (n, d))
    assert_exact(nearest_training(queries, training), queries, training)


def test_a_large_class_has_large_chunks():
    rng = np.random.default_rng(0)
    queries, training = rng.random((100, 5)), rng.random((24 * 512 + 100, 5))
    assert_exact(nearest_training(queries, training), queries, training)


ORDERED = {
    "even": lambda rng, size: rng.random(size),
    "clusters": lambda rng, size: rng.integers(0, 5, (*size[:1], 1)) * 10 + rng.normal(size=size),
    "a surface": lambda rng, size: np.tanh(rng.normal(size=(size[0], 2)) @ np.ones((2, size[1]))),
    "a grid": lambda rng, size: rng.integers(0, 3, size),
    "a line": lambda rng, size: np.pad(rng.random((size[0], 1)), ((0, 0), (0, size[1] - 1))),
    "one point": lambda rng, size: np.ones(size),
    "far away": lambda rng, size: rng.random(size) * 1e-3 + rng.choice([0, 1e6]),
}


@pytest.mark.parametrize("cloud", ORDERED)
@pytest.mark.parametrize("d", [4, 7, 30])
def test_many_queries_are_searched_in_an_order_of_their_own(cloud, d, instruction_set):
    rng = np.random.default_rng([d, len(cloud)])
    q, n = 4160, 600
    queries, training = (ORDERED[cloud](rng, size).astype(float) for size in [(q, d), (n, d)])
    member = np.where(rng.random(q) < 0.3, rng.integers(0, n, q), -1)
    queries[member >= 0] = training[member[member >= 0]]
    labels = {"query_labels": rng.integers(0, 3, q), "training_labels": rng.integers(0, 2, n)}
    for pairing in ({}, {"self_index": member}, {**labels, "self_index": member}):
        for threads in (1, 2):
            found = nearest_training(queries, training, n_threads=threads, **pairing)
            assert_exact(found, queries, training, **pairing)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("spread", [1.0, 1e-4])
def test_every_query_is_a_member(d, spread):
    rng = np.random.default_rng(d)
    points = rng.integers(0, 4, (2500, 1)) + spread * rng.random((2500, d))
    members = np.arange(len(points))
    found = nearest_training(points, points, self_index=members)
    assert_exact(found, points, points, self_index=members)


MEMBERS = {
    "where they are": lambda rng, own: own,
    "displaced": lambda rng, own: own + 0.01 * rng.normal(size=own.shape),
    "far from home": lambda rng, own: rng.permutation(own),
}


def assert_members_exact(queries, training, members, sides):
    """Check the first queries, which are the training points ``members``."""
    m = len(members)
    own = np.full(len(queries), -1)
    own[:m] = members
    labels = {"query_labels": sides(queries), "training_labels": sides(training)}
    for pairing in ({"self_index": own}, {**labels, "self_index": own}):
        found = nearest_training(queries, training, **pairing)
        first = Nearest(**{name: values[:m] for name, values in vars(found).items()})
        for name in pairing.keys() - {"training_labels"}:
            pairing[name] = pairing[name][:m]
        assert_exact(first, queries[:m], training, **pairing)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("cloud", ORDERED)
@pytest.mark.parametrize("where", MEMBERS)
def test_members_look_around_in_few_dimensions(d, cloud, where):
    """There are so many queries that a cell holds hardly more than the points it needs."""
    rng = np.random.default_rng([d, len(cloud), len(where)])
    queries, training = (ORDERED[cloud](rng, (n, d)).astype(float) for n in (60_000, 700))
    queries[:700] = MEMBERS[where](rng, training)
    middle = np.median(training.sum(axis=1))
    assert_members_exact(
        queries, training, np.arange(700), lambda points: (points.sum(axis=1) > middle) * 1
    )


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_members_look_for_points_beyond_the_queries(d, share):
    """Beyond the box of the queries there are no cells that know who is near."""
    rng = np.random.default_rng(d)
    training = rng.random((4000, d))
    training[200:] = 0.99 + 1e-4 * training[200:]
    members = np.flatnonzero(abs(training[:, 0] - 0.5) < share / 2)
    queries = np.repeat(training[members], 1 + 20_000 // len(members), axis=0)
    queries[len(members) :] += 0.001 * rng.random((len(queries) - len(members), d))
    queries[: len(members)] = training[members]
    assert_members_exact(queries, training, members, lambda points: (points[:, -1] > 0.5) * 1)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("scale", [2.0**-52, 1e30])
def test_members_whose_class_is_beyond_all_queries(d, scale):
    """The box of the queries has no width, or they have none beside the training points."""
    rng = np.random.default_rng(d)
    queries = np.ones((1000, d))
    training = 1 - 1e-9 + scale * rng.integers(-1, 2, (100, d))
    if scale > 1:
        queries *= rng.random((1000, 1))
        training += scale * rng.random((100, d))
    member = np.resize(np.arange(100), 1000)
    for size in (2, 3, 100):
        labels = {"query_labels": member // size, "training_labels": np.arange(100) // size}
        found = nearest_training(queries, training, self_index=member, **labels)
        assert_exact(found, queries, training, self_index=member, **labels)


@pytest.mark.parametrize("d", [2, 3])
def test_members_from_whom_everybody_else_is_as_far(d, instruction_set):
    """Looking around reaches so many crowded cells that the class is scanned instead."""
    rng = np.random.default_rng(d)
    training = rng.normal(size=(2000, d))
    training /= np.linalg.norm(training, axis=1)[:, None]
    queries = np.concatenate([1e-3 * rng.normal(size=(1000, d)), rng.uniform(-1, 1, (4000, d))])
    member = oracle(queries, training)[1]
    found = nearest_training(queries, training, self_index=member)
    assert_exact(found, queries, training, self_index=member)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_few_queries_where_nobody_expects_them(d, instruction_set):
    """So few among so many that the sample, by which cells are made, misses most of them."""
    rng = np.random.default_rng(d)
    queries, training = rng.normal(size=(70_000, d)), rng.normal(size=(100, d))
    elsewhere = rng.choice(len(queries), 50, replace=False)
    queries[elsewhere] = rng.uniform(-100, 100, (50, d))
    member = np.full(len(queries), -1)
    member[elsewhere] = rng.integers(0, 100, 50)
    found = nearest_training(queries, training, self_index=member)
    assert_exact(found, queries, training, self_index=member)


def test_many_queries_with_labels_that_nobody_has():
    rng = np.random.default_rng(0)
    queries, training = rng.random((5000, 5)), rng.random((300, 5))
    labels = {"query_labels": np.r_[np.full(4990, 7), np.zeros(10, int)]}
    labels["training_labels"] = np.zeros(300, int)
    assert_exact(nearest_training(queries, training, **labels), queries, training, **labels)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    q=st.integers(0, 600),
    n=st.integers(1, 120),
    d=st.integers(1, 12),
    values=st.sampled_from([2, 5, 1000, None]),
    dtypes=st.tuples(st.sampled_from("fd"), st.sampled_from("fd")),
    layout=st.sampled_from(["C", "F", "strided", "reversed"]),
    classes=st.integers(0, 5),
    members=st.booleans(),
    threads=st.integers(1, 3),
)
def test_any_arguments(seed, q, n, d, values, dtypes, layout, classes, members, threads):
    rng = np.random.default_rng(seed)

    def draw(rows, dtype):
        exact = rng.normal(size=(rows, d)) if values is None else rng.integers(0, values, (rows, d))
        points = exact.astype(dtype)
        if layout == "F":
            return np.asfortranarray(points)
        if layout == "strided":
            return np.repeat(np.repeat(points, 2, axis=0), 3, axis=1)[::2, ::3]
        return points[::-1, ::-1] if layout == "reversed" else points

    queries, training = draw(q, dtypes[0]), draw(n, dtypes[1])
    pairing = {}
    if classes:
        pairing["query_labels"] = rng.integers(-1, classes, q)
        pairing["training_labels"] = rng.integers(0, classes, n)
    if members:
        pairing["self_index"] = rng.integers(-1, n, q)
    found = nearest_training(queries, training, n_threads=threads, **pairing)
    assert_exact(found, queries, training, **pairing)


def test_instruction_sets_agree_bit_for_bit(monkeypatch):
    rng = np.random.default_rng(5)
    for d, q in [(2, 5000), (3, 5000), (10, 5000), (60, 300)]:
        queries, training = rng.random((q, d)).astype(np.float32), rng.random((500, d))
        answers = []
        for name in isa.available():
            monkeypatch.setenv("CONFSIM_ISA", name)
            answers.append(nearest_training(queries, training))
        for answer in answers[1:]:
            np.testing.assert_array_equal(answer.distance, answers[0].distance)
            np.testing.assert_array_equal(answer.index, answers[0].index)


def test_equals_the_kd_tree_on_integers():
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(1)
    queries, training = rng.integers(0, 10**6, (3000, 3)), rng.integers(0, 10**6, (2000, 3))
    distance, _ = cKDTree(training).query(queries)
    np.testing.assert_array_equal(nearest_training(queries, training).distance, distance)


def test_another_row_with_the_same_values_counts():
    found = nearest_training([[1.0, 2.0]], [[1.0, 2.0], [9.0, 9.0], [1.0, 2.0]], self_index=[0])
    assert (found.distance[0], found.index[0]) == (0, 0)
    assert (found.distance_excluding_self[0], found.index_excluding_self[0]) == (0, 2)


def test_the_only_member_of_a_class_has_no_other():
    found = nearest_training(
        [[0.0], [5.0]],
        [[0.0], [4.0]],
        query_labels=[1, 3],
        training_labels=[1, 2],
        self_index=[0, -1],
    )
    np.testing.assert_array_equal(found.distance, [0, np.nan])
    np.testing.assert_array_equal(found.index, [0, -1])
    np.testing.assert_array_equal(found.distance_excluding_self, [np.nan, np.nan])
    np.testing.assert_array_equal(found.index_excluding_self, [-1, -1])


def test_several_python_threads_at_once():
    rng = np.random.default_rng(2)
    queries, training = rng.random((5000, 2)), rng.random((200, 2))
    expected = nearest_training(queries, training, n_threads=1)
    wrong = []

    def search():
        for _ in range(5):
            found = nearest_training(queries, training, n_threads=2)
            if not np.array_equal(found.index, expected.index):
                wrong.append(found)

    workers = [threading.Thread(target=search) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_no_queries():
    found = nearest_training(np.empty((0, 2)), [[1.0, 2.0]], self_index=np.empty(0, int))
    assert len(found.distance) == len(found.index_excluding_self) == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"queries": [1.0, 2.0]}, ValueError, "queries must be 2-D"),
        ({"queries": [[1.0]]}, ValueError, "as many columns, not 1 and 2"),
        ({"queries": [[1.0, np.nan]]}, ValueError, "queries must be finite, but row 0"),
        (
            {"training": [[0.0, 0.0], [np.inf, 0.0]]},
            ValueError,
            "training must be finite, but row 1",
        ),
        ({"training": np.empty((0, 2))}, ValueError, "training must hold at least one point"),
        ({"queries": np.empty((3, 0)), "training": np.empty((3, 0))}, ValueError, "one column"),
        ({"queries": [["a", "b"]]}, TypeError, "queries must be real numbers"),
        ({"queries": [[1j, 0]]}, TypeError, "queries must be real numbers"),
        ({"metric": "cosine"}, ValueError, "metric must be one of euclidean, angular"),
        ({"query_labels": [1]}, ValueError, "training_labels must be given"),
        ({"training_labels": [1, 1]}, ValueError, "query_labels must be given"),
        (
            {"query_labels": [1], "training_labels": [1]},
            ValueError,
            "training_labels must have shape",
        ),
        ({"query_labels": [0.5], "training_labels": [1, 1]}, TypeError, "query_labels must be int"),
        ({"self_index": [2]}, ValueError, "self_index must be -1 or a row of training, 0 to 1"),
        ({"self_index": [-2]}, ValueError, "entry 0 is -2"),
        ({"self_index": [0, 0]}, ValueError, "self_index must have shape"),
        ({"n_threads": 0}, ValueError, "n_threads"),
        ({"queries": [[1e200, 0.0]]}, ValueError, "squared distances overflow"),
        ({"queries": [[2**60 + 1, 0]]}, ValueError, "queries holds integers beyond 2\\*\\*53"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {"queries": [[1.0, 2.0]], "training": [[0.0, 0.0], [3.0, 4.0]]} | change
    with pytest.raises(error, match=message):
        nearest_training(arguments.pop("queries"), arguments.pop("training"), **arguments)


def test_more_training_points_than_an_index_can_number():
    many = np.broadcast_to(np.zeros((1, 1)), (2**31, 1))
    with pytest.raises(ValueError, match=r"fewer than 2\*\*31"):
        nearest.euclidean(np.zeros((1, 1)), many, None, None, None, 1, 0)


def test_the_predicate_is_pure():
    near, far = (np.zeros(2), np.ones(2)), (np.zeros(2), np.full(2, 1e160))
    assert why_not(near, near) is None
    assert "overflow" in why_not(near, far)


def test_memory_comes_back_only_when_nobody_holds_it():
    from confsim._kernels import memory

    first = memory.empty(200_000, np.float64)
    first[:] = 1
    part, address = first[5:7], first.ctypes.data
    del first
    other = memory.empty(200_000, np.int64)
    assert other.ctypes.data != address
    assert part.tolist() == [1, 1]
    del part
    assert memory.empty(200_000, np.int64).ctypes.data == address
    assert memory.empty(3, np.int64).shape == (3,)
    assert other.flags.writeable
    assert other.flags.c_contiguous


def flattened(rng, shape, values):
    """Points whose last coordinates are few values, or one."""
    points = rng.random(shape)
    points[:, shape[1] // 2 :] = rng.choice(values, (shape[0], shape[1] - shape[1] // 2))
    return points


DEGENERATE = {
    "plane": lambda rng, s: flattened(rng, s, [1.0]),
    "two planes": lambda rng, s: flattened(rng, s, [0.0, 1.0]),
    "nearly a plane": lambda rng, s: flattened(rng, s, [1.0]) + 1e-9 * rng.random(s),
    "diagonal": lambda rng, s: np.repeat(rng.random((s[0], 1)), s[1], axis=1),
    "all equal": lambda rng, s: np.full(s, 3.0),
    "few distinct": lambda rng, s: rng.random((9, s[1]))[rng.integers(0, 9, s[0])],
    "integers": lambda rng, s: rng.integers(0, 4, s).astype(float),
    "outliers": lambda rng, s: rng.random(s) * rng.choice([1.0, 1e6], (s[0], 1), p=[0.98, 0.02]),
    "offset": lambda rng, s: rng.random(s) + 1e12,
    "tight clusters": lambda rng, s: (
        rng.integers(0, 3, s) + 1e-7 * rng.integers(-9, 9, s).astype(float)
    ),
    "sphere": circle,
    "scales": lambda rng, s: rng.random(s) * 1e6 ** np.arange(s[1]),
}


@pytest.mark.parametrize("cloud", DEGENERATE)
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_degenerate_training_sets(cloud, d, instruction_set):
    rng = np.random.default_rng(d)
    q, n = (600, 900) if d <= 3 else (4200, 330)
    training = DEGENERATE[cloud](rng, (n, d))
    near = DEGENERATE[cloud](rng, (q, d))
    own = np.where(rng.random(q) < 0.4, rng.integers(0, n, q), -1)
    near[own >= 0] = training[own[own >= 0]]
    labels = {"query_labels": rng.integers(0, 3, q), "training_labels": rng.integers(0, 2, n)}
    for queries in (near, rng.random((q, d))):
        for arguments in ({}, {"self_index": own}, {"self_index": own, **labels}):
            found = nearest_training(queries, training, n_threads=2, **arguments)
            assert_exact(found, queries, training, **arguments)
