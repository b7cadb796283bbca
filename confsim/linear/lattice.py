"""The regular lattice that the linear pipeline draws its points from.

A point is known by its id, its row-major index; coordinates and ideal labels are derived from ids
in blocks, and the lattice is never materialised. Nothing here knows models or trials.
"""

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_integer, check_number
from confsim.neighbors import (
    Float64Array,
    Int64Array,
    Nearest,
    as_label_pair,
    as_points,
    as_self_index,
    nearest_training,
)

Int8Array: TypeAlias = NDArray[np.int8]

#: Ids in ascending order without holding them: a ``range`` of step 1.
Ids: TypeAlias = ArrayLike | range

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Lattice:
    """The points ``c * granularity``, ``c = 0..m-1``, of a box that starts at the origin.

    Parameters
    ----------
    grid_size : float
        Side of the box, positive.
    granularity : float
        Step between neighbours, positive and at most ``grid_size``.
    dimensions : int
        At least 1.

    Attributes
    ----------
    points_per_axis : int
        ``m``: ``round(r) + 1`` if ``r = grid_size / granularity`` is an integer to within a
        relative 1e-12, else ``floor(r) + 1``.
    size : int
        ``m ** dimensions``, below 2**63.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range, or the lattice has 2**63 points or more.

    Notes
    -----
    The id of a point is ``sum_k c_k m**(d-1-k)``: the last axis runs fastest. Wherever a method
    takes ids, a ``range`` of step 1 does as well and is never turned into an array.
    """

    grid_size: float = 1000.0
    granularity: float = 1.0
    dimensions: int = 2
    points_per_axis: int = field(init=False, repr=False, compare=False)
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        side = check_number("grid_size", self.grid_size, above=0)
        step = check_number("granularity", self.granularity, above=0)
        dimensions = check_integer("dimensions", self.dimensions, minimum=1)
        if step > side:
            raise ValueError(f"granularity must be at most grid_size ({side:g}), not {step:g}")
        ratio = side / step
        if ratio >= 2.0**63:
            raise ValueError(_too_many(f"{ratio:g}", dimensions))
        nearest = round(ratio)
        exact = abs(ratio - nearest) <= 1e-12 * nearest
        per_axis = (nearest if exact else math.floor(ratio)) + 1
        # Logarithms first: an exact power of a large number of dimensions could fill the memory.
        if dimensions * math.log2(per_axis) > 64 or per_axis**dimensions >= 2**63:
            raise ValueError(_too_many(str(per_axis), dimensions))
        for name, value in (
            ("grid_size", side),
            ("granularity", step),
            ("dimensions", dimensions),
            ("points_per_axis", per_axis),
            ("size", per_axis**dimensions),
        ):
            object.__setattr__(self, name, value)

    def points(self, ids: Ids) -> Float64Array:
        """Return the coordinates of points, shape (k, dimensions)."""
        start, wanted = self._check_ids(ids)
        count = _count(wanted)
        points = np.empty((count, self.dimensions))
        for begin in range(0, count, _BLOCK):
            rest = _part(start, wanted, begin, min(begin + _BLOCK, count))
            for k in range(self.dimensions - 1, -1, -1):
                rest, axis = np.divmod(rest, self.points_per_axis)
                np.multiply(axis, self.granularity, out=points[begin : begin + len(axis), k])
        return points

    def ids(self, points: ArrayLike) -> Int64Array:
        """Return the ids of lattice points; the inverse of :meth:`points`.

        Parameters
        ----------
        points : array_like, shape (k, dimensions)

        Raises
        ------
        ValueError
            If a row is no point of the lattice, to within a billionth of the granularity.
        """
        array = as_points("points", points)
        if array.shape[1] != self.dimensions:
            raise ValueError(f"points must have {self.dimensions} columns, not {array.shape[1]}")
        ids = np.zeros(len(array), np.int64)
        bad = np.zeros(len(array), bool)
        for k in range(self.dimensions):
            position = array[:, k].astype(np.float64, copy=False) / self.granularity
            with np.errstate(invalid="ignore"):
                axis = np.rint(position)
                bad |= ~(np.abs(position - axis) <= 1e-9 * np.maximum(1.0, np.abs(axis)))
                bad |= ~((axis >= 0) & (axis < self.points_per_axis))
            ids *= self.points_per_axis
            ids += np.where(bad, 0, axis).astype(np.int64)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(f"points must lie on the lattice, but row {row} is {array[row]}")
        return ids

    def sample(self, count: int, rng: np.random.Generator) -> Int64Array:
        """Draw distinct ids uniformly without replacement.

        Parameters
        ----------
        count : int
            From 0 to ``size``.
        rng : numpy.random.Generator
            Determines the draw.

        Returns
        -------
        ndarray of int64, shape (count,)
            In ascending order.
        """
        count = check_integer("count", count, minimum=0)
        if count > self.size:
            raise ValueError(f"count must be at most the lattice's {self.size} points, not {count}")
        return sample_distinct(self.size, count, rng)

    def labels(self, ids: Ids, weights: ArrayLike, bias: float) -> Int8Array:
        """Return the sides of a hyperplane that points lie on.

        Parameters
        ----------
        ids : array_like of int or range
        weights : array_like, shape (dimensions,)
        bias : float

        Returns
        -------
        ndarray of int8, shape (k,)
            +1 where ``weights @ x + bias > 0`` and -1 elsewhere, so also on the hyperplane; summed
            in the order of the coordinates, then the bias.
        """
        normal = np.asarray(weights, np.float64)
        if normal.shape != (self.dimensions,):
            raise ValueError(f"weights must have shape ({self.dimensions},), not {normal.shape}")
        if not np.isfinite(normal).all():
            raise ValueError(f"weights must be finite, not {normal}")
        offset = check_number("bias", bias)
        start, wanted = self._check_ids(ids)
        count = _count(wanted)
        labels = np.empty(count, np.int8)
        for begin in range(0, count, _BLOCK):
            end = min(begin + _BLOCK, count)
            points = self.points(_part(start, wanted, begin, end))
            score = np.zeros(end - begin)
            for k in range(self.dimensions):
                score += normal[k] * points[:, k]
            labels[begin:end] = np.where(score + offset > 0, 1, -1)
        return labels

    def nearest(
        self,
        training_points: ArrayLike,
        ids: Ids | None = None,
        *,
        query_labels: ArrayLike | None = None,
        training_labels: ArrayLike | None = None,
        self_index: ArrayLike | None = None,
        n_threads: int | None = None,
    ) -> Nearest:
        """Find the nearest training point of lattice points, exactly.

        Parameters
        ----------
        training_points : array_like, shape (n, dimensions)
            Any finite points; fastest where they lie on the lattice.
        ids : array_like of int, or range, optional
            The queries, in any order; fastest when ascending. Default: every point, in id order.
        query_labels, training_labels, self_index, n_threads
            As in :func:`confsim.nearest_training`.

        Returns
        -------
        Nearest
            What :func:`confsim.nearest_training` gives for ``points(ids)``.
        """
        wanted = range(self.size) if ids is None else ids
        start, wanted = self._check_ids(wanted)
        count = _count(wanted)
        training = as_points("training_points", training_points)
        if training.shape[1] != self.dimensions:
            raise ValueError(
                f"training_points must have {self.dimensions} columns, not {training.shape[1]}"
            )
        labels, training_classes = as_label_pair(
            query_labels, training_labels, count, len(training)
        )
        members = as_self_index(self_index, count, len(training))
        found = Nearest(
            np.empty(count),
            np.empty(count, np.int64),
            None if members is None else np.empty(count),
            None if members is None else np.empty(count, np.int64),
        )
        for begin in range(0, count, _BLOCK) or [0]:
            part = slice(begin, min(begin + _BLOCK, count))
            block = nearest_training(
                self.points(_part(start, wanted, part.start, part.stop)),
                training,
                query_labels=None if labels is None else labels[part],
                training_labels=training_classes,
                self_index=None if members is None else members[part],
                n_threads=n_threads,
            )
            for name in ("distance", "index", "distance_excluding_self", "index_excluding_self"):
                if getattr(found, name) is not None:
                    getattr(found, name)[part] = getattr(block, name)
        return found

    def _check_ids(self, ids: Ids) -> tuple[int, Int64Array | int]:
        """Return (first id, how many) of a range, or (0, int64 ids)."""
        if isinstance(ids, range):
            if ids.step != 1:
                raise ValueError(f"ids must be a range of step 1, not {ids}")
            if len(ids) and not (ids.start >= 0 and ids.stop <= self.size):
                raise ValueError(f"ids must be in [0, {self.size}), not {ids}")
            return ids.start, len(ids)
        array = np.asarray(ids)
        if array.ndim != 1:
            raise ValueError(f"ids must be one-dimensional, not {array.ndim}-D")
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"ids must be integers, not {array.dtype}")
        if array.size and (array.min() < 0 or array.max() >= self.size):
            bad = int(np.argmax((array < 0) | (array >= self.size)))
            raise ValueError(f"ids must be in [0, {self.size}), but entry {bad} is {array[bad]}")
        return 0, np.ascontiguousarray(array, dtype=np.int64)


