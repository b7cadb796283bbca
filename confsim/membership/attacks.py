"""Membership-inference attacks on arrays: each trial is a target, the others are its shadow models.

Arrays have the shape ``(trials, examples)``, or ``(trials, examples, augmentations)`` where each
example was seen several times; ``is_member`` says which trial was trained on which example. Every
attack returns scores of shape ``(trials, examples)``, higher meaning "member", NaN where there are
too few shadow models.

Who may speak about a target. The target itself never does. In a balanced design neither does its
``partner``, the trial trained on the complement: it knows the target's members. With ``trim``, each
example is described by equally many models that held it and that did not, and by equally many for
every target: where each example is held by a fixed number of models, the counts alone would tell
members from others.

All work is done in blocks of examples, and no example is compared with another one by one, so
memory stays within a few times the input.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_choice, check_finite, check_integer, check_number
from confsim._kernels import resolve_threads

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

#: Below this many shadow models LiRA's variances are pooled over examples.
FEW_SHADOW_MODELS = 64

#: Added to standard deviations, as in the published code of LiRA.
TINY_DEVIATION = 1e-30

_BLOCK = 1024


# ---- global thresholds -------------------------------------------------------------------------


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
    signed: dict[str, tuple[float, Any]] = {
        "confidence": (1, log_odds_max),
        "loss": (1, log_odds_true),
        "modified_entropy": (-1, modified_entropy),
        "entropy": (-1, entropy),
        "correctness": (1, correct),
        "closeness": (-1, distance_excluding_self),
    }
    return {
        name: sign * _one_view(np.asarray(values, dtype=np.float64))
        for name, (sign, values) in signed.items()
        if values is not None
    }


def _one_view(scores: FloatArray) -> FloatArray:
    return scores.mean(axis=2) if scores.ndim == 3 else scores


# ---- shadow models -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Design:
    """Which trials were trained on which examples, and who may speak about whom.

    Attributes
    ----------
    is_member : ndarray of bool, (trials, examples)
    partner : ndarray of int64, (trials,), or None
        In a balanced design, the trial that was trained on the complement.
    trim : bool
        Whether each example is described by equally many models in and out.
    seed : int
        Decides which models are left out where there are too many.
    """

    is_member: BoolArray
    partner: IntArray | None = None
    trim: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        member = self.is_member
        if member.ndim != 2 or member.dtype != np.bool_:
            raise ValueError("is_member must be a boolean array (trials, examples)")
        check_integer("seed", self.seed, minimum=0)
        if self.partner is not None:
            self._check_partner(self.partner)
            if self.trim:
                raise ValueError("trim is for designs without partner")

    def _check_partner(self, partner: IntArray) -> None:
        trials = np.arange(self.trials)
        if partner.shape != (self.trials,) or not np.isin(partner, trials).all():
            raise ValueError("partner must hold the number of a trial for each trial")
        if np.any(partner[partner] != trials) or np.any(partner == trials):
            raise ValueError("partner must pair the trials off")
        for trial in trials:
            if np.any(self.is_member[trial] == self.is_member[partner[trial]]):
                raise ValueError(
                    f"partner of trial {trial} is trial {partner[trial]}, which was not trained "
                    "on the complement"
                )

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.is_member)

    @property
    def shadow_models(self) -> int:
        """Number of trials that may speak about a target."""
        return self.trials - (1 if self.partner is None else 2)

    def blocks(self) -> Iterator[slice]:
        """Yield the examples of one piece of work each; part of what ``seed`` means."""
        for start in range(0, self.is_member.shape[1], _BLOCK):
            yield slice(start, start + _BLOCK)

    def sides(self, block: slice) -> tuple["_Side", "_Side"]:
        """Return the models with and those without each example of a block."""
        member = self.is_member[:, block]
        if self.trim:
            return self._trimmed(member, block)
        own = np.arange(self.trials)[:, None]
        other = -1 if self.partner is None else self.partner[:, None]
        return (
            _Side(member, np.where(member, own, other)),
            _Side(~member, np.where(member, other, own)),
        )

    def _trimmed(self, member: BoolArray, block: slice) -> tuple["_Side", "_Side"]:
        """Keep ``c + 1`` models a side, of which one is left out for every target.

        The target itself is left out where it is among them, else the last of them, so that ``c``
        models remain on both sides whether the target was trained on the example or not.
        """
        rng = np.random.Generator(np.random.PCG64([self.seed, block.start]))
        priority = rng.random(member.shape)
        fewest = np.minimum(member.sum(axis=0), (~member).sum(axis=0))
        own = np.arange(self.trials)[:, None]
        sides = []
        for held in (member, ~member):
            order = np.argsort(np.where(held, priority, np.inf), axis=0)
            chosen = held & (_inverse(order) < fewest)
            last = np.take_along_axis(order, np.maximum(fewest - 1, 0)[None], axis=0)
            sides.append(_Side(chosen, np.where(chosen, own, np.where(fewest > 0, last, -1))))
        return sides[0], sides[1]


@dataclass(frozen=True, eq=False)
class _Side:
    """Models of one kind for a block of examples.

    ``models`` (trials, block) says which there are, ``left_out`` (trials, block) which of them may
    not speak about a target, -1 for none.
    """

    models: BoolArray
    left_out: IntArray

    @property
    def counts(self) -> IntArray:
        """Models that speak about each target and example."""
        found: IntArray = self.models.sum(axis=0) - (self.left_out >= 0)
        return found

    def reduce(self, terms: FloatArray, ufunc: np.ufunc) -> FloatArray:
        """Reduce ``terms`` over the models that may speak about each target.

        ``terms`` are the ufunc's identity where there is no model. What is left out is never
        added and subtracted again, so nothing cancels.
        """
        without, everyone = _without_each(terms, ufunc)
        chosen = np.take_along_axis(without, np.maximum(self.left_out, 0), axis=0)
        return np.where(self.left_out >= 0, chosen, everyone)


def _without_each(terms: FloatArray, ufunc: np.ufunc) -> tuple[FloatArray, FloatArray]:
    """Return the reductions over axis 0 without each row in turn, and that over all rows."""
    nothing = -np.inf if ufunc is np.logaddexp else 0.0
    before = np.full_like(terms, nothing)
    after = np.full_like(terms, nothing)
    before[1:] = ufunc.accumulate(terms[:-1], axis=0)
    after[:-1] = ufunc.accumulate(terms[:0:-1], axis=0)[::-1]
    return ufunc(before, after), ufunc(before[-1], terms[-1])


def _inverse(order: IntArray) -> IntArray:
    """Return each entry's place in an ordering of axis 0."""
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(len(order))[:, None], axis=0)
    return places


