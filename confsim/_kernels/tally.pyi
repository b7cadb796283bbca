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
    ) -> None: ...
    @property
    def distance_fine_scale(self) -> float: ...
    @property
    def moments(self) -> NDArray[np.float64]: ...
    def add(
        self,
        confidence: NDArray[np.float64],
        distance: NDArray[np.float64],
        threads: int,
        isa: int,
    ) -> NDArray[np.uint32]: ...

def rank_products(
    codes: NDArray[np.uint32],
    distance: NDArray[np.float64],
    confidence_rank: NDArray[np.float64],
    distance_rank: NDArray[np.float64],
    total: float,
    threads: int,
) -> float: ...
