"""Difficulty calibration, and BASE: the target's value relative to that of shadow models."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array
from confsim.membership.rmia import log_ratios
from confsim.membership.shadow import (
    block_views,
    each_block,
    make_design,
    room_for_scores,
    views_of,
)

FloatArray = NDArray[np.float64]


def difficulty_calibration(
    scores: ArrayLike,
    is_member: ArrayLike,
    *,
    partner: ArrayLike | None = None,
    trim: bool = False,
    seed: int = 0,
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    """Difficulty calibration (Watson et al. 2022): a score minus its mean over models out.

    Parameters
    ----------
    scores : array_like, (trials, examples[, augmentations])
        Of any attack without shadow models, higher meaning "member": the paper takes the negated
        loss, ``log p`` of the true class; log-odds do not saturate. Averaged over augmentations.
    is_member : array_like of bool or 0/1, (trials, examples)
    partner, trim, seed, n_threads
        As in :func:`lira`. Only models that were not trained on the example are used.
    out : ndarray of float64, (trials, examples), optional
        Where scores are written, memory-mapped perhaps.

    Returns
    -------
    ndarray, (trials, examples)
        Higher means "member"; NaN where there is no model out.

    Notes
    -----
    It takes out how hard an example is, not how much models differ about it: an example that varies
    much from model to model often looks like a member. LiRA divides by that spread.

    Examples
    --------
    >>> from confsim.membership import difficulty_calibration
    >>> difficulty_calibration([[5.0], [1.0], [3.0]], [[1], [0], [0]]).tolist()
    [[3.0], [-2.0], [2.0]]
    """
    values = as_array("scores", scores)
    design = make_design("scores", values, is_member, partner, trim, seed)
    found = room_for_scores(design, out, 0.0)

    def work(block: slice) -> None:
        _, out = design.sides(block)
        counts = np.where(out.counts > 0, out.counts, np.nan)
        for view in block_views(values, block):
            found[:, block] += view - out.sum(np.where(out.models, view, 0.0)) / counts

    each_block(design, work, n_threads)
    found /= views_of(values)
    return found


def base(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    online: bool = True,
    partner: ArrayLike | None = None,
    trim: bool = False,
    seed: int = 0,
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    r"""Score by BASE (Lassila et al. 2025): ``log p(x | theta)`` over its mean over shadow models.

    The Bayes-optimal score of Sablayrolles et al. (2019) with its threshold estimated from shadow
    models: :math:`-\ell(\theta) - \log \frac1K \sum_k e^{-\ell(\theta_k)}` with the cross-entropy
    :math:`\ell`. Within one target it orders examples as RMIA does with ``gamma`` 1 and ``a`` 1.

    Parameters
    ----------
    log_odds : array_like, (trials, examples[, augmentations])
        Log-odds of the true class; scores are averaged over augmentations.
    is_member : array_like of bool or 0/1, (trials, examples)
    online : bool
        Whether the mean is that of the means over models in and models out, else over models out.
        (One mean over all of them would depend on how many there are of each, and so on the
        target's membership.)
    partner, trim, seed, n_threads
        As in :func:`lira`.
    out : ndarray of float64, (trials, examples), optional
        Where scores are written, memory-mapped perhaps.

    Returns
    -------
    ndarray, (trials, examples)
        Higher means "member"; NaN where there is no model of a kind that it needs.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import base
    >>> p = np.array([[0.8], [0.2], [0.4]])
    >>> found = base(np.log(p / (1 - p)), [[1], [0], [0]], online=False)
    >>> np.exp(found).round(3).tolist()
    [[2.667], [0.5], [2.0]]
    """
    values = as_array("log_odds", log_odds)
    design = make_design("log_odds", values, is_member, partner, trim, seed)
    scores = room_for_scores(design, out, 0.0)

    def work(block: slice) -> None:
        sides = design.sides(block)
        for view in block_views(values, block):
            scores[:, block] += log_ratios(view, sides, online, 1.0)

    each_block(design, work, n_threads)
    scores /= views_of(values)
    return scores
