import numpy as np
from numpy.typing import NDArray

def resample_counts(
    codes: NDArray[np.uint16],
    row_weights: NDArray[np.int32],
    column_weights: NDArray[np.int32],
    bins: int,
    threads: int,
) -> NDArray[np.int64]: ...
