"""Correlations and AUCs of what is counted in bins: points of one bin count as tied.

The counterpart of ``point_ranks``, where points are too many to be ranked one by one; bounds say
what the order inside bins could change.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._kernels.stats import (
    FINE,
    Counts,
    count_pairs,
    rank_covariance,
    rank_spread,
    rank_sums,
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Histograms:
    """The counts and sums of some queries; those of a difference by ``-``.

    ``confidence`` counts all of them, ``known`` those with a distance: the same array if all have.
    """

    grid: NDArray[np.int64]
    confidence: NDArray[np.int64]
    known: NDArray[np.int64]
    distance: NDArray[np.int64]
    moments: FloatArray

    @classmethod
    def of(cls, counts: Counts) -> "Histograms":
        """Take them from the compiled core's counts."""
        confidence = counts.confidence
        known = counts.fine_confidence[0] if counts.missing else confidence
        return cls(counts.grid, confidence, known, counts.fine_distance, counts.moments)

    def __sub__(self, other: "Histograms") -> "Histograms":
        confidence = known = self.confidence - other.confidence
        if self.known is not self.confidence or other.known is not other.confidence:
            known = self.known - other.known
        return Histograms(
            self.grid - other.grid,
            confidence,
            known,
            self.distance - other.distance,
            self.moments - other.moments,
        )


@dataclass(frozen=True)
class Crowd:
    """The queries of some bins, sorted, and how many queries are in the bins below each.

    Attributes
    ----------
    bins : ndarray
        Ascending.
    values : ndarray of float64
        Of all queries in these bins, ascending.
    left_out : ndarray of int64
        For each bin: queries below it that are not among ``values``.
    total : int
        All queries.
    """

    bins: NDArray[Any]
    values: FloatArray
    left_out: NDArray[np.int64]
    total: int

    @classmethod
    def of(
        cls,
        histogram: NDArray[np.int64],
        bins: NDArray[Any],
        values: FloatArray,
        where: NDArray[Any],
    ) -> "Crowd":
        """Sort queries that include all of those bins; ``where`` says in which each is."""
        wanted = np.zeros(FINE, dtype=np.bool_)
        wanted[bins] = True
        inside = wanted[where]
        inside &= ~np.isnan(values)
        below, held = np.cumsum(histogram), histogram[bins]
        left_out = below[bins] - np.cumsum(held)
        return cls(bins, np.sort(values[inside]), left_out, int(below[-1]))

    def share_above(self, values: FloatArray, where: NDArray[Any], members: FloatArray) -> float:
        """Return the probability that a non-member is above one of ``values``, ties half.

        ``where`` are the bins of ``values``; ``members`` are those of the members among the
        queries, which do not count. NaN is left out.
        """
        known = ~np.isnan(values)
        order = np.argsort(values[known])
        values, where = values[known][order], where[known][order]
        members = np.sort(members[~np.isnan(members)])
        others = self.total - len(members)
        if not len(values) or not others:
            return math.nan
        left_out = self.left_out[np.searchsorted(self.bins, where)]
        below = 0  # twice
        for side in ("left", "right"):
            place = left_out + np.searchsorted(self.values, values, side=side)
            below += int(np.sum(place - np.searchsorted(members, values, side=side)))
        pairs = 2 * len(values) * others
        return (pairs - below) / pairs


class BinRanks:
    """A histogram of one variable: its ranks and how they vary.

    Ranks are kept as integers, twice the centred mid-rank: sums of them are exact, in any order.
    ``variance`` is that of the mid-ranks, doubled and relative to the number of points, times that
    number; ``hidden`` is what the order inside bins can add to it, at most.
    """

    def __init__(self, counts: NDArray[np.int64], isa: int) -> None:
        self.ranks, self.total, self.variance, self.hidden = rank_spread(counts, isa)


class RankCovariance:
    """The covariance of the ranks of pairs."""

    def __init__(self, confidence: BinRanks, distance: BinRanks, isa: int) -> None:
        self._bins = confidence, distance
        self._isa = isa
        self._sums = np.zeros(FINE, dtype=np.int64)

    def add(
        self, codes: NDArray[np.uint32], distance: FloatArray | None, threads: int, sign: int = 1
    ) -> None:
        """Add pairs, or take them out; without a ``distance`` none is NaN."""
        ranks = self._bins[0].ranks
        if sign > 0:
            rank_sums(codes, distance, ranks, self._sums, threads)
        else:
            taken = np.zeros_like(self._sums)
            rank_sums(codes, distance, ranks, taken, threads)
            self._sums -= taken

    def add_from(self, other: "RankCovariance") -> None:
        """Add the pairs that were added to another one with the same ranks of confidence."""
        self._sums += other._sums

    def correlation(self) -> float:
        """Return Spearman's correlation; NaN where a variable does not vary."""
        distance = self._bins[1]
        covariance = rank_covariance(self._sums, distance.ranks, distance.total, self._isa)
        scale = math.prod([bins.variance for bins in self._bins]) ** 0.5
        return covariance / scale if scale > 0 else math.nan

    def error_bound(self, distances_apart: bool) -> float:
        """Bound what hiding the order inside bins does to the correlation (Cauchy-Schwarz).

        A bin's mid-rank is the mean of the true ranks in it, so the true variance is the sum of the
        variance of mid-ranks, V, and of a hidden part, at most H: ranks of k distinct values that
        share a bin vary by (k^2 - 1) / 12; those of distances that are apart do not vary. With
        a = sqrt(H/V) of either variable, the covariance moves by at most a + b + ab of the scale,
        and the scale by (a^2 + b^2)/2.
        """
        if any(bins.variance <= 0 for bins in self._bins):
            return 0.0
        a, b = (math.sqrt(bins.hidden / bins.variance) for bins in self._bins)
        if distances_apart:
            b = 0.0
        return a + b + a * b + (a * a + b * b) / 2


def pearson(moments: FloatArray) -> float:
    """Return Pearson's correlation from the count and the sums of u, v, u u, v v and u v."""
    pairs, u, v, uu, vv, uv = moments.tolist()
    if pairs < 2:
        return np.nan
    variance_u, variance_v = uu - u * u / pairs, vv - v * v / pairs
    # Sums of rounded squares leave about 1e-16 of their size where the values do not vary.
    if variance_u <= 1e-14 * uu or variance_v <= 1e-14 * vv:
        return np.nan
    return float((uv - u * v / pairs) / np.sqrt(variance_u * variance_v))


def binned_auc(
    members: NDArray[np.int64], non_members: NDArray[np.int64], *, closest: bool = False
) -> tuple[float, float]:
    """Return the AUC from histograms by bin, and its largest error.

    ``closest``: a lower value is the higher score. Points of one bin count as ties, one half a
    pair; each such pair is wrong by at most that half.
    """
    count, others, below, tied = count_pairs(members, non_members, closest)
    pairs = float(count) * float(others)
    if pairs == 0:
        return np.nan, 0.0
    return (below + tied / 2) / pairs, tied / 2 / pairs
