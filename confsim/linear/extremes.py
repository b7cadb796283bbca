"""Extremes of more points than memory holds, in exact order, by scanning the scores again.

A histogram says which values make the next batch; one scan collects them and a sort puts them in
order. A bin that is too full is divided by a histogram of its own, down to a single value, whose
points are already in order: by id.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from confsim._kernels.stats import FINE

#: Scans all points in id order: (ids, margins, lowest margin, highest margin) of each block.
Scan: TypeAlias = (
    "Callable[[], Iterator[tuple[NDArray[np.int64] | range, NDArray[np.float64], float, float]]]"
)
Batch: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.float64]]"


class ExtremeScan:
    """The lowest or highest margins in order, at most about ``batch`` rows at a time.

    Parameters
    ----------
    scan : callable
        See :data:`Scan`.
    batch : int
        Rows to hold.
    """

    def __init__(self, scan: Scan, batch: int) -> None:
        self._scan = scan
        self._batch = batch

    def ordered(
        self, side: str, count: int, low: float, high: float, histogram: NDArray[np.int64]
    ) -> Iterator[Batch]:
        """Yield (ids, margins) of the ``count`` extreme points, ties by lower id.

        ``histogram`` counts all points in ``FINE`` equal bins from ``low`` to ``high``, the bins of
        csrc/tally.h.
        """
        remaining = count
        for batch in self._interval(side, low, high, histogram):
            ids, margin = batch
            yield ids[:remaining], margin[:remaining]
            remaining -= len(ids)
            if remaining <= 0:
                return

    def _interval(
        self, side: str, low: float, high: float, histogram: NDArray[np.int64]
    ) -> Iterator[Batch]:
        if not high > low:
            yield from self._equal(low)
            return
        scale = FINE / (high - low)
        for first, last in self._groups(side, histogram):
            if histogram[first : last + 1].sum() <= self._batch:
                yield self._sorted(side, low, high, scale, first, last)
            else:
                yield from self._divide(side, low, high, scale, first)

    def _groups(self, side: str, histogram: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Yield runs (first, last) of bins, from the extreme on, each as full as a batch allows."""
        order = np.arange(FINE) if side == "bottom" else np.arange(FINE)[::-1]
        filled = np.cumsum(histogram[order])
        at = 0
        while at < FINE:
            before = filled[at - 1] if at else 0
            end = int(np.searchsorted(filled, before + self._batch, side="right"))
            end = max(end, at + 1)
            bins = order[at], order[end - 1]
            if filled[end - 1] > before:
                yield int(min(bins)), int(max(bins))
            at = end

    def _select(
        self, low: float, high: float, scale: float, first: int, last: int
    ) -> Iterator[Batch]:
        """Yield (ids, margins) of the points in bins first..last of [low, high], in id order."""
        for ids, margin, lowest, highest in self._scan():
            if (
                highest < low
                or lowest > high
                or not self._touches(lowest, highest, low, scale, first, last)
            ):
                continue
            # A generous interval first: one or two comparisons a point, and few points remain.
            rows = np.flatnonzero(self._near(margin, low, high, scale, first, last))
            chosen = margin[rows]
            bins = np.clip((chosen - low) * scale, 0, FINE - 1).astype(np.int64)
            inside = (chosen >= low) & (chosen <= high) & (bins >= first) & (bins <= last)
            rows = rows[inside]
            if len(rows):
                yield rows + ids.start if isinstance(ids, range) else ids[rows], margin[rows]

    @staticmethod
    def _near(
        margin: NDArray[np.float64], low: float, high: float, scale: float, first: int, last: int
    ) -> NDArray[np.bool_]:
        """Whether margins can be in bins first..last; wider by a bin on each side."""
        lowest, highest = low + (first - 1) / scale, min(high, low + (last + 2) / scale)
        if first == 0 and low == 0.0:
            return margin <= highest
        return (margin >= max(low, lowest)) & (margin <= highest)

    @staticmethod
    def _touches(
        lowest: float, highest: float, low: float, scale: float, first: int, last: int
    ) -> bool:
        """Whether a block with margins in [lowest, highest] can reach the bins."""
        reaches = [min(max((m - low) * scale, 0.0), FINE - 1.0) for m in (lowest, highest)]
        return int(reaches[1]) >= first and int(reaches[0]) <= last

    def _sorted(
        self, side: str, low: float, high: float, scale: float, first: int, last: int
    ) -> Batch:
        parts = list(self._select(low, high, scale, first, last))
        ids = np.concatenate([part[0] for part in parts])
        margin = np.concatenate([part[1] for part in parts])
        # Stable, and points come in id order: equal margins stay so.
        order = np.argsort(margin if side == "bottom" else -margin, kind="stable")
        return ids[order], margin[order]

    def _divide(
        self, side: str, low: float, high: float, scale: float, bin_: int
    ) -> Iterator[Batch]:
        """Yield one overfull bin, by a histogram of the values in it."""
        lowest, highest = np.inf, -np.inf
        for _, margin in self._select(low, high, scale, bin_, bin_):
            lowest, highest = min(lowest, margin.min()), max(highest, margin.max())
        if lowest == highest:
            yield from self._equal(float(lowest))
            return
        histogram = np.zeros(FINE, dtype=np.int64)
        inner = FINE / (highest - lowest)
        for _, margin in self._select(low, high, scale, bin_, bin_):
            bins = np.clip((margin - lowest) * inner, 0, FINE - 1).astype(np.int64)
            histogram += np.bincount(bins, minlength=FINE)
        yield from self._interval(side, float(lowest), float(highest), histogram)

    def _equal(self, value: float) -> Iterator[Batch]:
        for ids, margin, lowest, highest in self._scan():
            if lowest <= value <= highest:
                rows = np.flatnonzero(margin == value)
                if len(rows):
                    yield rows + ids.start if isinstance(ids, range) else ids[rows], margin[rows]
