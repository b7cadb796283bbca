"""The linear program behind the linear classifier, solved by HiGHS: NumPy in, NumPy out."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from confsim._errors import ConfsimError, check_choice, check_finite, check_number

Array: TypeAlias = np.ndarray[Any, Any]

OBJECTIVES = ("slack", "margin")
NORMS = ("l1", "linf")
SOLVERS = ("working-set", "direct")

_OPTIONS: dict[str, Any] = {
    "output_flag": False,
    "log_to_console": False,
    "threads": 1,
    "parallel": "off",
    "solver": "simplex",
    "random_seed": 0,
    "primal_feasibility_tolerance": 1e-9,
    "dual_feasibility_tolerance": 1e-9,
}


@dataclass(frozen=True)
class LinearFit:
    """A separating hyperplane and how it was found.

    Attributes
    ----------
    weights : ndarray of shape (d,)
        Unit normal of the hyperplane; zeros when ``degenerate``.
    bias : float
        Offset: ``weights @ x + bias`` is a signed Euclidean distance. A degenerate model keeps the
        sign of its bias: -1, 0 or 1.
    objective_value : float
        Of the program as stated, in the user's units.
    status : str
        HiGHS's model status.
    rounds : int
        How many programs were solved.
    working_set : ndarray of shape (k,), int64
        Rows of the last program.
    separable : bool
        Whether some hyperplane separates the classes strictly.
    degenerate : bool
        Whether the optimal normal is 0.
    training_errors : int
        Rows with positive weight on the wrong side.
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
    """Fit a hyperplane by linear programming.

    Parameters
    ----------
    X : array of shape (n, d)
    y : array of shape (n,), -1 or 1
    sample_weight : array of shape (n,), optional
        Multiplies the slacks; rows of weight 0 are dropped.
    objective : {"slack", "margin"}
    norm : {"l1", "linf"}
        Of the weights, for ``"margin"``.
    C : float
        Weight of the slacks, for ``"margin"``.
    solver : {"working-set", "direct"}
    """
    check_choice("objective", objective, OBJECTIVES)
    check_choice("norm", norm, NORMS)
    check_choice("solver", solver, SOLVERS)
    C = check_number("C", C, above=0)
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim != 2 or len(X) == 0 or X.shape[1] == 0:
        raise ValueError(f"X must have shape (n, d), not {X.shape}")
    if y.shape != (len(X),):
        raise ValueError(f"y must have shape ({len(X)},), not {y.shape}")
    check_finite("X", X)
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    rows, cost = _merge(X, y, weight)
    points = np.asarray(X[rows], float)
    sign = np.where(y[rows] > 0, 1.0, -1.0)
    if (sign == sign[0]).all():
        raise ValueError("y must hold both classes, -1 and 1, among rows of positive weight")
    low, high = points.min(axis=0), points.max(axis=0)
    centre = low / 2 + high / 2
    half = high / 2 - low / 2
    scale = np.where(half > 0, np.exp2(np.floor(np.log2(np.where(half > 0, half, 1)))), 1.0)
    scaled = (points - centre) / scale
    signed = sign[:, None] * np.column_stack([scaled, np.ones(len(scaled))])

    chosen = np.arange(len(rows))
    rounds = 0
    result = None
    if solver == "working-set" and objective == "slack":
        chosen = _spread(signed, sign, 200)
        while True:
            rounds += 1
            result = _separate(signed[chosen])
            if result is None:
                chosen = np.arange(len(rows))
                break
            margins = signed @ result
            wrong = np.flatnonzero(margins < 1 - 1e-9)
            if not len(wrong):
                break
            worst = wrong[np.argsort(margins[wrong], kind="stable")]
            new = np.concatenate([worst[sign[worst] == s][:50] for s in (-1, 1)])
            chosen = np.union1d(chosen, new)
    if result is None:
        rounds += 1
        costs = cost if objective == "slack" else C * cost
        if solver == "direct":
            result = _direct(signed, costs, None if objective == "slack" else norm, scale)
        else:
            result = _dual(signed, costs, None if objective == "slack" else norm, scale)

    margins = signed @ result
    slack = float(np.sum(cost * np.maximum(0, 1 - margins)))
    smallest = float(margins.min())
    value = slack
    if objective == "margin":
        unscaled = np.abs(result[:-1] / scale)
        value = C * slack + float(unscaled.sum() if norm == "l1" else unscaled.max())
    elif smallest > 0:
        value = 0.0
    return _finish(
        result, centre, scale, X, y, weight, value, rounds, np.sort(rows[chosen]), smallest > 0
    )


def _merge(X: Array, y: Array, weight: Array) -> tuple[Array, Array]:
    kept = np.flatnonzero(weight > 0)
    order = kept[np.lexsort((weight[kept], y[kept], *X[kept].T[::-1]))]
    new = np.ones(len(order), bool)
    new[1:] = (X[order[1:]] != X[order[:-1]]).any(axis=1) | (y[order[1:]] != y[order[:-1]])
    starts = np.flatnonzero(new)
    return order[starts], np.add.reduceat(weight[order], starts)


