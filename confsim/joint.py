"""Confidence against distance: joint histograms, correlations and AUCs of one trial.

Both pipelines feed blocks of queries to a :class:`Relation`; it keeps counts, never the queries, so
a trial may have 10^9 of them. Two passes are needed: the first counts, the second multiplies ranks.

Excluding self differs from including self only for members, so queries are counted once, with the
distance including self, and members are then moved to their distance excluding self.

Accuracy. Means, Pearson correlations and counts are exact to rounding. Where the queries are in
memory, :class:`Kept`, so is all that comes from ranks, for up to 131,072 queries, and for more if
the bound were wide. Otherwise ranks come from histograms of 65,536 bins between the smallest and
the largest value, whose points are treated as tied; ``auc_error_bound`` and
``spearman_error_bound`` say how far that can move a figure. In memory, AUCs are exact even so,
unless an eighth of all queries share a bin with a member. A bound of 0 says that figures are exact.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from confsim._kernels import resolve_isa
from confsim._kernels.stats import (
    FINE,
    GRID,
    Counts,
    median,
    rows_in_bins,
)
from confsim.bin_ranks import BinRanks, Crowd, Histograms, RankCovariance, binned_auc, pearson
from confsim.point_ranks import Points, distances_apart
from confsim.statistics.chance import closeness_chance
from confsim.statistics.intervals import delong_interval

FloatArray = NDArray[np.float64]
#: AUCs by name, with bounds on their errors.
Areas: TypeAlias = dict[str, tuple[float, float]]

#: Up to this many queries in memory all ranks are exact. To rank a million costs as much as all
#: else that a trial computes, and moves no figure by as much as its bound says.
RANKED_QUERIES = 1 << 17

#: All ranks are exact, for however many queries in memory, rather than state a larger bound.
WIDE_BOUND = 5e-3

#: What comes from ranks, in the order of the summary.
_RANKED = (
    "spearman_self",
    "spearman_other",
    "spearman_error_bound",
    "auc_confidence",
    "auc_closeness_self",
    "auc_closeness_other",
)

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
    distance_step : float
        A number that all squared distances are exact multiples of, or 0.
    """

    confidence_low: float
    confidence_high: float
    distance_high: float
    distance_scale: float = 1.0
    confidence_divisor: float = 1.0
    grid_low: float = 0.0
    grid_high: float = 1.0
    distance_step: float = 0.0

    @property
    def distances_apart(self) -> bool:
        """Whether distances that differ are known to be in different bins."""
        return distances_apart(self.distance_step, self.distance_high)

    def counts(self, *, fine: bool = True) -> Counts:
        """Return empty counts with these bins; without ``fine``, of the joint histogram alone."""
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
            fine=fine,
        )

    def edges(self) -> dict[str, FloatArray]:
        """Return the joint histogram's bin edges: normalised confidence and normalised distance.

        The last bins also hold what lies beyond them: a distance excluding self may exceed 1.
        """
        return {
            "confidence_edges": np.linspace(self.grid_low, self.grid_high, GRID + 1),
            "distance_edges": np.linspace(0.0, 1.0, GRID + 1),
        }


@dataclass(frozen=True)
class Kept:
    """All queries of a trial, in memory: what :meth:`Relation.add` got and what it returned.

    ``members`` returns the rows of those given to :meth:`Relation.set_members`, in their order.
    """

    confidence: FloatArray
    distance: FloatArray
    codes: NDArray[np.uint32]
    members: Callable[[], NDArray[np.int64]]


