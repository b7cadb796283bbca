import numpy as np
from numpy.typing import NDArray

def rank_spread(
    counts: NDArray[np.int64], isa: int
) -> tuple[NDArray[np.int64], int, float, float]: ...
def rank_covariance(
    sums: NDArray[np.int64], ranks: NDArray[np.int64], total: int, isa: int
) -> float: ...
def count_pairs(
    members: NDArray[np.int64], non_members: NDArray[np.int64], descending: bool
) -> tuple[int, int, float, float]: ...
def midranks(
    values: NDArray[np.float64],
    codes: NDArray[np.uint32],
    shift: int,
    histogram: NDArray[np.int64],
    isa: int,
) -> NDArray[np.int32]: ...
