"""Accept a solution only if its primal and its dual value meet, both evaluated over all points.

HiGHS is not believed: both values are those of feasible solutions, found in float64 from the plane
and the multipliers alone. A solution that misses by rounding is refined first. No program is solved
here.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from confsim.linear.program.data import REACHED, Answer, Candidate, Problem, size_of
from confsim.linear.program.highs import OPTIMAL
from confsim.linear.program.separate import Separation

Array: TypeAlias = np.ndarray[Any, Any]

#: An answer is certified when the gap between its bounds is at most this part of its value.
_GAP = 1e-8
#: A gap above this part of the value is no matter of rounding: exact sums would not close it.
_ROUNDING = 1e-2


def certify_separation(problem: Problem, found: Separation) -> Answer | None:
    """Return the separation if it is optimal for the objective.

    Every margin is at least 1. For the slack objective nothing more is asked: its value is 0. For
    the margin objective, multipliers within their bounds must prove the norm minimal.
    """
    if found.plane is None:
        return None
    working_set = np.sort(found.working_set)
    if problem.norm is None:
        return Answer(found.plane, 0.0, OPTIMAL, working_set, True)
    rows, unit = found.working_set, problem.unit_without_slack
    start = found.plane, np.maximum(found.multipliers, 0.0)
    for plane, multipliers, low_order in _refine(problem, rows, *start, start[1] > 0, unit):
        _, smallest = problem.data.violations(plane, 0.0, 1)
        if not smallest > 0:
            break
        plane = plane / min(1.0, smallest)
        multipliers, low_order = _clip(multipliers, low_order, np.inf)
        value = problem.norm_of(plane, unit)
        bound = problem.dual_bound(rows, multipliers, low_order, plane, unit)
        if value - bound <= _GAP * size_of(value, unit):
            wanted = multipliers / unit
            support = wanted > 0
            if (wanted[support] > _slack_costs(problem, rows[support], wanted[support])).any():
                break
            plane, value = problem.or_flat(plane, value, unit)
            return Answer(plane, value / unit, OPTIMAL, working_set, True)
    return None


def _slack_costs(problem: Problem, rows: Array, wanted: Array) -> Array:
    """Return what a unit of slack of the rows costs, or a bound below it of at least wanted."""
    if problem.data.weight is None and (wanted <= problem.C).all():
        return np.full(len(rows), problem.C)  # repetition would only raise it: no need to merge
    distinct, cost = problem.distinct
    order = np.argsort(distinct)
    return np.asarray(cost[order[np.searchsorted(distinct[order], rows)]])


def certify(problem: Problem, candidate: Candidate) -> Answer | None:
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
    steps = _refine(problem, rows, candidate.plane, clipped, free, unit)
    for plane, multipliers, low_order in steps:
        margins = problem.data.margins(plane, rows)
        smallest = float(np.min(margins))
        if problem.norm is None and smallest > 0:
            return Answer(plane / min(1.0, smallest), 0.0, OPTIMAL, working_set, True)
        value = _value(problem, plane, margins, unit)
        if problem.norm is not None:
            stretched = _stretched(plane, margins)
            margins = problem.data.margins(stretched, rows)
            stretched_value = _value(problem, stretched, margins, unit)
            if stretched_value < value:
                plane, value, smallest = stretched, stretched_value, float(np.min(margins))
        bound = problem.dual_bound(rows, *_clip(multipliers, low_order, upper), plane, unit)
        plane, value = problem.or_flat(plane, value, unit)
        if value - bound <= _GAP * size_of(value, unit):
            return Answer(plane, value / unit, OPTIMAL, working_set, smallest > 0)
        if low_order is not None and value - bound > _ROUNDING * value:
            break
    return None


def _value(problem: Problem, plane: Array, margins: Array, unit: float) -> float:
    """Return the objective times ``unit``; the margins are those of the distinct points."""
    slack = float(np.sum(problem.distinct[1] * np.maximum(0.0, 1.0 - margins)))
    return unit * slack + problem.norm_of(plane, unit)


def _stretched(plane: Array, margins: Array) -> Array:
    """Lengthen the plane until margins that miss 1 by rounding reach it.

    What rounding leaves of a slack that is 0 may cost more than the norm, if ``C`` is large.
    """
    reached = float(np.min(margins[margins >= REACHED], initial=1.0))
    return np.asarray(plane / max(0.5, reached - 1e-15 * float(np.sum(np.abs(plane)))))


def _clip(multipliers: Array, low_order: Array | None, upper: Any) -> tuple[Array, Array | None]:
    """Clip ``multipliers + low_order`` to [0, upper]."""
    if low_order is None:
        return np.clip(multipliers, 0.0, upper), None
    low, high = multipliers + low_order < 0, (multipliers - upper) + low_order > 0
    clipped = np.where(low, 0.0, np.where(high, upper, multipliers))
    return clipped, np.where(low | high, 0.0, low_order)


def _refine(
    problem: Problem, rows: Array, plane: Array, multipliers: Array, free: Array, unit: float
) -> Iterator[tuple[Array, Array, Array | None]]:
    """Yield a solution, then the solution with rounding errors taken out, step by step.

    By complementary slackness, points whose multipliers are ``free`` (between their bounds) have
    a margin of 1, and the objective is stationary in every direction in which the norm is smooth.
    Both are linear equations; what is left in them is solved for by least squares.

    Where features' scales differ by 1e12, so do norm weights, and multipliers may be 1e12 times
    a weight that they must add up to within 1e-8: no float64 does. The last steps of the margin
    objective give the multipliers' next digits, a ``low_order`` part, and sum exactly.
    """
    yield plane, multipliers, None
    if not free.any():
        return
    signed = problem.data.signed(rows[free])
    low_order = None
    plain = problem.norm is None and problem.data.weight is None
    for step in range(3 if plain else 5):
        directions, slopes = _smooth_directions(problem, plane, unit)
        matrix = signed @ directions
        left = 1 - problem.data.margins(plane, rows[free])
        plane = plane + directions @ np.linalg.lstsq(matrix, left, rcond=None)[0]
        if step == 3:
            low_order = np.zeros(len(rows))
        totals = slopes - directions.T @ problem.residual(rows, multipliers, low_order)
        change = np.zeros(len(rows))
        change[free] = np.linalg.lstsq(matrix.T, totals, rcond=None)[0]
        if low_order is None:
            multipliers = multipliers + change
        else:
            low_order = low_order + change
        yield plane, multipliers, low_order


def _smooth_directions(problem: Problem, plane: Array, unit: float) -> tuple[Array, Array]:
    """Columns along which the norm is differentiable at ``plane``, and its derivatives there."""
    d = len(plane) - 1
    directions, slopes, weights = np.eye(d + 1), np.zeros(d + 1), problem.norm_weights(unit)
    if problem.norm == "l1":
        slopes[:d] = np.sign(plane[:d]) * weights
        smooth = np.append(plane[:d] != 0, True)
        return directions[:, smooth], slopes[smooth]
    if problem.norm == "linf":
        weighted = np.abs(plane[:d]) * weights
        largest = weighted >= (1 - 1e-9) * np.max(weighted)
        together = np.zeros(d + 1)
        together[:d][largest] = (
            np.sign(plane[:d][largest]) * np.min(weights[largest]) / weights[largest]
        )
        slopes = np.append(slopes[: d + 1 - np.count_nonzero(largest)], np.min(weights[largest]))
        others = directions[:, np.append(~largest, True)]
        return np.column_stack([others, together]), slopes
    return directions, slopes
