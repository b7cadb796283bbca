"""How exposed each example is, over trials, and how far such a figure can be trusted.

With a few dozen trials a figure of one example is mostly noise, and so is every list of the most
exposed ones; its split-half reliability says how much.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import check_integer, check_number
from confsim.membership.lira import FEW_SHADOW_MODELS
from confsim.membership.shadow import Design, make_design
from confsim.statistics import auc_by_column, spearman

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

#: Below this reliability a list of the most exposed examples is mostly noise.
MOSTLY_NOISE = 0.5

_BLOCK = 4096


def exposure(log_odds: ArrayLike, is_member: ArrayLike) -> FloatArray:
    """Measure how far each example's log-odds tell trials with it from trials without it.

    Parameters
    ----------
    log_odds : array_like, (trials, examples)
        Log-odds of the true class, or any statistic that is higher for members and was made for
        each trial without the others. (Scores of LiRA were not: the target is missing among its own
        shadow models, and their AUC for one example is below 0.5 when nothing leaks; see
        :func:`split_exposure`.)
    is_member : array_like of bool or 0/1, (trials, examples)

    Returns
    -------
    ndarray, (examples,)
        AUC over trials in and out: 0.5 in the mean if nothing leaks, exactly. NaN without both.

    Examples
    --------
    >>> from confsim.membership import exposure
    >>> exposure([[4.0, 1.0], [6.0, 2.0], [1.0, 1.5]], [[1, 1], [1, 0], [0, 0]]).tolist()
    [1.0, 0.0]
    """
    values = np.asarray(log_odds)
    if values.ndim != 2:
        raise ValueError(f"log_odds must have shape (trials, examples), not {values.shape}")
    design = make_design("log_odds", values, is_member)
    return _area(values, design.is_member)


def _area(values: NDArray[Any], member: BoolArray) -> FloatArray:
    found = np.empty(values.shape[1])
    for start in range(0, values.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        found[block] = auc_by_column(values[:, block].astype(np.float64), member[:, block])
    return found


def split_exposure(
    log_odds: ArrayLike,
    is_member: ArrayLike,
    *,
    partner: ArrayLike | None = None,
    seed: int = 0,
) -> FloatArray:
    """Measure exposure by LiRA, fitted on one half of the trials and scored on the other.

    Each half serves both ways, and the two AUCs are averaged. The variance is the pooled one below
    64 trials to fit on, as in :func:`lira`.

    Parameters
    ----------
    log_odds : array_like, (trials, examples)
    is_member : array_like of bool or 0/1, (trials, examples)
    partner : array_like of int, (trials,), optional
        Pairs of a balanced design stay together.
    seed : int
        Of the split.

    Returns
    -------
    ndarray, (examples,)
        0.5 in the mean if nothing leaks. NaN where a half lacks trials in or out.
    """
    values = np.asarray(log_odds)
    if values.ndim != 2:
        raise ValueError(f"log_odds must have shape (trials, examples), not {values.shape}")
    design = make_design("log_odds", values, is_member, partner)
    check_integer("seed", seed, minimum=0)
    halves = _halves(design, np.random.Generator(np.random.PCG64(seed)))
    areas = []
    for fitted, scored in (halves, halves[::-1]):
        scores = _fixed_lira(values, design.is_member, fitted, scored)
        areas.append(_area(scores, design.is_member[scored]))
    found: FloatArray = np.mean(areas, axis=0)
    return found


def _halves(design: Design, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Split the trials at random into two halves; pairs stay together."""
    partner = np.arange(design.trials) if design.partner is None else design.partner
    group = np.unique(np.minimum(np.arange(design.trials), partner), return_inverse=True)[1]
    groups = rng.permutation(int(group.max()) + 1)
    first = np.isin(group, groups[: len(groups) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def _fixed_lira(
    values: NDArray[Any], member: BoolArray, fitted: IntArray, scored: IntArray
) -> FloatArray:
    """Return the scores of some trials from distributions fitted to others, which share none."""
    x, held = values[fitted].astype(np.float64), member[fitted]
    target = values[scored].astype(np.float64)
    log_density = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for side in (held, ~held):
            count = side.sum(axis=0)
            centre = _median(x, side)
            square = np.where(side, x - centre, 0.0) ** 2
            if len(fitted) < FEW_SHADOW_MODELS:
                variance: Any = np.nansum(square) / max(1, int(count.sum()))
            else:
                variance = square.sum(axis=0) / count
            spread = np.sqrt(variance) + 1e-30
            log_density.append(-(((target - centre) / spread) ** 2) / 2 - np.log(spread))
    found: FloatArray = log_density[0] - log_density[1]
    return found


def _median(values: FloatArray, chosen: BoolArray) -> FloatArray:
    """Return the median of the chosen rows of each column, NaN without any."""
    ordered = np.sort(np.where(chosen, values, np.inf), axis=0)
    count = chosen.sum(axis=0)
    rows = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(values) - 1)])
    found: FloatArray = np.take_along_axis(ordered, rows, axis=0).mean(axis=0)
    return np.where(count > 0, found, np.nan)


