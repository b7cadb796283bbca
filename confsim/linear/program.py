"""Fit a hyperplane by linear programming: NumPy in, NumPy out, and every answer certified.

The programs and their optimality conditions are derived in the docstring of
:class:`confsim.linear.classifier.LinearBinaryClassifier`. How they are solved:

1. *Without slack*, by constraint generation (:func:`_separate`). A sample of the points is
   separated, the points that this hyperplane puts on the wrong side of their margin are added,
   worst first, until there are none. This decides whether the data is separable, and answers the
   slack objective when it is, and the margin objective when no multiplier exceeds its bound.
2. *With slack*, in the dual (:func:`_aggregate`). Points far from their margin are lumped together,
   one column for each class and side; those near it have columns of their own. A point that turns
   out to lie on the other side of its margin gets its own column, until the bounds from both sides
   meet.
3. *The whole dual*, once more scaled down, then *the whole primal*, when the way before was not
   certified.

What is selected, and in which order HiGHS sees it, depends on the set of points and their summed
weights alone, never on the order of the rows. This module knows arrays; it never imports
scikit-learn.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from confsim._errors import ConfsimError, check_choice, check_number
from confsim._kernels import memory
from confsim._kernels.violations import Points
from confsim.linear._highs import OPTIMAL, Separator, Solution, solve_dual, solve_primal

Array: TypeAlias = np.ndarray[Any, Any]

OBJECTIVES = ("slack", "margin")
NORMS = ("l1", "linf")
SOLVERS = ("working-set", "direct")

#: Up to this many points, programs are solved whole: a working set would save nothing.
_SMALL = 1000
#: A margin of 1 counts as reached from here on.
_REACHED = 1 - 1e-6
#: An answer is certified when the gap between its bounds is at most this part of its value.
_GAP = 1e-8
#: The hyperplane with w = 0 is the answer if its value is within this part of the optimum.
_TIE = 1e-9
#: A gap above this part of the value is no matter of rounding: exact sums would not close it.
_ROUNDING = 1e-2
#: A working set that has not settled after so many rounds is given up for the next way.
_ROUNDS = 60


@dataclass(frozen=True)
class LinearFit:
    """A fitted hyperplane, and how it was found.

    Attributes
    ----------
    weights : ndarray of shape (d,)
        Unit normal of the hyperplane; zeros when ``degenerate``.
    bias : float
        ``weights @ x + bias`` is the signed Euclidean distance of ``x``. A degenerate model keeps
        the sign of its bias: -1, 0 or 1.
    objective_value : float
        Of the program as stated, in the units of the data. The slack objective of separable data
        is 0.
    status : str
        HiGHS's model status for the program that gave the answer.
    rounds : int
        How many linear programs were solved, besides those that only guessed where to start.
    working_set : ndarray of shape (k,), int64
        Rows that had a constraint of their own in that program, ascending; of equal rows the first.
    separable : bool
        Whether some hyperplane separates the classes strictly (whether this one does is told by
        ``training_errors``).
    degenerate : bool
        Whether the optimal normal is 0. Where 0 is one optimum among others, it is the answer.
    training_errors : int
        Rows of positive weight that are predicted wrongly.
    """

    weights: Array
    bias: float
    objective_value: float
    status: str
    rounds: int
    working_set: Array
    separable: bool
    degenerate: bool
    training_errors: int


def fit_program(
    X: Array,
    y: Array,
    *,
    sample_weight: Array | None = None,
    objective: str = "slack",
    norm: str = "l1",
    C: float = 1.0,
    solver: str = "working-set",
) -> LinearFit:
    """Fit a hyperplane to points of two classes by linear programming.

    Parameters
    ----------
    X : array of shape (n, d)
        Points; float32 and float64 arrays are read in place, whatever their strides.
    y : array of shape (n,)
        Their classes, -1 or 1.
    sample_weight : array of shape (n,), optional
        Multiplies the slacks. Rows of weight 0 are dropped; equal rows of a class are merged and
        their weights summed.
    objective : {"slack", "margin"}
        ``"slack"`` minimises the (weighted) sum of slacks. ``"margin"`` minimises ``norm(w)``
        plus ``C`` times that sum.
    norm : {"l1", "linf"}
        Norm of the weights in the margin objective.
    C : float
        Price of slack in the margin objective, in the units of the data.
    solver : {"working-set", "direct"}
        ``"direct"`` gives HiGHS the whole primal program. Both reach the same objective; where the
        optimum is not unique, they may pick different hyperplanes.

    Returns
    -------
    LinearFit

    Raises
    ------
    TypeError
        If ``X``, ``y`` or ``sample_weight`` does not hold real numbers.
    ValueError
        If an argument has the wrong shape or value, or only one class has positive weight.
    ConfsimError
        If HiGHS fails to reach an optimum that could be certified.

    Notes
    -----
    One thread is used. The answer is a pure function of the set of points and their summed weights:
    neither the order nor the repetition of rows, nor earlier calls, change a bit of it.
    """
    check_choice("objective", objective, OBJECTIVES)
    check_choice("norm", norm, NORMS)
    check_choice("solver", solver, SOLVERS)
    C = check_number("C", C, above=0)
    X, positive, weight = _check_data(X, y, sample_weight)
    data = _Data.of(X, positive, weight)
    problem = _Problem(data, norm, C) if objective == "margin" else _Problem(data, None, 1.0)
    answer = _solve(problem, direct=solver == "direct")
    return _in_user_units(data, answer)


def _check_data(X: Any, y: Any, sample_weight: Any) -> tuple[Array, Array, Array | None]:
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
class _Data:
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
    def of(cls, X: Array, positive: Array, weight: Array | None) -> "_Data":
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
        return self.points.margins(rows, plane[:-1] / self.scale, self.centre, float(plane[-1]))

    def violations(self, plane: Array, limit: float, count: int) -> tuple[Array, float]:
        slope, bias = plane[:-1] / self.scale, float(plane[-1])
        return self.points.violations(slope, self.centre, bias, limit, count)

    def combine(self, rows: Array, coefficient: Array) -> Array:
        """``sum coefficient (x, 1)`` over the rows, in scaled coordinates."""
        totals = self.points.combine(rows, coefficient, self.centre)
        totals[:-1] /= self.scale
        return totals


class _Problem:
    """Data and objective. Programs hold the objective times a ``unit``, so that it is not tiny.

    ``norm`` is None for the slack objective, where ``C`` is 1.
    """

    def __init__(self, data: _Data, norm: str | None, C: float) -> None:
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
        flat = 2 * unit * min(negative, positive)  # b has the sign of the larger class
        if flat > value + _TIE * _size(value, unit):
            return plane, value
        plane = np.zeros(len(plane))
        plane[-1] = np.sign(positive - negative)
        return plane, flat

    @cached_property
    def unit(self) -> float:
        """What programs with slack multiply the objective by.

        It keeps every price and the largest cost at 1 or above.
        """
        largest = 1 / float(self.distinct[1].max())
        return largest if self.norm is None else max(largest, self.unit_without_slack)

    @cached_property
    def unit_without_slack(self) -> float:
        return float(self.data.scale[self.data.varies].max(initial=1e-300))

    def price(self, unit: float) -> Array:
        """Return what a unit of a scaled weight costs (l1), or its factor in the maximum (linf)."""
        return unit / self.data.scale

    def norm_of(self, plane: Array, unit: float) -> float:
        """Return the norm in the user's units, times ``unit``; 0 for the slack objective."""
        priced = np.abs(plane[:-1]) * self.price(unit)
        if self.norm is None:
            return 0.0
        return float(np.sum(priced) if self.norm == "l1" else np.max(priced))

    def residual(self, rows: Array, multipliers: Array, rest: Array | None = None) -> Array:
        """``sum a_i y_i (x_i, 1)`` over the rows, in scaled coordinates.

        With a ``rest``, ``a`` is ``multipliers + rest`` and the sum is that of the points as
        centred in float64, rounded once.
        """
        if rest is None:
            _, exponent = math.frexp(float(np.max(np.abs(multipliers), initial=0.0)))
            small = np.ldexp(multipliers, -exponent)  # overflows nowhere
            totals = self.data.combine(rows, np.where(self.data.positive[rows], small, -small))
            return np.asarray(np.ldexp(totals, exponent))
        used = (multipliers != 0) | (rest != 0)
        signed = self.data.signed(rows[used])
        return _exact_products(signed, multipliers[used], rest[used])

    def dual_bound(
        self, rows: Array, multipliers: Array, rest: Array | None, plane: Array, unit: float
    ) -> float:
        """Lower bound of the objective times ``unit`` that follows from multipliers of the rows.

        For every plane ``v`` and ``0 <= a <= cost``, with ``r = sum a_i y_i (x_i, 1)``:
        objective(v) >= ``sum a_i + norm(w) - r . v``. Norms are dealt with by shrinking ``a``
        until the features' part of ``r`` is in the unit ball of the dual norm. What rounding
        leaves elsewhere in ``r`` is charged at the coefficients of ``plane``, and at least at 1:
        a coefficient of 0 would excuse any ``r``.
        """
        residual = np.abs(self.residual(rows, multipliers, rest))
        if not np.isfinite(residual).all():
            return -np.inf  # or else max() below might pass over NaN
        coefficients, total = np.maximum(np.abs(plane), 1.0), float(np.sum(multipliers))
        if self.norm is None:
            return total - float(np.sum(coefficients * residual))
        size = residual[:-1] / self.price(unit)
        excess = float(np.max(size) if self.norm == "l1" else np.sum(size))
        return (total - float(coefficients[-1] * residual[-1])) / max(1.0, excess)


