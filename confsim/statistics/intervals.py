"""Intervals of rates, of AUCs, and of means over independent trials.

No interval reaches beyond what the figure can be: means are handled on a scale that has no ends.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_float64
from confsim.statistics.checks import check_level, check_membership
from confsim.statistics.order import ascending, counts_below

FloatArray = NDArray[np.float64]

#: Fewest trials for an interval over trials.
FEWEST_TRIALS = 3


def clopper_pearson(
    successes: ArrayLike, trials: ArrayLike, level: float = 0.95
) -> tuple[Any, Any]:
    """Return the exact binomial interval of a rate (Clopper & Pearson 1934), elementwise.

    Without trials nothing is known: (0, 1).

    Examples
    --------
    >>> from confsim.statistics import clopper_pearson
    >>> low, high = clopper_pearson(0, 100)
    >>> round(float(low), 4), round(float(high), 4)
    (0.0, 0.0362)
    """
    from scipy.special import betaincinv

    tail = (1 - check_level(level)) / 2
    k, n = as_float64("successes", successes), as_float64("trials", trials)
    if not np.all((k >= 0) & (k <= n)):
        raise ValueError("successes must be between 0 and trials")
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return low[()], high[()]


def student_t_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of values of independent trials, with its Student-t interval.

    For figures that may be any number; see :func:`mean_interval` for those that have bounds.
    NaN values (trials in which the figure is undefined) are left out; with fewer than three others
    the bounds are NaN.

    Returns
    -------
    mean, low, high : float

    Examples
    --------
    >>> from confsim.statistics import student_t_interval
    >>> [round(x, 3) for x in student_t_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.446, 4.554]
    """
    return mean_interval(values, level=level)


#: Bounds of a figure, for :func:`mean_interval`.
UNBOUNDED = (-math.inf, math.inf)
RATE = (0.0, 1.0)
CORRELATION = (-1.0, 1.0)
POSITIVE = (0.0, math.inf)


def mean_interval(
    values: ArrayLike, bounds: tuple[float, float] = UNBOUNDED, level: float = 0.95
) -> tuple[float, float, float]:
    """Return the mean of values of independent trials, with an interval inside ``bounds``.

    Student's t on a scale without ends: the logit between two bounds (for correlations that is
    Fisher's z, doubled), the logarithm above one. The standard error of the mean is carried there
    and back by the delta method, so that the interval is about the mean itself and holds it.
    Where all values are equal the interval is that value.

    Parameters
    ----------
    values : array_like
        NaN ones are left out; with fewer than three others the bounds are NaN.
    bounds : (low, high)
        What the figure can be; either end may be infinite: :data:`RATE`, :data:`CORRELATION`,
        :data:`POSITIVE`, :data:`UNBOUNDED`.
    level : float

    Returns
    -------
    mean, low, high : float

    Raises
    ------
    ValueError
        If a value is out of bounds.

    Examples
    --------
    >>> from confsim.statistics import RATE, mean_interval
    >>> [round(x, 3) for x in mean_interval([0.99, 1.0, 0.98, 1.0], RATE)]
    [0.992, 0.945, 0.999]
    """
    from scipy.special import stdtrit

    tail = (1 - check_level(level)) / 2
    low, high = bounds
    found = np.asarray(values, dtype=np.float64).reshape(-1)
    found = found[~np.isnan(found)]
    n = len(found)
    if not n:
        return math.nan, math.nan, math.nan
    # Sums leave rounding errors of a few units in the last place.
    slack = 1e-9 * max(1.0, *(abs(end) for end in bounds if math.isfinite(end)), 0.0)
    if found.min() < low - slack or found.max() > high + slack:
        raise ValueError(f"values must be between {low:g} and {high:g}")
    mean = float(np.clip(np.mean(found), low, high))
    if n < FEWEST_TRIALS:
        return mean, math.nan, math.nan
    if found.min() == found.max():
        return mean, mean, mean
    half = float(stdtrit(n - 1, 1 - tail) * np.std(found, ddof=1) / np.sqrt(n))
    return mean, *bounded_interval(mean, half, bounds)