def sample_distinct(size: int, count: int, rng: np.random.Generator) -> Int64Array:
    """Draw ``count`` distinct numbers below ``size`` uniformly; ascending."""
    if count <= size // 2:
        return _distinct(count, size, rng)
    kept = np.ones(size, bool)
    kept[_distinct(size - count, size, rng)] = False
    return np.flatnonzero(kept).astype(np.int64, copy=False)


def _too_many(per_axis: str, dimensions: int) -> str:
    return (
        "grid_size, granularity and dimensions must give fewer than 2**63 points, not "
        f"{per_axis}**{dimensions}"
    )


def _count(wanted: Int64Array | int) -> int:
    return wanted if isinstance(wanted, int) else len(wanted)


def _part(start: int, wanted: Int64Array | int, begin: int, end: int) -> Int64Array:
    if isinstance(wanted, int):
        return np.arange(start + begin, start + end, dtype=np.int64)
    return wanted[begin:end]


def _distinct(count: int, size: int, rng: np.random.Generator) -> Int64Array:
    """Draw ``count`` distinct numbers below ``size``, at least twice as large; ascending.

    Draws are repeated for as many as are missing, so the set never overshoots: what is kept are the
    first ``count`` distinct values of one long sequence of draws, a uniform subset by symmetry.
    """
    drawn = _ascending(rng.integers(size, size=count, dtype=np.int64))
    while len(drawn) < count:
        more = _ascending(rng.integers(size, size=count - len(drawn), dtype=np.int64))
        place = np.minimum(np.searchsorted(drawn, more), len(drawn) - 1)
        drawn = np.sort(np.concatenate([drawn, more[drawn[place] != more]]))
    return drawn


def _ascending(numbers: Int64Array) -> Int64Array:
    """Return the distinct numbers in order; ``np.unique`` hashes, which takes many times as long."""
    numbers.sort()
    keep = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=keep[1:])
    return numbers if keep.all() else numbers[keep]
