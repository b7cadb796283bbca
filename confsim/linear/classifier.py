"""The linear program as a scikit-learn classifier.

The work is done in :mod:`confsim.linear.program`, which knows nothing of scikit-learn.
"""

from typing import Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from confsim.linear.program import fit_program

Array: TypeAlias = np.ndarray[Any, Any]


class LinearBinaryClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    r"""Two-class classifier whose hyperplane is the optimum of a linear program.

    Parameters
    ----------
    objective : {"slack", "margin"}, default "slack"
        ``"slack"`` minimises the sum of slacks; ``"margin"`` trades it against the norm of the
        weights.
    norm : {"l1", "linf"}, default "l1"
        Norm of the weights in the margin objective.
    C : float, default 1.0
        Price of a unit of slack in the margin objective, in the units of the data.
    solver : {"working-set", "direct"}, default "working-set"
        ``"direct"`` gives HiGHS the whole primal program at once. Both reach the same objective.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; ``classes_[1]`` is the positive class, and predicted on the hyperplane itself.
    coef_ : ndarray of shape (1, n_features)
        Unit normal of the hyperplane; zeros when ``degenerate_``.
    intercept_ : ndarray of shape (1,)
        Its offset; -1, 0 or 1 when ``degenerate_``.
    objective_value_ : float
        Value of the program below, in the units of the data, before the hyperplane was normalised.
    n_iter_ : int
        How many linear programs were solved, besides those that only guessed where to start.
    working_set_ : ndarray of shape (k,)
        Rows that had a constraint of their own in the last of them, ascending.
    separable_ : bool
        Whether some hyperplane separates the classes strictly.
    degenerate_ : bool
        Whether the optimal normal is 0: then every point is predicted alike.
    n_features_in_ : int
    feature_names_in_ : ndarray of str, where the names are known

    Notes
    -----
    *Program.* With labels :math:`y_i = \pm 1`, weights :math:`c_i > 0` (``sample_weight``, times
    ``C`` for the margin objective) and :math:`\Omega(w) = 0` (slack), :math:`\|w\|_1` or
    :math:`\|w\|_\infty` (margin):

    .. math::

        \min_{w, b, \xi \ge 0} \; \Omega(w) + \sum_i c_i \xi_i
        \quad\text{s.t.}\quad y_i (w \cdot x_i + b) \ge 1 - \xi_i .

    The slack objective is the robust linear program of Bennett and Mangasarian [1]_ with equal
    weights; the margin objectives are those of Bradley and Mangasarian [2]_ and Zhu et al. [3]_.

    *Dual.* Minimising the Lagrangian with multipliers :math:`a_i` over :math:`b` and :math:`\xi`
    forces :math:`\sum_i a_i y_i = 0` and :math:`0 \le a_i \le c_i`. Over :math:`w` it is
    :math:`\min_w \Omega(w) - r \cdot w` with :math:`r = \sum_i a_i y_i x_i`: 0 if :math:`r` is in
    the unit ball of the dual norm, else :math:`-\infty`. So

    .. math::

        \max_a \; \sum_i a_i \quad\text{s.t.}\quad \sum_i a_i y_i = 0, \quad 0 \le a_i \le c_i,
        \quad r = 0,\; \|r\|_\infty \le 1 \;\text{or}\; \|r\|_1 \le 1 .

    *Certificate.* The slacks of any :math:`(w, b)` are :math:`\xi_i = \max(0, 1 - y_i (w \cdot
    x_i + b))`, so every hyperplane is primal feasible, and every dual feasible :math:`a` bounds
    the optimum from below:

    .. math::

        \sum_i a_i \;\le\; \text{optimum} \;\le\; \Omega(w) + \sum_i c_i \xi_i .

    After solving, both sides are evaluated in float64 over all points, :math:`a` clipped to its
    bounds and shrunk into the unit ball, and what rounding leaves in the equations charged at the
    size of :math:`(w, b)`. The answer is accepted when they differ by at most a part in
    :math:`10^8`; else the next, slower way is tried, and at last an error is raised. A hyperplane
    that gives every point a margin of 1 needs no :math:`a` for the slack objective: 0 is a bound
    by itself. One constraint for the mean of many points, as the working set has for points far
    from their margin, restricts :math:`a` to be proportional to :math:`c` among them, so such an
    :math:`a` is feasible for the whole problem.

    *What to know.* The slack objective **does not maximise the margin**. On separable data its
    optimum is 0 and every hyperplane with margins of at least 1 is optimal: which one is returned
    is the solver's choice (a vertex of the set of all of them), may change with the version of
    HiGHS, and generalises only as well as such a choice does. There is no training error,
    however. ``objective="margin"`` with ``C`` large enough that no slack is left maximises the
    smallest distance to the hyperplane, measured in the dual norm (largest coordinate difference
    for ``"l1"``, sum of differences for ``"linf"``); a smaller ``C`` may leave slack, and
    training errors, on separable data too. With enough noise, ``w = 0`` can be optimal; where it
    is one optimum among others (XOR), it is returned.

    Rows of weight 0 are dropped and equal rows of a class merged, and the answer is a function of
    the resulting set: it does not depend on the order or repetition of rows.

    References
    ----------
    .. [1] K. P. Bennett and O. L. Mangasarian. Robust linear programming discrimination of two
       linearly inseparable sets. Optimization Methods and Software 1 (1992), 23-34.
    .. [2] P. S. Bradley and O. L. Mangasarian. Feature selection via concave minimization and
       support vector machines. ICML 1998, 82-90.
    .. [3] J. Zhu, S. Rosset, T. Hastie and R. Tibshirani. 1-norm support vector machines. NIPS
       2003.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim import LinearBinaryClassifier
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0], [3.0, 1.0]])
    >>> y = ["left", "left", "right", "right"]
    >>> model = LinearBinaryClassifier(objective="margin").fit(X, y)
    >>> model.decision_function([[4.0, 0.5]])
    array([2.5])
    """

    def __init__(
        self,
        objective: str = "slack",
        norm: str = "l1",
        C: float = 1.0,
        solver: str = "working-set",
    ) -> None:
        self.objective = objective
        self.norm = norm
        self.C = C
        self.solver = solver

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LinearBinaryClassifier":
        """Fit the hyperplane.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Dense; float32 and float64 arrays are not copied.
        y : array-like of shape (n,)
            Labels of exactly two kinds.
        sample_weight : array-like of shape (n,), optional
            Multiplies the slacks; not negative.

        Returns
        -------
        LinearBinaryClassifier
            This object.

        Raises
        ------
        ValueError
            If an argument has a bad value or shape, or ``y`` does not hold two classes.
        ConfsimError
            If no solution could be certified.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        classes, positive = _two_classes(y)
        if sample_weight is not None:
            sample_weight = _check_weights(sample_weight, len(X))
        fit = fit_program(
            X,
            np.where(positive, np.int8(1), np.int8(-1)),
            sample_weight=sample_weight,
            objective=self.objective,
            norm=self.norm,
            C=self.C,
            solver=self.solver,
        )
        self.classes_ = classes
        self.coef_ = fit.weights[np.newaxis]
        self.intercept_ = np.array([fit.bias])
        self.objective_value_ = fit.objective_value
        self.n_iter_ = fit.rounds
        self.working_set_ = fit.working_set
        self.separable_ = fit.separable
        self.degenerate_ = fit.degenerate
        return self

    def decision_function(self, X: Any) -> Array:
        """Return signed Euclidean distances to the hyperplane, shape (n,).

        Positive on the side of ``classes_[1]``. A degenerate model has no hyperplane: its
        ``intercept_`` is returned for every point.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return np.asarray(X @ self.coef_[0] + self.intercept_[0])

    def predict(self, X: Any) -> Array:
        """Return the predicted labels, shape (n,)."""
        positive = self.decision_function(X) >= 0
        return np.asarray(self.classes_[positive.astype(np.intp)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


def _two_classes(y: Array) -> tuple[Array, Array]:
    """Return the two labels, ascending, and which rows hold the second."""
    if y.dtype.kind in "biu":
        # Two labels need no sort of the whole column.
        classes = np.array([y.min(), y.max()])
        positive = y == classes[1]
        if classes[0] != classes[1] and (positive | (y == classes[0])).all():
            return classes, positive
    kind = type_of_target(y, input_name="y", raise_unknown=True)
    if kind != "binary":
        raise ValueError(
            f"Only binary classification is supported. The type of the target is {kind}."
        )
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y must hold two classes, but has one class: {classes[0]!r}")
    return classes, codes == 1


def _check_weights(sample_weight: Any, rows: int) -> Array:
    weight = np.asarray(sample_weight)
    if weight.ndim == 0 and weight.dtype.kind in "biuf":
        weight = np.full(rows, weight)
    return weight
