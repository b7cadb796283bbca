"""What an attack looks at: log-odds of the true class, made from logits in several ways."""

from math import factorial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, check_choice, check_finite, check_integer, check_number

FloatArray = NDArray[np.float64]

#: Ways to turn logits into probabilities.
SIGNALS = ("softmax", "taylor", "sm-taylor")


def class_log_odds(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    signal: str = "softmax",
    temperature: float = 1.0,
    order: int = 4,
    margin: float = 0.6,
) -> FloatArray:
    r"""Return ``log p - log(1 - p)`` of the true class, from logits.

    ``p`` is :math:`f(z_y) / \sum_k f(z_k)` of the logits divided by the temperature, with
    :math:`f = \exp` (softmax), or its Taylor polynomial :math:`\sum_{i \le order} z^i / i!`
    (Taylor softmax, de Brebisson & Vincent 2016), which is positive for even orders. SM-Taylor
    softmax (Banerjee et al. 2020) has :math:`f(z_y - margin)` for the true class, above and below.

    Parameters
    ----------
    logits : array_like, (trials, examples[, views], classes)
        float32 or float64, memory-mapped or not; one trial at a time is converted to float64.
    labels : array_like of int, (examples,)
        True classes.
    signal : {"softmax", "taylor", "sm-taylor"}
    temperature : float
        Above 0. The published experiments of RMIA on CIFAR-10 use SM-Taylor softmax with
        temperature 2, order 4 and margin 0.6.
    order : int
        Even; Taylor only.
    margin : float
        At least 0; SM-Taylor only.

    Returns
    -------
    ndarray, (trials, examples[, views])

    Raises
    ------
    ValueError
        If shapes do not fit, a logit is not finite, or a label is none of the classes.

    Examples
    --------
    >>> from confsim.membership import class_log_odds
    >>> class_log_odds([[[2.0, 0.0]]], [0]).tolist()
    [[2.0]]
    >>> class_log_odds([[[2.0, 0.0]]], [0], signal="taylor", order=2).round(3).tolist()
    [[1.609]]
    """
    values, given = as_array("logits", logits), np.asarray(labels)
    check_choice("signal", signal, SIGNALS)
    temperature = check_number("temperature", temperature, above=0)
    margin = check_number("margin", margin, minimum=0)
    if check_integer("order", order, minimum=2) % 2:
        raise ValueError(f"order must be even, so that no probability is negative, not {order}")
    if values.ndim not in (3, 4):
        raise ValueError(
            "logits must have shape (trials, examples, classes) or (trials, examples, views, "
            f"classes), not {values.shape}"
        )
    classes = values.shape[-1]
    if classes < 2:
        raise ValueError(f"logits must have at least two classes, not {classes}")
    check_finite("logits", values)
    true = _true_classes(given, values.shape[1], classes)
    true = np.broadcast_to(true.reshape(-1, *[1] * (values.ndim - 2)), (*values.shape[1:-1], 1))
    found = np.empty(values.shape[:-1])
    for trial, z in enumerate(values):
        scaled = z.astype(np.float64) / temperature
        own = np.take_along_axis(scaled, true, axis=-1)[..., 0]
        if signal == "softmax":
            np.put_along_axis(scaled, true, -np.inf, axis=-1)
            top = scaled.max(axis=-1, keepdims=True)
            others = np.log(np.exp(scaled - top).sum(axis=-1)) + top[..., 0]
            found[trial] = own - others
        else:
            terms = _taylor(scaled, order)
            np.put_along_axis(terms, true, 0.0, axis=-1)
            shifted = own - (margin if signal == "sm-taylor" else 0.0)
            found[trial] = np.log(_taylor(shifted, order)) - np.log(terms.sum(axis=-1))
    return found


def _true_classes(labels: NDArray[Any], examples: int, classes: int) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, not {labels.dtype}")
    if labels.shape != (examples,):
        raise ValueError(f"labels must be one for each of the {examples} examples")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"labels must be in [0, {classes}), but row {row} is {labels[row]}")
    return labels.astype(np.int64)


def _taylor(z: FloatArray, order: int) -> FloatArray:
    """Return the Taylor polynomial of exp about 0, by Horner's rule."""
    found = np.full_like(z, 1 / factorial(order))
    for i in range(order - 1, -1, -1):
        found *= z
        found += 1 / factorial(i)
    return found
