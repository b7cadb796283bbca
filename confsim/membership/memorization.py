"""Memorisation: how much better a model does on an example for having been trained on it.

The estimator of Feldman & Zhang (2020): an example's accuracy over the trials that were trained on
it, minus that over the trials that were not.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim.statistics import agresti_caffo, check_membership

#: With fewer models on either side the figure is called unreliable.
FEWEST_MODELS = 20


def memorization(
    correct: ArrayLike, is_member: ArrayLike, level: float = 0.95
) -> dict[str, NDArray[Any]]:
    """Estimate the memorisation of every example.

    Parameters
    ----------
    correct : array_like of bool, (trials, examples)
        Whether each trial's model predicted the example's label.
    is_member : array_like of bool, (trials, examples)
    level : float
        Of the intervals (Agresti & Caffo 2000).

    Returns
    -------
    dict of ndarray, (examples,)
        ``trials_in``, ``trials_out``, ``accuracy_in``, ``accuracy_out``, ``memorization`` with
        ``memorization_low`` and ``memorization_high`` (NaN where a side has no trial), and
        ``reliable``: at least 20 trials on both sides.

    Raises
    ------
    ValueError
        If shapes differ, or an entry of either is neither boolean nor 0 or 1.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import memorization
    >>> member = np.array([[True], [True], [False], [False]])
    >>> found = memorization([[True], [True], [False], [True]], member)
    >>> found["memorization"].tolist(), found["reliable"].tolist()
    ([0.5], [False])
    """
    right, member = check_membership(correct, "correct"), check_membership(is_member)
    if right.ndim != 2 or right.shape != member.shape:
        raise ValueError(
            "correct and is_member must both have shape (trials, examples), not "
            f"{right.shape} and {member.shape}"
        )
    n_in = np.count_nonzero(member, axis=0)
    n_out = len(member) - n_in
    k_in = np.count_nonzero(right & member, axis=0)
    k_out = np.count_nonzero(right & ~member, axis=0)
    known = (n_in > 0) & (n_out > 0)
    low, high = agresti_caffo(k_in, n_in, k_out, n_out, level)
    with np.errstate(invalid="ignore"):
        accuracy_in, accuracy_out = k_in / n_in, k_out / n_out
    return {
        "trials_in": n_in.astype(np.int32),
        "trials_out": n_out.astype(np.int32),
        "accuracy_in": accuracy_in,
        "accuracy_out": accuracy_out,
        "memorization": accuracy_in - accuracy_out,
        "memorization_low": np.where(known, low, np.nan),
        "memorization_high": np.where(known, high, np.nan),
        "reliable": np.minimum(n_in, n_out) >= FEWEST_MODELS,
    }