class Relation:
    """Counts over all queries and over members, and what follows from them.

    Call :meth:`add` for every block of queries, then :meth:`set_members`, then :meth:`add_ranks`
    for every block again unless all are in memory, then :meth:`statistics`.

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
        self._ranks: tuple[RankCovariance, RankCovariance] | None = None

    def add(self, confidence: FloatArray, distance: FloatArray) -> NDArray[np.uint32]:
        """Count a block of queries, members included; return what :meth:`add_ranks` needs of it."""
        return self._queries.add(confidence, distance, self._threads, self._isa)

    def codes(self, confidence: FloatArray, distance: FloatArray) -> NDArray[np.uint32]:
        """Return a block's fine bins again, without counting it."""
        return self._axes.counts().add(confidence, distance, self._threads, self._isa)

    def confidence_histogram(self) -> NDArray[np.int64]:
        """Return all queries by fine confidence bin."""
        return self._queries.confidence

    def set_members(
        self, confidence: FloatArray, distance: FloatArray, distance_excluding_self: FloatArray
    ) -> None:
        """Say which of the counted queries were members, with both their distances."""
        isa = self._isa
        self._held = confidence, distance, distance_excluding_self
        members, excluding = self._axes.counts(), self._axes.counts()
        codes = members.add(confidence, distance, self._threads, isa)
        codes_excluding = excluding.add(confidence, distance_excluding_self, self._threads, isa)
        self._held_codes = codes, codes_excluding
        self._members, self._excluding = Histograms.of(members), Histograms.of(excluding)
        self._non_members = Histograms.of(self._queries) - self._members

    def add_ranks(self, codes: NDArray[np.uint32], distance: FloatArray) -> None:
        """Add the ranks of a block that :meth:`add` counted."""
        if self._ranks is None:
            self._ranks = self._begin_ranks()
        unknown = distance if self._queries.missing else None
        self._ranks[0].add(codes, unknown, self._threads)
        if not self._one_pass:
            self._ranks[1].add(codes, unknown, self._threads)

    def _begin_ranks(self) -> "tuple[RankCovariance, RankCovariance]":
        """Return where ranks are added up, including and excluding self."""
        isa, non_members = self._isa, self._non_members
        everyone = Histograms.of(self._queries)
        confidence_other = confidence_self = BinRanks(everyone.known, isa)
        # They differ only where leaving self out leaves a member without neighbour.
        self._one_pass = np.array_equal(self._members.known, self._excluding.known)
        if not self._one_pass:
            confidence_other = BinRanks(non_members.known + self._excluding.known, isa)
        distance_other = BinRanks(non_members.distance + self._excluding.distance, isa)
        ranks_self = RankCovariance(confidence_self, BinRanks(everyone.distance, isa), isa)
        ranks_other = RankCovariance(confidence_other, distance_other, isa)
        # The blocks bring members at their distance including self: out with these pairs.
        (_, distance, other), (codes, codes_excluding) = self._held, self._held_codes
        ranks_other.add(codes, distance, self._threads, sign=-1)
        ranks_other.add(codes_excluding, other, self._threads)
        return ranks_self, ranks_other

    def statistics(self, kept: Kept | None = None, chance: float | None = None) -> dict[str, float]:
        """Return correlations and AUCs with both distances, and bounds on their errors.

        ``auc_*`` is the probability that a member has the higher confidence (is closer to the
        training set) than a non-member, ties counting half. ``auc_closeness_other_null`` is what
        excluding self gives when membership means nothing: a member has one candidate fewer.

        Parameters
        ----------
        kept : Kept, optional
            The queries, where they are in memory: figures are then exact; see this module.
        chance : float, optional
            ``auc_closeness_other_null``; default: that of training points of any class.
        """
        members = len(self._held[0])
        non_members = int(self._non_members.confidence.sum())
        ranked = self._ranked() if kept is None else self._ranked_in_memory(kept)
        null = closeness_chance(members, non_members) if chance is None else chance
        return {
            "pearson_self": pearson(self._non_members.moments + self._members.moments),
            "pearson_other": pearson(self._non_members.moments + self._excluding.moments),
            **{name: ranked[name] for name in _RANKED},
            "auc_closeness_other_null": null,
            "auc_error_bound": ranked["auc_error_bound"],
        }

    def _ranked(self) -> dict[str, float]:
        """Return what comes from ranks, with its bounds, from histograms."""
        return {**self._spearman(), **_with_bound(self._areas())}

    def _ranked_in_memory(self, kept: Kept) -> dict[str, float]:
        """Return the same where queries are in memory; see this module for what is exact."""
        if len(kept.codes) > RANKED_QUERIES:
            self.add_ranks(kept.codes, kept.distance)
            found = self._spearman()
            if found["spearman_error_bound"] <= WIDE_BOUND:
                return {**found, **_with_bound(self._areas_in_memory(kept))}
        points = Points(
            kept.confidence,
            kept.distance,
            kept.codes,
            self._queries.confidence,
            kept.members(),
            self._held[2],
            self._held_codes[1],
            self._axes.distance_step,
        )
        return {**points.statistics(), "spearman_error_bound": 0.0, "auc_error_bound": 0.0}

    def _spearman(self) -> dict[str, float]:
        """Return rank correlations from histograms."""
        assert self._ranks is not None
        ranks_self, ranks_other = self._ranks
        if self._one_pass:
            ranks_other.add_from(ranks_self)
            self._one_pass = False
        apart = self._axes.distances_apart
        return {
            "spearman_self": ranks_self.correlation(),
            "spearman_other": ranks_other.correlation(),
            "spearman_error_bound": max(ranks.error_bound(apart) for ranks in self._ranks),
        }

    def _areas(self, known: Areas | None = None) -> Areas:
        """Return AUCs and their errors: from histograms, in which bins are ties, unless known."""
        non_members, apart = self._non_members, self._axes.distances_apart
        pairs = {
            "auc_confidence": (self._members.confidence, non_members.confidence),
            "auc_closeness_self": (self._members.distance, non_members.distance),
            "auc_closeness_other": (self._excluding.distance, non_members.distance),
        }
        found = dict(known or {})
        for name in pairs.keys() - found.keys():
            near = name != "auc_confidence"
            area, bound = binned_auc(*pairs[name], closest=near)
            found[name] = area, 0.0 if apart and near else bound
        return found

    def _areas_in_memory(self, kept: Kept) -> Areas:
        """Return AUCs, exact where members are compared with the queries that share their bins.

        An AUC for which more than an eighth of all queries would have to be compared is that of the
        histograms.
        """
        confidence, distance, other = self._held
        codes, excluding = self._held_codes
        low, counts = np.uint32(FINE - 1), self._queries
        most = len(kept.codes) // 8

        def wanted(bins: NDArray[Any], histogram: NDArray[np.int64]) -> NDArray[Any]:
            found = np.unique(bins)
            return found if histogram[found].sum() <= most else found[:0]

        by_confidence = wanted(codes >> 16, counts.confidence)
        by_distance = by_confidence[:0]
        if not self._axes.distances_apart:
            members = np.concatenate([codes[~np.isnan(distance)], excluding[~np.isnan(other)]])
            by_distance = wanted(members & low, counts.fine_distance)
        if not len(by_confidence) and not len(by_distance):
            return self._areas()
        found: Areas = {}
        rows = rows_in_bins(kept.codes, by_confidence, by_distance)
        bins = kept.codes[rows]
        if len(by_confidence):
            crowd = Crowd.of(counts.confidence, by_confidence, kept.confidence[rows], bins >> 16)
            share = crowd.share_above(confidence, codes >> 16, confidence)
            found["auc_confidence"] = 1 - share, 0.0
        if len(by_distance):
            crowd = Crowd.of(counts.fine_distance, by_distance, kept.distance[rows], bins & low)
            for name, d, where in (("self", distance, codes), ("other", other, excluding)):
                area = crowd.share_above(d, where & low, distance)
                found[f"auc_closeness_{name}"] = area, 0.0
        return self._areas(found)

    def joint(self, bottom: "ExtremeSummary", top: "ExtremeSummary") -> dict[str, NDArray[Any]]:
        """Return the arrays of ``joint.npz``.

        ``including_self`` and ``excluding_self`` are counts of shape (3, 2, 128, 128): [all,
        bottom, top] x [members, non-members] x confidence x distance; pairs whose distance is NaN
        are left out. The last bins also hold what lies beyond them: a distance excluding self may
        exceed 1.
        """
        non_members = self._non_members.grid
        extremes = [e.grids("self") for e in (bottom, top)]
        including = [[self._members.grid, non_members], *extremes]
        extremes = [e.grids("other") for e in (bottom, top)]
        excluding = [[self._excluding.grid, non_members], *extremes]
        return {
            "including_self": _compact(np.array(including)),
            "excluding_self": _compact(np.array(excluding)),
            **self._axes.edges(),
        }


