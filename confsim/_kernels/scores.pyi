from typing import Any

import numpy as np
from numpy.typing import NDArray

def linear_scores(
    points: NDArray[np.floating[Any]], weights: NDArray[np.float64], bias: float, threads: int
) -> NDArray[np.float64]: ...
def lattice_margins(
    ids: NDArray[np.int64] | range,
    points_per_axis: int,
    granularity: float,
    weights: NDArray[np.float64],
    bias: float,
    ideal_weights: NDArray[np.float64],
    ideal_bias: float,
    margin: NDArray[np.float64],
    label: NDArray[np.int8] | None,
    threads: int,
    isa: int,
) -> tuple[float, float, int]: ...
