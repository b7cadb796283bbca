"""How sure a model is of a point, and which points it is most and least sure of.

Linear models: the distance to the hyperplane, normalised by the largest one in the box (boundary
confidence) or squashed (sigmoid confidence). Deep models: the largest softmax probability, with the
columns that membership attacks use. All of them are computed from scores or logits by one scalar
implementation in the compiled core, so that no column depends on the instruction set.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_reals, check_finite, check_number
from confsim._kernels import memory, resolve_threads
from confsim._kernels import stats as _stats

FloatArray = NDArray[np.float64]


def largest_score(weights: ArrayLike, bias: float, grid_size: float) -> float:
    """Return M, the largest ``|w.c + b|`` over the corners ``c`` of the box ``[0, L]^d``.

    The largest and the smallest ``w.c`` are reached by taking ``L`` where ``w_k`` is positive, or
    where it is negative: O(d), not O(2^d).
    """
    w = np.asarray(weights, dtype=np.float64)
    highest = bias + np.sum(np.maximum(0.0, w * grid_size))
    lowest = bias + np.sum(np.minimum(0.0, w * grid_size))
    return float(max(abs(highest), abs(lowest)))


def boundary_confidence(
    decision: ArrayLike, weights: ArrayLike, bias: float, grid_size: float
) -> FloatArray:
    """Distance to the hyperplane as a fraction of the largest one in the box: ``|s| / M``.

    Parameters
    ----------
    decision : array_like, (n,)
        Scores ``s = w.x + b``; signed Euclidean distances when ``|w|_2 = 1``.
    weights : array_like, (d,)
        ``w`` of the same scale. All zero (a degenerate model): the confidence is 0.
    bias : float
        ``b``.
    grid_size : float
        Side ``L`` of the box ``[0, L]^d`` that holds the points.

    Returns
    -------
    ndarray, (n,) float64
        In [0, 1] for points of the box.

    Raises
    ------
    ValueError
        If an argument is not finite, or ``grid_size`` is not positive.
    """
    s = _vector("decision", decision)
    w = _vector("weights", weights)
    b = check_number("bias", bias)
    check_number("grid_size", grid_size, above=0)
    if not w.any():
        return np.zeros_like(s)
    return np.abs(s) / largest_score(w, b, grid_size)


def sigmoid_confidence(
    decision: ArrayLike, *, complement: bool = False, n_threads: int | None = None
) -> FloatArray:
    """Squashed distance to the hyperplane: ``|2 sigmoid(s) - 1| = tanh(|s| / 2)``.

    It rounds to exactly 1.0 for ``|s| > 38.2``; ``complement=True`` gives ``1 -`` it without loss,
    ``2 expit(-|s|)``.

    Parameters
    ----------
    decision : array_like, (n,)
        Scores ``s``.
    complement : bool
        Return one minus the confidence.
    n_threads : int, optional
        Default: all that this process may use.

    Returns
    -------
    ndarray, (n,) float64

    Raises
    ------
    ValueError
        If a score is NaN or infinite.
    """
    return _stats.sigmoid(_vector("decision", decision), complement, resolve_threads(n_threads))


def softmax_confidence(logits: ArrayLike) -> FloatArray:
    """Largest softmax probability of each row, in float64 from the logits.

    Parameters
    ----------
    logits : array_like, (n, K >= 2) float32 or float64

    Returns
    -------
    ndarray, (n,) float64
        In [1/K, 1]. It rounds to 1.0 long before models stop differing: rank by
        :func:`softmax_columns` ``["log_odds_max"]``.

    Raises
    ------
    ValueError
        If a logit is NaN or infinite, or there are fewer than two classes.
    """
    return softmax_columns(logits)["softmax"]


def softmax_columns(
    logits: ArrayLike, labels: ArrayLike | None = None, *, n_threads: int | None = None
) -> dict[str, NDArray[Any]]:
    """Return confidence, log-odds, loss and entropies of softmax outputs, stably from logits.

    Parameters
    ----------
    logits : array_like, (n, K >= 2) float32 or float64
    labels : array_like, (n,) int, optional
        True classes in [0, K).
    n_threads : int, optional

    Returns
    -------
    dict of ndarray
        ``predicted`` (int64; the lowest class among equal logits), ``softmax`` (max_k p_k),
        ``log_odds_max`` (log p - log(1 - p) of the predicted class), ``entropy`` (nats); with
        labels also ``log_odds_true``, ``loss`` (softplus(-log_odds_true)) and ``modified_entropy``:
        ``-(1 - p_y) ln p_y - sum_{i != y} p_i ln(1 - p_i)`` (Song & Mittal 2021).

    Raises
    ------
    ValueError
        If a logit is NaN or infinite, there are fewer than two classes, lengths differ, or a label
        is not in [0, K).
    """
    z = memory.native(as_reals("logits", logits))
    if z.dtype not in (np.float32, np.float64):
        z = z.astype(np.float64)
    if z.ndim != 2 or z.shape[1] < 2:
        raise ValueError(f"logits must have shape (n, K) with K >= 2, not {z.shape}")
    check_finite("logits", z)
    y = None if labels is None else _labels(labels, z.shape)
    threads = resolve_threads(n_threads)
    if len(z) == 0:
        names = ["softmax", "log_odds_max", "entropy"]
        names += [] if y is None else ["log_odds_true", "loss", "modified_entropy"]
        return {name: np.empty(0) for name in names} | {"predicted": np.empty(0, dtype=np.int64)}
    return _stats.softmax(z, y, threads)


def extreme_count(count: int, percent: float) -> int:
    """Return how many points make an extreme: ``percent``, at least 1, at most half of them."""
    return min(max(1, round(count * percent / 100)), max(1, count // 2))


def extremes(
    confidence: ArrayLike, percent: float, ids: ArrayLike | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Select the points of lowest and of highest confidence.

    Parameters
    ----------
    confidence : array_like, (n,)
        Any ranking value, finite.
    percent : float
        Size of either extreme in percent of ``n``, in (0, 50]; rounded half to even, at least one
        point and at most half of them.
    ids : array_like, (n,) int, optional
        Among equal confidences the lower id comes first, in both extremes; default: the row.

    Returns
    -------
    bottom, top : ndarray, (k,) int64
        Row indices: ``bottom`` in ascending, ``top`` in descending order of confidence.

    Raises
    ------
    ValueError
        If a confidence is NaN or infinite, there are none, ``percent`` is not in (0, 50], or ids
        have another length.
    """
    check_number("percent", percent, above=0, maximum=50)
    values = _vector("confidence", confidence)
    if len(values) == 0:
        raise ValueError("confidence must hold at least one value")
    order = None
    if ids is not None:
        order = np.ascontiguousarray(memory.native(np.asarray(ids)), dtype=np.int64)
        if order.shape != values.shape:
            raise ValueError(f"ids must have shape {values.shape}, not {order.shape}")
    return _stats.extremes(values, order, extreme_count(len(values), percent))


def _vector(name: str, values: ArrayLike) -> FloatArray:
    array = np.ascontiguousarray(memory.native(as_reals(name, values)), dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not {array.ndim}")
    check_finite(name, array)
    return array


def _labels(labels: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    given = memory.native(np.asarray(labels))
    if given.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, not {given.dtype}")
    if given.shape != shape[:1]:
        raise ValueError(f"labels must have shape {shape[:1]}, not {given.shape}")
    wrong = (given < 0) | (given >= shape[1])
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"labels must be in [0, {shape[1]}), but row {row} is {given[row]}")
    return np.ascontiguousarray(given, dtype=np.int64)
