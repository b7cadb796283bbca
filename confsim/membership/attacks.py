"""Membership-inference attacks on arrays: each trial is a target, the others are its shadow models.

Arrays have the shape ``(trials, examples)``, or ``(trials, examples, augmentations)`` where each
example was seen several times; ``is_member`` says which trial was trained on which example. Every
attack returns scores of shape ``(trials, examples)``, higher meaning "member", NaN where there are
too few shadow models. Here stand the attacks that need no shadow models; those that do are in
modules of their own and can be had from here too.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from confsim._errors import as_float64
from confsim.membership.lira import (
    FEW_SHADOW_MODELS,
    TINY_DEVIATION,
    Gaussians,
    fit_gaussians,
    lira,
    lira_scores,
)
from confsim.membership.rmia import rmia
from confsim.membership.shadow import Design

__all__ = [
    "FEW_SHADOW_MODELS",
    "TINY_DEVIATION",
    "Design",
    "Gaussians",
    "fit_gaussians",
    "lira",
    "lira_scores",
    "rmia",
    "threshold_scores",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: What the attacks without shadow models look at, and the sign with which it says "member".
THRESHOLD_COLUMNS = {
    "confidence": ("log_odds_max", 1.0),
    "loss": ("log_odds_true", 1.0),
    "modified_entropy": ("modified_entropy", -1.0),
    "entropy": ("entropy", -1.0),
    "correctness": ("correct", 1.0),
    "closeness": ("distance_excluding_self", -1.0),
}


def threshold_scores(
    *,
    log_odds_max: FloatArray | None = None,
    log_odds_true: FloatArray | None = None,
    entropy: FloatArray | None = None,
    modified_entropy: FloatArray | None = None,
    correct: BoolArray | None = None,
    distance_excluding_self: FloatArray | None = None,
) -> dict[str, FloatArray]:
    """Return the scores of the attacks that need no shadow models, by name.

    Parameters
    ----------
    log_odds_max, log_odds_true : ndarray, optional
        Log-odds of the largest and of the true class's probability. The first ranks like the
        softmax confidence, the second like the negated loss, without their rounding.
    entropy, modified_entropy : ndarray, optional
        In nats; the second is that of Song & Mittal (2021).
    correct : ndarray of bool, optional
        Whether the predicted class is the true one (the gap attack of Yeom et al. 2018).
    distance_excluding_self : ndarray, optional
        To the nearest other training point.

    Returns
    -------
    dict of ndarray
        ``confidence``, ``loss``, ``modified_entropy``, ``entropy``, ``correctness``, ``closeness``:
        those whose input was given; augmentations are averaged.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import threshold_scores
    >>> scores = threshold_scores(correct=np.array([[True, False]]), entropy=np.array([[0.1, 0.6]]))
    >>> sorted(scores), scores["correctness"].tolist(), scores["entropy"].tolist()
    (['correctness', 'entropy'], [[1.0, 0.0]], [[-0.1, -0.6]])
    """
    given: dict[str, Any] = {
        "log_odds_max": log_odds_max,
        "log_odds_true": log_odds_true,
        "entropy": entropy,
        "modified_entropy": modified_entropy,
        "correct": correct,
        "distance_excluding_self": distance_excluding_self,
    }
    return {
        attack: sign * _one_view(as_float64(column, given[column]))
        for attack, (column, sign) in THRESHOLD_COLUMNS.items()
        if given[column] is not None
    }


def _one_view(scores: FloatArray) -> FloatArray:
    return scores.mean(axis=2) if scores.ndim == 3 else scores