class ExtremeSummary:
    """One extreme of a trial: membership and distances of its points, added batch by batch.

    Parameters
    ----------
    axes : Axes
    """

    def __init__(self, axes: Axes) -> None:
        self._isa = resolve_isa()
        # All points, and members at either distance: non-members are what is left.
        self._all = axes.counts(fine=False)
        self._members = {kind: axes.counts(fine=False) for kind in ("self", "other")}
        self._scale = axes.distance_scale
        self._spreads = {"self": _Spread(axes), "other": _Spread(axes)}
        self.count = self.members = 0

    def add(
        self,
        confidence: FloatArray,
        distance: FloatArray,
        distance_excluding_self: FloatArray,
        is_member: NDArray[np.bool_],
    ) -> None:
        """Add points; distances in the units of :class:`Axes`, before normalising."""
        rows = np.flatnonzero(is_member)
        self.count += len(confidence)
        self.members += len(rows)
        self._all.add_grid(confidence, distance, self._isa)
        for kind, values in (("self", distance), ("other", distance_excluding_self)):
            self._members[kind].add_grid(confidence[rows], values[rows], self._isa)
            self._spreads[kind].add(values)

    def grids(self, kind: str) -> list[NDArray[np.int64]]:
        """Return the joint counts of members and of non-members."""
        return [self._members[kind].grid, self._all.grid - self._members["self"].grid]

    def statistics(self, side: str) -> dict[str, float]:
        """Return the summary's entries, prefixed with ``side``; NaN where no distance is known."""
        found: dict[str, float] = {
            f"{side}_count": self.count,
            f"{side}_membership_rate": self.members / self.count,
        }
        for kind, spread in self._spreads.items():
            found[f"{side}_distance_mean_{kind}"] = spread.mean() / self._scale
            found[f"{side}_distance_median_{kind}"] = spread.median() / self._scale
        return found


