"""Attacks that ask how unusual a target's log-odds are among other points, or among other models.

Attack-P compares an example with points that the target was not trained on; Attack-R compares the
target with models that were not trained on the example (Ye et al. 2022). Both scores are ranks.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, check_choice
from confsim.membership.rmia import check_holdout, z_kind
from confsim.membership.shadow import (
    Side,
    block_views,
    counts_below,
    each_block,
    each_target,
    make_design,
    room_for_scores,
    views_of,
)
from confsim.statistics.order import ascending

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def attack_p(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    holdout_log_odds: ArrayLike | None = None,
    z: str | None = None,
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    """Attack-P (Ye et al. 2022): the rank of an example among a population, by one model alone.

    The score is the fraction of points ``z`` whose log-odds are below those of the example, equal
    ones counting half, so that ``1 - score`` is about the false-positive rate at which the example
    is called a member. Within one target it ranks like the loss; across targets it is calibrated.

    Parameters
    ----------
    log_odds : array_like, (trials, examples[, augmentations])
        Log-odds of the true class, averaged over augmentations; any statistic that is higher for
        members will do.
    is_member : array_like of bool or 0/1, (trials, examples)
    holdout_log_odds : array_like, (trials, points[, augmentations]), optional
        The same of points that no trial was trained on.
    z : {"holdout", "non-members"}, optional
        The points: the holdout, or the target's non-members, ``x`` among them (as an equal one,
        which keeps the order of the log-odds whether ``x`` is a member or not). By default the
        holdout where there is one.
    n_threads : int, optional
    out : ndarray of float64, (trials, examples), optional
        Where scores are written, memory-mapped perhaps.

    Returns
    -------
    ndarray, (trials, examples)
        Higher means "member"; NaN where there is no point.

    Notes
    -----
    Assumes points ``z`` drawn like the examples. It knows nothing of how hard an example is: most
    of what it finds are easy examples. With ``M`` points it has ``M + 1`` levels.

    Examples
    --------
    >>> from confsim.membership import attack_p
    >>> attack_p([[3.0, 1.0]], [[1, 0]], holdout_log_odds=[[0.0, 2.0]]).tolist()
    [[1.0, 0.5]]
    """
    values = as_array("log_odds", log_odds)
    design = make_design("log_odds", values, is_member)
    points = check_holdout(holdout_log_odds, values)
    kind = z_kind(z, points)
    check_choice("z", kind, ("holdout", "non-members"))
    scores = room_for_scores(design, out, np.nan)

    def work(target: int) -> None:
        x = _mean_view(values[target])
        zs = x[~design.is_member[target]]
        if points is not None and kind == "holdout":
            zs = _mean_view(points[target])
        if len(zs):
            zs = ascending(zs)
            below, up_to = counts_below(zs, x, "left", "right")
            scores[target] = (below + up_to) / (2 * len(zs))

    each_target(design, work, n_threads)
    return scores


def _mean_view(values: NDArray[Any]) -> FloatArray:
    found = np.asarray(values, dtype=np.float64)
    return found.mean(axis=1) if found.ndim == 2 else found


def attack_r(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    partner: ArrayLike | None = None,
    trim: bool = False,
    seed: int = 0,
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    """Attack-R (Ye et al. 2022): the rank of the target among models without the example.

    The score is the fraction of shadow models that were not trained on the example whose log-odds
    are below the target's: an empirical quantile for each example.

    Parameters
    ----------
    log_odds : array_like, (trials, examples[, augmentations])
        Log-odds of the true class, or any statistic that is higher for members; scores are averaged
        over augmentations.
    is_member : array_like of bool or 0/1, (trials, examples)
    partner, trim, seed, n_threads
        As in :func:`lira`.
    out : ndarray of float64, (trials, examples), optional
        Where scores are written, memory-mapped perhaps.

    Returns
    -------
    ndarray, (trials, examples)
        Higher means "member"; NaN where there is no model out.

    Notes
    -----
    With ``n`` models out the score has ``n + 1`` levels, and if nothing leaks about one non-member
    in ``n + 1`` has the highest: lower false-positive rates need more models.

    Examples
    --------
    >>> from confsim.membership import attack_r
    >>> attack_r([[5.0], [1.0], [6.0], [2.0]], [[1], [0], [0], [0]]).round(2).tolist()
    [[0.67], [0.0], [1.0], [0.5]]
    """
    values = as_array("log_odds", log_odds)
    design = make_design("log_odds", values, is_member, partner, trim, seed)
    scores = room_for_scores(design, out, 0.0)

    def work(block: slice) -> None:
        _, out = design.sides(block)
        counts = out.counts
        for view in block_views(values, block):
            with np.errstate(invalid="ignore", divide="ignore"):
                scores[:, block] += models_below(view, out) / np.where(counts > 0, counts, np.nan)

    each_block(design, work, n_threads)
    scores /= views_of(values)
    return scores


def models_below(values: FloatArray, side: Side) -> IntArray:
    """Count the models that vote whose value is below each target's, for a block of examples."""
    order = np.argsort(values, axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    models = np.take_along_axis(side.models, order, axis=0)
    before = np.zeros(values.shape, dtype=np.int64)
    np.cumsum(models[:-1], axis=0, out=before[1:])
    # Among equal values all count what stands before the first of them.
    first = np.arange(len(values))[:, None] * np.ones(values.shape[1], dtype=np.int64)
    first[1:][ordered[1:] == ordered[:-1]] = 0
    np.maximum.accumulate(first, axis=0, out=first)
    before = np.take_along_axis(before, first, axis=0)
    below = np.empty_like(before)
    np.put_along_axis(below, order, before, axis=0)
    below -= side.excludes & (side.of_left_out(values) < values)
    return below