@dataclass(frozen=True)
class _Candidate:
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
class _Answer:
    """A certified optimum; ``value`` in the user's units, ``plane`` in scaled coordinates."""

    plane: Array
    value: float
    status: str
    working_set: Array
    separable: bool
    rounds: int = 0


@dataclass(frozen=True)
class _Separation:
    """What constraint generation without slack found; ``plane`` is None when it found no plane."""

    plane: Array | None
    multipliers: Array
    working_set: Array
    rounds: int


def _solve(problem: _Problem, direct: bool) -> _Answer:
    """Try one way after the other until an answer is certified."""
    rounds = 0
    separable: bool | None = None
    if not direct:
        separation = _separate(problem)
        rounds = separation.rounds
        if separation.plane is not None or problem.norm is None:
            separable = separation.plane is not None
        answer = _certify_separation(problem, separation)
        if answer is not None:
            return replace(answer, rounds=rounds)
    status = "no program was solved"
    for candidate in _textbook(problem) if direct else _with_slack(problem):
        rounds += 1
        status = candidate.status
        answer = _certify(problem, candidate)
        if answer is not None:
            break
    else:
        raise ConfsimError(
            f"the linear program was not solved to a certified optimum; HiGHS says: {status}"
        )
    if not answer.separable:
        # A plane with slack can be optimal for the margin objective of separable data, and prices
        # of very different sizes can keep its program without slack from being solved.
        if separable is None and problem.norm is not None:
            separable = _separate(_Problem(problem.data, None, 1.0)).plane is not None
        answer = replace(answer, separable=bool(separable))
    return replace(answer, rounds=rounds)