# ---- reliability -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reliability:
    """How far a figure per example would come out again with other trials.

    Attributes
    ----------
    halves : float
        Spearman's correlation over examples between two random halves of the trials, mean over
        splits; NaN where it is undefined.
    splits, examples : int
        Random splits, and examples with a figure in both halves (fewest of any split).
    """

    halves: float
    splits: int
    examples: int

    @property
    def full(self) -> float:
        """Reliability of the figure from all trials: ``2 r / (1 + r)`` (Spearman & Brown 1910)."""
        return 2 * self.halves / (1 + self.halves) if self.halves > 0 else min(self.halves, 0.0)

    @property
    def mostly_noise(self) -> bool:
        """Whether a ranking of single examples by the figure is mostly noise."""
        return not self.full >= MOSTLY_NOISE

    def corrected(self, correlation: float, other: float = 1.0) -> float:
        """Return a correlation with the figure, corrected for its reliability (Spearman 1904).

        Parameters
        ----------
        correlation : float
            Between the figure from all trials and something else.
        other : float
            The reliability of that; 1 for what no trial changes.

        Returns
        -------
        float
            ``correlation / sqrt(full * other)``: an estimate that may exceed 1, NaN where the
            reliability is not positive.
        """
        check_number("other", other, above=0, maximum=1)
        if not self.full > 0:
            return float("nan")
        return float(correlation / np.sqrt(self.full * other))


def split_half_reliability(
    figure: Callable[[NDArray[Any], BoolArray], FloatArray],
    values: ArrayLike,
    is_member: ArrayLike,
    *,
    partner: ArrayLike | None = None,
    splits: int = 10,
    seed: int = 0,
) -> Reliability:
    """Compute a figure per example on two halves of the trials, and correlate the two.

    Parameters
    ----------
    figure : callable
        Takes values and membership of some trials, (trials, examples) each, and returns one number
        per example, as :func:`exposure` does.
    values : array_like, (trials, examples)
    is_member : array_like of bool or 0/1, (trials, examples)
    partner : array_like of int, (trials,), optional
        Pairs of a balanced design stay together.
    splits : int
        Random splits to average over.
    seed : int

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership import exposure, split_half_reliability
    >>> rng = np.random.default_rng(0)
    >>> member = rng.random((32, 400)) < 0.5
    >>> found = split_half_reliability(exposure, rng.normal(size=member.shape), member)
    >>> abs(found.halves) < 0.1, found.mostly_noise
    (True, True)
    """
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"values must have shape (trials, examples), not {array.shape}")
    design = make_design("values", array, is_member, partner)
    check_integer("splits", splits, minimum=1)
    check_integer("seed", seed, minimum=0)
    rng = np.random.Generator(np.random.PCG64(seed))
    found, fewest = [], array.shape[1]
    for _ in range(splits):
        halves = [figure(array[h], design.is_member[h]) for h in _halves(design, rng) if len(h)]
        if len(halves) < 2:
            return Reliability(float("nan"), 0, 0)
        both = ~np.isnan(halves[0]) & ~np.isnan(halves[1])
        fewest = min(fewest, int(np.count_nonzero(both)))
        found.append(spearman(halves[0], halves[1]))
    defined = [r for r in found if not np.isnan(r)]
    return Reliability(float(np.mean(defined)) if defined else float("nan"), splits, fewest)
