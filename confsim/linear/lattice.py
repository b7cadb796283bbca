"""The regular lattice that the linear pipeline draws its points from.

A point is known by its id, its row-major index; coordinates and ideal labels are derived from ids
in blocks, and the lattice is never materialised. Nothing here knows models or trials.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_finite, check_integer, check_number
from confsim._kernels import lattice as _kernel
from confsim._kernels import memory, resolve_isa, resolve_threads
from confsim.neighbors import (
    Array,
    Float64Array,
    Int64Array,
    Nearest,
    as_label_pair,
    as_labels,
    as_points,
    check_rows,
    nearest_training,
)

Int8Array: TypeAlias = NDArray[np.int8]

#: Ids in ascending order without holding them: a ``range`` of step 1.
Ids: TypeAlias = ArrayLike | range

#: Points that are held at a time where the search needs coordinates.
_BLOCK = 1 << 20

#: Tiles compute every point between the first and the last query, at a twentieth of what a search
#: by coordinates costs; they pay while at least one point in this many is asked for.
_SPARSEST = 16

#: In three dimensions or more a plane of the lattice has its own list of training points; with
#: fewer points an axis than this the lists would cost more than the points.
_SMALLEST_PLANE = 32


class _Ids(NamedTuple):
    """Checked ids: an array, or ``length`` of them from ``start`` on."""

    array: Int64Array | None
    start: int
    length: int
    ascending: bool

    def part(self, begin: int, end: int) -> "_Ids":
        if self.array is None:
            return _Ids(None, self.start + begin, end - begin, True)
        return _Ids(self.array[begin:end], 0, end - begin, self.ascending)

    def span(self) -> int:
        """Count the points from the first to the last."""
        if self.array is None or self.length == 0:
            return self.length
        return int(self.array[-1] - self.array[0]) + 1


#: Query labels, training labels, self index; and where the four answers go.
_Pairing: TypeAlias = "tuple[Int8Array | Int64Array | None, Int64Array | None, Int64Array | None]"
_Found: TypeAlias = "tuple[Float64Array, Int64Array | None, Float64Array | None, Int64Array | None]"


class _Tiles(NamedTuple):
    """Training points in units, and what the tiled search needs to know of the lattice."""

    points: NDArray[np.int32]
    step: int
    unit: float


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
        return self._points(self._check_ids(ids), resolve_threads(None))

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
        normal = memory.native(np.asarray(weights)).astype(np.float64)
        if normal.shape != (self.dimensions,):
            raise ValueError(f"weights must have shape ({self.dimensions},), not {normal.shape}")
        if not np.isfinite(normal).all():
            raise ValueError(f"weights must be finite, not {normal}")
        offset = check_number("bias", bias)
        wanted = self._check_ids(ids)
        labels = np.empty(wanted.length, np.int8)
        _kernel.labels(
            self._shape,
            wanted[:3],
            np.ascontiguousarray(normal),
            offset,
            labels,
            resolve_threads(None),
        )
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
        wanted = self._check_ids(range(self.size) if ids is None else ids)
        training = self._check_training(training_points)
        labels, training_classes = as_label_pair(
            query_labels, training_labels, wanted.length, len(training), keep_int8=True
        )
        members = None
        if self_index is not None:
            members = as_labels("self_index", self_index, wanted.length)
        both = members is not None
        found = (
            memory.empty(wanted.length, np.float64),
            memory.empty(wanted.length, np.int64),
            memory.empty(wanted.length, np.float64) if both else None,
            memory.empty(wanted.length, np.int64) if both else None,
        )
        pairing = (labels, training_classes, members)
        try:
            self._search(training, wanted, pairing, found, resolve_threads(n_threads))
        except ValueError:
            if members is not None:
                check_rows(members, len(training))  # says which entry is wrong
            raise
        return Nearest(*found)

    def nearest_into(
        self,
        training_points: Float64Array,
        ids: Int64Array | range,
        distance: Float64Array,
        *,
        index: Int64Array | None = None,
        distance_excluding_self: Float64Array | None = None,
        index_excluding_self: Int64Array | None = None,
        query_labels: Int8Array | Int64Array | None = None,
        training_labels: Int64Array | None = None,
        self_index: Int64Array | None = None,
        n_threads: int = 1,
    ) -> None:
        """Write what :meth:`nearest` returns into arrays of the caller's, and only what is wanted.

        For loops over blocks of a large lattice, whose arrays are used again and again. The
        arguments are trusted: contiguous arrays of the stated types, valid ascending ids, finite
        points.
        """
        pairing = (query_labels, training_labels, self_index)
        found = (distance, index, distance_excluding_self, index_excluding_self)
        self._search(training_points, _trusted(ids), pairing, found, n_threads)

    @property
    def _shape(self) -> tuple[float, int, int]:
        """What the kernels know of a lattice."""
        return self.granularity, self.points_per_axis, self.dimensions

    def _points(self, ids: _Ids, threads: int) -> Float64Array:
        points = np.empty((ids.length, self.dimensions))
        _kernel.points(self._shape, ids[:3], points, threads)
        return points

    def _search(
        self, training: Array, ids: _Ids, pairing: _Pairing, found: _Found, threads: int
    ) -> None:
        tiles = self._tiles(training)
        if tiles is None or not ids.ascending or ids.span() > _SPARSEST * ids.length:
            self._search_by_coordinates(training, ids, pairing, found, threads)
            return
        _kernel.nearest(self._shape, ids[:3], tiles, pairing, found, threads, resolve_isa())

    def _search_by_coordinates(
        self, training: Array, ids: _Ids, pairing: _Pairing, found: _Found, threads: int
    ) -> None:
        query_labels, training_labels, self_index = pairing
        for begin in range(0, ids.length, _BLOCK):
            part = slice(begin, min(begin + _BLOCK, ids.length))
            block = nearest_training(
                self._points(ids.part(part.start, part.stop), threads),
                training,
                query_labels=None if query_labels is None else query_labels[part],
                training_labels=training_labels,
                self_index=None if self_index is None else self_index[part],
                n_threads=threads,
            )
            answers = (
                block.distance,
                block.index,
                block.distance_excluding_self,
                block.index_excluding_self,
            )
            for target, answer in zip(found, answers, strict=True):
                if target is not None and answer is not None:
                    target[part] = answer

    def _tiles(self, training: Array) -> _Tiles | None:
        """Return the training points in units, or ``None`` where the tiled search is not exact.

        It is when all coordinates, the lattice's and theirs, are such small multiples of one power
        of two that every squared distance is an integer below the kernel's limit: then float64
        commits no rounding error before the root, and no two sums share a root.
        """
        if self.dimensions > 2 and self.points_per_axis < _SMALLEST_PLANE:
            return None
        numerator, denominator = self.granularity.as_integer_ratio()
        twos = (numerator & -numerator).bit_length() - 1
        step = numerator >> twos
        if step > 2**13 or twos > 400 or denominator.bit_length() > 400:
            return None
        unit = math.ldexp(1.0, twos) / denominator
        units = training / unit
        low = min(0.0, float(units.min()))
        high = max(step * (self.points_per_axis - 1.0), float(units.max()))
        if not self.dimensions * (high - low) ** 2 < _kernel.SUM_LIMIT:
            return None
        points = units.astype(np.int32)
        if not np.array_equal(points, units):
            return None
        return _Tiles(np.ascontiguousarray(points), step, unit)

    def _check_training(self, training_points: ArrayLike) -> Array:
        training = as_points("training_points", training_points)
        if training.shape[1] != self.dimensions:
            raise ValueError(
                f"training_points must have {self.dimensions} columns, not {training.shape[1]}"
            )
        if len(training) == 0:
            raise ValueError("training_points must hold at least one point")
        check_finite("training_points", training)
        return training

    def _check_ids(self, ids: Ids) -> _Ids:
        if isinstance(ids, range):
            if ids.step != 1:
                raise ValueError(f"ids must be a range of step 1, not {ids}")
            if len(ids) and not (ids.start >= 0 and ids.stop <= self.size):
                raise ValueError(f"ids must be in [0, {self.size}), not {ids}")
            return _Ids(None, ids.start, len(ids), True)
        array = memory.native(np.asarray(ids))
        if array.ndim != 1:
            raise ValueError(f"ids must be 1-D, not {array.ndim}-D")
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"ids must be integers, not {array.dtype}")
        if array.dtype == np.uint64 and array.size and array.max() >= self.size:
            bad = int(np.argmax(array))
            raise ValueError(f"ids must be in [0, {self.size}), but entry {bad} is {array[bad]}")
        array = np.ascontiguousarray(array, dtype=np.int64)
        ascending = _kernel.ascending(array)
        low, high = (array[:1], array[-1:]) if ascending else (array, array)
        if array.size and (low.min() < 0 or high.max() >= self.size):
            bad = int(np.argmax((array < 0) | (array >= self.size)))
            raise ValueError(f"ids must be in [0, {self.size}), but entry {bad} is {array[bad]}")
        return _Ids(array, 0, len(array), ascending)


def _trusted(ids: Int64Array | range) -> _Ids:
    """Describe ids that are known to be valid and to ascend."""
    if isinstance(ids, range):
        return _Ids(None, ids.start, len(ids), True)
    return _Ids(ids, 0, len(ids), True)


def margins_into(
    lattice: Lattice,
    ids: Int64Array | range,
    learned: tuple[Float64Array, float],
    ideal: tuple[Float64Array, float],
    margin: Float64Array,
    labels: Int8Array | None,
    *,
    n_threads: int,
) -> tuple[float, float, int]:
    """Write the margins of lattice points and their ideal labels into arrays of the caller's.

    ``learned`` and ``ideal`` are ``(weights, bias)``. Returns the lowest and the highest margin,
    and how many points are on the ideal hyperplane's side. The arguments are trusted, as those of
    :meth:`Lattice.nearest_into`.
    """
    wanted = _trusted(ids)[:3]
    return _kernel.margins(
        lattice._shape, wanted, learned, ideal, margin, labels, n_threads, resolve_isa()
    )


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
    """Return the distinct numbers in order, several times as fast as ``np.unique`` (it hashes)."""
    numbers.sort()
    keep = np.ones(len(numbers), bool)
    np.not_equal(numbers[1:], numbers[:-1], out=keep[1:])
    return numbers if keep.all() else numbers[keep]
