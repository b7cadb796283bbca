"""Confidence against distance: joint histograms, correlations and AUCs of one trial.

Both pipelines feed blocks of queries to a :class:`Relation`; it keeps counts, never the queries, so
a trial may have 10^9 of them. Two passes are needed: the first counts, the second multiplies ranks.

Excluding self differs from including self only for members, so queries are counted once, with the
distance including self, and members are then moved to their distance excluding self.

Accuracy. Ranks come from histograms of 65,536 bins between the smallest and the largest value.
Points of one bin are treated as tied; :meth:`Relation.statistics` also states how far that can move
a figure (``auc_error_bound``, ``spearman_error_bound``). With one point a bin the figures are
exact.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._kernels import resolve_isa
from confsim._kernels.tally import FINE, GRID, Counts, rank_products

FloatArray = NDArray[np.float64]

#: Above this many points an extreme's median distance comes from a histogram.
EXACT_MEDIAN_LIMIT = 1 << 22


@dataclass(frozen=True)
class Axes:
    """Where the bins of a trial are.

    Attributes
    ----------
    confidence_low, confidence_high : float
        Smallest and largest ranking confidence of the trial's queries (log-odds, or ``|s|``).
    distance_high : float
        Largest distance, including or excluding self, in the units given to :meth:`Relation.add`.
    distance_scale : float
        The divisor that normalises distances.
    confidence_divisor : float
        What the ranking confidence is divided by on the joint histogram's axis (M for ``|s|``).
    grid_low, grid_high : float
        Range of that axis, the same for every trial of a run.
    """

    confidence_low: float
    confidence_high: float
    distance_high: float
    distance_scale: float = 1.0
    confidence_divisor: float = 1.0
    grid_low: float = 0.0
    grid_high: float = 1.0

    def counts(self) -> Counts:
        """Return empty counts with these bins."""
        width = self.confidence_high - self.confidence_low
        farthest = self.distance_high / self.distance_scale if self.distance_high > 0 else 0.0
        return Counts(
            confidence_divisor=self.confidence_divisor,
            grid_low=self.grid_low,
            grid_scale=GRID / (self.grid_high - self.grid_low),
            fine_low=self.confidence_low,
            fine_scale=FINE / width if width > 0 else 0.0,
            distance_divisor=self.distance_scale,
            distance_fine_scale=FINE / farthest if farthest > 0 else 0.0,
        )

    def edges(self) -> dict[str, FloatArray]:
        """Return the joint histogram's bin edges: normalised confidence and normalised distance.

        The last bins also hold what lies beyond them: a distance excluding self may exceed 1.
        """
        return {
            "confidence_edges": np.linspace(self.grid_low, self.grid_high, GRID + 1),
            "distance_edges": np.linspace(0.0, 1.0, GRID + 1),
        }


class Relation:
    """Counts over all queries and over members, and what follows from them.

    Call :meth:`add` for every block of queries, then :meth:`set_members`, then :meth:`add_ranks`
    for every block again, then :meth:`statistics`.

    Parameters
    ----------
    axes : Axes
    threads : int
        Threads for the compiled core; the results do not depend on it.
    """

    def __init__(self, axes: Axes, threads: int) -> None:
        self._axes = axes
        self._threads = threads
        self._isa = resolve_isa()
        self._queries = axes.counts()

    def add(self, confidence: FloatArray, distance: FloatArray) -> NDArray[np.uint32]:
        """Count a block of queries, members included; return what :meth:`add_ranks` needs of it."""
        return self._queries.add(confidence, distance, self._threads, self._isa)

    def codes(self, confidence: FloatArray, distance: FloatArray) -> NDArray[np.uint32]:
        """Return a block's fine bins again, without counting it."""
        return self._axes.counts().add(confidence, distance, self._threads, self._isa)

    def confidence_histogram(self) -> NDArray[np.int64]:
        """Return all queries by fine confidence bin."""
        return self._queries.fine_confidence.sum(axis=0)

    def set_members(
        self, confidence: FloatArray, distance: FloatArray, distance_excluding_self: FloatArray
    ) -> None:
        """Say which of the counted queries were members, with both their distances."""
        members, moved = self._axes.counts(), self._axes.counts()
        codes = members.add(confidence, distance, self._threads, self._isa)
        moved_codes = moved.add(confidence, distance_excluding_self, self._threads, self._isa)
        everyone = _Histograms.of(self._queries)
        self._members, self._moved = _Histograms.of(members), _Histograms.of(moved)
        self._non_members = everyone - self._members
        self._ranks_self = _Ranks(everyone)
        self._ranks_other = _Ranks(self._non_members + self._moved)
        # The blocks will bring members at their distance including self: out with these pairs.
        self._ranks_other.add(codes, distance, self._threads, sign=-1)
        self._ranks_other.add(moved_codes, distance_excluding_self, self._threads)

    def add_ranks(self, codes: NDArray[np.uint32], distance: FloatArray) -> None:
        """Multiply the ranks of a block that :meth:`add` counted."""
        self._ranks_self.add(codes, distance, self._threads)
        self._ranks_other.add(codes, distance, self._threads)

    def statistics(self) -> dict[str, float]:
        """Return correlations and AUCs with both distances, and bounds on their errors.

        ``auc_*`` is the probability that a member has the higher confidence (is closer to the
        training set) than a non-member, ties counting half. ``auc_closeness_other_null`` is what
        excluding self gives when membership means nothing: a member has one candidate fewer.
        """
        members = int(self._members.confidence.sum())
        confidence = _auc(
            self._members.confidence.sum(axis=0), self._non_members.confidence.sum(axis=0)
        )
        strangers = self._non_members.distance[::-1]
        near = _auc(self._members.distance[::-1], strangers)
        near_other = _auc(self._moved.distance[::-1], strangers)
        return {
            "pearson_self": _pearson((self._non_members + self._members).moments),
            "pearson_other": _pearson((self._non_members + self._moved).moments),
            "spearman_self": self._ranks_self.correlation(),
            "spearman_other": self._ranks_other.correlation(),
            "spearman_error_bound": max(
                self._ranks_self.error_bound(), self._ranks_other.error_bound()
            ),
            "auc_confidence": confidence[0],
            "auc_closeness_self": near[0],
            "auc_closeness_other": near_other[0],
            "auc_closeness_other_null": (members - 1) / (2 * members - 1) if members else np.nan,
            "auc_error_bound": float(np.nanmax([0.0, confidence[1], near[1], near_other[1]])),
        }

    def joint(self, bottom: "ExtremeSummary", top: "ExtremeSummary") -> dict[str, NDArray[Any]]:
        """Return the arrays of ``joint.npz``.

        ``including_self`` and ``excluding_self`` are counts of shape (3, 2, 128, 128): [all,
        bottom, top] x [members, non-members] x confidence x distance; pairs whose distance is NaN
        are left out. The last bins also hold what lies beyond them: a distance excluding self may
        exceed 1.
        """
        strangers = self._non_members.grid
        including = [[self._members.grid, strangers], *(e.grids("self") for e in (bottom, top))]
        excluding = [[self._moved.grid, strangers], *(e.grids("other") for e in (bottom, top))]
        return {
            "including_self": _compact(np.array(including)),
            "excluding_self": _compact(np.array(excluding)),
            **self._axes.edges(),
        }


