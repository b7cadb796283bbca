"""Whether a figure of each example would be found again with other trials: split-half reliability.

Arrays in, numbers out; what the figure is, the caller knows.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from confsim.statistics import spearman, spearman_brown
from confsim.statistics.checks import check_row_groups

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Of fewer bins no order could be found again.
_FEWEST_BINS = 3


def halves(trials: int, row_groups: ArrayLike | None = None) -> tuple[IntArray, IntArray]:
    """Divide trials in two, alternately: rows of the first half, and of the second.

    Parameters
    ----------
    trials : int
    row_groups : array_like, (trials,), optional
        Trials of one group, the pairs of a balanced design, stay together.
    """
    second = check_row_groups(row_groups, trials) % 2 == 1
    return np.flatnonzero(~second), np.flatnonzero(second)


def reliability(
    measure: Callable[[IntArray], FloatArray], trials: int, row_groups: ArrayLike | None = None
) -> float:
    """Return the split-half reliability of a per-example figure.

    The figure is measured on either half of the trials; the Spearman correlation of the two over
    examples, stepped up to all trials (Spearman-Brown), is the share of the figure's variance that
    would be found again with other trials: the rest is noise of the draw.

    Parameters
    ----------
    measure : callable
        Returns the figure, (examples,), of the trials whose rows it is given.
    trials : int
    row_groups : array_like, (trials,), optional
        See :func:`halves`.

    Returns
    -------
    float
        At most 1; about 0, or negative, for pure noise; NaN where a half says nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from confsim.membership.reliability import reliability
    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(size=1000) + rng.normal(size=(8, 1000))
    >>> round(reliability(lambda rows: values[rows].mean(axis=0), 8), 1)  # 1 / (1 + 1/8)
    0.9
    """
    parts = halves(trials, row_groups)
    if min(len(part) for part in parts) == 0:
        return float("nan")
    return reliability_of_halves(*(measure(part) for part in parts))


def reliability_of_bins(
    measure: Callable[[IntArray], FloatArray],
    bins: Sequence[IntArray],
    trials: int,
    row_groups: ArrayLike | None = None,
) -> float:
    """Return the split-half reliability of a per-example figure's means in bins.

    Parameters
    ----------
    measure, trials, row_groups
        As in :func:`reliability`.
    bins : sequence of ndarray of int64
        The examples of each bin; one bin alone has no order that could be found again.

    Returns
    -------
    float
        Whether other trials would order the bins alike; NaN for fewer than three bins.
    """
    parts = halves(trials, row_groups)
    if min(len(part) for part in parts) == 0 or len(bins) < _FEWEST_BINS:
        return float("nan")
    return reliability_of_halves(*(measure(part) for part in parts), bins=bins)


def reliability_of_halves(
    first: FloatArray, second: FloatArray, *, bins: Sequence[IntArray] | None = None
) -> float:
    """Return the reliability of a figure, (examples,), that either half of the trials gave.

    With ``bins`` that of its means in them, as :func:`reliability_of_bins`.
    """
    if bins is None:
        return spearman_brown(spearman(first, second))
    if len(bins) < _FEWEST_BINS:
        return float("nan")
    return spearman_brown(spearman(_means(first, bins), _means(second, bins)))


def _means(figure: FloatArray, bins: Sequence[IntArray]) -> FloatArray:
    known = [figure[chosen][~np.isnan(figure[chosen])] for chosen in bins]
    return np.array([part.mean() if len(part) else np.nan for part in known])