def _separate(problem: _Problem) -> _Separation:
    """Separate the points without slack, by constraint generation."""
    data = problem.data
    n, d = data.X.shape
    batch = 20 * (d + 1)
    new = problem.distinct[0] if n <= _SMALL else data.points.sample(max(100, batch))
    chosen = new
    known = np.zeros(n, bool)
    program = Separator(d, problem.norm, problem.price(problem.unit_without_slack))
    for rounds in range(1, _ROUNDS + 1):
        known[new] = True
        solution = program.add(data.signed(new))
        if solution.status != OPTIMAL:
            break
        found, smallest = data.violations(solution.plane, _REACHED, batch)
        new = found[~known[found]]
        if len(new) == 0:
            if not smallest > 0:
                break
            plane = solution.plane / min(1.0, smallest)
            return _Separation(plane, solution.multipliers, chosen, rounds)
        chosen = np.concatenate([chosen, new])
    return _Separation(None, np.empty(0), chosen, rounds)


def _certify_separation(problem: _Problem, found: _Separation) -> _Answer | None:
    """Return the separation if it is optimal for the objective.

    Every margin is at least 1. For the slack objective nothing more is asked: its value is 0. For
    the margin objective, multipliers within their bounds must prove the norm minimal.
    """
    if found.plane is None:
        return None
    working_set = np.sort(found.working_set)
    if problem.norm is None:
        return _Answer(found.plane, 0.0, OPTIMAL, working_set, True)
    rows, unit = found.working_set, problem.unit_without_slack
    start = found.plane, np.maximum(found.multipliers, 0.0)
    for plane, multipliers, rest in _refine(problem, rows, *start, start[1] > 0, unit):
        _, smallest = problem.data.violations(plane, 0.0, 1)
        if not smallest > 0:
            break
        plane = plane / min(1.0, smallest)
        multipliers, rest = _clip(multipliers, rest, np.inf)
        value = problem.norm_of(plane, unit)
        bound = problem.dual_bound(rows, multipliers, rest, plane, unit)
        if value - bound <= _GAP * _size(value, unit):
            wanted = multipliers / unit
            support = wanted > 0
            if (wanted[support] > _slack_costs(problem, rows[support], wanted[support])).any():
                break
            plane, value = problem.or_flat(plane, value, unit)
            return _Answer(plane, value / unit, OPTIMAL, working_set, True)
    return None