def bounded_interval(value: float, half: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the interval of a half-width ``half`` about ``value``, bent to stay in bounds.

    See :func:`mean_interval`; NaN where ``value`` is at a bound and ``half`` is not 0.
    """
    low, high = bounds
    if half == 0:
        return value, value
    below, above = value - low, high - value
    if min(below, above) <= 0:
        return math.nan, math.nan
    if math.isinf(below) and math.isinf(above):
        return value - half, value + half
    with np.errstate(over="ignore"):
        if math.isinf(above):
            factor = np.exp(half / below)
            return float(low + below / factor), float(low + below * factor)
        if math.isinf(below):
            factor = np.exp(half / above)
            return float(high - above * factor), float(high - above / factor)
        # d logit(x) = dx (high - low) / (below * above)
        factor = np.exp(half * (1 / below + 1 / above))
    odds = below / above
    ends = [low + (high - low) * share for share in _shares(odds, float(factor))]
    return ends[0], ends[1]


def _shares(odds: float, factor: float) -> tuple[float, float]:
    """Return the shares whose odds are ``odds`` divided and multiplied by ``factor``."""
    return 1 / (1 + factor / odds), 1 - 1 / (1 + odds * factor)


def agresti_caffo(
    successes_a: ArrayLike,
    trials_a: ArrayLike,
    successes_b: ArrayLike,
    trials_b: ArrayLike,
    level: float = 0.95,
) -> tuple[FloatArray, FloatArray]:
    """Return an interval of the difference of two rates, a - b (Agresti & Caffo 2000), elementwise.

    Examples
    --------
    >>> from confsim.statistics import agresti_caffo
    >>> low, high = agresti_caffo(9, 10, 3, 10)
    >>> round(float(low), 3), round(float(high), 3)
    (0.16, 0.84)
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + check_level(level)) / 2))
    n_a, n_b = as_float64("trials_a", trials_a) + 2, as_float64("trials_b", trials_b) + 2
    a = (as_float64("successes_a", successes_a) + 1) / n_a
    b = (as_float64("successes_b", successes_b) + 1) / n_b
    half = z * np.sqrt(a * (1 - a) / n_a + b * (1 - b) / n_b)
    return np.maximum(a - b - half, -1.0), np.minimum(a - b + half, 1.0)


def delong_interval(
    scores: ArrayLike, is_member: ArrayLike, level: float = 0.95
) -> tuple[float, float, float]:
    """Return the AUC of one model's scores, with an interval over examples.

    The variance is that of DeLong, DeLong & Clarke-Pearson (1988), from mid-ranks (Sun & Xu 2014);
    the interval is normal on the logit scale. Where all members score above all non-members (or
    all below) that variance is 0; then the bound comes from the pairs of one member and one
    non-member that share no example: min(members, non-members) of them, all won, as a binomial.

    Parameters
    ----------
    scores : array_like
        Higher means "member"; NaN ones are left out.
    is_member : array_like of bool, same shape
    level : float

    Returns
    -------
    auc, low, high : float
        NaN without both classes; the bounds are NaN with fewer than two examples of either.

    Examples
    --------
    >>> from confsim.statistics import delong_interval
    >>> [round(x, 3) for x in delong_interval([4, 3, 2, 3, 1, 0], [1, 1, 1, 0, 0, 0])]
    [0.833, 0.249, 0.987]
    """
    return _interval(*delong(scores, is_member), level)


def placement_interval(
    of_members: FloatArray, of_others: FloatArray, level: float = 0.95
) -> tuple[float, float, float]:
    """Return what :func:`delong_interval` does, from placements.

    Parameters
    ----------
    of_members, of_others : ndarray
        The share of non-members below each member, and of members above each non-member, ties
        counting half.
    """
    return _interval(*_from_placements(of_members, of_others), level)


def _interval(
    area: float, deviation: float, fewest: int, level: float
) -> tuple[float, float, float]:
    from scipy.special import ndtri

    z = float(ndtri((1 + check_level(level)) / 2))
    if math.isnan(deviation):
        return area, math.nan, math.nan
    if area in (0.0, 1.0):
        bound = float(clopper_pearson(fewest, fewest, level)[0])
        return (area, bound, 1.0) if area == 1 else (area, 0.0, 1 - bound)
    return area, *bounded_interval(area, z * deviation, RATE)


def delong(scores: ArrayLike, is_member: ArrayLike) -> tuple[float, float, int]:
    """Return the AUC, DeLong's standard error of it, and the size of the smaller class.

    Parameters and NaN as in :func:`delong_interval`; NaN where undefined.
    """
    values = as_float64("scores", scores).reshape(-1)
    member = check_membership(is_member).reshape(-1)
    if values.shape != member.shape:
        raise ValueError(
            f"scores and is_member must have the same shape, not {np.shape(scores)} and "
            f"{np.shape(is_member)}"
        )
    known = ~np.isnan(values)
    x, y = ascending(values[known & member]), ascending(values[known & ~member])
    if min(len(x), len(y)) == 0:
        return math.nan, math.nan, 0
    return _from_placements(_share_below(y, x), 1 - _share_below(x, y))


def _from_placements(of_members: FloatArray, of_others: FloatArray) -> tuple[float, float, int]:
    area, fewest = float(np.mean(of_members)), min(len(of_members), len(of_others))
    if fewest < 2:
        return area, math.nan, fewest
    variance = sum(float(np.var(part, ddof=1)) / len(part) for part in (of_members, of_others))
    return area, math.sqrt(variance), fewest


def _share_below(reference: FloatArray, values: FloatArray) -> FloatArray:
    """Return the share of ``reference``, ascending, below each value, ties counting half."""
    below = counts_below(reference, values)
    up_to = counts_below(reference, values, up_to=True)
    found: FloatArray = (below + up_to) / (2 * len(reference))
    return found
