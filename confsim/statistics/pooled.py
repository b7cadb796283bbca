"""The curve of all scores of a matrix together, without a copy in order of all of them.

Rows are put in order one by one. Between two scores lies a contiguous part of each row, so that all
scores are met in order in chunks, each sorted by itself: memory beyond the rows is that of a few
chunks, and chunks are independent of each other. Every figure is made of counts, and is the one
that sorting everything gives.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim.statistics.curves import Curve, Roc, first_of_equals, largest_difference
from confsim.statistics.order import ascending

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Scores of a chunk, about; so many are sorted at once even where all are wanted together.
_CHUNK = 1 << 19

#: Scores that chunks are divided by are chosen among so many for each of them.
_SAMPLED = 64

#: Allocates an array as :func:`numpy.empty` does.
Allocate = Callable[[tuple[int, ...], Any], NDArray[Any]]


class SortedRows:
    """The known scores of a matrix in order, row by row: those of members, then of others.

    Parameters
    ----------
    rows, columns : int
    empty : callable
        Where they are kept; a file that is mapped will do.
    """

    def __init__(self, rows: int, columns: int, empty: Allocate = np.empty) -> None:
        self._values = empty((rows, columns), np.float64)
        self._members = np.zeros(rows, dtype=np.int64)
        self._known = np.zeros(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._values)

    def put(self, row: int, members: FloatArray, others: FloatArray) -> None:
        """Keep a row's scores, both in order."""
        self._members[row], self._known[row] = len(members), len(members) + len(others)
        self._values[row, : len(members)] = members
        self._values[row, len(members) : self._known[row]] = others

    def side(self, row: int, *, members: bool) -> FloatArray:
        """Return a row's scores of members, or of others."""
        held = self._members[row]
        found: FloatArray = self._values[row]
        return found[:held] if members else found[held : self._known[row]]

    def total(self, *, members: bool) -> int:
        """Count the scores of members, or of others."""
        held = int(self._members.sum())
        return held if members else int(self._known.sum()) - held

    def curve(self, ranks: Mapping[bool, IntArray], n_threads: int | None = None) -> Curve:
        """Return the curve of all scores together.

        Parameters
        ----------
        ranks : mapping of bool to ndarray of int64
            Of members' and of others' scores that will be asked for.
        n_threads : int, optional
        """
        if int(self._known.sum()) <= _CHUNK:
            return Roc(*(ascending(self._all(members=side)) for side in (True, False)))
        return _PooledCurve(self, ranks, n_threads)

    def _all(self, *, members: bool) -> FloatArray:
        return np.concatenate([self.side(row, members=members) for row in range(len(self))])