def _slack_costs(problem: _Problem, rows: Array, wanted: Array) -> Array:
    """Return what a unit of slack of the rows costs, or a bound below it of at least wanted."""
    if problem.data.weight is None and (wanted <= problem.C).all():
        return np.full(len(rows), problem.C)  # repetition would only raise it: no need to merge
    distinct, cost = problem.distinct
    order = np.argsort(distinct)
    return np.asarray(cost[order[np.searchsorted(distinct[order], rows)]])


def _certify(problem: _Problem, candidate: _Candidate) -> _Answer | None:
    """Return the candidate as an answer if its primal and dual values meet, else None.

    Slacks are taken from the plane and multipliers clipped to their bounds, so both values are
    those of feasible solutions, evaluated in float64 over all points.
    """
    if candidate.status != OPTIMAL or not np.isfinite(candidate.plane).all():
        return None
    rows, cost = problem.distinct
    unit, upper = problem.unit, problem.unit * cost
    working_set = np.sort(rows[candidate.near])
    clipped = np.clip(candidate.multipliers, 0.0, upper)
    free = candidate.near & (clipped > 0) & (clipped < upper)
    for plane, multipliers, rest in _refine(problem, rows, candidate.plane, clipped, free, unit):
        margins = problem.data.margins(plane, rows)
        smallest = float(np.min(margins))
        if problem.norm is None and smallest > 0:
            return _Answer(plane / min(1.0, smallest), 0.0, OPTIMAL, working_set, True)
        value = _value(problem, plane, margins, unit)
        if problem.norm is not None:
            stretched = _stretched(plane, margins)
            margins = problem.data.margins(stretched, rows)
            stretched_value = _value(problem, stretched, margins, unit)
            if stretched_value < value:
                plane, value, smallest = stretched, stretched_value, float(np.min(margins))
        bound = problem.dual_bound(rows, *_clip(multipliers, rest, upper), plane, unit)
        plane, value = problem.or_flat(plane, value, unit)
        if value - bound <= _GAP * _size(value, unit):
            return _Answer(plane, value / unit, OPTIMAL, working_set, smallest > 0)
        if rest is not None and value - bound > _ROUNDING * value:
            break
    return None


