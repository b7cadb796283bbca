"""The points of a linear program and its objective, in scaled coordinates.

Points are read in place, through :class:`confsim._kernels.lp.Points`. What is derived from
them depends on the set of points and their summed weights alone. Nothing is solved here.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from confsim._kernels import memory
from confsim._kernels.lp import Points

Array: TypeAlias = np.ndarray[Any, Any]

#: Up to this many points, programs are solved whole: a working set would save nothing.
SMALL = 1000
#: A margin of 1 counts as reached from here on.
REACHED = 1 - 1e-6
#: The hyperplane with w = 0 is the answer if its value is within this part of the optimum.
_TIE = 1e-9


def check_data(X: Any, y: Any, sample_weight: Any) -> tuple[Array, Array, Array | None]:
    """Return points as float32 or float64, which of them are of class +1, and weights."""
    X, y = memory.native(np.asarray(X)), np.asarray(y)
    if X.dtype.kind not in "biuf":
        raise TypeError(f"X must hold real numbers, not {X.dtype}")
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X must have shape (n, d) with n, d >= 1, not {X.shape}")
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if y.dtype.kind not in "biuf":
        raise TypeError(f"y must hold -1 and 1, not {y.dtype}")
    if y.shape != (len(X),):
        raise ValueError(f"y must have shape ({len(X)},), one class a row of X, not {y.shape}")
    positive = np.ascontiguousarray(y == 1)
    known = positive | (y == -1)
    if not known.all():
        row = int(np.argmin(known))
        raise ValueError(f"y must hold only -1 and 1, but row {row} is {y[row]!r}")
    weight = None
    if sample_weight is not None:
        weight = memory.native(np.asarray(sample_weight))
        if weight.dtype.kind not in "biuf":
            raise TypeError(f"sample_weight must hold real numbers, not {weight.dtype}")
        if weight.shape != (len(X),):
            raise ValueError(f"sample_weight must have shape ({len(X)},), not {weight.shape}")
        weight = np.ascontiguousarray(weight, dtype=np.float64)
        proper = (weight >= 0) & (weight < np.inf)
        if not proper.all():
            row = int(np.argmin(proper))
            raise ValueError(
                f"sample_weight must be finite and not negative, but row {row} is {weight[row]}"
            )
    counted = positive if weight is None else positive[weight > 0]
    if len(counted) == 0:
        raise ValueError(
            "sample_weight must be positive somewhere, but all sample weights are zero"
        )
    if counted.all() or not counted.any():
        raise ValueError("y must hold both classes, -1 and 1, among the rows of positive weight")
    return X, positive, weight


@dataclass(frozen=True)
class Data:
    """Points and their scaled coordinates ``(x - centre) / scale``, which lie in [-2, 2].

    Scales are powers of two: dividing by them is exact.
    """

    X: Array
    positive: Array
    points: Points
    weight: Array | None
    centre: Array
    scale: Array
    varies: Array

    @classmethod
    def of(cls, X: Array, positive: Array, weight: Array | None) -> "Data":
        """Find centre and scales; raise ``ValueError`` where ``X`` is not finite."""
        points = Points(X, positive, weight)
        low, high, bad = points.range()
        if bad >= 0:
            raise ValueError(f"X must be finite, but row {bad} holds NaN or infinity")
        half = high / 2 - low / 2
        varies = half > 0
        # A range of subnormal size is left as it is: its reciprocal would overflow.
        exponent = np.floor(np.log2(np.where(half > 1e-300, half, 1.0)))
        scale = np.where(half > 1e-300, np.exp2(exponent), 1.0)
        return cls(X, positive, points, weight, low / 2 + high / 2, scale, varies)

    def signed(self, rows: Array) -> Array:
        """``y (x, 1)`` of the rows, in scaled coordinates."""
        matrix = np.empty((len(rows), len(self.scale) + 1))
        matrix[:, :-1] = self.X[rows]
        matrix[:, :-1] -= self.centre
        matrix[:, :-1] /= self.scale
        matrix[:, -1] = 1.0
        matrix[~self.positive[rows]] *= -1.0
        return matrix

    def margins(self, plane: Array, rows: Array) -> Array:
        """``y (w x + b)`` of the rows, for a plane in scaled coordinates."""
        return self.points.margins(rows, plane[:-1] / self.scale, self.centre, float(plane[-1]))

    def violations(self, plane: Array, limit: float, count: int) -> tuple[Array, float]:
        """Up to ``count`` rows with margins below ``limit``, worst first; the smallest margin."""
        slope, bias = plane[:-1] / self.scale, float(plane[-1])
        return self.points.violations(slope, self.centre, bias, limit, count)

    def combine(self, rows: Array, coefficient: Array) -> Array:
        """``sum coefficient (x, 1)`` over the rows, in scaled coordinates."""
        totals = self.points.combine(rows, coefficient, self.centre)
        totals[:-1] /= self.scale
        return totals


class Problem:
    """Data and objective. Programs hold the objective times a ``unit``, so that it is not tiny.

    ``norm`` is None for the slack objective, where ``C`` is 1.
    """

    def __init__(self, data: Data, norm: str | None, C: float) -> None:
        self.data, self.norm, self.C = data, norm, C

    @cached_property
    def merged(self) -> tuple[Array, Array]:
        """The distinct points in lexicographic order, and their summed weights."""
        return self.data.points.merge()

    @cached_property
    def distinct(self) -> tuple[Array, Array]:
        """The distinct points in lexicographic order, and what a unit of their slack costs."""
        rows, weights = self.merged
        return rows, np.maximum(self.C * weights, 1e-300)  # has a reciprocal

    @cached_property
    def class_costs(self) -> tuple[float, float]:
        """What a unit of slack of every point costs, for class -1 and for class +1."""
        if self.data.weight is None:
            count = int(np.count_nonzero(self.data.positive))
            return self.C * (len(self.data.positive) - count), self.C * count
        rows, cost = self.distinct
        positive = self.data.positive[rows]
        return float(np.sum(cost[~positive])), float(np.sum(cost[positive]))

    def or_flat(self, plane: Array, value: float, unit: float) -> tuple[Array, float]:
        """Return the plane with w = 0 instead, and its value, where that is an optimum as well."""
        negative, positive = self.class_costs
        zero_weight = 2 * unit * min(negative, positive)  # b has the sign of the larger class
        if zero_weight > value + _TIE * size_of(value, unit):
            return plane, value
        plane = np.zeros(len(plane))
        plane[-1] = np.sign(positive - negative)
        return plane, zero_weight

    @cached_property
    def unit(self) -> float:
        """What programs with slack multiply the objective by.

        It keeps every norm weight and the largest cost at 1 or above.
        """
        largest = 1 / float(self.distinct[1].max())
        return largest if self.norm is None else max(largest, self.unit_without_slack)

    @cached_property
    def unit_without_slack(self) -> float:
        """What programs without slack multiply the objective by: the largest scale."""
        return float(self.data.scale[self.data.varies].max(initial=1e-300))

    def norm_weights(self, unit: float) -> Array:
        """Return what a unit of a scaled weight costs (l1), or its factor in the maximum (linf)."""
        return unit / self.data.scale

    def norm_of(self, plane: Array, unit: float) -> float:
        """Return the norm in the user's units, times ``unit``; 0 for the slack objective."""
        weighted = np.abs(plane[:-1]) * self.norm_weights(unit)
        if self.norm is None:
            return 0.0
        return float(np.sum(weighted) if self.norm == "l1" else np.max(weighted))

    def residual(self, rows: Array, multipliers: Array, low_order: Array | None = None) -> Array:
        """``sum a_i y_i (x_i, 1)`` over the rows, in scaled coordinates.

        With a ``low_order`` part, ``a`` is ``multipliers + low_order`` and the sum is that of the
        points as centred in float64, rounded once.
        """
        if low_order is None:
            _, exponent = math.frexp(float(np.max(np.abs(multipliers), initial=0.0)))
            small = np.ldexp(multipliers, -exponent)  # overflows nowhere
            totals = self.data.combine(rows, np.where(self.data.positive[rows], small, -small))
            return np.asarray(np.ldexp(totals, exponent))
        used = (multipliers != 0) | (low_order != 0)
        signed = self.data.signed(rows[used])
        return _exact_products(signed, multipliers[used], low_order[used])

    def dual_bound(
        self, rows: Array, multipliers: Array, low_order: Array | None, plane: Array, unit: float
    ) -> float:
        """Lower bound of the objective times ``unit`` that follows from multipliers of the rows.

        For every plane ``v`` and ``0 <= a <= cost``, with ``r = sum a_i y_i (x_i, 1)``:
        objective(v) >= ``sum a_i + norm(w) - r . v``. Norms are dealt with by shrinking ``a``
        until the features' part of ``r`` is in the unit ball of the dual norm. What rounding
        leaves elsewhere in ``r`` is charged at the coefficients of ``plane``, and at least at 1:
        a coefficient of 0 would excuse any ``r``.
        """
        residual = np.abs(self.residual(rows, multipliers, low_order))
        if not np.isfinite(residual).all():
            return -np.inf  # or else max() below might pass over NaN
        coefficients, total = np.maximum(np.abs(plane), 1.0), float(np.sum(multipliers))
        if self.norm is None:
            return total - float(np.sum(coefficients * residual))
        size = residual[:-1] / self.norm_weights(unit)
        excess = float(np.max(size) if self.norm == "l1" else np.sum(size))
        return (total - float(coefficients[-1] * residual[-1])) / max(1.0, excess)