def _spread(signed: Array, sign: Array, count: int) -> Array:
    step = max(1, len(signed) // count)
    chosen = np.arange(0, len(signed), step)
    return np.union1d(chosen, [np.argmax(sign), np.argmin(sign)])


def _run(presolve: str, *model: Any) -> Any:
    # highspy.Highs itself would print a banner on standard output while it registers callbacks.
    from highspy._core import _Highs

    solver = _Highs()
    for name, value in _OPTIONS.items():
        solver.setOptionValue(name, value)
    solver.setOptionValue("presolve", presolve)
    solver.passModel(*model)
    solver.run()
    return solver


def _check(solver: Any) -> None:
    status = solver.modelStatusToString(solver.getModelStatus())
    if status != "Optimal":
        raise ConfsimError(f"HiGHS could not solve the linear program: {status}")


def _separate(signed: Array) -> Array | None:
    """Vertex of ``{v : signed @ v >= 1}``, or None when it is empty."""
    n, columns = signed.shape
    free = np.full(columns, np.inf)
    solver = _run(
        "off", columns, n, signed.size, 2, 1, 0.0, np.zeros(columns), -free, free,
        np.ones(n), np.full(n, np.inf), np.arange(n, dtype=np.int32) * columns,
        np.tile(np.arange(columns, dtype=np.int32), n), signed.ravel(),
        np.zeros(columns, np.int32),
    )  # fmt: skip
    if solver.modelStatusToString(solver.getModelStatus()) != "Optimal":
        return None
    return np.array(solver.getSolution().col_value)


def _direct(signed: Array, costs: Array, norm: str | None, scale: Array) -> Array:
    """The textbook primal."""
    from scipy import sparse

    n, d = len(signed), len(scale)
    blocks = [[sparse.csr_array(signed), sparse.eye_array(n)]]
    cost = [np.zeros(d + 1), costs]
    low = [np.full(d + 1, -np.inf), np.zeros(n)]
    bound = [np.ones(n)]
    if norm is not None:
        k = d if norm == "l1" else 1
        eye = sparse.csr_array(np.column_stack([np.eye(d) / scale[:, None], np.zeros(d)]))
        top = sparse.eye_array(d) if norm == "l1" else sparse.csr_array(np.ones((d, 1)))
        blocks[0].append(None)
        blocks += [[eye, None, top], [-eye, None, top]]
        cost.append(np.ones(k))
        low.append(np.zeros(k))
        bound.append(np.zeros(2 * d))
    matrix = sparse.block_array(blocks, format="csr")
    rows, columns = matrix.shape
    solver = _run(
        "choose", columns, rows, matrix.nnz, 2, 1, 0.0, np.concatenate(cost), np.concatenate(low),
        np.full(columns, np.inf), np.concatenate(bound), np.full(rows, np.inf),
        matrix.indptr[:-1].astype(np.int32), matrix.indices.astype(np.int32), matrix.data,
        np.zeros(columns, np.int32),
    )  # fmt: skip
    _check(solver)
    return np.array(solver.getSolution().col_value[: d + 1])


def _dual(signed: Array, costs: Array, norm: str | None, scale: Array) -> Array:
    """The dual: d + 1 rows, one boxed column a point."""
    n, d = len(signed), len(scale)
    low, high = np.zeros(d + 1), np.zeros(d + 1)
    if norm == "l1":
        low[:-1], high[:-1] = -1 / scale, 1 / scale
    values, width = signed, d + 1
    starts = np.arange(n) * width
    indices = np.tile(np.arange(width, dtype=np.int32), n)
    data = values.ravel()
    cost, upper = np.ones(n), costs
    if norm == "linf":
        # One pair of columns a feature splits its dual constraint; one row bounds their sum.
        extra = np.repeat(np.arange(d), 2)
        pairs = np.column_stack([extra, np.full(2 * d, d + 1)])
        numbers = np.column_stack([np.tile([-1.0, 1.0], d), scale[extra]])
        starts = np.concatenate([starts, len(data) + 2 * np.arange(2 * d)])
        indices = np.concatenate([indices, pairs.ravel()])
        data = np.concatenate([data, numbers.ravel()])
        cost = np.concatenate([cost, np.zeros(2 * d)])
        upper = np.concatenate([upper, np.full(2 * d, np.inf)])
        low, high = np.append(low, -np.inf), np.append(high, 1.0)
    solver = _run(
        "off", len(cost), len(low), len(data), 1, -1, 0.0, cost, np.zeros(len(cost)), upper, low,
        high, starts.astype(np.int32), indices.astype(np.int32), data,
        np.zeros(len(cost), np.int32),
    )  # fmt: skip
    _check(solver)
    return np.array(solver.getSolution().row_dual[: d + 1])


def _finish(
    result: Array, centre: Array, scale: Array, X: Array, y: Array, weight: Array, value: float,
    rounds: int, working_set: Array, separable: bool,
) -> LinearFit:  # fmt: skip
    weights = result[:-1] / scale
    bias = float(result[-1] - weights @ centre)
    length = float(np.sqrt(np.sum(weights * weights)))
    degenerate = not np.abs(result[:-1]).max() > 1e-9
    if degenerate:
        weights, bias = np.zeros(len(scale)), float(np.sign(result[-1]))
    else:
        weights, bias = weights / length, bias / length
    predicted = X @ weights + bias >= 0
    errors = int(np.count_nonzero((predicted != (y > 0)) & (weight > 0)))
    return LinearFit(
        weights, bias, value, "Optimal", rounds, working_set, separable, degenerate, errors
    )
