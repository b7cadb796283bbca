"""Every example's surroundings in one space that no trial has changed: nearest others, density."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_finite, check_integer

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Neighbours that an example's density is measured by.
DENSITY_NEIGHBOURS = 20

_BLOCK = 4096
_SCRATCH_BYTES = 1 << 26


def fixed_space(
    features: ArrayLike, groups: ArrayLike | None = None, neighbours: int = DENSITY_NEIGHBOURS
) -> dict[str, FloatArray]:
    """Measure every example's surroundings in one space that no trial has changed.

    Parameters
    ----------
    features : array_like, (examples, ...)
        Pixels, or the output of a pretrained encoder; flattened.
    groups : array_like, (examples,), optional
        Examples with the same value are duplicates of one another.
    neighbours : int
        How many the density looks at; fewer where there are fewer examples.

    Returns
    -------
    dict of ndarray, (examples,)
        ``fixed_distance``: angular distance to the nearest other example, as a fraction of a half
        turn; ``fixed_distance_other_group``: to the nearest one that is no duplicate (with
        ``groups``); ``density_distance``: mean Euclidean distance to the nearest others after L2
        normalisation. NaN with one example only.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import fixed_space
    >>> found = fixed_space(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), groups=[0, 0, 1])
    >>> found["fixed_distance"].tolist(), found["fixed_distance_other_group"].tolist()
    ([0.0, 0.0, 0.5], [0.5, 0.5, 0.5])
    """
    points = np.asarray(features)
    if points.ndim < 2 or points.size == 0:
        raise ValueError(f"features must have shape (examples, ...), not {points.shape}")
    neighbours = check_integer("neighbours", neighbours, minimum=1)
    points = points.reshape(len(points), -1)
    unit = _normalised(points)
    count = min(neighbours, len(unit) - 1)
    if count == 0:
        nothing = np.full(1, np.nan)
        found = {"fixed_distance": nothing, "density_distance": nothing}
        return found if groups is None else found | {"fixed_distance_other_group": nothing}
    index, chord, angle = _nearest_others(unit, count)
    found = {"fixed_distance": angle.min(axis=1), "density_distance": chord.mean(axis=1)}
    if groups is not None:
        found["fixed_distance_other_group"] = _outside_group(unit, np.asarray(groups), index, angle)
    return found


def _normalised(points: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows of length 1 in float32.

    Zero vectors get an axis of their own: at a right angle to all others, equal to each other.
    """
    zero = ~points.any(axis=1)
    unit = np.zeros((len(points), points.shape[1] + int(zero.any())), dtype=np.float32)
    for start in range(0, len(points), _BLOCK):
        rows = points[start : start + _BLOCK].astype(np.float64)
        check_finite("features", rows)
        length = np.sqrt(np.sum(rows**2, axis=1, keepdims=True))
        unit[start : start + _BLOCK, : rows.shape[1]] = rows / np.where(length > 0, length, 1.0)
    unit[zero, -1] = 1.0
    return unit


def _nearest_others(
    unit: NDArray[np.float32], count: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return the nearest others of every row: indices, chords and angles (fractions of pi)."""
    n, d = unit.shape
    index = np.empty((n, count), dtype=np.int64)
    chord, angle = np.empty((n, count)), np.empty((n, count))
    rows = int(np.clip(_SCRATCH_BYTES // max(8 * n, 16 * count * d), 1, 1024))
    for start in range(0, n, rows):
        block = slice(start, min(start + rows, n))
        similarity = unit[block] @ unit.T
        similarity[np.arange(len(similarity)), np.arange(n)[block]] = -np.inf
        for i, candidates in enumerate(_largest(similarity, count), start=start):
            difference, turn = _separations(unit[i], unit[candidates])
            order = np.lexsort((candidates, difference))[:count]
            index[i], chord[i], angle[i] = candidates[order], difference[order], turn[order]
    return index, chord, angle


def _largest(values: NDArray[np.float32], count: int) -> Iterator[IntArray]:
    """Yield for each row the columns of at least its ``count`` largest values, a few more perhaps.

    The ``count``-th largest of the maxima of groups of columns is no larger than the ``count``-th
    largest value: nearly everything is dismissed by one comparison.
    """
    columns = values.shape[1]
    width = max(1, columns // (8 * count))
    whole = columns // width * width
    maxima = values[:, :whole].reshape(len(values), -1, width).max(axis=2)
    bounds = np.partition(maxima, maxima.shape[1] - count, axis=1)[:, maxima.shape[1] - count]
    # What rounding in float32 may have misjudged stays a candidate.
    for row, bound in zip(values, bounds - np.float32(1e-6), strict=True):
        found = np.flatnonzero(row >= bound)
        if len(found) > 16 * count + 64:  # many equals: any of them will do
            found = np.sort(np.argpartition(row, columns - count)[columns - count :])
        yield found


def _separations(
    point: NDArray[np.float32], others: NDArray[np.float32]
) -> tuple[FloatArray, FloatArray]:
    """Return the chords and the angles (fractions of pi) between a unit vector and others."""
    a, b = point.astype(np.float64), others.astype(np.float64)
    difference = np.linalg.norm(b - a, axis=1)
    turn: FloatArray = 2 * np.arctan2(difference, np.linalg.norm(b + a, axis=1)) / np.pi
    return difference, turn


def _outside_group(
    unit: NDArray[np.float32], groups: NDArray[Any], index: IntArray, angle: FloatArray
) -> FloatArray:
    """Return the distance to the nearest example of another group, NaN if there is none."""
    if groups.shape != (len(unit),):
        raise ValueError(f"groups must be as long as features, {len(unit)}, not {groups.shape}")
    foreign = groups[index] != groups[:, None]
    found: FloatArray = np.min(np.where(foreign, angle, np.inf), axis=1)
    for i in np.flatnonzero(~foreign.any(axis=1)):  # a group larger than the neighbourhood
        others = unit[groups != groups[i]]
        found[i] = _separations(unit[i], others)[1].min() if len(others) else np.nan
    return found
