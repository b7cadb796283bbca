"""RMIA, the relative membership-inference attack (Zarifzadeh et al. 2024), on arrays.

Every trial is in turn the target, the others are its shadow models (see ``shadow``).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_choice, check_finite, check_number
from confsim.membership.shadow import Design, each_block, make_design, without_each

FloatArray = NDArray[np.float64]


def rmia(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    holdout_log_odds: ArrayLike | None = None,
    online: bool = True,
    gamma: float = 2.0,
    a: float = 0.3,
    partner: ArrayLike | None = None,
    trim: bool = False,
    seed: int = 0,
    reading: str = "confsim",
    n_threads: int | None = None,
) -> FloatArray:
    r"""Relative membership inference (Zarifzadeh et al. 2024), every trial in turn the target.

    The score of ``x`` is the fraction of points ``z`` with
    :math:`\frac{p(x|\theta)/p(x)}{p(z|\theta)/p(z)} \ge \gamma`, where ``p(x|theta)`` is the
    target's probability of the true class. Online, ``p(x)`` is the mean of its means over models in
    and models out; offline :math:`((1 + a) p_{out} + 1 - a) / 2`. All in log space, and by sorting:
    O((N + M) log M) a target.

    Parameters
    ----------
    log_odds : array_like, (trials, examples[, augmentations])
        Log-odds of the true class. Scores are averaged over augmentations.
    is_member : array_like of bool, (trials, examples)
    holdout_log_odds : array_like, (trials, points[, augmentations]), optional
        The same of points that no trial was trained on: the ``z``. Without them every example but
        ``x`` itself is a ``z``.
    online : bool
    gamma : float
        Above 0.
    a : float
        In [0, 1]; offline only.
    partner, trim, seed, n_threads
        As in :func:`lira`.
    reading : {"confsim", "privacy-meter"}
        ``"privacy-meter"``: offline, ``gamma`` 1, and the ratio must be exceeded.

    Returns
    -------
    ndarray, (trials, examples)
        Higher means "member"; NaN where ``p(x)`` has no model of a kind that it needs.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import rmia
    >>> from confsim.statistics import auc
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random((16, 500)) < 0.5
    >>> log_odds = 3 * rng.normal(size=500) + 1.5 * member + rng.normal(size=member.shape)
    >>> bool(auc(rmia(log_odds, member), member) > auc(log_odds, member) + 0.1)
    True
    """
    values = np.asarray(log_odds, dtype=np.float64)
    check_choice("reading", reading, ("confsim", "privacy-meter"))
    strict = reading == "privacy-meter"
    if strict:
        online, gamma = False, 1.0
    log_gamma = float(np.log(check_number("gamma", gamma, above=0)))
    check_number("a", a, minimum=0, maximum=1)
    design = make_design(values, is_member, partner, trim, seed)
    views = np.moveaxis(values[..., None] if values.ndim == 2 else values, 2, 0)
    holdout = _holdout_views(holdout_log_odds, design, len(views))
    scores = []
    for view, others in zip(views, holdout, strict=True):
        examples = _log_ratios(view, design, online, a, n_threads)
        points = None if others is None else _holdout_log_ratios(others, design, online, a)
        scores.append(_dominated(examples, points, log_gamma, strict))
    return np.mean(scores, axis=0) if len(scores) > 1 else scores[0]


def _holdout_views(
    holdout_log_odds: ArrayLike | None, design: Design, views: int
) -> list[FloatArray] | list[None]:
    if holdout_log_odds is None:
        return [None] * views
    found = np.asarray(holdout_log_odds, dtype=np.float64)
    found = found[..., None] if found.ndim == 2 else found
    if found.ndim != 3 or len(found) != design.trials or found.shape[2] != views:
        raise ValueError(
            "holdout_log_odds must have the trials and augmentations of log_odds, not the shape "
            f"{np.shape(holdout_log_odds)}"
        )
    if found.shape[1] == 0:
        raise ValueError("holdout_log_odds must hold at least one point")
    check_finite("holdout_log_odds", found)
    return list(np.moveaxis(found, 2, 0))


def _log_probability(log_odds: FloatArray) -> FloatArray:
    """Return log(sigmoid(log_odds))."""
    found: FloatArray = -np.logaddexp(0.0, -log_odds)
    return found


def _log_prior(log_out: FloatArray, a: float) -> FloatArray:
    """Return the log of the offline estimate of p(x) from that of its mean over models out."""
    with np.errstate(divide="ignore"):
        found: FloatArray = np.logaddexp(np.log1p(a) + log_out, np.log(1 - a)) - np.log(2)
    return found


def _log_ratios(
    log_odds: FloatArray, design: Design, online: bool, a: float, n_threads: int | None
) -> FloatArray:
    """Return log(p(x | theta) / p(x)) of every target and example."""
    ratios = np.empty(design.is_member.shape)

    def work(block: slice) -> None:
        log_p = _log_probability(log_odds[:, block])
        means = []
        for side in design.sides(block):
            total = side.reduce(np.where(side.models, log_p, -np.inf), np.logaddexp)
            counts = side.counts
            known = counts > 0
            means.append(np.where(known, total - np.log(np.where(known, counts, 1)), np.nan))
        log_in, log_out = means
        with np.errstate(invalid="ignore"):  # NaN where there is no model
            prior = np.logaddexp(log_in, log_out) - np.log(2) if online else _log_prior(log_out, a)
        ratios[:, block] = log_p - prior

    each_block(design, work, n_threads)
    return ratios


def _holdout_log_ratios(log_odds: FloatArray, design: Design, online: bool, a: float) -> FloatArray:
    """Return log(p(z | theta) / p(z)): every model but the target (and its partner) is out."""
    log_p = _log_probability(log_odds)
    if design.partner is None:
        without, _ = without_each(log_p, np.logaddexp)
    else:
        first = np.flatnonzero(np.arange(design.trials) < design.partner)
        pairs = np.logaddexp(log_p[first], log_p[design.partner[first]])
        pairwise, _ = without_each(pairs, np.logaddexp)
        without = np.empty_like(log_p)
        without[first] = without[design.partner[first]] = pairwise
    if design.shadow_models < 1:
        return np.full_like(log_p, np.nan)
    mean = without - np.log(design.shadow_models)
    return log_p - (mean if online else _log_prior(mean, a))


def _dominated(
    examples: FloatArray, points: FloatArray | None, log_gamma: float, strict: bool
) -> FloatArray:
    """Return the fraction of ``z`` that each example's ratio exceeds by the factor gamma."""
    side: Any = "left" if strict else "right"
    scores = np.full(examples.shape, np.nan)
    for target, ratios in enumerate(examples):
        others = np.sort((examples if points is None else points)[target])
        others = others[: len(others) - np.count_nonzero(np.isnan(others))]
        count = np.searchsorted(others, ratios - log_gamma, side=side)
        size = len(others)
        if points is None:
            # x itself is no z; it was counted where 1 >= gamma (or 1 > gamma).
            count = count - (log_gamma < 0 or (log_gamma == 0 and not strict))
            size -= 1
        if size > 0:
            scores[target] = np.where(np.isnan(ratios), np.nan, count / size)
    return scores
