from typing import Any

import numpy as np
from numpy.typing import NDArray

def extremes(
    values: NDArray[np.float64], ids: NDArray[np.int64] | None, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def extremes_by_code(
    values: NDArray[np.float64],
    codes: NDArray[np.uint32],
    histogram: NDArray[np.int64],
    k: int,
    *columns: NDArray[np.float64] | NDArray[np.int64],
) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]: ...
def median(values: NDArray[np.float64]) -> float: ...