def _design(
    values: FloatArray,
    is_member: ArrayLike,
    partner: ArrayLike | None,
    trim: bool,
    seed: int,
) -> Design:
    member = np.asarray(is_member)
    if member.dtype != np.bool_:
        raise TypeError(f"is_member must be boolean, not {member.dtype}")
    if values.ndim not in (2, 3) or values.shape[:2] != member.shape:
        raise ValueError(
            "log_odds must have shape (trials, examples) or (trials, examples, augmentations) and "
            f"is_member (trials, examples), not {values.shape} and {member.shape}"
        )
    if values.size == 0:
        raise ValueError("log_odds must not be empty")
    check_finite("log_odds", values)
    partners = None if partner is None else np.asarray(partner, dtype=np.int64)
    return Design(member, partners, trim, seed)


def _each_block(design: Design, work: Callable[[slice], Any], n_threads: int | None) -> list[Any]:
    """Call ``work`` for every block, on several threads; return the results in order."""
    with ThreadPoolExecutor(resolve_threads(n_threads)) as pool:
        return list(pool.map(work, design.blocks()))


# ---- LiRA --------------------------------------------------------------------------------------


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

    residuals = np.sum(_each_block(design, fit, n_threads), axis=0)
    return Gaussians(median, deviation, models, residuals)


def _fit_side(
    values: FloatArray, side: _Side
) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
    """Return medians, standard deviations, counts, and the sums of residuals of each target."""
    order = np.argsort(np.where(side.models, values, np.inf), axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    place = np.take_along_axis(_inverse(order), np.maximum(side.left_out, 0), axis=0)
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
    design = _design(values, is_member, partner, trim, seed)
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


# ---- RMIA --------------------------------------------------------------------------------------


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
    design = _design(values, is_member, partner, trim, seed)
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

    _each_block(design, work, n_threads)
    return ratios


def _holdout_log_ratios(log_odds: FloatArray, design: Design, online: bool, a: float) -> FloatArray:
    """Return log(p(z | theta) / p(z)): every model but the target (and its partner) is out."""
    log_p = _log_probability(log_odds)
    if design.partner is None:
        without, _ = _without_each(log_p, np.logaddexp)
    else:
        first = np.flatnonzero(np.arange(design.trials) < design.partner)
        pairs = np.logaddexp(log_p[first], log_p[design.partner[first]])
        pairwise, _ = _without_each(pairs, np.logaddexp)
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
