"""Thresholds of each class, learned on shadow models (Song & Mittal 2021)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array
from confsim._kernels import resolve_threads
from confsim._kernels.stats import best_places
from confsim.membership.shadow import Design, make_design, room_for_scores
from confsim.statistics.order import ascending_order

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def class_thresholds(
    scores: ArrayLike,
    is_member: ArrayLike,
    labels: ArrayLike,
    *,
    partner: ArrayLike | None = None,
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    """Score by how far a statistic is above its class's threshold (Song & Mittal 2021).

    For each target and class, the threshold is the one with the largest TPR - FPR on the pooled
    values of the shadow models, the highest among equals: an attacker learns it on models of his
    own, whose members he knows. A value at or above it says "member".

    Parameters
    ----------
    scores : array_like, (trials, examples)
        Of an attack without shadow models, higher meaning "member": the paper takes the negated
        modified entropy, the confidence and the negated entropy.
    is_member : array_like of bool or 0/1, (trials, examples)
    labels : array_like, (examples,)
        Classes.
    partner : array_like of int, (trials,), optional
        In a balanced design, the trial trained on the complement: no shadow model.
    n_threads : int, optional
    out : ndarray of float64, (trials, examples), optional
        Where scores are written, memory-mapped perhaps.

    Returns
    -------
    ndarray, (trials, examples)
        Value minus threshold: 0 and above is what the published attack calls a member. NaN where
        the shadow models hold no member or no non-member of the class.

    Notes
    -----
    The published attack is the single operating point at 0; its true- and false-positive rates say
    more than the AUC of the differences.

    Examples
    --------
    >>> from confsim.membership import class_thresholds
    >>> scores = [[5.0, 2.0], [4.0, 1.0], [6.0, 3.0]]
    >>> class_thresholds(scores, [[1, 0], [1, 0], [1, 0]], [0, 0]).tolist()
    [[1.0, -2.0], [-1.0, -4.0], [2.0, -1.0]]
    """
    values = as_array("scores", scores)
    if values.ndim != 2:
        raise ValueError(f"scores must have shape (trials, examples), not {values.shape}")
    design = make_design("scores", values, is_member, partner)
    classes = np.asarray(labels)
    if classes.shape != (values.shape[1],):
        raise ValueError(
            f"labels must be one for each of the {values.shape[1]} examples, not {classes.shape}"
        )
    found = room_for_scores(design, out, np.nan)
    for label in np.unique(classes):
        columns = np.flatnonzero(classes == label)
        part = values[:, columns].astype(np.float64, copy=False)
        learned = _learned(np.negative(part), design.is_member[:, columns], design, n_threads)
        for row, value, threshold in zip(found, part, learned.tolist(), strict=True):
            row[columns] = value - threshold
    return found


def _learned(
    negated: FloatArray, is_member: BoolArray, design: Design, n_threads: int | None
) -> FloatArray:
    """Return each target's threshold, from the values of all others (trials, examples of a class).

    Values are given with the other sign. They are sorted once; each target's own are taken out of
    the counts.
    """
    trials, examples = negated.shape
    order = ascending_order(negated.reshape(-1))
    ordered, member = negated.reshape(-1)[order], is_member.reshape(-1)[order]
    # Only where the next value is another one do the counts belong to a threshold.
    last = np.append(ordered[1:] != ordered[:-1], True)
    rows = (order // examples).astype(np.int32)
    places = best_places(rows, member, last, design.partner, trials, resolve_threads(n_threads))
    return np.where(places >= 0, 0.0 - ordered[places], np.nan)  # one zero for both
