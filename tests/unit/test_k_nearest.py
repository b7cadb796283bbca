"""The k nearest against a float64 loop over all pairs, on every instruction set that runs here."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim import nearest_training
from confsim._kernels import isa, nearest


def distances(queries, training, metric):
    """All pairs by the definition, columns ascending."""
    q, t = queries.astype(np.float64), training.astype(np.float64)
    if metric == "euclidean":
        total = np.zeros((len(q), len(t)))
        for k in range(q.shape[1]):
            total += (q[:, k, None] - t[None, :, k]) ** 2
        return np.sqrt(total)
    lengths = [np.zeros(len(rows)) for rows in (q, t)]
    for rows, length in zip((q, t), lengths, strict=True):
        for k in range(q.shape[1]):
            length += rows[:, k] ** 2
    (a, b), zero = (np.sqrt(length) for length in lengths), [length == 0 for length in lengths]
    apart, together = np.zeros((len(q), len(t))), np.zeros((len(q), len(t)))
    with np.errstate(invalid="ignore"):
        for k in range(q.shape[1]):
            x, y = (q[:, k] / a)[:, None], (t[:, k] / b)[None]
            apart += (x - y) ** 2
            together += (x + y) ** 2
        pairs = zip(np.sqrt(apart).flat, np.sqrt(together).flat, strict=True)
    turn = np.array([2 * math.atan2(x, y) / math.pi for x, y in pairs]).reshape(apart.shape)
    turn[zero[0][:, None] | zero[1]] = 0.5
    turn[zero[0][:, None] & zero[1]] = 0.0
    return turn


def lowest(distance, counts, k):
    """The k lowest of those that count, ties by index; NaN and -1 where there are fewer."""
    masked = np.where(counts, distance, np.inf)
    masked = np.pad(masked, ((0, 0), (0, k)), constant_values=np.inf)
    index = np.argsort(masked, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(masked, index, axis=1)
    missing = np.isinf(found)
    return np.where(missing, np.nan, found), np.where(missing, -1, index)


def rows_of(rng, kind, count, dimensions):
    if kind == "ties":
        return rng.integers(-1, 2, (count, dimensions)).astype(np.float64)
    if kind == "narrow":
        return 1 + 1e-7 * rng.integers(0, 9, (count, dimensions))
    scale = 1 + np.arange(dimensions) ** 2 if kind == "skewed" else 1
    return rng.normal(size=(count, dimensions)) / scale


KINDS = ("plain", "ties", "narrow", "skewed")


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(("euclidean", "angular")),
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 90), st.integers(1, 700), st.sampled_from((1, 2, 3, 8, 9, 12, 40))),
    st.integers(1, 64),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_answers_are_those_of_a_loop(seed, metric, kind, shape, k, options):
    rng = np.random.default_rng(seed)
    q, n, d = shape
    same_class, with_self, with_groups = options
    dtype = rng.choice([np.float32, np.float64])
    queries, training = (rows_of(rng, kind, rows, d).astype(dtype) for rows in (q, n))
    own = np.where(rng.random(q) < 0.5, rng.integers(0, n, q), -1)
    queries[own >= 0] = training[own[own >= 0]]
    labels = rng.integers(0, 3, q), rng.integers(0, 2, n)
    groups = rng.integers(0, 30, q), rng.integers(0, 25, n)
    counts = np.ones((q, n), bool)
    if same_class:
        counts &= labels[0][:, None] == labels[1]
    others = counts.copy()
    if with_self:
        others &= own[:, None] != np.arange(n)
    if with_groups:
        others &= groups[0][:, None] != groups[1]
    distance = distances(queries, training, metric)
    expected = lowest(distance, counts, k), lowest(distance, others, k)
    for code in (isa.CODES[name] for name in isa.available()):
        found = nearest.k_nearest(
            queries,
            training,
            *(labels if same_class else (None, None)),
            own if with_self else None,
            *(groups if with_groups else (None, None)),
            k,
            metric == "angular",
            2,
            code,
        )
        np.testing.assert_array_equal(found[0], expected[0][0])
        np.testing.assert_array_equal(found[1], expected[0][1])
        if with_self or with_groups:
            np.testing.assert_array_equal(found[2], expected[1][0])
            np.testing.assert_array_equal(found[3], expected[1][1])
        else:
            assert found[2] is found[3] is None


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_neighbour_is_the_nearest(metric, kind):
    rng = np.random.default_rng(3)
    training = rows_of(rng, kind, 1300, 24)
    own = np.arange(1300)
    one = nearest_training(training, training, metric=metric, self_index=own, k=1)
    plain = nearest_training(training, training, metric=metric, self_index=own)
    for name in ("distance", "index", "distance_excluding_self", "index_excluding_self"):
        np.testing.assert_array_equal(getattr(one, name)[:, 0], getattr(plain, name))


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
def test_more_neighbours_begin_like_fewer(metric):
    rng = np.random.default_rng(4)
    training, queries = rows_of(rng, "skewed", 3000, 40), rows_of(rng, "skewed", 500, 40)
    many = nearest_training(queries, training, metric=metric, k=300)
    few = nearest_training(queries, training, metric=metric, k=20)
    np.testing.assert_array_equal(many.distance[:, :20], few.distance)
    np.testing.assert_array_equal(many.index[:, :20], few.index)
    assert (np.diff(many.distance, axis=1) >= 0).all()


def test_groups_without_k():
    points = np.array([[0.0], [0.1], [5.0], [9.0]])
    found = nearest_training(
        points, points, query_groups=[0, 0, 1, 2], training_groups=[0, 0, 1, 2]
    )
    assert found.index.tolist() == [0, 1, 2, 3]
    assert found.index_excluding_self.tolist() == [2, 2, 3, 2]
    assert found.distance_excluding_self.tolist() == [5.0, 4.9, 4.0, 4.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be between 1 and"),
        ({"k": 5000}, "k must be between 1 and"),
        ({"k": 2.0}, "k must be an integer"),
        ({"query_groups": [0, 1]}, "training_groups must be given"),
        ({"query_groups": [0], "training_groups": [0, 1]}, "query_groups must have shape"),
        ({"query_groups": [0, 1], "training_groups": [0.5, 1]}, "training_groups must be integers"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        nearest_training(np.eye(2), np.eye(2), **change)
