"""Spearman's rank correlation, with its interval, within groups, and corrected for attenuation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim._errors import as_float64, as_reals
from confsim.statistics.checks import check_level
from confsim.statistics.order import ascending_order

FloatArray = NDArray[np.float64]


#: A reliability below this corrects nothing: the figure divided by it would be arbitrary.
LEAST_RELIABILITY = 0.05


@dataclass(frozen=True)
class Correlation:
    """A correlation of ``pairs`` pairs, with its interval."""

    value: float
    low: float
    high: float
    pairs: int


def average_ranks(values: ArrayLike, groups: ArrayLike | None = None) -> FloatArray:
    """Return 1-based ranks, tied values sharing their mean; within each group where there are any.

    Examples
    --------
    >>> from confsim.statistics import average_ranks
    >>> average_ranks([5, 1, 1]).tolist()
    [3.0, 1.5, 1.5]
    >>> average_ranks([5, 1, 1], groups=[0, 0, 1]).tolist()
    [2.0, 1.0, 1.0]
    """
    found = as_reals("values", values)
    if groups is None:
        order = ascending_order(found)
        ranks = np.empty(len(found))
        ranks[order] = ranks_of_sorted(found[order])
        return ranks
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    kinds, dense = np.unique(found, return_inverse=True)
    key = group.astype(np.int64) * len(kinds) + dense  # rises with (group, value), ties with both
    order = np.argsort(key, kind="stable")
    sizes = np.bincount(group)
    before = np.cumsum(sizes) - sizes
    ranks = np.empty(len(found))
    ranks[order] = ranks_of_sorted(key[order]) - before[group[order]]
    return ranks


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's rank correlation; pairs with NaN are left out, NaN where it is undefined.

    Examples
    --------
    >>> from confsim.statistics import spearman
    >>> spearman([1, 2, 3, 4], [1, 8, 27, 64])
    1.0
    """
    return spearman_interval(x, y).value


def spearman_interval(
    x: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, level: float = 0.95
) -> Correlation:
    """Return Spearman's rank correlation with an interval over independent pairs.

    With ``groups``, values are ranked within each group, the ranks are centred and divided by the
    group's size, and all groups are pooled: what remains is the association inside groups.

    The interval is Fisher's, with the variance ``(1 + r**2 / 2) / (n - 3)`` of Bonett & Wright
    (2000); each group costs one of the n. Pairs with NaN are left out.

    Parameters
    ----------
    x, y : array_like, (n,)
    groups : array_like, (n,), optional
    level : float

    Examples
    --------
    Opposite trends between the groups and within them:

    >>> from confsim.statistics import spearman_interval
    >>> x, y, group = [1, 2, 3, 11, 12, 13], [3, 2, 1, 13, 12, 11], [0, 0, 0, 1, 1, 1]
    >>> round(spearman_interval(x, y).value, 3), round(spearman_interval(x, y, group).value, 3)
    (0.543, -1.0)
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + check_level(level)) / 2))
    a, b = as_float64("x", x), as_float64("y", y)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"x and y must be equally long, not {a.shape} and {b.shape}")
    known = ~(np.isnan(a) | np.isnan(b))
    label = None if groups is None else np.asarray(groups)
    if label is not None and label.shape != a.shape:
        raise ValueError(f"groups must be as long as x, {len(a)}, not {label.shape}")
    a, b = a[known], b[known]
    n = len(a)
    if n == 0:
        return Correlation(float("nan"), float("nan"), float("nan"), 0)
    u, v, kinds = _centred_ranks(a, b, None if label is None else label[known])
    spread = float(np.sum(u * u)) * float(np.sum(v * v))
    if spread == 0:
        return Correlation(float("nan"), float("nan"), float("nan"), n)
    r = float(np.clip(np.sum(u * v) / np.sqrt(spread), -1, 1))
    free = n - (kinds - 1)
    if free <= 3:
        return Correlation(r, float("nan"), float("nan"), n)
    with np.errstate(divide="ignore"):
        centre = np.arctanh(r)
    half = z * np.sqrt((1 + r * r / 2) / (free - 3))
    return Correlation(r, float(np.tanh(centre - half)), float(np.tanh(centre + half)), n)


def _centred_ranks(
    a: FloatArray, b: FloatArray, labels: NDArray[Any] | None
) -> tuple[FloatArray, FloatArray, int]:
    """Return ranks about their middle as a share of their group, and the number of groups."""
    if labels is None:
        size: Any = len(a)
        ranks, kinds = (_ranks_of_known(a), _ranks_of_known(b)), 1
    else:
        names, group = np.unique(labels, return_inverse=True)
        size, kinds = np.bincount(group)[group], len(names)
        ranks = average_ranks(a, group), average_ranks(b, group)
    u, v = ((found - (size + 1) / 2) / size for found in ranks)
    return u, v, kinds


def _ranks_of_known(values: FloatArray) -> FloatArray:
    """Return :func:`average_ranks` of values without NaN: equal ones may be in any order."""
    order = ascending_order(values)
    ranks = np.empty(len(values))
    ranks[order] = ranks_of_sorted(values[order])
    return ranks


def spearman_brown(half: float) -> float:
    """Return the reliability of all trials from the correlation of their two halves.

    ``2 r / (1 + r)`` (Spearman 1910, Brown 1910); NaN at ``r = -1``.

    Examples
    --------
    >>> from confsim.statistics import spearman_brown
    >>> spearman_brown(0.5)
    0.6666666666666666
    """
    return 2 * half / (1 + half) if half > -1 else float("nan")


def corrected_for_attenuation(found: Correlation, reliability: float) -> Correlation:
    """Return what a correlation would be if one of its variables were measured without noise.

    ``r / sqrt(reliability)`` (Spearman 1904), and the same for the interval, which does not account
    for the uncertainty of the reliability; all cut at -1 and 1. NaN where the reliability is below
    0.05 or unknown: noise cannot be corrected.

    Examples
    --------
    >>> from confsim.statistics import Correlation, corrected_for_attenuation
    >>> corrected_for_attenuation(Correlation(0.3, 0.2, 0.4, 100), 0.25)
    Correlation(value=0.6, low=0.4, high=0.8, pairs=100)
    """
    if not reliability >= LEAST_RELIABILITY:
        return Correlation(float("nan"), float("nan"), float("nan"), found.pairs)
    ends = (found.value, found.low, found.high)
    value, low, high = (float(np.clip(x / np.sqrt(reliability), -1, 1)) for x in ends)
    return Correlation(value, low, high, found.pairs)


def ranks_of_sorted(ordered: NDArray[Any]) -> FloatArray:
    """Return 1-based ranks of sorted values, tied ones sharing their mean."""
    if not len(ordered):
        return np.empty(0)
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered))
    sizes = np.diff(ends, prepend=0)
    return np.repeat(ends - (sizes - 1) / 2, sizes)
