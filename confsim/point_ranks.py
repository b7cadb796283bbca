"""Exact rank correlations and AUCs of one trial, whose queries are all in memory.

Everything is made of ranks that are integers, the number of points below less that of points above,
and of integer sums of them: nothing is rounded before the last divisions. Where the distances are
known to be square roots of multiples of one number, as on a lattice, that multiple says all about
their order, and only the confidences need to be ranked; elsewhere both are. What a trial is, and
the histograms that bin its queries, are the business of :mod:`confsim.joint`.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from confsim._kernels import resolve_isa
from confsim._kernels.stats import FINE, midranks, rank_covariance, rank_spread

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Codes = NDArray[np.uint32]

#: Up to this multiple, squared distances are counted; beyond it distances are ranked.
MOST_KEYS = 1 << 21

_LOW = np.uint32(FINE - 1)


@dataclass(frozen=True)
class Points:
    """All queries of a trial, and what excluding self changes of its members.

    Attributes
    ----------
    confidence, distance : ndarray, (n,) float64
        A distance may be NaN.
    codes : ndarray, (n,) uint32
        Their bins, as :class:`confsim._kernels.stats.Counts` returns them.
    histogram : ndarray of int64
        All queries by bin of their confidence.
    members : ndarray, (m,) int64
        Rows of the members.
    other : ndarray, (m,) float64
        Their distances excluding self.
    other_codes : ndarray, (m,) uint32
    step : float
        Squared distances are multiples of this number, and exact; 0 where that is not known.
    """

    confidence: FloatArray
    distance: FloatArray
    codes: Codes
    histogram: IntArray
    members: IntArray
    other: FloatArray
    other_codes: Codes
    step: float

    def statistics(self) -> dict[str, float]:
        """Return Spearman's correlations and the AUCs, with distances including and excluding self.

        An AUC is the probability that a member has the higher confidence (is closer) than a
        non-member, ties counting half.
        """
        ranks = midranks(self.confidence, self.codes, 16, self.histogram, resolve_isa())
        members, others = len(self.members), len(ranks) - len(self.members)
        above = int(ranks[self.members].sum(dtype=np.int64))
        found = {"auc_confidence": _share_above(above, members, others)}
        keys = self._keys(self.distance, self.codes)
        other = self._keys(self.other, self.other_codes)
        if keys is None or other is None:
            for kind, values, codes in self._both():
                found |= _named(kind, *self._ranked(ranks, values, codes))
        else:
            for kind, pair in zip(
                ("self", "other"), self._counted(ranks, keys, other), strict=True
            ):
                found |= _named(kind, *pair)
        return found

    # ---- distances that are counted ------------------------------------------------------------

    def _keys(self, distance: FloatArray, codes: Codes) -> NDArray[np.intp] | None:
        """Return integers that are in the order of the distances, if there is a simple way to."""
        farthest = np.maximum(self.distance.max(initial=0.0), self.other.max(initial=0.0))
        if not self.step or not farthest * farthest <= self.step * MOST_KEYS:  # or NaN
            return None
        if distances_apart(self.step, farthest):
            fine: NDArray[np.intp] = (codes & _LOW).astype(np.intp)
            return fine
        squares = np.square(distance)
        squares /= self.step
        keys: NDArray[np.intp] = np.rint(squares, out=squares).astype(np.intp)
        return keys

    def _counted(
        self, ranks: NDArray[np.int32], keys: NDArray[np.intp], other: NDArray[np.intp]
    ) -> list[tuple[float, float]]:
        """Return (Spearman, AUC of closeness) including and excluding self, from counts by key."""
        size = int(max(keys.max(), other.max(initial=0))) + 1
        counts, sums = _by_key(keys, ranks, size)
        held, taken = keys[self.members], ranks[self.members]
        of_members = _by_key(held, taken, size)
        moved = _by_key(other, taken, size)
        squares = _dot(ranks, ranks)
        return [
            _from_counts(counts, sums, squares, held),
            _from_counts(
                counts - of_members[0] + moved[0], sums - of_members[1] + moved[1], squares, other
            ),
        ]

    # ---- distances that are ranked -------------------------------------------------------------

    def _both(self) -> list[tuple[str, FloatArray, Codes]]:
        distance, codes = self.distance.copy(), self.codes.copy()
        distance[self.members], codes[self.members] = self.other, self.other_codes
        return [("self", self.distance, self.codes), ("other", distance, codes)]

    def _ranked(
        self, ranks: NDArray[np.int32], distance: FloatArray, codes: Codes
    ) -> tuple[float, float]:
        """Return (Spearman, AUC of closeness) of the queries whose distance is known."""
        is_member = np.zeros(len(ranks), dtype=np.bool_)
        is_member[self.members] = True
        known = ~np.isnan(distance)
        if not known.all():
            distance, codes, is_member = distance[known], codes[known], is_member[known]
            ranks = _ranks_in_bins(self.confidence[known], codes, 16)
        near = _ranks_in_bins(distance, codes, 0)
        scale = _dot(ranks, ranks) * _dot(near, near)
        correlation = _dot(ranks, near) / math.sqrt(scale) if scale > 0 else math.nan
        members = int(np.count_nonzero(is_member))
        above = int(near[is_member].sum(dtype=np.int64))
        return correlation, _share_above(-above, members, len(near) - members)


def distances_apart(step: float, farthest: float) -> bool:
    """Whether distances that differ are in different bins.

    Squared distances that are multiples of ``step`` belong to distances that differ by at least
    ``step / 2D`` up to the largest, D; bins are D / 65536 wide.
    """
    return step > 0 and 2 * farthest * farthest * (1 + 1e-9) <= FINE * step


def _named(kind: str, correlation: float, area: float) -> dict[str, float]:
    return {f"spearman_{kind}": correlation, f"auc_closeness_{kind}": area}


def _by_key(
    keys: NDArray[np.intp], ranks: NDArray[np.int32], size: int
) -> tuple[IntArray, IntArray]:
    """Return how many points have each key, and the sum of their ranks."""
    sums = np.bincount(keys, ranks, size)  # of integers, and far below 2^53: exact
    return np.bincount(keys, minlength=size), sums.astype(np.int64)


def _from_counts(
    counts: IntArray, sums: IntArray, squares: int, members: NDArray[np.intp]
) -> tuple[float, float]:
    """Return Spearman's correlation and the AUC of closeness.

    ``sums`` are those of the confidences' ranks, whose squares add up to ``squares``; ``members``
    are the members' keys.
    """
    isa = resolve_isa()
    ranks, total, variance, _ = rank_spread(counts, isa)
    scale = math.sqrt(squares / total**2 * variance)
    correlation = rank_covariance(sums, ranks, total, isa) / scale if scale > 0 else math.nan
    above = int(ranks[members].sum())
    return correlation, _share_above(-above, len(members), total - len(members))


def _share_above(above: int, members: int, others: int) -> float:
    """Return the AUC from the sum of the members' ranks: those among themselves cancel."""
    pairs = members * others
    return (pairs + above) / (2 * pairs) if pairs else math.nan


def _ranks_in_bins(values: FloatArray, codes: Codes, shift: int) -> NDArray[np.int32]:
    histogram = np.bincount(codes >> shift & _LOW, minlength=FINE).astype(np.int64)
    return midranks(values, codes, shift, histogram, resolve_isa())


def _dot(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """Return the exact sum of products of ranks."""
    step = max(1, (1 << 62) // max(1, len(a)) ** 2)
    parts = range(0, len(a), step)
    return sum(int(np.dot(a[i : i + step].astype(np.int64), b[i : i + step])) for i in parts)