def _size(value: float, unit: float) -> float:
    """Return what gaps are measured by: the value, but at least 1, in either unit."""
    return max(min(1.0, unit), value)


def _value(problem: _Problem, plane: Array, margins: Array, unit: float) -> float:
    """Return the objective times ``unit``; the margins are those of the distinct points."""
    slack = float(np.sum(problem.distinct[1] * np.maximum(0.0, 1.0 - margins)))
    return unit * slack + problem.norm_of(plane, unit)


def _stretched(plane: Array, margins: Array) -> Array:
    """Lengthen the plane until margins that miss 1 by rounding reach it.

    What rounding leaves of a slack that is 0 may cost more than the norm, if ``C`` is large.
    """
    reached = float(np.min(margins[margins >= _REACHED], initial=1.0))
    return np.asarray(plane / max(0.5, reached - 1e-15 * float(np.sum(np.abs(plane)))))


def _clip(multipliers: Array, rest: Array | None, upper: Any) -> tuple[Array, Array | None]:
    """Clip ``multipliers + rest`` to [0, upper]."""
    if rest is None:
        return np.clip(multipliers, 0.0, upper), None
    low, high = multipliers + rest < 0, (multipliers - upper) + rest > 0
    clipped = np.where(low, 0.0, np.where(high, upper, multipliers))
    return clipped, np.where(low | high, 0.0, rest)


def _refine(
    problem: _Problem, rows: Array, plane: Array, multipliers: Array, free: Array, unit: float
) -> Iterator[tuple[Array, Array, Array | None]]:
    """Yield a solution, then the solution with rounding errors taken out, step by step.

    By complementary slackness, points whose multipliers are ``free`` (between their bounds) have
    a margin of 1, and the objective is stationary in every direction in which the norm is smooth.
    Both are linear equations; what is left in them is solved for by least squares.

    Where features' scales differ by 1e12, so do prices, and multipliers may be 1e12 times a price
    that they must add up to within 1e-8: no float64 does. The last steps of the margin objective
    give the multipliers' next digits, a ``rest``, and sum exactly.
    """
    yield plane, multipliers, None
    if not free.any():
        return
    signed = problem.data.signed(rows[free])
    rest = None
    plain = problem.norm is None and problem.data.weight is None
    for step in range(3 if plain else 5):
        directions, slopes = _smooth_directions(problem, plane, unit)
        matrix = signed @ directions
        left = 1 - problem.data.margins(plane, rows[free])
        plane = plane + directions @ np.linalg.lstsq(matrix, left, rcond=None)[0]
        if step == 3:
            rest = np.zeros(len(rows))
        totals = slopes - directions.T @ problem.residual(rows, multipliers, rest)
        change = np.zeros(len(rows))
        change[free] = np.linalg.lstsq(matrix.T, totals, rcond=None)[0]
        if rest is None:
            multipliers = multipliers + change
        else:
            rest = rest + change
        yield plane, multipliers, rest


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


def _smooth_directions(problem: _Problem, plane: Array, unit: float) -> tuple[Array, Array]:
    """Columns along which the norm is differentiable at ``plane``, and its derivatives there."""
    d = len(plane) - 1
    directions, slopes, price = np.eye(d + 1), np.zeros(d + 1), problem.price(unit)
    if problem.norm == "l1":
        slopes[:d] = np.sign(plane[:d]) * price
        smooth = np.append(plane[:d] != 0, True)
        return directions[:, smooth], slopes[smooth]
    if problem.norm == "linf":
        priced = np.abs(plane[:d]) * price
        largest = priced >= (1 - 1e-9) * np.max(priced)
        together = np.zeros(d + 1)
        together[:d][largest] = (
            np.sign(plane[:d][largest]) * np.min(price[largest]) / price[largest]
        )
        slopes = np.append(slopes[: d + 1 - np.count_nonzero(largest)], np.min(price[largest]))
        others = directions[:, np.append(~largest, True)]
        return np.column_stack([others, together]), slopes
    return directions, slopes


