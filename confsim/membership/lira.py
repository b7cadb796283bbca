"""LiRA, the likelihood-ratio attack (Carlini et al. 2022), on arrays (trials, examples[, views]).

Every trial is in turn the target, the others are its shadow models (see ``shadow``). Views are read
block by block, twice where variances are pooled: nothing of the size of all views is ever made.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_array, check_choice, check_number
from confsim.membership.shadow import (
    Design,
    Side,
    block_views,
    each_block,
    make_design,
    room_for_scores,
    views_of,
)

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
    models : ndarray of int32, (2, trials, examples)
        How many models voted.
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
        return _pooled_deviation(self.residuals)

    def deviations(self, shrinkage: float, side: int) -> FloatArray:
        """Return standard deviations, never 0; NaN where a side has too few models."""
        pooled = self.pooled_deviation[side][:, None]
        return _deviations(self.deviation[side], self.models[side], pooled, shrinkage)


def _pooled_deviation(residuals: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, square = residuals[:, 1:].swapaxes(0, 1) / residuals[:, 0]
    found: FloatArray = np.sqrt(np.maximum(square - mean**2, 0.0))
    return found


def _deviations(
    own: FloatArray | None, models: NDArray[Any], pooled: FloatArray | None, shrinkage: float
) -> FloatArray:
    """Return ``sqrt((n own**2 + k pooled**2) / (n + k))`` + 1e-30, ``k`` the shrinkage."""
    if shrinkage == np.inf or own is None:
        spread = np.broadcast_to(np.asarray(pooled), models.shape)
    elif shrinkage == 0 or pooled is None:
        spread = own
    else:
        variance = models * own**2 + shrinkage * pooled**2
        spread = np.sqrt(variance / (models + shrinkage))
    return np.where(models >= (2 if shrinkage == 0 else 1), spread + TINY_DEVIATION, np.nan)


def fit_gaussians(
    log_odds: NDArray[Any], design: Design, *, n_threads: int | None = None
) -> Gaussians:
    """Fit both normal distributions of every example, for every target.

    Parameters
    ----------
    log_odds : ndarray, (trials, examples)
    design : Design
    n_threads : int, optional
    """
    if not isinstance(design, Design):
        raise TypeError(f"design must be a Design of is_member, not {type(design).__name__}")
    shape = (2, *design.is_member.shape)
    median, deviation = np.empty(shape), np.empty(shape)
    models = np.empty(shape, dtype=np.int32)

    def fit(block: slice) -> FloatArray:
        values = log_odds[:, block].astype(np.float64)
        sums = np.empty((2, 3, design.trials))
        for k, side in enumerate(design.sides(block)):
            found = _Fit.of(values, side)
            median[k, :, block], deviation[k, :, block] = found.median, found.deviation
            models[k, :, block] = found.models
            sums[k] = found.residuals()
        return sums

    residuals = np.sum(each_block(design, fit, n_threads), axis=0)
    return Gaussians(median, deviation, models, residuals)


@dataclass(frozen=True, eq=False)
class _Fit:
    """One side of a block: medians, and sums of offsets from the medians of all models.

    Those lie between the models that remain, so that squares lose no more digits than they would
    about the mean.
    """

    median: FloatArray
    models: IntArray
    centre: FloatArray
    first: FloatArray
    second: FloatArray

    @classmethod
    def of(cls, values: FloatArray, side: Side) -> "_Fit":
        median, centre = side.medians(values)
        offsets = np.where(side.models, values - centre, 0.0)
        models = side.counts
        first = side.sum(offsets)
        second = side.sum(np.square(offsets, out=offsets))
        return cls(np.where(models > 0, median, np.nan), models, centre, first, second)

    @property
    def deviation(self) -> FloatArray:
        """Standard deviations (ddof 0), NaN where there is no model."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self.first / self.models
            variance = self.second / self.models
        variance -= mean * mean
        found: FloatArray = np.sqrt(np.maximum(variance, 0.0))
        return found

    def residuals(self) -> FloatArray:
        """Return number, sum and sum of squares (3, trials) of what is left about the medians."""
        known = self.models > 0
        shift = np.where(known, self.median - self.centre, 0.0)
        first, second, held = (
            np.where(known, x, 0.0) for x in (self.first, self.second, self.models)
        )
        parts = [held, first - held * shift, second - 2 * shift * first + held * shift**2]
        return np.stack([part.sum(axis=1) for part in parts])


