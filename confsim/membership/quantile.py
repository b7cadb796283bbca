"""The quantile-regression attack (Bertran et al. 2023): one model, and points it never saw."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_float64, as_reals, check_finite, check_integer, check_number

FloatArray = NDArray[np.float64]


def quantile_regression(
    log_odds: ArrayLike,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    holdout_log_odds: ArrayLike,
    holdout_features: ArrayLike,
    holdout_labels: ArrayLike,
    fpr: float = 0.01,
    seed: int = 0,
) -> FloatArray:
    """Score by how far log-odds are above a quantile predicted from features and label.

    The quantile ``1 - fpr`` of the log-odds of points that the model was not trained on is
    regressed on their features and labels, by gradient boosting with the pinball loss
    (``HistGradientBoostingRegressor`` of scikit-learn, stopped early on a tenth of the points). An
    example above its predicted quantile is called a member: about ``fpr`` of non-members are.

    Parameters
    ----------
    log_odds : array_like, (examples,) or (trials, examples)
        Log-odds of the true class, of one model or of several that are attacked one by one.
    features : array_like, (examples, d)
        In a space that does not depend on membership: inputs, or those of a public encoder.
    labels : array_like of int, (examples,)
    holdout_log_odds : array_like, (points,) or (trials, points)
        The same of points that no model was trained on. The target's non-members among the examples
        will not do: quantiles fitted to them fit them better than members.
    holdout_features, holdout_labels : array_like
    fpr : float
        In (0, 1).
    seed : int

    Returns
    -------
    ndarray, (examples,) or (trials, examples)
        Log-odds minus predicted quantile; higher means "member", 0 and above is a positive.

    Notes
    -----
    Needs no shadow models, but points enough to learn a tail quantile: with fewer than about
    ``50 / fpr`` the realised false-positive rate can be far from ``fpr``.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import quantile_regression
    >>> rng = np.random.default_rng(0)
    >>> x, z = rng.normal(size=(500, 1)), rng.normal(size=(2000, 1))
    >>> scores = quantile_regression(
    ...     x[:, 0] + rng.normal(size=500), x, np.zeros(500, int),
    ...     holdout_log_odds=z[:, 0] + rng.normal(size=2000), holdout_features=z,
    ...     holdout_labels=np.zeros(2000, int), fpr=0.1)
    >>> bool(0.05 < np.mean(scores >= 0) < 0.15)
    True
    """
    fpr = check_number("fpr", fpr, above=0)
    if fpr >= 1:
        raise ValueError(f"fpr must be in (0, 1), not {fpr:g}")
    check_integer("seed", seed, minimum=0)
    values = _vectors("log_odds", log_odds)
    known = _vectors("holdout_log_odds", holdout_log_odds)
    if values.shape[0] != known.shape[0]:
        raise ValueError(
            f"holdout_log_odds must have the trials of log_odds, {len(values)}, not {len(known)}"
        )
    inputs = _inputs("features", features, "labels", labels, values.shape[1])
    fitted = _inputs("holdout_features", holdout_features, "holdout_labels", holdout_labels,
                     known.shape[1])  # fmt: skip
    if inputs.shape[1] != fitted.shape[1]:
        raise ValueError(
            f"holdout_features must have the {inputs.shape[1] - 1} columns of features, not "
            f"{fitted.shape[1] - 1}"
        )
    scores = np.stack(
        [
            row - _predicted(fitted, holdout, inputs, 1 - fpr, seed + trial)
            for trial, (row, holdout) in enumerate(zip(values, known, strict=True))
        ]
    )
    return scores if np.ndim(log_odds) == 2 else scores[0]


def _vectors(name: str, values: ArrayLike) -> FloatArray:
    found = as_float64(name, values)
    if found.ndim not in (1, 2) or found.size == 0:
        raise ValueError(f"{name} must have shape (points,) or (trials, points), not {found.shape}")
    check_finite(name, found)
    return found if found.ndim == 2 else found[None]


def _inputs(name: str, features: ArrayLike, label_name: str, labels: ArrayLike, rows: int) -> Any:
    x, y = as_reals(name, features), np.asarray(labels)
    x = x.reshape(len(x), -1)
    if len(x) != rows or y.shape != (rows,):
        raise ValueError(
            f"{name} and {label_name} must have a row for each of the {rows} points, not "
            f"{len(x)} and {y.shape}"
        )
    check_finite(name, x)
    return np.column_stack([x, y])


def _predicted(
    fitted: FloatArray, values: FloatArray, inputs: FloatArray, quantile: float, seed: int
) -> FloatArray:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        loss="quantile", quantile=quantile, early_stopping=len(values) >= 100, random_state=seed
    )
    found: FloatArray = model.fit(fitted, values).predict(inputs)
    return found