class _PooledCurve(Curve):
    """The curve of sorted rows, from chunks of them."""

    def __init__(
        self, rows: SortedRows, ranks: Mapping[bool, IntArray], n_threads: int | None
    ) -> None:
        self._rows, self._n_threads = rows, n_threads
        self._totals = {side: rows.total(members=side) for side in (True, False)}
        self._ranks = {side: np.unique(ranks[side]) for side in (True, False)}
        self._bounds = self._divided()
        self._cuts = {side: self._places(members=side) for side in (True, False)}
        #: Scores below each chunk, and in the end all.
        self._below = {side: self._cuts[side].sum(axis=1) for side in (True, False)}

    @property
    def members(self) -> int:
        return self._totals[True]

    @property
    def non_members(self) -> int:
        return self._totals[False]

    def _divided(self) -> FloatArray:
        """Return the scores at which chunks begin, but the first."""
        count = max(1, (self.members + self.non_members) // _CHUNK)
        step = max(1, (self.members + self.non_members) // (count * _SAMPLED))
        sides = [
            self._rows.side(row, members=side)[step // 2 :: step]
            for row in range(len(self._rows))
            for side in (True, False)
        ]
        sample = ascending(np.concatenate(sides))
        chosen = sample[:: max(1, len(sample) // count)]
        # A score that very many have is a chunk of its own, of which nothing need be sorted.
        many = chosen[1:][chosen[1:] == chosen[:-1]]
        return np.unique(np.concatenate([chosen, many, np.nextafter(many, np.inf)]))

    def _places(self, *, members: bool) -> IntArray:
        """Return where chunks begin in each row (chunks + 1, rows)."""
        found = np.zeros((len(self._bounds) + 2, len(self._rows)), dtype=np.int64)
        for row in range(len(self._rows)):
            scores = self._rows.side(row, members=members)
            found[1:-1, row] = np.searchsorted(scores, self._bounds)
            found[-1, row] = len(scores)
        return found

    def _chunk(self, chunk: int, *, members: bool) -> FloatArray:
        """Return the scores of a chunk, in order."""
        start, end = self._cuts[members][chunk], self._cuts[members][chunk + 1]
        if self._is_constant(chunk):
            row = int(np.argmax(end > start))
            one = self._rows.side(row, members=members)[start[row] : end[row]][:1]
            return np.broadcast_to(one, (int((end - start).sum()),)) if len(one) else one
        parts = [
            self._rows.side(int(row), members=members)[start[row] : end[row]]
            for row in np.flatnonzero(end > start)
        ]
        return ascending(np.concatenate(parts) if parts else np.empty(0))

    def _is_constant(self, chunk: int) -> bool:
        """Whether a chunk holds a single score."""
        if chunk == 0:
            return False
        first = self._bounds[chunk - 1]
        if chunk == len(self._bounds):
            return bool(first == np.inf)
        return bool(np.nextafter(first, np.inf) == self._bounds[chunk])

    @cached_property
    def _compared(self) -> tuple[int, float]:
        return self._met[0]

    @cached_property
    def _met(self) -> tuple[tuple[int, float], dict[bool, FloatArray]]:
        """Comparisons as of :class:`Curve`, and the scores of the ranks that were announced."""
        from confsim._kernels import resolve_threads

        total, largest = 0, 0.0
        found: dict[bool, list[FloatArray]] = {True: [], False: []}
        with ThreadPoolExecutor(resolve_threads(self._n_threads)) as pool:
            for added, difference, scores in pool.map(self._meet, range(len(self._bounds) + 1)):
                total, largest = total + added, max(largest, difference)
                for side, some in scores.items():
                    found[side].append(some)
        return (total, largest), {side: np.concatenate(some) for side, some in found.items()}

    def _meet(self, chunk: int) -> tuple[int, float, dict[bool, FloatArray]]:
        sides = {side: self._chunk(chunk, members=side) for side in (True, False)}
        scores = {side: self._wanted(chunk, sides[side], members=side) for side in (True, False)}
        held, others = sides[True], sides[False]
        before, lower = int(self._below[True][chunk]), int(self._below[False][chunk])
        if not len(held):
            return 0, 0.0, scores
        if self._is_constant(chunk):
            added = len(held) * (2 * lower + len(others))
            firsts, below = np.array([before]), np.array([lower])
        else:
            part = Roc(held, others)
            added = 2 * lower * len(held)
            below = np.full(len(held), lower)
            if len(others):
                added += int(part._below.sum()) + int(part._up_to.sum())
                below += part._below
            firsts = first_of_equals(held) + before
        return added, largest_difference(firsts, below, self), scores

    def _wanted(self, chunk: int, scores: FloatArray, *, members: bool) -> FloatArray:
        """Return those of a chunk's scores whose ranks were announced."""
        start = self._below[members][chunk]
        first, last = np.searchsorted(self._ranks[members], (start, start + len(scores)))
        found: FloatArray = scores[self._ranks[members][first:last] - start]
        return found

    def scores_at(self, ranks: IntArray, *, members: bool) -> FloatArray:
        place = np.searchsorted(self._ranks[members], ranks)
        known = self._ranks[members]
        if len(known) and (known[np.minimum(place, len(known) - 1)] == ranks).all():
            return self._met[1][members][place]
        chunk_of = np.searchsorted(self._below[members], ranks, side="right") - 1
        found = np.empty(len(ranks))
        for chunk in np.unique(chunk_of):
            here = chunk_of == chunk
            scores = self._chunk(int(chunk), members=members)
            found[here] = scores[ranks[here] - self._below[members][chunk]]
        return found

    def count(self, score: float, *, members: bool, up_to: bool) -> int:
        side: Any = "right" if up_to else "left"
        return sum(
            int(np.searchsorted(self._rows.side(row, members=members), score, side=side))
            for row in range(len(self._rows))
        )
