"""Programs with slack: candidates, the cheapest way first, that await their certificate.

The dual with points far from their margin aggregated; the whole dual, as it is and scaled; the
whole primal. Which candidate is the answer is decided in :mod:`confsim.linear.program.certificate`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from confsim.linear.program.data import SMALL, Candidate, Problem
from confsim.linear.program.highs import OPTIMAL, Solution, solve_dual, solve_primal

Array: TypeAlias = np.ndarray[Any, Any]


def with_slack(problem: Problem) -> Iterator[Candidate]:
    """Yield candidates for data that needs slack, cheapest way first."""
    if len(problem.distinct[0]) > 2 * SMALL:
        yield from _aggregate(problem)
    yield from _whole_duals(problem)
    if problem.norm is not None:
        yield _flat(problem)
    yield from _whole_primal(problem)


def textbook(problem: Problem) -> Iterator[Candidate]:
    """Yield solutions of the whole primal program, and the dual's as a last resort."""
    yield from _whole_primal(problem)
    if problem.norm is not None:
        yield _flat(problem)
    yield from _whole_duals(problem)


def _flat(problem: Problem) -> Candidate:
    """Propose w = 0, which needs no solver: slack may be too cheap for HiGHS to see it."""
    rows, cost = problem.distinct
    positive = problem.data.positive[rows]
    totals = problem.class_costs
    share = np.where(positive, min(1.0, totals[0] / totals[1]), min(1.0, totals[1] / totals[0]))
    plane = np.zeros(problem.data.X.shape[1] + 1)
    plane[-1] = np.sign(totals[1] - totals[0])
    return Candidate(OPTIMAL, plane, share * problem.unit * cost, np.ones(len(rows), bool))


def _whole_duals(problem: Problem) -> Iterator[Candidate]:
    """Yield solutions of the dual, and of the dual scaled to multipliers of at most 2, or least 1.

    HiGHS's tolerances are absolute: out of reach where multipliers are 1e12 times a weight. Weights
    may in turn be small beside them when scaled down, which the exact steps make up for.
    """
    rows, cost = problem.distinct
    signed, upper = problem.data.signed(rows), problem.unit * cost
    # Powers of two: multipliers at their bounds stay there.
    smaller, larger = np.exp2(-np.floor(np.log2([upper.max(), max(upper.min(), 1e-300)])))
    factors = {1.0, min(1.0, float(smaller)), max(1.0, float(larger))}
    for factor in sorted(factors, key=lambda factor: (factor != 1, factor)):
        weights = factor * problem.norm_weights(problem.unit)
        solution = solve_dual(signed, factor * upper, problem.norm, weights)
        yield _all_near(replace(solution, multipliers=solution.multipliers / factor))


def _whole_primal(problem: Problem) -> Iterator[Candidate]:
    """Yield solutions of the textbook program, by HiGHS's default way first."""
    rows, cost = problem.distinct
    signed, weights = problem.data.signed(rows), problem.norm_weights(problem.unit)
    for options in ({"presolve": "choose"}, {"presolve": "off"}, {"solver": "ipm"}):
        yield _all_near(solve_primal(signed, problem.unit * cost, problem.norm, weights, **options))


def _all_near(solution: Solution) -> Candidate:
    everything = np.ones(len(solution.multipliers), bool)
    return Candidate(solution.status, solution.plane, solution.multipliers, everything)


def _aggregate(problem: Problem) -> Iterator[Candidate]:
    """Solve the dual with points far from their margin aggregated, until none is on the wrong side.

    The hinge loss of an aggregate, its cost at its mean, is at most the sum of its points' losses
    (Jensen), so each program bounds the objective from below; it is exact when no aggregate has
    points on both sides of their margin.
    """
    rows = problem.merged[0]
    # A plane fitted to m points errs by about sqrt((d + 1) / m); points as near as that to their
    # margin must stay apart. With m of n points for both purposes, m ~ sqrt(d + 1) n^(2/3)
    # suffices.
    size = max(SMALL, int(1.3 * np.sqrt(len(problem.data.scale) + 1) * len(rows) ** (2 / 3)))
    while size < len(rows):
        margins = problem.data.margins(_plane_of_sample(problem, size), rows)
        near = _nearest(margins, size)
        while True:
            violated = margins < 1
            candidate = _solve_aggregated(problem, near, violated)
            if candidate.status != OPTIMAL:
                return
            yield candidate
            margins = problem.data.margins(candidate.plane, rows)
            wrong_side = ~near & (violated != (margins < 1))
            near |= wrong_side
            if not wrong_side.any():
                return
            if np.count_nonzero(wrong_side) > size:
                break  # the sample's plane was too far off
        size *= 2


def _nearest(margins: Array, size: int) -> Array:
    """Mark the ``size`` points nearest to their margin, and all as near as the last of them."""
    away = np.abs(margins - 1)
    return np.asarray(away <= np.partition(away, size - 1)[size - 1])


def _plane_of_sample(problem: Problem, size: int) -> Array:
    """Solve the dual over points spread over the lexicographic order, costs scaled up."""
    rows, cost = problem.distinct
    golden = (np.sqrt(5.0) - 1) / 2  # its multiples modulo 1 are spread evenly, without a period
    sample = np.unique((np.arange(size) * golden % 1 * len(rows)).astype(np.int64))
    upper = problem.unit * cost[sample] * (len(rows) / len(sample))
    signed, weights = problem.data.signed(rows[sample]), problem.norm_weights(problem.unit)
    return solve_dual(signed, upper, problem.norm, weights).plane


def _solve_aggregated(problem: Problem, near: Array, violated: Array) -> Candidate:
    """Solve the dual with a column for each near point and one for each aggregate of the others.

    ``violated`` says which side of its margin a point is supposed to be on.
    """
    data = problem.data
    rows, cost = problem.distinct
    upper = problem.unit * cost
    positive = data.positive[rows]
    columns, bounds, aggregates = [data.signed(rows[near])], [upper[near]], []
    for side in (False, True):
        for sign in (-1.0, 1.0):
            aggregate = ~near & (violated == side) & (positive == (sign > 0))
            if aggregate.any():
                total = float(np.sum(upper[aggregate]))
                mean = data.combine(rows[aggregate], sign * upper[aggregate]) / total
                columns.append(mean[np.newaxis])
                bounds.append(np.array([total]))
                aggregates.append(aggregate)
    bound = np.concatenate(bounds)
    weights = problem.norm_weights(problem.unit)
    solution = solve_dual(np.concatenate(columns), bound, problem.norm, weights)
    count = len(columns[0])
    multipliers = np.empty(len(rows))
    multipliers[near] = solution.multipliers[:count]
    shares = solution.multipliers[count:] / bound[count:]
    for aggregate, share in zip(aggregates, shares, strict=True):
        multipliers[aggregate] = share * upper[aggregate]
    return Candidate(solution.status, solution.plane, multipliers, near.copy())