def _with_slack(problem: _Problem) -> Iterator[_Candidate]:
    """Yield candidates for data that needs slack, cheapest way first."""
    if len(problem.distinct[0]) > 2 * _SMALL:
        yield from _aggregate(problem)
    yield from _whole_duals(problem)
    if problem.norm is not None:
        yield _flat(problem)
    yield from _whole_primal(problem)


def _textbook(problem: _Problem) -> Iterator[_Candidate]:
    """Yield solutions of the whole primal program, and the dual's as a last resort."""
    yield from _whole_primal(problem)
    if problem.norm is not None:
        yield _flat(problem)
    yield from _whole_duals(problem)


def _flat(problem: _Problem) -> _Candidate:
    """Propose w = 0, which needs no solver: slack may be too cheap for HiGHS to see it."""
    rows, cost = problem.distinct
    positive = problem.data.positive[rows]
    totals = problem.class_costs
    share = np.where(positive, min(1.0, totals[0] / totals[1]), min(1.0, totals[1] / totals[0]))
    plane = np.zeros(problem.data.X.shape[1] + 1)
    plane[-1] = np.sign(totals[1] - totals[0])
    return _Candidate(OPTIMAL, plane, share * problem.unit * cost, np.ones(len(rows), bool))


def _whole_duals(problem: _Problem) -> Iterator[_Candidate]:
    """Yield solutions of the dual, and of the dual scaled to multipliers of at most 2, or least 1.

    HiGHS's tolerances are absolute: out of reach where multipliers are 1e12 times a price. Prices
    may in turn be small beside them when scaled down, which the exact steps make up for.
    """
    rows, cost = problem.distinct
    signed, upper = problem.data.signed(rows), problem.unit * cost
    # Powers of two: multipliers at their bounds stay there.
    smaller, larger = np.exp2(-np.floor(np.log2([upper.max(), max(upper.min(), 1e-300)])))
    factors = {1.0, min(1.0, float(smaller)), max(1.0, float(larger))}
    for factor in sorted(factors, key=lambda factor: (factor != 1, factor)):
        price = factor * problem.price(problem.unit)
        solution = solve_dual(signed, factor * upper, problem.norm, price)
        yield _all_near(replace(solution, multipliers=solution.multipliers / factor))


def _whole_primal(problem: _Problem) -> Iterator[_Candidate]:
    """Yield solutions of the textbook program, by HiGHS's default way first."""
    rows, cost = problem.distinct
    signed, price = problem.data.signed(rows), problem.price(problem.unit)
    for options in ({"presolve": "choose"}, {"presolve": "off"}, {"solver": "ipm"}):
        yield _all_near(solve_primal(signed, problem.unit * cost, problem.norm, price, **options))


def _all_near(solution: Solution) -> _Candidate:
    everything = np.ones(len(solution.multipliers), bool)
    return _Candidate(solution.status, solution.plane, solution.multipliers, everything)


def _aggregate(problem: _Problem) -> Iterator[_Candidate]:
    """Solve the dual with points far from their margin lumped together, until nobody is misplaced.

    The hinge loss of a lump, its cost at its mean, is at most the sum of its points' losses
    (Jensen), so each program bounds the objective from below; it is exact when no lump has points
    on both sides of their margin.
    """
    rows = problem.merged[0]
    # A plane fitted to m points errs by about sqrt((d + 1) / m); points as near as that to their
    # margin must stay apart. With m of n points for both purposes, m ~ sqrt(d + 1) n^(2/3)
    # suffices.
    size = max(_SMALL, int(1.3 * np.sqrt(len(problem.data.scale) + 1) * len(rows) ** (2 / 3)))
    while size < len(rows):
        margins = problem.data.margins(_plane_of_sample(problem, size), rows)
        near = _nearest(margins, size)
        while True:
            short = margins < 1
            candidate = _solve_lumped(problem, near, short)
            if candidate.status != OPTIMAL:
                return
            yield candidate
            margins = problem.data.margins(candidate.plane, rows)
            misplaced = ~near & (short != (margins < 1))
            near |= misplaced
            if not misplaced.any():
                return
            if np.count_nonzero(misplaced) > size:
                break  # the sample's plane was too far off
        size *= 2