@dataclass(frozen=True)
class Candidate:
    """A solution of a program with slack that awaits its certificate.

    Attributes
    ----------
    plane : ndarray of shape (d + 1,)
        Scaled weights and bias.
    multipliers : ndarray
        One for each distinct point, times ``unit``.
    near : ndarray of bool
        Which distinct points had a constraint of their own.
    """

    status: str
    plane: Array
    multipliers: Array
    near: Array


@dataclass(frozen=True)
class Answer:
    """A certified optimum; ``value`` in the user's units, ``plane`` in scaled coordinates."""

    plane: Array
    value: float
    status: str
    working_set: Array
    separable: bool
    rounds: int = 0


def size_of(value: float, unit: float) -> float:
    """Return what gaps are measured by: the value, but at least 1, in either unit."""
    return max(min(1.0, unit), value)


def _exact_products(matrix: Array, high: Array, low: Array) -> Array:
    """Return ``(high + low) @ matrix``, the part of ``high`` without rounding before the last."""
    _, exponent = math.frexp(float(np.max(high, initial=0.0)))
    left, low = _halves(np.ldexp(high, -exponent)), np.ldexp(low, -exponent)  # overflows nowhere
    totals = [
        math.fsum(np.concatenate([a * b for a in left for b in _halves(column)] + [low * column]))
        for column in matrix.T
    ]
    return np.asarray(np.ldexp(totals, exponent))


def _halves(values: Array) -> tuple[Array, Array]:
    """Split into two terms of at most 26 bits each: their products are exact (Veltkamp)."""
    shifted = values * (2.0**27 + 1)
    upper = shifted - (shifted - values)
    return upper, values - upper
