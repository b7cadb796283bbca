"""LiRA, the likelihood-ratio attack (Carlini et al. 2022), on arrays (trials, examples[, views]).

Every trial is in turn the target, the others are its shadow models (see ``shadow``).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_choice
from confsim.membership.shadow import Design, Side, each_block, inverse, make_design

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

#: Below this many shadow models LiRA's variances are pooled over examples.
FEW_SHADOW_MODELS = 64

#: Added to standard deviations, as in the published code of LiRA.
TINY_DEVIATION = 1e-30


@dataclass(frozen=True, eq=False)
class Gaussians:
    """The normal distributions of LiRA, fitted without each target in turn.

    Attributes
    ----------
    median, deviation : ndarray, (2, trials, examples)
        Of the statistic over the models with the example ([0]) and without it ([1]); NaN where
        there is no model.
    models : ndarray of int64, (2, trials, examples)
        How many models spoke.
    residuals : ndarray, (2, 3, trials)
        Number, sum and sum of squares of the residuals about the medians of all examples.
    """

    median: FloatArray
    deviation: FloatArray
    models: NDArray[np.int32]
    residuals: FloatArray

    @property
    def pooled_deviation(self) -> FloatArray:
        """Standard deviations (2, trials) of the residuals of all examples."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, square = self.residuals[:, 1:].swapaxes(0, 1) / self.residuals[:, 0]
        found: FloatArray = np.sqrt(np.maximum(square - mean**2, 0.0))
        return found

    def deviations(self, fixed_variance: bool, side: int) -> FloatArray:
        """Return standard deviations, never 0; NaN where a side has too few models."""
        if not fixed_variance:
            spread = self.deviation[side] + TINY_DEVIATION
            return np.where(self.models[side] >= 2, spread, np.nan)
        spread = self.pooled_deviation[side][:, None] + TINY_DEVIATION
        return np.where(self.models[side] >= 1, spread, np.nan)


def fit_gaussians(
    log_odds: FloatArray, design: Design, *, n_threads: int | None = None
) -> Gaussians:
    """Fit both normal distributions of every example, for every target.

    Parameters
    ----------
    log_odds : ndarray, (trials, examples)
    design : Design
    n_threads : int, optional
    """
    shape = (2, *design.is_member.shape)
    median, deviation = np.empty(shape), np.empty(shape)
    models = np.empty(shape, dtype=np.int32)

    def fit(block: slice) -> FloatArray:
        values = log_odds[:, block].astype(np.float64)
        sums = np.empty((2, 3, design.trials))
        for k, side in enumerate(design.sides(block)):
            found = _fit_side(values, side)
            median[k, :, block], deviation[k, :, block], models[k, :, block] = found[:3]
            sums[k] = found[3]
        return sums

    residuals = np.sum(each_block(design, fit, n_threads), axis=0)
    return Gaussians(median, deviation, models, residuals)


