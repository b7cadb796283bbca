"""The lattice: ids, points, labels and samples, and its own search for nearest training points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confsim._kernels import isa
from confsim.linear.lattice import Lattice
from confsim.neighbors import nearest_training


def assert_same(found, expected):
    for name in ("distance", "index", "distance_excluding_self", "index_excluding_self"):
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a, b, err_msg=name, strict=True)


@pytest.fixture(params=isa.available())
def instruction_set(request, monkeypatch):
    monkeypatch.setenv("CONFSIM_ISA", request.param)


@pytest.mark.parametrize(
    ("side", "step", "per_axis"),
    [
        (1000, 1, 1001),
        (1, 0.1, 11),
        (1, 0.3, 4),
        (10, 3, 4),
        (1, 1, 2),
        (0.3, 0.1, 4),
        (7.5, 2.5, 4),
    ],
)
def test_points_per_axis(side, step, per_axis):
    assert Lattice(side, step).points_per_axis == per_axis
    assert Lattice(side, step, 3).size == per_axis**3


def test_ids_are_row_major():
    lattice = Lattice(4, 2, 3)
    grid = np.stack(np.meshgrid(*[[0.0, 2.0, 4.0]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    np.testing.assert_array_equal(lattice.points(range(27)), grid)
    np.testing.assert_array_equal(lattice.points(np.arange(27)[::-1]), grid[::-1])
    np.testing.assert_array_equal(lattice.ids(grid), np.arange(27))


@settings(max_examples=40)
@given(
    d=st.integers(1, 9),
    m=st.integers(2, 100),
    step=st.sampled_from([1.0, 0.1, 0.25, 3.0, 1e-3]),
    seed=st.integers(0, 2**32),
)
def test_ids_and_points_are_inverse(d, m, step, seed):
    lattice = Lattice((m - 1) * step, step, d)
    ids = np.random.default_rng(seed).integers(0, lattice.size, 50)
    points = lattice.points(ids)
    axes = np.stack(np.unravel_index(ids, (m,) * d), axis=1)
    np.testing.assert_array_equal(points, axes * step)
    np.testing.assert_array_equal(lattice.ids(points), ids)


def test_labels_follow_the_definition():
    lattice = Lattice(20, 0.1, 3)
    rng = np.random.default_rng(0)
    ids, weights = rng.integers(0, lattice.size, 5000), rng.normal(size=3)
    points = lattice.points(ids)
    score = ((0.0 + weights[0] * points[:, 0]) + weights[1] * points[:, 1]) + weights[2] * points[
        :, 2
    ]
    expected = np.where(score - 1.5 > 0, 1, -1)
    np.testing.assert_array_equal(lattice.labels(ids, weights, -1.5), expected)
    order = np.argsort(ids, kind="stable")
    np.testing.assert_array_equal(lattice.labels(ids[order], weights, -1.5), expected[order])


def test_points_on_the_hyperplane_are_negative():
    lattice = Lattice(10)
    on = np.arange(11) * 12
    assert (lattice.labels(on, [1, -1], 0) == -1).all()
    assert lattice.labels(range(11, 12), [1, -1], 0).tolist() == [1]
    assert lattice.labels(on, [1, -1], 0).dtype == np.int8


@pytest.mark.parametrize("count", [0, 1, 7, 60, 61, 120, 121])
def test_samples_are_distinct_and_ascending(count):
    ids = Lattice(10).sample(count, np.random.default_rng(count))
    assert ids.shape == (count,)
    assert ids.dtype == np.int64
    assert (np.diff(ids) > 0).all()
    assert not count or (ids[0] >= 0 and ids[-1] < 121)


def test_samples_are_uniform():
    lattice, rng = Lattice(3, 1, 2), np.random.default_rng(0)
    for count in (3, 8, 13):
        drawn = np.bincount(
            np.concatenate([lattice.sample(count, rng) for _ in range(4000)]), minlength=16
        )
        expected = 4000 * count / 16
        deviation = np.sqrt(expected * (1 - count / 16))
        assert (np.abs(drawn - expected) < 5 * deviation).all()


def test_samples_of_an_enormous_lattice():
    lattice = Lattice(dimensions=6)
    ids = lattice.sample(200_000, np.random.default_rng(0))
    assert (np.diff(ids) > 0).all()
    assert ids[-1] < lattice.size == 1001**6
    np.testing.assert_array_equal(ids, lattice.sample(200_000, np.random.default_rng(0)))


@settings(max_examples=120)
@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from([(1, 300), (2, 17), (2, 90), (3, 33), (3, 9), (4, 6)]),
    step=st.sampled_from([1.0, 0.5, 3.0, 0.1]),
    n=st.integers(1, 150),
    kind=st.sampled_from(["all", "range", "sample", "any order"]),
    classes=st.integers(0, 7),
    coherent=st.booleans(),
    members=st.booleans(),
    place=st.sampled_from(["lattice", "beyond", "anywhere"]),
    threads=st.integers(1, 2),
)
def test_nearest_equals_the_search_by_coordinates(
    seed, shape, step, n, kind, classes, coherent, members, place, threads
):
    rng = np.random.default_rng(seed)
    lattice = Lattice((shape[1] - 1) * step, step, shape[0])
    if kind == "all":
        ids = range(lattice.size)
    elif kind == "range":
        ids = range(*sorted(rng.integers(0, lattice.size + 1, 2).tolist()))
    elif kind == "sample":
        ids = lattice.sample(int(rng.integers(0, lattice.size + 1)), rng)
    else:
        ids = rng.integers(0, lattice.size, 500)
    training = lattice.points(rng.integers(0, lattice.size, n))
    if place == "beyond":
        training = training + step * rng.integers(-5, 6, training.shape)
    elif place == "anywhere":
        training = training + rng.normal(size=training.shape)
    q, pairing = len(ids), {}
    if classes:
        labels = np.arange(q) * classes // max(q, 1) if coherent else rng.integers(0, classes, q)
        pairing["query_labels"] = labels.astype(rng.choice([np.int8, np.int64]))
        pairing["training_labels"] = rng.integers(0, classes + 1, n)
    if members:
        pairing["self_index"] = np.where(rng.random(q) < 0.2, rng.integers(0, n, q), -1)
    found = lattice.nearest(training, None if kind == "all" else ids, n_threads=threads, **pairing)
    assert_same(found, nearest_training(lattice.points(ids), training, **pairing))


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 500])
def test_every_instruction_set_and_list_length(n, instruction_set):
    rng = np.random.default_rng(n)
    for lattice in (Lattice(100), Lattice(40, 0.5), Lattice(35, 1, 3), Lattice(5000, 1, 1)):
        members = lattice.sample(n, rng)
        training = lattice.points(members)
        own = np.full(lattice.size, -1)
        own[members] = np.arange(n)
        found = lattice.nearest(training, self_index=own)
        expected = nearest_training(lattice.points(range(lattice.size)), training, self_index=own)
        assert_same(found, expected)
        assert (found.distance[members] == 0).all()


@pytest.mark.parametrize("shape", [(2, 150), (3, 40), (1, 9000)])
@pytest.mark.parametrize("place", ["anywhere", "one corner", "adjacent"])
@pytest.mark.parametrize("split", [None, 0.5, 0.02])
def test_more_candidates_than_a_band_takes_unbounded(shape, place, split, instruction_set):
    rng = np.random.default_rng(7)
    lattice, n = Lattice(shape[1] - 1, 1, shape[0]), 700
    members = lattice.sample(n, rng)
    if place != "anywhere":  # at the start, or around the borders of the middle tiles
        members = np.arange(n) + (0 if place == "one corner" else lattice.size // 2 - n // 2)
    training = lattice.points(members)
    own = np.full(lattice.size, -1)
    own[members] = np.arange(n)
    pairing = {"self_index": own}
    if split:  # a class that few chunks of a band ask for, and that few candidates have
        labels = (lattice.points(range(lattice.size)).sum(axis=1) > split * shape[1]).astype(
            np.int8
        )
        pairing |= {"query_labels": labels, "training_labels": labels[members]}
    found = lattice.nearest(training, n_threads=2, **pairing)
    assert_same(found, nearest_training(lattice.points(range(lattice.size)), training, **pairing))


def other_by_all_pairs(lattice, ids, training, own, pairing):
    """Return distance and index of the nearest other training point of each member."""
    distance, index = np.full(len(ids), np.nan), np.full(len(ids), -1)
    for q in np.flatnonzero(own != -1):
        difference = lattice.points(ids[q : q + 1]) - training
        sums = np.zeros(len(training))
        for k in range(difference.shape[1]):
            sums += difference[:, k] * difference[:, k]
        counts = np.arange(len(training)) != own[q]
        if pairing:
            counts &= pairing["training_labels"] == pairing["query_labels"][q]
        if counts.any():
            index[q] = np.argmin(np.where(counts, sums, np.inf))  # the first of equal ones
            distance[q] = np.sqrt(sums[index[q]])
    return distance, index


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from([(1, 9), (1, 700), (2, 9), (2, 15), (2, 17), (2, 65), (2, 90), (3, 33)]),
    n=st.integers(1, 300),
    place=st.sampled_from(["anywhere", "few places", "one row", "one column", "two corners"]),
    step=st.sampled_from([1.0, 0.5, 3.0]),
    displaced=st.booleans(),
    share=st.sampled_from([0.3, 1.0]),
    classes=st.sampled_from([0, 2, 5, 200]),
    isa_name=st.sampled_from(isa.available()),
)
def test_members_find_their_nearest_other_point(
    seed, shape, n, place, step, displaced, share, classes, isa_name
):
    d, m = shape
    rng = np.random.default_rng(seed)
    lattice = Lattice((m - 1) * step, step, d)
    axes = rng.integers(0, m, (n, d))
    if place == "few places":  # ties, and duplicates in training
        axes = axes[rng.integers(0, min(n, 4), n)]
    elif place == "two corners":
        axes = np.where(rng.random((n, 1)) < 0.5, axes % 3, m - 1 - axes % 3)
    elif place == "one row" and d > 1:
        axes[:, -2] = m // 3
    elif place == "one column":
        axes[:, -1] = m // 2
    training = axes * step
    home = np.ravel_multi_index(tuple(axes.T), (m,) * d)
    ids = np.flatnonzero(rng.random(lattice.size) < share)
    if d == 3:  # a few planes of it
        ids = ids[(ids >= 5 * m * m) & (ids < 8 * m * m)]
    own = np.full(len(ids), -1)
    if displaced:  # anybody can be anybody's own training row
        some = rng.random(len(ids)) < min(1.0, 200 / max(len(ids), 1))
        own[some] = rng.integers(0, n, np.count_nonzero(some))
    else:
        _, at, row = np.intersect1d(ids, home, return_indices=True)
        own[at] = row
    pairing = {}
    if classes:  # with 200, most have a single training point or none
        pairing["query_labels"] = rng.integers(0, classes, len(ids))
        pairing["training_labels"] = rng.integers(0, classes, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONFSIM_ISA", isa_name)
        found = lattice.nearest(training, ids, self_index=own, **pairing)
    distance, index = other_by_all_pairs(lattice, ids, training, own, pairing)
    member = own != -1
    np.testing.assert_array_equal(found.distance_excluding_self[member], distance[member])
    np.testing.assert_array_equal(found.index_excluding_self[member], index[member])
    np.testing.assert_array_equal(found.distance_excluding_self[~member], found.distance[~member])
    np.testing.assert_array_equal(found.index_excluding_self[~member], found.index[~member])


@pytest.mark.parametrize("n", [1, 2, 300])
def test_every_query_is_a_member(n, instruction_set):
    lattice = Lattice(40)
    rng = np.random.default_rng(n)
    training = lattice.points(lattice.sample(n, rng))
    own = rng.integers(0, n, lattice.size)
    found = lattice.nearest(training, self_index=own)
    queries = lattice.points(range(lattice.size))
    assert_same(found, nearest_training(queries, training, self_index=own))
    if n == 1:
        assert np.isnan(found.distance_excluding_self).all()
        assert (found.index_excluding_self == -1).all()


def test_more_candidates_than_a_key_can_number():
    # Every training point is equally far from the middle, and the keys have the fewest bits.
    lattice = Lattice(11_000, 1, 2)
    angle = np.arange(3000) / 3000 * 2 * np.pi
    training = np.rint(5500 + 5400 * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    ids = (np.arange(5480, 5520)[:, None] * lattice.points_per_axis + np.arange(5480, 5520)).ravel()
    expected = nearest_training(lattice.points(ids), training)
    assert_same(lattice.nearest(training, ids), expected)
    part = range(int(ids[0]), int(ids[0]) + 100)
    assert_same(lattice.nearest(training, part), nearest_training(lattice.points(part), training))


def test_blocks_of_a_large_lattice():
    lattice = Lattice(dimensions=3)
    rng = np.random.default_rng(3)
    members = lattice.sample(300, rng)
    training = lattice.points(members)
    start = 500 * 1001**2 + 12_345
    block = range(start, start + 50_000)
    expected = nearest_training(lattice.points(block), training)
    distance, index = np.empty(50_000), np.empty(50_000, np.int64)
    lattice.nearest_into(training, block, distance, index=index, n_threads=2)
    np.testing.assert_array_equal(distance, expected.distance)
    np.testing.assert_array_equal(index, expected.index)
    lattice.nearest_into(training, block, distance[:50_000])
    np.testing.assert_array_equal(distance, expected.distance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "grid_size must be greater than 0"),
        ((np.nan,), "grid_size must be finite"),
        ((1, 0), "granularity must be greater than 0"),
        ((1, 2), "granularity must be at most grid_size"),
        ((1, np.inf), "granularity must be finite"),
        ((1, 1, 0), "dimensions must be at least 1"),
        ((1, 1, 63), "fewer than 2\\*\\*63 points"),
        ((1000, 1, 7), "fewer than 2\\*\\*63 points"),
        ((1e300, 1e-300), "fewer than 2\\*\\*63 points"),
        ((1, 1, 10**9), "fewer than 2\\*\\*63 points"),
    ],
)
def test_bad_lattices(arguments, message):
    with pytest.raises(ValueError, match=message):
        Lattice(*arguments)


def test_the_largest_lattice():
    assert Lattice(1, 1, 62).size == 2**62


@pytest.mark.parametrize(("entry", "value"), [(0, -2), (60, 7), (120, 2**40)])
def test_rows_of_members_are_checked(entry, value, instruction_set):
    lattice = Lattice(10)
    own = np.full(lattice.size, -1)
    own[entry] = value
    with pytest.raises(ValueError, match=f"0 to 1, but entry {entry} is {value}"):
        lattice.nearest([[0.0, 0.0], [3.0, 4.0]], self_index=own)


def test_bad_arguments():
    lattice = Lattice(10)
    with pytest.raises(ValueError, match=r"ids must be in \[0, 121\), but entry 1 is 121"):
        lattice.points([0, 121])
    with pytest.raises(ValueError, match="ids must be in"):
        lattice.points(range(100, 122))
    with pytest.raises(ValueError, match="range of step 1"):
        lattice.points(range(0, 10, 2))
    with pytest.raises(TypeError, match="ids must be integers"):
        lattice.points([0.5])
    with pytest.raises(ValueError, match="points must lie on the lattice, but row 1"):
        lattice.ids([[0.0, 1.0], [0.5, 1.0]])
    with pytest.raises(ValueError, match="points must lie on the lattice"):
        lattice.ids([[0.0, 11.0]])
    with pytest.raises(ValueError, match="weights must have shape"):
        lattice.labels([0], [1.0], 0)
    with pytest.raises(ValueError, match="weights must be finite"):
        lattice.labels([0], [1.0, np.nan], 0)
    with pytest.raises(ValueError, match="count must be at most"):
        lattice.sample(122, np.random.default_rng(0))
    with pytest.raises(ValueError, match="training_points must have 2 columns"):
        lattice.nearest([[1.0]])
    with pytest.raises(ValueError, match="training_points must hold at least one"):
        lattice.nearest(np.empty((0, 2)))
    with pytest.raises(ValueError, match="training_points must be finite, but row 0"):
        lattice.nearest([[np.nan, 0]])
    with pytest.raises(ValueError, match="query_labels must have shape"):
        lattice.nearest([[0.0, 0.0]], query_labels=[1], training_labels=[1])
