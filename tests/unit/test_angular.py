"""The angular search against the float64 oracle, bit for bit, on every path that can run here."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim import _kernels
from confsim._kernels import isa, nearest

ISAS = {name: isa.CODES[name] for name in isa.available()}
LARGEST = np.finfo(np.float64).max


def unit_rows(matrix):
    """x / sqrt(sum x^2), ascending; out of float64's range first times a power of two."""
    units = np.array(matrix, dtype=np.float64)
    zero = ~units.any(axis=1)
    for row in units:
        total = sum_of_squares(row)
        if not 2.0**-900 <= total <= LARGEST and row.any():
            row[:] = np.ldexp(row, -math.frexp(float(np.abs(row).max()))[1])
            total = sum_of_squares(row)
        if row.any():
            row /= math.sqrt(total)
    return units, zero


def sum_of_squares(row):
    total = 0.0
    for x in row.tolist():
        total += x * x
    return total


def oracle(queries, training, query_labels=None, training_labels=None, self_index=None):
    """The definition, without any thought of speed."""
    (q, q_zero), (t, t_zero) = unit_rows(queries), unit_rows(training)
    apart = np.zeros((len(q), len(t)))
    together = np.zeros_like(apart)
    for k in range(q.shape[1]):
        apart += (q[:, k, None] - t[None, :, k]) ** 2
        together += (q[:, k, None] + t[None, :, k]) ** 2
    apart, together = np.sqrt(apart), np.sqrt(together)
    distance = 2 * np.arctan2(apart, together) / math.pi
    if query_labels is not None:
        distance[query_labels[:, None] != training_labels] = np.inf
    # Only math.atan2 counts, but it need not be asked about rows that are nowhere near.
    near = distance <= np.sort(distance, axis=1)[:, :8][:, -1:] + 1e-12
    near &= np.isfinite(distance)
    pairs = zip(apart[near].tolist(), together[near].tolist(), strict=True)
    distance[near] = [2 * math.atan2(a, b) / math.pi for a, b in pairs]
    distance[np.isfinite(distance) & (q_zero[:, None] != t_zero)] = 0.5
    distance[np.isfinite(distance) & q_zero[:, None] & t_zero] = 0.0
    including = lowest(distance)
    if self_index is None:
        return (*including, None, None)
    for i, own in enumerate(self_index):
        if own >= 0:
            distance[i, own] = np.inf
    return (*including, *lowest(distance))


def lowest(distance):
    index = distance.argmin(axis=1)
    found = distance[np.arange(len(distance)), index]
    return np.where(np.isinf(found), np.nan, found), np.where(np.isinf(found), -1, index)


def assert_same(got, expected, message=""):
    for g, e in zip(got, expected, strict=True):
        assert (g is None) == (e is None)
        if e is not None:
            np.testing.assert_array_equal(g, e, err_msg=message)


def check(
    queries,
    training,
    query_labels=None,
    training_labels=None,
    self_index=None,
    threads=(1, 2, 3, 4),
):
    arguments = queries, training, query_labels, training_labels, self_index
    expected = oracle(*arguments)
    for name, code in ISAS.items():
        for count in threads:
            assert_same(nearest.angular(*arguments, count, code), expected, f"{name}, {count}")
    return expected


def pairings(rng, q, n):
    yield None, None, None
    yield None, None, rng.integers(-1, n, q)
    yield rng.integers(0, 4, q), rng.integers(1, 5, n), rng.integers(-1, n, q)


@pytest.mark.parametrize("d", [1, 2, 3, 10, 127, 128, 129, 2048])
@pytest.mark.parametrize("kind", ["normal", "grid", "parallel", "extreme"])
def test_dimensions_and_block_boundaries(d, kind):
    rng = np.random.default_rng(d)
    for q, n in [(1, 1), (97, 1), (1, 65), (25, 33), (96, 129)]:
        queries, training = rng.normal(size=(q, d)), rng.normal(size=(n, d))
        if kind == "grid":
            queries, training = np.rint(queries), np.rint(training).astype(np.float32)
        elif kind == "parallel":
            training = queries[0] + 1e-9 * training
            queries = queries[:1] * rng.choice([-1, 1, 2], (q, 1)) + 1e-12 * queries
        elif kind == "extreme":
            powers = 10.0 ** rng.choice([-310, -300, -150, 0, 150, 300], size=n)
            training, queries = training * powers[:, None], queries.astype(np.float32)
        for pairing in pairings(rng, q, n):
            check(queries, training, *pairing, threads=(1, 2))


