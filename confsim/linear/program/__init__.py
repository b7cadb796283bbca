"""Fit a hyperplane by linear programming: NumPy in, NumPy out, and every answer certified.

The programs and their optimality conditions are derived in the docstring of
:class:`confsim.linear.classifier.LinearBinaryClassifier`. How they are solved:

1. *Without slack*, by constraint generation (``separate``). A sample of the points is separated,
   the points that this hyperplane puts on the wrong side of their margin are added, worst first,
   until there are none. This decides whether the data is separable, and answers the slack objective
   when it is, and the margin objective when no multiplier exceeds its bound.
2. *With slack*, in the dual (``dual``). Points far from their margin are aggregated,
   one column for each class and side; those near it have columns of their own. A point that turns
   out to lie on the other side of its margin gets its own column, until the bounds from both sides
   meet.
3. *The whole dual*, once more scaled down, then *the whole primal*, when the way before was not
   certified.

Every answer has passed ``certificate``; all four modules stand on ``data`` and ``highs``. What is
selected, and in which order HiGHS sees it, depends on the set of points and their summed weights
alone, never on the order of the rows. This package knows arrays; it never imports scikit-learn.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from confsim._errors import ConfsimError, check_choice, check_number
from confsim.linear.program.certificate import certify, certify_separation
from confsim.linear.program.data import Answer, Data, Problem, check_data
from confsim.linear.program.dual import textbook, with_slack
from confsim.linear.program.separate import separate

Array: TypeAlias = np.ndarray[Any, Any]

OBJECTIVES = ("slack", "margin")
NORMS = ("l1", "linf")
SOLVERS = ("working-set", "direct")


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
    X, positive, weight = check_data(X, y, sample_weight)
    data = Data.of(X, positive, weight)
    problem = Problem(data, norm, C) if objective == "margin" else Problem(data, None, 1.0)
    answer = _solve(problem, direct=solver == "direct")
    return _in_user_units(data, answer)


def _solve(problem: Problem, direct: bool) -> Answer:
    """Try one way after the other until an answer is certified."""
    rounds = 0
    separable: bool | None = None
    if not direct:
        separation = separate(problem)
        rounds = separation.rounds
        if separation.plane is not None or problem.norm is None:
            separable = separation.plane is not None
        answer = certify_separation(problem, separation)
        if answer is not None:
            return replace(answer, rounds=rounds)
    status = "no program was solved"
    for candidate in textbook(problem) if direct else with_slack(problem):
        rounds += 1
        status = candidate.status
        answer = certify(problem, candidate)
        if answer is not None:
            break
    else:
        raise ConfsimError(
            f"the linear program was not solved to a certified optimum; HiGHS says: {status}"
        )
    if not answer.separable:
        # A plane with slack can be optimal for the margin objective of separable data, and norm
        # weights of very different sizes can keep its program without slack from being solved.
        if separable is None and problem.norm is not None:
            separable = separate(Problem(problem.data, None, 1.0)).plane is not None
        answer = replace(answer, separable=bool(separable))
    return replace(answer, rounds=rounds)


def _in_user_units(data: Data, answer: Answer) -> LinearFit:
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


def _training_errors(data: Data, weights: Array, bias: float) -> int:
    """Count wrong predictions; a point on the hyperplane is predicted to be +1."""
    origin = np.zeros(len(weights))
    _, smallest = data.points.violations(weights, origin, bias, 0.0, 1)
    if smallest > 0:
        return 0
    rows = np.flatnonzero(data.weight > 0) if data.weight is not None else np.arange(len(data.X))
    margins, positive = data.points.margins(rows, weights, origin, bias), data.positive[rows]
    return int(np.count_nonzero(np.where(positive, margins < 0, margins <= 0)))