def lira_scores(
    log_odds: FloatArray,
    gaussians: Gaussians,
    *,
    online: bool,
    fixed_variance: bool = False,
    shrinkage: float | None = None,
) -> FloatArray:
    """Return the scores of LiRA from distributions that :func:`fit_gaussians` found."""
    weight = (np.inf if fixed_variance else 0.0) if shrinkage is None else shrinkage
    out = gaussians.median[1], gaussians.deviations(weight, 1)
    if not online:
        return _offline(log_odds, *out)
    return _online(log_odds, gaussians.median[0], gaussians.deviations(weight, 0), *out)


def _offline(x: FloatArray, median: FloatArray, spread: FloatArray) -> FloatArray:
    found: FloatArray = (x - median) / spread
    return found


def _online(
    x: FloatArray, m_in: FloatArray, s_in: FloatArray, m_out: FloatArray, s_out: FloatArray
) -> FloatArray:
    z_in, z_out = (x - m_in) / s_in, (x - m_out) / s_out
    found: FloatArray = (z_out * z_out - z_in * z_in) / 2
    found += np.log(s_out) - np.log(s_in)
    return found


def lira(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    online: bool = True,
    fixed_variance: bool | None = None,
    shrinkage: float | None = None,
    partner: ArrayLike | None = None,
    trim: bool = False,
    seed: int = 0,
    reading: str = "confsim",
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    r"""Likelihood-ratio attack (Carlini et al. 2022), every trial in turn the target.

    Online, the score of an example is
    :math:`\log N(x; m_{in}, s_{in}) - \log N(x; m_{out}, s_{out})`; offline it is
    :math:`z = (x - m_{out}) / s_{out}`, which ranks like :math:`\Phi(z)` and does not saturate.
    ``m`` is the median and ``s`` the standard deviation (ddof 0) + 1e-30 over shadow models.

    Parameters
    ----------
    log_odds : array_like, (trials, examples[, augmentations])
        Log-odds of the true class, of any float type, memory-mapped or not. Scores are averaged
        over augmentations; a fixed variance is one for all of them, as in both published programs.
    is_member : array_like of bool or 0/1, (trials, examples)
    online : bool
        Whether models that were trained on the example are used.
    fixed_variance : bool, optional
        Whether ``s`` is the standard deviation of the residuals about ``m`` of all examples, in and
        out separately. By default below 64 shadow models.
    shrinkage : float, optional
        Between the two: ``s**2 = (n s_own**2 + k s_fixed**2) / (n + k)`` with ``n`` the shadow
        models of the side and ``k`` this number, so that the fixed variance counts as ``k`` models
        and its share fades as shadow models grow. 0 is the own and ``inf`` the fixed variance.
        Takes the place of ``fixed_variance``.
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
    out : ndarray of float64, (trials, examples), optional
        Where scores are written, memory-mapped perhaps.

    Returns
    -------
    ndarray, (trials, examples)
        Higher means "member"; NaN with fewer than 2 models per side (1 unless the variance is the
        example's own; offline only models without the example count).

    Notes
    -----
    Assumes that membership was drawn independently of everything else, and the same training for
    all trials. The score is no probability: what it says about one example depends on how normal
    the log-odds are, and at very low false-positive rates on their tails.

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
    values = as_array("log_odds", log_odds)
    check_choice("reading", reading, ("confsim", "tfp", "carlini-code"))
    design = make_design("log_odds", values, is_member, partner, trim, seed)
    weight = _weight(fixed_variance, shrinkage, design)
    if reading == "carlini-code":
        if weight not in (0.0, np.inf):
            raise ValueError('shrinkage is not part of reading "carlini-code"')
        views = values.astype(np.float64)
        views = views[..., None] if views.ndim == 2 else views
        scores = room_for_scores(design, out, np.nan)
        scores[...] = _published_script(views, design, online, weight == np.inf)
        return scores
    pooled = None if weight == 0 else pooled_deviation(values, design, n_threads)
    how: dict[str, Any] = {"reading": reading, "n_threads": n_threads, "out": out}
    return streamed_scores(values, design, pooled, online=online, weight=weight, **how)


def streamed_scores(
    values: NDArray[Any],
    design: Design,
    pooled: FloatArray | None,
    *,
    online: bool,
    weight: float,
    reading: str = "confsim",
    n_threads: int | None = None,
    out: FloatArray | None = None,
) -> FloatArray:
    """Return the scores of :func:`lira` from what :func:`pooled_deviation` found.

    Parameters
    ----------
    values : ndarray, (trials, examples[, views])
    design : Design
    pooled : ndarray, (2, trials), or None
        Not needed where each example has a variance of its own.
    online, reading, n_threads, out
        As in :func:`lira`.
    weight : float
        How many models the pooled variance counts as: 0 for none, inf for nothing else.
    """
    scores = room_for_scores(design, out, 0.0)

    def work(block: slice) -> None:
        in_out = design.sides(block)
        for view in block_views(values, block):
            found: list[FloatArray] = []
            for k in (0, 1) if online else (1,):
                spread = None if weight == 0 or pooled is None else pooled[k][:, None]
                found += _normal(view, in_out[k], spread, weight)
            if online:
                scores[:, block] += _online(view, *found)
            elif reading == "tfp":
                z = _offline(view, *found)
                scores[:, block] += z * z / 2 + np.log(found[1]) + np.log(2 * np.pi) / 2
            else:
                scores[:, block] += _offline(view, *found)

    each_block(design, work, n_threads)
    scores /= views_of(values)
    return scores


def _weight(fixed_variance: bool | None, shrinkage: float | None, design: Design) -> float:
    """Return how many models the pooled variance counts as: 0 for none, inf for nothing else."""
    if shrinkage is not None:
        if fixed_variance is not None:
            raise ValueError("give shrinkage or fixed_variance, not both")
        is_inf = isinstance(shrinkage, float) and shrinkage == np.inf
        return np.inf if is_inf else check_number("shrinkage", shrinkage, minimum=0)
    if fixed_variance is None:
        fixed_variance = design.shadow_models < FEW_SHADOW_MODELS
    return np.inf if fixed_variance else 0.0


def pooled_deviation(
    values: NDArray[Any], design: Design, n_threads: int | None = None
) -> FloatArray:
    """Return the standard deviations (2, trials) about the medians of all examples and views."""

    def work(block: slice) -> FloatArray:
        sums = np.zeros((2, 3, design.trials))
        in_out = design.sides(block)
        for view in block_views(values, block):
            for k, side in enumerate(in_out):
                sums[k] += _Fit.of(view, side).residuals()
        return sums

    return _pooled_deviation(np.sum(each_block(design, work, n_threads), axis=0))


def _normal(
    values: FloatArray, side: Side, pooled: FloatArray | None, shrinkage: float
) -> tuple[FloatArray, FloatArray]:
    """Return median and standard deviation of one side, for every target of a block."""
    if shrinkage == np.inf:
        median, models = side.medians(values)[0], side.counts
        return median, _deviations(None, models, pooled, shrinkage)
    fit = _Fit.of(values, side)
    return fit.median, _deviations(fit.deviation, fit.models, pooled, shrinkage)


def _published_script(
    views: FloatArray, design: Design, online: bool, fixed_variance: bool
) -> FloatArray:
    """Score as the script published with the paper does; slow, for comparison."""
    scores = np.full(design.is_member.shape, np.nan)
    for target in range(design.trials):
        excluded = [target] if design.partner is None else [target, design.partner[target]]
        votes = ~np.isin(np.arange(design.trials), excluded)
        held = _first_models(views, design.is_member & votes[:, None])
        other = _first_models(views, ~design.is_member & votes[:, None])
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
