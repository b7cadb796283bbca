"""Programs without slack: a hyperplane that puts every point on its side, or that there is none.

Constraint generation: a sample of the points is separated, and the points that this hyperplane
puts on the wrong side of their margin are added, worst first, until there are none.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from confsim.linear.program.data import REACHED, SMALL, Problem
from confsim.linear.program.highs import OPTIMAL, Separator

Array: TypeAlias = np.ndarray[Any, Any]

#: A working set that has not settled after so many rounds is given up for the next way.
_ROUNDS = 60


@dataclass(frozen=True)
class Separation:
    """What constraint generation without slack found; ``plane`` is None when it found no plane."""

    plane: Array | None
    multipliers: Array
    working_set: Array
    rounds: int


def separate(problem: Problem) -> Separation:
    """Separate the points without slack, by constraint generation."""
    data = problem.data
    n, d = data.X.shape
    batch = 20 * (d + 1)
    new = problem.distinct[0] if n <= SMALL else data.points.sample(max(100, batch))
    chosen = new
    known = np.zeros(n, bool)
    program = Separator(d, problem.norm, problem.norm_weights(problem.unit_without_slack))
    for rounds in range(1, _ROUNDS + 1):
        known[new] = True
        solution = program.add(data.signed(new))
        if solution.status != OPTIMAL:
            break
        found, smallest = data.violations(solution.plane, REACHED, batch)
        new = found[~known[found]]
        if len(new) == 0:
            if not smallest > 0:
                break
            plane = solution.plane / min(1.0, smallest)
            return Separation(plane, solution.multipliers, chosen, rounds)
        chosen = np.concatenate([chosen, new])
    return Separation(None, np.empty(0), chosen, rounds)