class _Spread:
    """Mean and median of distances that may be too many to keep."""

    def __init__(self, axes: Axes) -> None:
        self._width = axes.distance_high / FINE
        self._kept: list[FloatArray] = []
        self._histogram: NDArray[np.int64] | None = None
        self._sum, self._count = 0.0, 0

    def add(self, values: FloatArray) -> None:
        missing = np.isnan(values)
        known = values[~missing] if missing.any() else values
        self._sum += float(np.sum(known))
        self._count += len(known)
        self._kept.append(known)
        if self._count > EXACT_MEDIAN_LIMIT and self._width > 0:
            if self._histogram is None:
                self._histogram = np.zeros(FINE, dtype=np.int64)
            for part in self._kept:
                bins = np.minimum(part / self._width, FINE - 1).astype(np.int64)
                self._histogram += np.bincount(bins, minlength=FINE)
            self._kept.clear()

    def mean(self) -> float:
        return self._sum / self._count if self._count else math.nan

    def median(self) -> float:
        """Exact, or from the histogram: at most half a bin away."""
        if not self._count:
            return math.nan
        if self._histogram is None:
            return median(self._kept[0] if len(self._kept) == 1 else np.concatenate(self._kept))
        below = np.cumsum(self._histogram)
        return (int(np.searchsorted(below, (self._count + 1) // 2)) + 0.5) * self._width


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
    classes: NDArray[np.int64] | None = None,
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
    classes : ndarray, (n,) int64, optional
        The queries' classes, where only training points of the same class are neighbours.

    Returns
    -------
    joint : dict of ndarray
        The arrays of ``joint.npz``.
    statistics : dict of float
        Entries of the trial's summary; all ranks are exact, and AUCs have an interval over
        examples (DeLong).
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
        confidence[is_member],
        distance[is_member],
        distance_excluding_self[is_member],
    )
    kept = Kept(confidence, distance, codes, lambda: np.flatnonzero(is_member))
    sides = []
    for rows in (bottom, top):
        side = ExtremeSummary(axes)
        side.add(confidence[rows], distance[rows], distance_excluding_self[rows], is_member[rows])
        sides.append(side)
    chance = None if classes is None else _chance_by_class(classes, is_member)
    statistics = relation.statistics(kept, chance)
    for name, score in (("confidence", confidence), ("closeness_other", -distance_excluding_self)):
        _, low, high = delong_interval(score, is_member)
        statistics |= {f"auc_{name}_low": low, f"auc_{name}_high": high}
    summary = sides[0].statistics("bottom") | sides[1].statistics("top") | statistics
    return relation.joint(*sides), summary


def _chance_by_class(classes: NDArray[np.int64], is_member: NDArray[np.bool_]) -> float:
    kinds, code = np.unique(classes, return_inverse=True)
    members, others = (
        np.bincount(code[chosen], minlength=len(kinds)) for chosen in (is_member, ~is_member)
    )
    return closeness_chance(members, others)


def _with_bound(areas: Areas) -> dict[str, float]:
    bound = max(bound for _, bound in areas.values())
    return {**{name: area for name, (area, _) in areas.items()}, "auc_error_bound": bound}


def _compact(counts: NDArray[np.int64]) -> NDArray[Any]:
    """Return the counts in the smallest unsigned type that holds them."""
    largest = int(counts.max())
    fitting = (t for t in (np.uint8, np.uint16, np.uint32) if largest <= np.iinfo(t).max)
    return counts.astype(next(fitting, np.uint64))
