"""Leverage: how much a linear fit bends towards each point.

For linear models, how exposed a member is *is* its leverage: the share of its own label in its own
prediction. For any features it is a measure of similarity to the whole training set at once, beside
the distance to its nearest point.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, check_finite, check_number

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class Leverage:
    """What :func:`leverage` found.

    Attributes
    ----------
    leverage : ndarray, (points,)
        With the training set as it is.
    excluding_self : ndarray, (points,)
        With a member's own row left out of the training set: comparable between members and
        non-members.
    degrees_of_freedom : float
        Sum of the leverages of the training rows: effective number of parameters.
    """

    leverage: FloatArray
    excluding_self: FloatArray
    degrees_of_freedom: float


def leverage(
    points: ArrayLike,
    training: ArrayLike | None = None,
    *,
    self_index: ArrayLike | None = None,
    ridge: float = 0.0,
    intercept: bool = True,
) -> Leverage:
    r"""Return :math:`x^T (X^T X + \lambda I)^{-1} x`, the diagonal of the ridge hat matrix.

    Parameters
    ----------
    points : array_like, (points, d)
        float32 or float64; computed in float64.
    training : array_like, (n, d), optional
        ``X``; by default the points themselves, each a training row.
    self_index : array_like of int, (points,), optional
        A point's own row of ``training``, -1 for none.
    ridge : float
        :math:`\lambda`, at least 0, in squared units of the features. 0 is least squares, also
        where columns depend on each other (by the pseudo-inverse): then a point outside of the
        span of the training rows has infinite leverage, for nothing holds the fit there.
    intercept : bool
        Whether the fit has an intercept, which is not penalised: features are centred at the
        training mean and ``1 / n`` is added.

    Returns
    -------
    Leverage
        ``excluding_self`` is ``h / (1 - h)`` for members (Sherman & Morrison 1950), infinite where
        a row is fitted by itself alone (``h = 1``).

    Notes
    -----
    Leverage knows nothing of labels: a point can have much and its label still be what its
    neighbours say. Between training sets of different sizes compare ``n`` times the leverage.

    Examples
    --------
    >>> from confsim.membership import leverage
    >>> found = leverage([[0.0], [1.0], [2.0], [9.0]])
    >>> found.leverage.round(2).tolist(), round(found.degrees_of_freedom, 6)
    ([0.43, 0.33, 0.27, 0.97], 2.0)
    >>> found.excluding_self.round(2).tolist()
    [0.75, 0.49, 0.37, 32.33]
    """
    x = _rows("points", points)
    rows = x if training is None else _rows("training", training)
    ridge = check_number("ridge", ridge, minimum=0)
    if x.shape[1] != rows.shape[1]:
        raise ValueError(
            f"points must have the {rows.shape[1]} columns of training, not {x.shape[1]}"
        )
    own = np.arange(len(x)) if training is None else np.full(len(x), -1)
    if self_index is not None:
        own = _own(self_index, len(x), len(rows))
    fit = _Fit(rows, ridge, intercept)
    found = fit(x)
    inside = own >= 0
    without = found.copy()
    with np.errstate(divide="ignore"):
        share = np.minimum(found[inside], 1.0)
        without[inside] = np.where(1 - share > 1e-12, share / (1 - share), np.inf)
    return Leverage(found, without, fit.degrees_of_freedom)


def leverage_without(
    points: ArrayLike,
    training: ArrayLike,
    left_out: ArrayLike,
    *,
    ridge: float = 0.0,
    intercept: bool = True,
) -> FloatArray:
    r"""Return the leverage of each point with one training row left out, any row.

    With :math:`A` the (ridge) scatter matrix, :math:`g = x^T A^{-1} t` and :math:`h` the leverage
    of the row ``t`` that is left out, it is :math:`x^T A^{-1} x + g^2 / (1 - h)` (Sherman &
    Morrison 1950). A member without its own row and a non-member without a random one are compared
    alike: both with one training row fewer.

    Parameters
    ----------
    points, training, ridge, intercept
        As in :func:`leverage`.
    left_out : array_like of int, (points,)
        Row of ``training`` that does not count for each point, -1 for none.

    Returns
    -------
    ndarray, (points,)
        Infinite where the rows that are left do not hold the fit at the point.

    Examples
    --------
    >>> from confsim.membership import leverage_without
    >>> rows = [[0.0], [1.0], [2.0], [9.0]]
    >>> leverage_without([[0.0], [9.0], [5.0]], rows, [0, 3, -1]).round(2).tolist()
    [0.75, 32.33, 0.33]
    """
    x, rows = _rows("points", points), _rows("training", training)
    ridge = check_number("ridge", ridge, minimum=0)
    if x.shape[1] != rows.shape[1]:
        raise ValueError(
            f"points must have the {rows.shape[1]} columns of training, not {x.shape[1]}"
        )
    gone = _own(left_out, len(x), len(rows), "left_out")
    fit = _Fit(rows, ridge, intercept)
    found, own = fit(x), fit(rows)
    inside = np.flatnonzero(gone >= 0)
    cross = fit.between(x, inside, rows, gone[inside])
    left = 1 - np.minimum(own[gone[inside]], 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        more = np.where(left > 1e-12, cross**2 / left, np.where(np.abs(cross) > 1e-9, np.inf, 0.0))
    found[inside] += more
    return found


#: More multiplications than this, or a larger matrix, and it takes a minute or more.
_MOST_WORK, _WIDEST = 1e12, 4096

#: Values that are centred at a time.
_ENTRIES = 1 << 22


def too_wide(points: int, columns: int) -> bool:
    """Whether :func:`leverage_among` would take too long."""
    small = min(points, columns)
    return small > _WIDEST or float(points) * columns * small > _MOST_WORK


def leverage_among(points: NDArray[Any]) -> FloatArray:
    """Return the leverage of each point in a ridge fit on all of them, with intercept.

    The ridge is the mean of the eigenvalues of the points' scatter that can be above 0: directions
    in which points hardly differ, as of pixels at the border, do not count, and with more columns
    than points leverage still tells points apart.

    Parameters
    ----------
    points : ndarray, (points, ...)
        Any real numbers; computed in float64, some rows or columns at a time.

    Returns
    -------
    ndarray, (points,)
        That of :func:`leverage` with this ridge, in (0, 1].
    """
    from scipy.linalg import cho_factor, cho_solve, solve_triangular

    x = points.reshape(len(points), -1)
    count, columns = x.shape
    centre = _mean(x)
    small = min(count, columns)
    scatter = np.zeros((small, small))  # of columns, or of points: the same eigenvalues above 0
    if count > columns:
        for rows in _parts(count, columns):
            part = x[rows].astype(np.float64) - centre
            scatter += part.T @ part
    else:
        for some in _parts(columns, count):
            part = x[:, some].astype(np.float64) - centre[some]
            scatter += part @ part.T
    ridge = float(np.trace(scatter)) / max(1, min(count - 1, columns))
    if ridge == 0:
        return np.full(count, 1 / count)
    fitted = scatter + ridge * np.eye(small)
    found = np.empty(count)
    if count > columns:
        root = np.linalg.cholesky(fitted)
        for rows in _parts(count, columns):
            part = x[rows].astype(np.float64) - centre
            found[rows] = (solve_triangular(root, part.T, lower=True) ** 2).sum(axis=0)
    else:
        found[:] = np.diag(cho_solve(cho_factor(fitted, lower=True), scatter))
    return found + 1 / count


def _parts(rows: int, columns: int) -> list[slice]:
    """Return slices of rows whose values fit into a few megabytes."""
    step = max(1, _ENTRIES // max(1, columns))
    return [slice(start, start + step) for start in range(0, rows, step)]


class _Fit:
    """The eigenvectors of the training rows' scatter, and what each adds to a leverage."""

    def __init__(self, rows: FloatArray, ridge: float, intercept: bool) -> None:
        self.constant = 1 / len(rows) if intercept else 0.0
        self.centre = _mean(rows) if intercept else np.zeros(rows.shape[1])
        # The singular values of the triangular factor are those of the rows, without their squares.
        triangle: Any = np.zeros((0, rows.shape[1]))
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK].astype(np.float64) - self.centre
            triangle = np.linalg.qr(np.vstack([triangle, part]), mode="r")
        _, singular, vectors = np.linalg.svd(triangle, full_matrices=ridge > 0)
        size = singular.max(initial=0.0)
        inside = singular > size * max(rows.shape) * np.finfo(np.float64).eps
        squares = singular**2
        self.degrees_of_freedom = float(
            (squares[inside] / (squares[inside] + ridge)).sum() + (1.0 if intercept else 0.0)
        )
        # How far from the span is rounding, beside the length of a typical row.
        self.tolerance = np.inf if ridge else 1e-8 * float(size) / np.sqrt(len(rows))
        if ridge:
            padded = np.zeros(rows.shape[1])
            padded[: len(squares)] = squares
            self.axes, self.weights = vectors, 1 / (padded + ridge)
        else:
            self.axes, self.weights = vectors[inside], 1 / squares[inside]

    def __call__(self, points: FloatArray) -> FloatArray:
        found = np.empty(len(points))
        for start in range(0, len(points), _BLOCK):
            part = points[start : start + _BLOCK].astype(np.float64) - self.centre
            along = part @ self.axes.T
            inside = self.constant + (along**2) @ self.weights
            rounding = self.tolerance + 1e-8 * np.linalg.norm(part, axis=1)
            outside = np.linalg.norm(part - along @ self.axes, axis=1) > rounding
            found[start : start + _BLOCK] = np.where(outside, np.inf, inside)
        return found

    def between(
        self, points: FloatArray, which: IntArray, rows: FloatArray, other: IntArray
    ) -> FloatArray:
        """Return the entries of the hat matrix of some points and a row for each of them."""
        found = np.empty(len(which))
        along_rows = (rows.astype(np.float64) - self.centre) @ self.axes.T * self.weights
        for start in range(0, len(which), _BLOCK):
            block = slice(start, start + _BLOCK)
            part = points[which[block]].astype(np.float64) - self.centre
            along = part @ self.axes.T
            found[block] = self.constant + np.sum(along * along_rows[other[block]], axis=1)
        return found


def _mean(rows: FloatArray) -> FloatArray:
    total = np.zeros(rows.shape[1])
    for start in range(0, len(rows), _BLOCK):
        total += rows[start : start + _BLOCK].sum(axis=0, dtype=np.float64)
    return total / len(rows)


def _rows(name: str, values: ArrayLike) -> Any:
    found = as_array(name, values)
    if found.ndim < 2 or found.size == 0:
        raise ValueError(f"{name} must have shape (rows, d), not {found.shape}")
    if found.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be numbers, not {found.dtype}")
    found = found.reshape(len(found), -1)
    check_finite(name, found)
    return found


def _own(self_index: ArrayLike, points: int, rows: int, name: str = "self_index") -> IntArray:
    own = np.asarray(self_index)
    if own.shape != (points,) or own.dtype.kind not in "iu":
        raise ValueError(f"{name} must be {points} integers, one for each point")
    outside = (own < -1) | (own >= rows)
    if outside.any():
        row = int(np.argmax(outside))
        raise ValueError(f"{name} must be in [-1, {rows}), but row {row} is {own[row]}")
    return own.astype(np.int64)