def _nearest(margins: Array, size: int) -> Array:
    """Mark the ``size`` points nearest to their margin, and all as near as the last of them."""
    away = np.abs(margins - 1)
    return np.asarray(away <= np.partition(away, size - 1)[size - 1])


def _plane_of_sample(problem: _Problem, size: int) -> Array:
    """Solve the dual over points spread over the lexicographic order, costs scaled up."""
    rows, cost = problem.distinct
    golden = (np.sqrt(5.0) - 1) / 2  # its multiples modulo 1 are spread evenly, without a period
    sample = np.unique((np.arange(size) * golden % 1 * len(rows)).astype(np.int64))
    upper = problem.unit * cost[sample] * (len(rows) / len(sample))
    signed, price = problem.data.signed(rows[sample]), problem.price(problem.unit)
    return solve_dual(signed, upper, problem.norm, price).plane


def _solve_lumped(problem: _Problem, near: Array, short: Array) -> _Candidate:
    """Solve the dual with a column for each near point and one for each lump of the others.

    ``short`` says which side of its margin a point is supposed to be on.
    """
    data = problem.data
    rows, cost = problem.distinct
    upper = problem.unit * cost
    positive = data.positive[rows]
    columns, bounds, lumps = [data.signed(rows[near])], [upper[near]], []
    for side in (False, True):
        for sign in (-1.0, 1.0):
            lump = ~near & (short == side) & (positive == (sign > 0))
            if lump.any():
                total = float(np.sum(upper[lump]))
                mean = data.combine(rows[lump], sign * upper[lump]) / total
                columns.append(mean[np.newaxis])
                bounds.append(np.array([total]))
                lumps.append(lump)
    bound = np.concatenate(bounds)
    solution = solve_dual(np.concatenate(columns), bound, problem.norm, problem.price(problem.unit))
    count = len(columns[0])
    multipliers = np.empty(len(rows))
    multipliers[near] = solution.multipliers[:count]
    for lump, share in zip(lumps, solution.multipliers[count:] / bound[count:], strict=True):
        multipliers[lump] = share * upper[lump]
    return _Candidate(solution.status, solution.plane, multipliers, near.copy())


def _in_user_units(data: _Data, answer: _Answer) -> LinearFit:
    """Undo the scaling, make the normal a unit vector, and count the training errors."""
    # Scales multiply up to the smallest one rather than divide, so that nothing overflows.
    smallest = float(data.scale[data.varies].min(initial=1e300))
    weights = np.where(data.varies, answer.plane[:-1] * (smallest / data.scale), 0.0)
    bias = float(answer.plane[-1]) * smallest - float(np.sum(weights * data.centre))
    largest = float(np.max(np.abs(weights)))
    degenerate = largest == 0
    if degenerate:
        bias = float(np.sign(answer.plane[-1]))
    else:
        length = largest * float(np.sqrt(np.sum((weights / largest) ** 2)))
        weights, bias = weights / length, bias / length
    return LinearFit(
        weights=weights,
        bias=bias,
        objective_value=answer.value,
        status=answer.status,
        rounds=answer.rounds,
        working_set=answer.working_set,
        separable=answer.separable,
        degenerate=degenerate,
        training_errors=_training_errors(data, weights, bias),
    )


def _training_errors(data: _Data, weights: Array, bias: float) -> int:
    """Count wrong predictions; a point on the hyperplane is predicted to be +1."""
    origin = np.zeros(len(weights))
    _, smallest = data.points.violations(weights, origin, bias, 0.0, 1)
    if smallest > 0:
        return 0
    rows = np.flatnonzero(data.weight > 0) if data.weight is not None else np.arange(len(data.X))
    margins, positive = data.points.margins(rows, weights, origin, bias), data.positive[rows]
    return int(np.count_nonzero(np.where(positive, margins < 0, margins <= 0)))
