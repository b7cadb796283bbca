import numpy as np
from numpy.typing import NDArray

def extremes(
    values: NDArray[np.float64], ids: NDArray[np.int64] | None, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
