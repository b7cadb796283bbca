"""Arrays of float64 in ascending order, NaN last: by compiled code where that is faster.

Its time does not depend on the numbers. Other types, and short arrays, are NumPy's.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

#: From so many numbers on, the compiled code is faster.
_MANY = 512

#: Up to so many, the order is found in memory of its own: 24 bytes for each.
_MOST = 1 << 25

#: Points for each value up to which it is faster to pass all of them than to look places up.
_PASSED = 8


def ascending(values: NDArray[Any]) -> NDArray[Any]:
    """Return a sorted copy of a one-dimensional array; equal zeros are in any order."""
    from confsim._kernels.stats import sort

    if values.dtype != np.float64 or len(values) < _MANY:
        return np.sort(values)
    found = np.array(values)
    sort(found)
    return found


def ascending_order(values: NDArray[Any]) -> IntArray:
    """Return the places of values in ascending order; equal ones and NaN stay as they come."""
    from confsim._kernels.stats import sort_order

    if values.dtype != np.float64 or not _MANY <= len(values) <= _MOST:
        return np.argsort(values, kind="stable")
    return sort_order(np.ascontiguousarray(values))


def ascending_columns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put the columns of a matrix in order, in place where it is contiguous; return it."""
    from confsim._kernels import resolve_isa
    from confsim._kernels.stats import sort_columns

    found = np.ascontiguousarray(values)
    sort_columns(found, resolve_isa())
    return found


def counts_below(points: NDArray[Any], values: NDArray[Any], *, up_to: bool = False) -> IntArray:
    """Count the points below each value, with ``up_to`` also those equal to it.

    Parameters
    ----------
    points, values : ndarray
        Both in ascending order, and without NaN.
    up_to : bool
    """
    from confsim._kernels import stats

    exact = points.dtype == values.dtype == np.float64
    if not exact or len(values) < _MANY or len(points) > _PASSED * len(values):
        return np.searchsorted(points, values, side="right" if up_to else "left")
    return stats.counts_below(np.ascontiguousarray(points), np.ascontiguousarray(values), up_to)