@pytest.mark.parametrize("rows", [511, 512, 513, 1500])
def test_principal_axes_and_chunks(rows):
    rng = np.random.default_rng(rows)
    spectrum = np.exp(-np.arange(40) / 3)
    points = (rng.normal(size=(rows, 40)) * spectrum).astype(np.float32)
    training = points[: rows - 1].copy()
    own = np.arange(rows)
    own[rows // 2 :] = -1
    check(points, training, None, None, own, threads=(1, 2))
    check(points, training, own % 3, own[:-1] % 3, own, threads=(2,))


def test_long_classes_cross_chunks():
    rng = np.random.default_rng(4)
    training = rng.normal(size=(9000, 12)) * np.exp(-np.arange(12))
    check(rng.normal(size=(30, 12)), training, threads=(2,))
    queries = training[::17] + 1e-3
    check(queries, training, threads=(2,))


def test_low_rank_flat_and_constant_data():
    rng = np.random.default_rng(5)
    for rank in (0, 1, 2, 16):
        points = rng.normal(size=(600, rank)) @ rng.normal(size=(rank, 16))
        check(points, points[::-1].copy(), None, None, np.arange(600)[::-1].copy(), threads=(2,))


def test_all_equal_rows_are_at_exactly_zero_and_the_lowest_wins():
    row = np.random.default_rng(1).normal(size=37)
    points = np.tile(row, (700, 1))
    own = np.arange(700)
    distance, index, other, other_index = check(points, points, None, None, own, threads=(1, 2))
    assert not distance.any()
    assert not index.any()
    assert not other.any()
    assert other_index[0] == 1
    assert not other_index[1:].any()


def test_zero_rows_and_antipodes():
    training = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-3.0, 0.0]])
    queries = np.array([[0.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    distance, index, _, _ = check(queries, training)
    np.testing.assert_array_equal(distance, [0.0, 0.0, 0.0, 0.5])
    np.testing.assert_array_equal(index, [0, 1, 3, 0])
    distance, index, _, _ = check(queries, training[1:2])
    np.testing.assert_array_equal(distance, [0.5, 0.0, 1.0, 0.5])


def test_single_member_of_a_class_excluded_as_self_has_no_neighbour():
    points = np.eye(3)
    labels = np.array([7, 8, 8])
    own = np.arange(3)
    distance, index, other, other_index = check(points, points, labels, labels, own)
    assert not distance.any()
    np.testing.assert_array_equal(index, [0, 1, 2])
    np.testing.assert_array_equal(other, [np.nan, 0.5, 0.5])
    np.testing.assert_array_equal(other_index, [-1, 2, 1])
    distance, index, other, _ = check(points, points, np.array([9, 9, 9]), labels, own)
    assert np.isnan(distance).all()
    assert (index == -1).all()
    assert np.isnan(other).all()


@pytest.mark.parametrize("value", [5e-324, 1e-310, 1e-170, 1e-150, 1e150, 1e200, 1.7e308])
def test_extreme_coordinates_are_exact(value):
    training = np.array([[1.0, 0.0, 0.0], [3.0, 4.0, 0.0], [0.0, -1.0, 1.0]])
    check(value * np.eye(3), training)
    check(training, value * np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]))


def test_strided_and_mixed_inputs_are_read_in_place():
    rng = np.random.default_rng(2)
    wide = rng.normal(size=(60, 50))
    queries = wide.astype(np.float32).T[::-1, ::2]
    training = wide[::2, 10:60].T[:, ::-1]
    check(queries, training)
    check(np.asfortranarray(queries), training.astype(np.float32))
    readonly = queries.copy()
    readonly.flags.writeable = False
    check(readonly, training)


def test_empty_queries():
    got = nearest.angular(np.empty((0, 3)), np.ones((1, 3)), None, None, None, 1, 0)
    assert got[0].shape == got[1].shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": np.ones((2, 4))}, "columns"),
        ({"training": np.ones((0, 3))}, "columns"),
        (
            {name: np.broadcast_to(1.0, (2, 2**24 + 1)) for name in ("queries", "training")},
            "at most 16777216 columns",
        ),
        ({"training": np.ones(3)}, "training must have two dimensions"),
        ({"queries": np.ones((2, 3), dtype=np.float16)}, "queries must be float32 or float64"),
        ({"query_labels": np.zeros(2, np.int64)}, "together"),
        ({"self_index": np.zeros(3, np.int64)}, "one entry per query"),
        ({"self_index": np.array([0, 2])}, "entry 1 is 2"),
        ({"threads": 0}, "threads"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {
        "queries": np.ones((2, 3)),
        "training": np.ones((2, 3)),
        "query_labels": None,
        "training_labels": None,
        "self_index": None,
        "threads": 1,
        "isa": _kernels.resolve_isa(),
    }
    with pytest.raises((ValueError, TypeError), match=message):
        nearest.angular(*{**arguments, **change}.values())


@settings(max_examples=60)
@given(data=st.data())
def test_hypothesis(data):
    q, n, d = (data.draw(st.integers(1, m)) for m in (9, 12, 5))
    value = st.sampled_from([-2.0, -1.0, 0.0, 0.0, 1.0, 1.0, 3.0, 1e-9, 1e-170, 1e160])
    value = value | st.floats(-1e300, 1e300)

    def array(rows):
        entries = data.draw(st.lists(value, min_size=rows * d, max_size=rows * d))
        return np.array(entries).reshape(rows, d)

    def whole(rows, low, high):
        entries = st.lists(st.integers(low, high), min_size=rows, max_size=rows)
        return np.array(data.draw(entries), dtype=np.int64)

    queries, training = array(q), array(n)
    if data.draw(st.booleans()):
        queries = training[whole(q, 0, n - 1)]
    labels = (whole(q, 0, 2), whole(n, 0, 2)) if data.draw(st.booleans()) else (None, None)
    own = whole(q, -1, n - 1) if data.draw(st.booleans()) else None
    check(queries, training, *labels, own, threads=(1, 2))


def narrow(rng, count, d, spread, apart=1):
    """Rows that are nearly parallel to one or to a few directions."""
    axes = np.random.default_rng(d).normal(size=(apart, d))
    return axes[rng.integers(0, apart, count)] + spread * rng.normal(size=(count, d))


CROWDS = {
    "one large column": lambda rng, n, d: np.c_[np.full(n, 1e6), rng.normal(size=(n, d - 1))],
    "offset": lambda rng, n, d: rng.normal(size=(n, d)) + 1e5,
    "one direction": lambda rng, n, d: narrow(rng, n, d, 1e-8) * rng.random((n, 1)),
    "few directions": lambda rng, n, d: narrow(rng, n, d, 1e-7, 3),
    "opposite": lambda rng, n, d: narrow(rng, n, d, 1e-7) * rng.choice([-1.0, 1.0], (n, 1)),
    "last digits": lambda rng, n, d: 1 + rng.integers(0, 3, (n, d)) * 2.0**-52,
    "few distinct": lambda rng, n, d: rng.normal(size=(5, d))[rng.integers(0, 5, n)],
    "with zeros": lambda rng, n, d: narrow(rng, n, d, 1e-7) * rng.integers(0, 2, (n, 1)),
}


@pytest.mark.parametrize("isa_name", ISAS)
@pytest.mark.parametrize("d", [2, 17])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("crowd", CROWDS)
def test_rows_that_float32_cannot_tell_apart(crowd, turned, d, isa_name):
    rng = np.random.default_rng(d)
    queries, training = CROWDS[crowd](rng, 90, d), CROWDS[crowd](rng, 150, d)
    if turned:  # queries opposite to all training rows, and at a right angle to them
        queries = np.vstack([-queries, rng.normal(size=(30, d))])
    own = np.where(rng.random(len(queries)) < 0.5, rng.integers(0, 150, len(queries)), -1)
    if not turned:
        queries[own >= 0] = training[own[own >= 0]]
    labels = rng.integers(0, 3, len(queries)), rng.integers(0, 2, 150)
    for pairing in ((None, None, None), (None, None, own), (*labels, own)):
        got = nearest.angular(queries, training, *pairing, 2, ISAS[isa_name])
        assert_same(got, oracle(queries, training, *pairing), f"{crowd}, {pairing}")
