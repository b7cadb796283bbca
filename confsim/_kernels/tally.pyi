import numpy as np
from numpy.typing import NDArray

GRID: int
FINE: int

class Counts:
    grid: NDArray[np.int64]
    fine_confidence: NDArray[np.int64]
    fine_distance: NDArray[np.int64]
    def __init__(
        self,
        *,
        confidence_divisor: float,
        grid_low: float,
        grid_scale: float,
        fine_low: float,
        fine_scale: float,
        distance_divisor: float,
        distance_fine_scale: float,
        fine: bool = True,
    ) -> None: ...
    @property
    def missing(self) -> int: ...
    @property
    def confidence(self) -> NDArray[np.int64]: ...
    @property
    def moments(self) -> NDArray[np.float64]: ...
    def add_grid(
        self, confidence: NDArray[np.float64], distance: NDArray[np.float64], isa: int
    ) -> None: ...
    def add(
        self,
        confidence: NDArray[np.float64],
        distance: NDArray[np.float64],
        threads: int,
        isa: int,
    ) -> NDArray[np.uint32]: ...

def rank_sums(
    codes: NDArray[np.uint32],
    distance: NDArray[np.float64] | None,
    rank: NDArray[np.int64],
    sums: NDArray[np.int64],
    threads: int,
) -> None: ...
def rows_in_bins(
    codes: NDArray[np.uint32], confidence: NDArray[np.uint32], distance: NDArray[np.uint32]
) -> NDArray[np.uint32]: ...
