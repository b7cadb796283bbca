"""The linear programs of the classifier as HiGHS takes them: matrices in, solutions out.

All programs are in scaled coordinates. A row of ``signed`` is a point's ``y (x, 1)``; ``plane``
is ``(w, b)``; ``weights`` is what a unit of ``|w_k|`` costs in the margin objective (None: slack
objective). Nothing here knows the users' units, or checks an answer:
:mod:`confsim.linear.program` does both.

Every program gets a HiGHS instance of its own (it costs 50 microseconds), so no answer depends on
what was solved before in the process.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from confsim._errors import ConfsimError

Array: TypeAlias = np.ndarray[Any, Any]

#: The program was solved, as far as HiGHS can tell.
OPTIMAL = "Optimal"

_OPTIONS: dict[str, Any] = {
    "output_flag": False,
    "threads": 1,
    "parallel": "off",
    "solver": "simplex",
    "presolve": "off",
    "random_seed": 0,
    # A functional margin of 1 may belong to a gap of a millionth of the features' range, and the
    # weights are then large: entries and tolerances must be resolved far below that.
    "primal_feasibility_tolerance": 1e-9,
    "dual_feasibility_tolerance": 1e-9,
    "small_matrix_value": 1e-12,
}

_COLUMNWISE, _ROWWISE = 1, 2
_MINIMISE, _MAXIMISE = 1, -1


@dataclass(frozen=True)
class Solution:
    """What HiGHS answered: ``multipliers`` has one entry for each row of ``signed``."""

    status: str
    plane: Array
    multipliers: Array


@dataclass(frozen=True)
class _Matrix:
    """A compressed sparse matrix, by rows or by columns."""

    starts: Array
    indices: Array
    values: Array

    @classmethod
    def dense(cls, values: Array) -> "_Matrix":
        vectors, width = values.shape
        if values.size > np.iinfo(np.int32).max:
            raise ConfsimError(
                f"a linear program of {vectors} points and {width - 1} features is too large: "
                "HiGHS counts entries in 32 bits"
            )
        return cls(
            np.arange(vectors, dtype=np.int32) * np.int32(width),
            np.tile(np.arange(width, dtype=np.int32), vectors),
            np.ascontiguousarray(values).ravel(),
        )

    @classmethod
    def pairs(cls, indices: Array, values: Array) -> "_Matrix":
        """Two entries a vector; both arrays have shape (vectors, 2)."""
        starts = np.arange(len(indices), dtype=np.int32) * np.int32(2)
        return cls(starts, indices.astype(np.int32).ravel(), values.ravel())

    def then(self, other: "_Matrix") -> "_Matrix":
        """Append the vectors of another matrix."""
        return _Matrix(
            np.concatenate([self.starts, other.starts + np.int32(len(self.values))]),
            np.concatenate([self.indices, other.indices]),
            np.concatenate([self.values, other.values]),
        )


def check_installed() -> None:
    """Raise ``ValueError`` with what is missing where HiGHS cannot be imported.

    Imports it, so that a trial need not, and cannot fail by it.
    """
    try:
        import highspy._core  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"HiGHS, which solves every trial's linear program, cannot be imported ({error}): "
            "pip install --upgrade highspy typing-extensions"
        ) from error


def _solver(**options: Any) -> Any:
    # highspy.Highs, the documented class, writes HiGHS's banner to standard output when it is made.
    from highspy._core import _Highs

    solver = _Highs()
    for name, value in {**_OPTIONS, **options}.items():
        solver.setOptionValue(name, value)
    return solver


def _load(
    solver: Any, layout: int, sense: int, matrix: _Matrix, cost: Array, column_bounds: Any,
    bounds: Any
) -> None:  # fmt: skip
    solver.passModel(
        len(cost), len(bounds[0]), len(matrix.values), layout, sense, 0.0, cost, *column_bounds,
        *bounds, matrix.starts, matrix.indices, matrix.values, np.zeros(len(cost), np.int32),
    )  # fmt: skip


def _run(solver: Any) -> Any:
    """Solve, on this thread, and return HiGHS's solution."""
    from highspy._core import HighsStatus

    if solver.run() == HighsStatus.kError:
        # HiGHS refuses a number of threads other than that of the pool which another program in
        # this process has started. Serial simplex does not use the pool: let it be.
        solver.setOptionValue("threads", 0)
        solver.run()
    return solver.getSolution()


def _status(solver: Any) -> str:
    return str(solver.modelStatusToString(solver.getModelStatus()))


def _norm_rows(norm: str, weights: Array, bias_and_slack: int) -> tuple[_Matrix, int]:
    """Rows that bound the norm from above by new columns, and how many columns those are.

    ``l1``: ``t_k +- w_k >= 0``, one column a feature. ``linf``: ``t +- c_k w_k >= 0``, one
    column.
    """
    d = len(weights)
    feature = np.repeat(np.arange(d), 2)
    sign = np.tile([1.0, -1.0], d)
    new = d + bias_and_slack
    if norm == "l1":
        entries = np.column_stack([sign, np.ones(2 * d)])
        return _Matrix.pairs(np.column_stack([feature, feature + new]), entries), d
    entries = np.column_stack([sign * weights[feature], np.ones(2 * d)])
    return _Matrix.pairs(np.column_stack([feature, np.full(2 * d, new)]), entries), 1