class ExtremeSummary:
    """One extreme of a trial: membership and distances of its points, added batch by batch."""

    def __init__(self, axes: Axes, threads: int) -> None:
        self._threads = threads
        self._isa = resolve_isa()
        self._counts = {
            (kind, member): axes.counts() for kind in ("self", "other") for member in (True, False)
        }
        self._scale = axes.distance_scale
        self._distances: dict[str, list[FloatArray]] = {"self": [], "other": []}
        self._sums = {"self": 0.0, "other": 0.0}
        self._valid = {"self": 0, "other": 0}
        self.count = self.members = 0

    def add(
        self,
        confidence: FloatArray,
        distance: FloatArray,
        distance_excluding_self: FloatArray,
        is_member: NDArray[np.bool_],
    ) -> None:
        """Add points; distances in the units of :class:`Axes`, before normalising."""
        self.count += len(confidence)
        self.members += int(np.count_nonzero(is_member))
        for kind, values in (("self", distance), ("other", distance_excluding_self)):
            for member in (True, False):
                chosen = is_member == member
                self._counts[kind, member].add(
                    confidence[chosen], values[chosen], self._threads, self._isa
                )
            known = values[~np.isnan(values)]
            self._sums[kind] += float(np.sum(known))
            self._valid[kind] += len(known)
            if self.count <= EXACT_MEDIAN_LIMIT:
                self._distances[kind].append(known)
            else:
                self._distances[kind].clear()

    def grids(self, kind: str) -> list[NDArray[np.int64]]:
        """Return the joint counts of members and of non-members."""
        return [self._counts[kind, True].grid, self._counts[kind, False].grid]

    def statistics(self, side: str) -> dict[str, float]:
        """Return the summary's entries, prefixed with ``side``; NaN where no distance is known."""
        found: dict[str, float] = {
            f"{side}_count": self.count,
            f"{side}_membership_rate": self.members / self.count,
        }
        for kind in ("self", "other"):
            valid = self._valid[kind]
            mean = self._sums[kind] / valid / self._scale if valid else np.nan
            found[f"{side}_distance_mean_{kind}"] = mean
            found[f"{side}_distance_median_{kind}"] = self._median(kind) if valid else np.nan
        return found

    def _median(self, kind: str) -> float:
        if self._distances[kind]:
            return float(np.median(np.concatenate(self._distances[kind]))) / self._scale
        # Too many to keep: the centre of the fine bin, at most half a bin away from the median.
        counts = [self._counts[kind, member] for member in (True, False)]
        below = np.cumsum(counts[0].fine_distance + counts[1].fine_distance)
        middle = int(np.searchsorted(below, (below[-1] + 1) // 2))
        return (middle + 0.5) / counts[0].distance_fine_scale


def relate(
    confidence: FloatArray,
    distance: FloatArray,
    distance_excluding_self: FloatArray,
    is_member: NDArray[np.bool_],
    bottom: NDArray[np.int64],
    top: NDArray[np.int64],
    *,
    grid: tuple[float, float],
    threads: int,
) -> tuple[dict[str, NDArray[Any]], dict[str, float]]:
    """Relate confidence to distance for queries that are all in memory.

    Parameters
    ----------
    confidence : ndarray, (n,) float64
        The ranking confidence.
    distance, distance_excluding_self : ndarray, (n,) float64
        Normalised distances; NaN where there is no neighbour.
    is_member : ndarray, (n,) bool
    bottom, top : ndarray, (k,) int64
        Rows of the extremes.
    grid : (float, float)
        Range of the joint histogram's confidence axis, the same for every trial of a run.
    threads : int

    Returns
    -------
    joint : dict of ndarray
        The arrays of ``joint.npz``.
    statistics : dict of float
        Entries of the trial's summary.
    """
    known = [0.0, *(d[~np.isnan(d)].max(initial=0.0) for d in (distance, distance_excluding_self))]
    axes = Axes(
        confidence_low=float(confidence.min()),
        confidence_high=float(confidence.max()),
        distance_high=float(max(known)),
        grid_low=grid[0],
        grid_high=grid[1],
    )
    relation = Relation(axes, threads)
    codes = relation.add(confidence, distance)
    relation.set_members(
        confidence[is_member], distance[is_member], distance_excluding_self[is_member]
    )
    relation.add_ranks(codes, distance)
    sides = []
    for rows in (bottom, top):
        side = ExtremeSummary(axes, threads)
        side.add(confidence[rows], distance[rows], distance_excluding_self[rows], is_member[rows])
        sides.append(side)
    summary = sides[0].statistics("bottom") | sides[1].statistics("top") | relation.statistics()
    return relation.joint(*sides), summary


@dataclass(frozen=True)
class _Histograms:
    """The counts and sums of some pairs; those of their union or difference by ``+`` and ``-``."""

    grid: NDArray[np.int64]
    confidence: NDArray[np.int64]
    distance: NDArray[np.int64]
    moments: FloatArray

    @classmethod
    def of(cls, counts: Counts) -> "_Histograms":
        return cls(counts.grid, counts.fine_confidence, counts.fine_distance, counts.moments)

    def __add__(self, other: "_Histograms") -> "_Histograms":
        return _Histograms(
            self.grid + other.grid,
            self.confidence + other.confidence,
            self.distance + other.distance,
            self.moments + other.moments,
        )

    def __sub__(self, other: "_Histograms") -> "_Histograms":
        return _Histograms(
            self.grid - other.grid,
            self.confidence - other.confidence,
            self.distance - other.distance,
            self.moments - other.moments,
        )


class _Ranks:
    """Centred mid-ranks of the bins of two histograms, and the covariance of the pairs' ranks."""

    def __init__(self, histograms: _Histograms) -> None:
        self._tables = []
        self._variances = []
        self._hidden = []
        for counts in (histograms.confidence[0], histograms.distance):
            total = max(1, int(counts.sum()))
            # In units of the number of pairs, so that 10^9 of them lose no digits.
            table = (np.cumsum(counts) - counts / 2) / total - 0.5
            self._tables.append(table)
            self._variances.append(float(np.sum(counts * table * table)) / total)
            # Ranks of k distinct values that share a bin vary by (k^2 - 1) / 12.
            spread = np.sum(counts * (counts.astype(np.float64) ** 2 - 1)) / 12
            self._hidden.append(float(spread) / total**3)
        self._pairs = max(1, int(histograms.distance.sum()))
        self._product = 0.0

    def add(
        self, codes: NDArray[np.uint32], distance: FloatArray, threads: int, sign: int = 1
    ) -> None:
        if sign > 0:
            self._product = rank_products(codes, distance, *self._tables, self._product, threads)
        else:
            self._product -= rank_products(codes, distance, *self._tables, 0.0, threads)

    def correlation(self) -> float:
        scale = float(np.sqrt(self._variances[0] * self._variances[1]))
        return self._product / self._pairs / scale if scale > 0 else np.nan

    def error_bound(self) -> float:
        """Bound what hiding the order inside bins does to the correlation (Cauchy-Schwarz).

        A bin's mid-rank is the mean of the true ranks in it, so the true variance is the sum of the
        variance of mid-ranks, V, and of a hidden part, at most H; with a = sqrt(H/V) of either
        variable, the covariance moves by at most a + b + ab of the scale, the scale by (a^2 +
        b^2)/2.
        """
        if min(self._variances) <= 0:
            return 0.0
        a, b = (np.sqrt(h / v) for h, v in zip(self._hidden, self._variances, strict=True))
        return float(a + b + a * b + (a * a + b * b) / 2)


def _pearson(moments: FloatArray) -> float:
    pairs, u, v, uu, vv, uv = moments.tolist()
    if pairs < 2:
        return np.nan
    variance_u, variance_v = uu - u * u / pairs, vv - v * v / pairs
    # Sums of rounded squares leave about 1e-16 of their size where the values do not vary.
    if variance_u <= 1e-14 * uu or variance_v <= 1e-14 * vv:
        return np.nan
    return float((uv - u * v / pairs) / np.sqrt(variance_u * variance_v))


def _auc(members: NDArray[np.int64], non_members: NDArray[np.int64]) -> tuple[float, float]:
    """Return the AUC from histograms in ascending order of score, and its largest error.

    Points of one bin count as ties, one half a pair; each such pair is wrong by at most that half.
    """
    pairs = float(members.sum()) * float(non_members.sum())
    if pairs == 0:
        return np.nan, 0.0
    below = np.cumsum(non_members) - non_members
    tied = float(np.sum(members * non_members.astype(np.float64)))
    return (float(np.sum(members * below.astype(np.float64))) + tied / 2) / pairs, tied / 2 / pairs


def _compact(counts: NDArray[np.int64]) -> NDArray[Any]:
    """Return the counts in the smallest unsigned type that holds them."""
    largest = int(counts.max())
    fitting = (t for t in (np.uint8, np.uint16, np.uint32) if largest <= np.iinfo(t).max)
    return counts.astype(next(fitting, np.uint64))
