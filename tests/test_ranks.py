"""Rank statistics of histograms against NumPy: the same sums in the same order, the same bits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from confsim._kernels import isa
from confsim._kernels.ranks import count_pairs, rank_covariance, rank_spread

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


def test_lengths_are_checked():
    some, none = np.ones(3, dtype=np.int64), np.ones(0, dtype=np.int64)
    for call in (
        lambda: rank_spread(none, CODES[0]),
        lambda: rank_covariance(some, some[:2].copy(), 1, CODES[0]),
        lambda: count_pairs(some, some[:2].copy(), False),
    ):
        with pytest.raises(ValueError, match="bin"):
            call()
