"""Rank statistics against NumPy: of histograms and of single points, the same numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from confsim._kernels import isa
from confsim._kernels.stats import count_pairs, midranks, rank_covariance, rank_spread
from confsim.statistics import average_ranks

CODES = [isa.CODES[name] for name in isa.available()]

SIZES = [1, 2, 7, 8, 9, 127, 128, 129, 135, 136, 137, 300, 1024, 5000, 65_536]


def counts_of(size, kind, rng):
    if kind == "empty":
        return np.zeros(size, dtype=np.int64)
    if kind == "one bin":
        counts = np.zeros(size, dtype=np.int64)
        counts[size // 2] = 12_345
        return counts
    if kind == "few bins":
        return rng.integers(0, 9, size) * (rng.random(size) < 0.01)
    return rng.integers(0, 10**6 if kind == "many" else 20, size)


KINDS = ["empty", "one bin", "few bins", "some", "many"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_ranks_and_their_spread_equal_numpy(size, kind):
    counts = counts_of(size, kind, np.random.default_rng(size))
    total = max(1, int(counts.sum()))
    expected = 2 * np.cumsum(counts) - counts - counts.sum()
    variance = float(np.sum(counts * np.square(expected / total)))
    hidden = float(np.sum(counts * np.square(counts / total))) / 3
    for code in CODES:
        ranks, *found = rank_spread(counts, code)
        np.testing.assert_array_equal(ranks, expected)
        assert found == [total, variance, hidden]


@pytest.mark.parametrize("size", SIZES)
def test_covariance_is_the_sum_of_products(size):
    rng = np.random.default_rng(size)
    sums, ranks = rng.integers(-(10**15), 10**15, size), rng.integers(-(10**9), 10**9, size)
    for total in (1, 999_983):
        terms = (sums / total) * (ranks / total)
        (found,) = {rank_covariance(sums, ranks, total, code) for code in CODES}
        assert found == pytest.approx(math.fsum(terms), rel=0, abs=1e-15 * np.abs(terms).sum())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kinds", [("few bins", "many"), ("some", "some"), ("empty", "some")])
@pytest.mark.parametrize("descending", [False, True])
def test_pairs_equal_numpy(size, kinds, descending):
    rng = np.random.default_rng(size)
    members, others = (counts_of(size, kind, rng) for kind in kinds)
    order = slice(None, None, -1 if descending else 1)
    a, b = members[order], others[order]
    rows = np.flatnonzero(a)
    below = float(np.sum(a[rows] * (np.cumsum(b) - b)[rows].astype(np.float64)))
    tied = float(np.sum(a[rows] * b[rows].astype(np.float64)))
    found = count_pairs(members, others, descending)
    assert found == (members.sum(), others.sum(), below, tied)


@given(
    hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 3)), st.data(), st.booleans()
)
def test_pairs_equal_those_of_every_point(members, data, descending):
    others = data.draw(hnp.arrays(np.int64, len(members), elements=st.integers(0, 3)))
    bins = np.arange(len(members))
    a, b = np.repeat(bins, members)[:, np.newaxis], np.repeat(bins, others)
    below = np.count_nonzero(b > a if descending else b < a)
    tied = np.count_nonzero(a == b)
    assert count_pairs(members, others, descending) == (len(a), len(b), below, tied)


def binned(values, shift):
    """Return codes of 65,536 bins of equal width, and how many values each holds."""
    low, high = values.min(), values.max()
    with np.errstate(over="ignore", invalid="ignore"):
        position = (values - low) * (65_536 / (high - low) if high > low else 0.0)
    bins = np.minimum(np.nan_to_num(position), 65_535).astype(np.uint32)
    other = (
        np.arange(len(values), dtype=np.uint32) % 65_521
    )  # the half of the codes that is not asked for
    codes = bins << shift | other << (16 - shift)
    return codes, np.bincount(bins, minlength=65_536)


def values_of(kind, size, rng):
    values = rng.normal(size=size)
    if kind == "rounded":
        return np.round(values, 1)
    if kind == "outlier":  # all others share a bin
        return np.where(np.arange(size) == size // 2, 1e12, values)
    if kind == "heavy tail":
        return values / rng.random(size) ** 40
    if kind == "neighbours":  # numbers that differ in their last bits, and one far away
        return np.nextafter(1.0, 2.0) * (1 + rng.integers(0, 50, size) * 2.0**-52) + 9 * (
            np.arange(size) == 0
        )
    if kind == "zeros":
        return np.where(rng.random(size) < 0.5, 0.0, -0.0)
    return values


@pytest.mark.parametrize("shift", [0, 16])
@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 5000, 300_000])
@pytest.mark.parametrize(
    "kind", ["normal", "rounded", "outlier", "heavy tail", "neighbours", "zeros"]
)
def test_exact_ranks_of_points(kind, size, shift):
    values = values_of(kind, size, np.random.default_rng(size))
    codes, histogram = binned(values, shift)
    expected = 2 * average_ranks(values) - size - 1
    for code in CODES:
        np.testing.assert_array_equal(midranks(values, codes, shift, histogram, code), expected)


@given(
    hnp.arrays(
        np.float64, st.integers(1, 200), elements=st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_exact_ranks_of_any_points(values):
    codes, histogram = binned(values, 0)
    below = (values < values[:, np.newaxis]).sum(axis=1) - (values > values[:, np.newaxis]).sum(
        axis=1
    )
    for code in CODES:
        np.testing.assert_array_equal(midranks(values, codes, 0, histogram, code), below)


def test_a_histogram_of_other_points_is_refused():
    values = np.arange(10.0)
    codes, histogram = binned(values, 0)
    assert len(midranks(values[:0], codes[:0], 0, histogram * 0, CODES[0])) == 0
    for call in (
        lambda: midranks(values[:9], codes, 0, histogram, CODES[0]),
        lambda: midranks(values, codes, 0, histogram[:100].copy(), CODES[0]),
        lambda: midranks(values, codes, 0, histogram * 2, CODES[0]),
        lambda: midranks(values, codes, 8, histogram, CODES[0]),
    ):
        with pytest.raises(ValueError, match="histogram"):
            call()


def test_lengths_are_checked():
    some, none = np.ones(3, dtype=np.int64), np.ones(0, dtype=np.int64)
    for call in (
        lambda: rank_spread(none, CODES[0]),
        lambda: rank_covariance(some, some[:2].copy(), 1, CODES[0]),
        lambda: count_pairs(some, some[:2].copy(), False),
    ):
        with pytest.raises(ValueError, match="bin"):
            call()