def _fit_side(
    values: FloatArray, side: Side
) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
    """Return medians, standard deviations, counts, and the sums of residuals of each target."""
    order = np.argsort(np.where(side.models, values, np.inf), axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    place = np.take_along_axis(inverse(order), np.maximum(side.left_out, 0), axis=0)
    place = np.where(side.left_out >= 0, place, len(values))
    counts = side.counts
    median = _median_of_sorted(ordered, counts, place)
    # Everything else is measured from the median of all models. It lies between those that remain,
    # so that squares lose no more digits than they would about the mean.
    total = side.models.sum(axis=0, keepdims=True)
    centre = _median_of_sorted(ordered, total, np.full_like(total, len(values)))
    offsets = np.where(side.models, values - centre, 0.0)
    first = side.reduce(offsets, np.add)
    second = side.reduce(offsets**2, np.add)
    known = counts > 0
    n = np.where(known, counts, 1)
    deviation = np.sqrt(np.maximum(second / n - (first / n) ** 2, 0.0))
    shift = np.where(known, median - centre, 0.0)
    first, second, held = (np.where(known, x, 0.0) for x in (first, second, counts))
    residuals = [held, first - held * shift, second - 2 * shift * first + held * shift**2]
    sums = np.stack([part.sum(axis=1) for part in residuals])
    return (
        np.where(known, median, np.nan),
        np.where(known, deviation, np.nan),
        counts,
        sums,
    )


def _median_of_sorted(ordered: FloatArray, counts: IntArray, place: IntArray) -> FloatArray:
    """Return the median of the first rows, skipping the one at ``place``; ``counts`` remain."""
    n = np.maximum(counts, 1)
    middle = []
    for row in ((n - 1) // 2, n // 2):
        row = np.minimum(row + (row >= place), len(ordered) - 1)
        middle.append(np.take_along_axis(ordered, row, axis=0))
    median: FloatArray = (middle[0] + middle[1]) / 2
    return median


def lira_scores(
    log_odds: FloatArray, gaussians: Gaussians, *, online: bool, fixed_variance: bool
) -> FloatArray:
    """Return the scores of LiRA from distributions that :func:`fit_gaussians` found."""
    z_in, log_in = _standardise(log_odds, gaussians, fixed_variance, 0)
    z_out, log_out = _standardise(log_odds, gaussians, fixed_variance, 1)
    if not online:
        return z_out
    return (z_out**2 - z_in**2) / 2 + (log_out - log_in)


def _standardise(
    log_odds: FloatArray, gaussians: Gaussians, fixed_variance: bool, side: int
) -> tuple[FloatArray, FloatArray]:
    spread = gaussians.deviations(fixed_variance, side)
    return (log_odds - gaussians.median[side]) / spread, np.log(spread)


def lira(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    online: bool = True,
    fixed_variance: bool | None = None,
    partner: ArrayLike | None = None,
    trim: bool = False,
    seed: int = 0,
    reading: str = "confsim",
    n_threads: int | None = None,
) -> FloatArray:
    r"""Likelihood-ratio attack (Carlini et al. 2022), every trial in turn the target.

    Online, the score of an example is
    :math:`\log N(x; m_{in}, s_{in}) - \log N(x; m_{out}, s_{out})`; offline it is
    :math:`z = (x - m_{out}) / s_{out}`, which ranks like :math:`\Phi(z)` and does not saturate.
    ``m`` is the median and ``s`` the standard deviation (ddof 0) + 1e-30 over shadow models.

    Parameters
    ----------
    log_odds : array_like, (trials, examples[, augmentations])
        Log-odds of the true class. Scores are averaged over augmentations.
    is_member : array_like of bool, (trials, examples)
    online : bool
        Whether models that were trained on the example are used.
    fixed_variance : bool, optional
        Whether ``s`` is the standard deviation of the residuals about ``m`` of all examples, in and
        out separately. By default below 64 shadow models.
    partner : array_like of int, (trials,), optional
        In a balanced design, the trial trained on the complement.
    trim : bool
        Whether each example is described by equally many models in and out; see this module.
    seed : int
        For ``trim``.
    reading : {"confsim", "tfp", "carlini-code"}
        Whose formulas. ``"tfp"`` (TensorFlow Privacy): offline :math:`-\log N(x; m_{out},
        s_{out})`, so that unusually *low* confidence also counts as membership. ``"carlini-code"``
        (the published script): that too; as many models as the example with the fewest has, the
        first ones; fixed variance is the variance of all *in* scores, for both sides.
    n_threads : int, optional

    Returns
    -------
    ndarray, (trials, examples)
        Higher means "member"; NaN with fewer than 2 models a side (1 with fixed variance; offline
        only models without the example count).

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import lira
    >>> from confsim.statistics import auc
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random((32, 500)) < 0.5
    >>> difficulty = 3 * rng.normal(size=500)
    >>> log_odds = difficulty + 1.5 * member + rng.normal(size=member.shape)
    >>> bool(auc(lira(log_odds, member), member) > auc(log_odds, member) + 0.1)
    True
    """
    values = np.asarray(log_odds, dtype=np.float64)
    check_choice("reading", reading, ("confsim", "tfp", "carlini-code"))
    design = make_design(values, is_member, partner, trim, seed)
    if fixed_variance is None:
        fixed_variance = design.shadow_models < FEW_SHADOW_MODELS
    views = values[..., None] if values.ndim == 2 else values
    if reading == "carlini-code":
        return _published_script(views, design, online, fixed_variance)
    fits = [fit_gaussians(view, design, n_threads=n_threads) for view in np.moveaxis(views, 2, 0)]
    if len(fits) > 1:
        # One variance for all views, as in both published programs.
        shared = np.sum([fit.residuals for fit in fits], axis=0)
        fits = [Gaussians(f.median, f.deviation, f.models, shared) for f in fits]
    total = np.zeros(design.is_member.shape)
    for view, fit in zip(np.moveaxis(views, 2, 0), fits, strict=True):
        if reading == "tfp" and not online:
            z, log_deviation = _standardise(view, fit, fixed_variance, 1)
            total += z**2 / 2 + log_deviation + np.log(2 * np.pi) / 2
        else:
            total += lira_scores(view, fit, online=online, fixed_variance=fixed_variance)
    return total / len(fits)


def _published_script(
    views: FloatArray, design: Design, online: bool, fixed_variance: bool
) -> FloatArray:
    """Score as the script published with the paper does; slow, for comparison."""
    scores = np.full(design.is_member.shape, np.nan)
    for target in range(design.trials):
        silent = [target] if design.partner is None else [target, design.partner[target]]
        speaks = ~np.isin(np.arange(design.trials), silent)
        held = _first_models(views, design.is_member & speaks[:, None])
        other = _first_models(views, ~design.is_member & speaks[:, None])
        if other is None or (online and held is None):
            continue
        spread_out = np.std(other, axis=0)
        if held is not None and online:
            spread_in = np.std(held) if fixed_variance else np.std(held, axis=0)
            spread_out = spread_in if fixed_variance else spread_out
            log_in = _log_normal(views[target], np.median(held, axis=0), spread_in)
        elif fixed_variance:
            spread_out = np.std(other)
        log_out = _log_normal(views[target], np.median(other, axis=0), spread_out)
        scores[target] = ((log_in - log_out) if online else -log_out).mean(axis=1)
    return scores


def _first_models(views: FloatArray, models: BoolArray) -> FloatArray | None:
    """Return the values of each example's first models, as many as the poorest example has."""
    count = int(models.sum(axis=0).min())
    if count == 0:
        return None
    order = np.argsort(~models, axis=0, kind="stable")[:count]
    return np.take_along_axis(views, order[..., None], axis=0)


def _log_normal(x: FloatArray, mean: FloatArray, deviation: Any) -> FloatArray:
    spread = deviation + TINY_DEVIATION
    density: FloatArray = -(((x - mean) / spread) ** 2) / 2 - np.log(spread)
    density -= np.log(2 * np.pi) / 2
    return density