class Separator:
    """The program without slack over a growing set of points.

    ``min norm(w)`` (slack objective: ``min 0``) subject to ``signed @ plane >= 1``. Each
    solve starts from the basis of the last.
    """

    def __init__(self, features: int, norm: str | None, weights: Array) -> None:
        self._width = features + 1
        self._norm_rows = 0
        free = np.full(self._width, np.inf)
        low, cost = -free, np.zeros(self._width)
        matrix = _Matrix.dense(np.empty((0, self._width)))
        if norm is not None:
            matrix, new = _norm_rows(norm, weights, 1)
            self._norm_rows = 2 * features
            cost = np.concatenate([cost, weights if norm == "l1" else np.ones(1)])
            low = np.concatenate([low, np.zeros(new)])
        self._solver = _solver()
        bounds = np.zeros(self._norm_rows), np.full(self._norm_rows, np.inf)
        upper = np.full(len(cost), np.inf)
        _load(self._solver, _ROWWISE, _MINIMISE, matrix, cost, (low, upper), bounds)

    def add(self, signed: Array) -> Solution:
        """Add points and solve again; the multipliers are those of all points so far."""
        matrix = _Matrix.dense(signed)
        self._solver.addRows(
            len(signed), np.ones(len(signed)), np.full(len(signed), np.inf), len(matrix.values),
            matrix.starts, matrix.indices, matrix.values,
        )  # fmt: skip
        answer = _run(self._solver)
        return Solution(
            _status(self._solver),
            np.array(answer.col_value[: self._width]),
            np.array(answer.row_dual[self._norm_rows :]),
        )


def solve_primal(
    signed: Array, cost: Array, norm: str | None, weights: Array, **options: Any
) -> Solution:
    """Solve the textbook program in one piece.

    ``min norm(w) + sum cost_i xi_i`` subject to ``signed @ plane + xi >= 1``, ``xi >= 0``.
    """
    n, width = signed.shape
    slack = np.arange(width, width + n)
    matrix = _Matrix.dense(np.column_stack([signed, np.ones(n)]))
    matrix.indices.reshape(n, width + 1)[:, width] = slack
    costs = np.concatenate([np.zeros(width), cost])
    low = np.concatenate([np.full(width, -np.inf), np.zeros(n)])
    rows = np.ones(n)
    if norm is not None:
        norm_rows, new = _norm_rows(norm, weights, 1 + n)
        matrix = matrix.then(norm_rows)
        costs = np.concatenate([costs, weights if norm == "l1" else np.ones(1)])
        low = np.concatenate([low, np.zeros(new)])
        rows = np.concatenate([rows, np.zeros(2 * (width - 1))])
    solver = _solver(**options)
    unbounded = np.full(len(costs), np.inf)
    bounds = rows, np.full(len(rows), np.inf)
    _load(solver, _ROWWISE, _MINIMISE, matrix, costs, (low, unbounded), bounds)
    answer = _run(solver)
    return Solution(
        _status(solver), np.array(answer.col_value[:width]), np.array(answer.row_dual[:n])
    )


def solve_dual(
    signed: Array, upper: Array, norm: str | None, weights: Array, **options: Any
) -> Solution:
    """Solve the dual, whose basis has only ``d + 1`` rows: one boxed column a point.

    ``max sum a_i`` subject to ``sum a_i y_i = 0``, ``0 <= a <= upper`` and, with ``r = sum a_i
    y_i x_i``: ``r = 0`` (slack), ``|r_k| <= c_k`` (l1) or ``sum |r_k| / c_k <= 1``
    (linf).
    """
    n, width = signed.shape
    d = width - 1
    matrix = _Matrix.dense(signed)
    cost = np.ones(n)
    low, high = np.zeros(width), np.zeros(width)
    if norm == "l1":
        low[:d], high[:d] = -weights, weights
    elif norm == "linf":
        # r_k = c_k (p_k - q_k) with p, q >= 0, and one more row: sum (p_k + q_k) <= 1.
        feature = np.repeat(np.arange(d), 2)
        entries = np.column_stack([np.tile([-1.0, 1.0], d) * weights[feature], np.ones(2 * d)])
        parts = _Matrix.pairs(np.column_stack([feature, np.full(2 * d, width)]), entries)
        matrix = matrix.then(parts)
        cost = np.concatenate([cost, np.zeros(2 * d)])
        upper = np.concatenate([upper, np.full(2 * d, np.inf)])
        low, high = np.append(low, -np.inf), np.append(high, 1.0)
    solver = _solver(**options)
    _load(
        solver, _COLUMNWISE, _MAXIMISE, matrix, cost, (np.zeros(len(cost)), upper), (low, high)
    )  # fmt: skip
    answer = _run(solver)
    return Solution(
        _status(solver), np.array(answer.row_dual[:width]), np.array(answer.col_value[:n])
    )
