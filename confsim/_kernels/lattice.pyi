from typing import Any

from numpy import float64, int8, int32, int64
from numpy.typing import NDArray

SUM_LIMIT: int

def ascending(ids: NDArray[int64]) -> bool: ...
def points(
    step: float,
    per_axis: int,
    ids: NDArray[int64] | None,
    start: int,
    count: int,
    out: NDArray[float64],
    threads: int,
) -> None: ...
def labels(
    step: float,
    per_axis: int,
    ids: NDArray[int64] | None,
    start: int,
    count: int,
    weights: NDArray[float64],
    bias: float,
    out: NDArray[int8],
    threads: int,
) -> None: ...
def nearest(
    per_axis: int,
    ids: NDArray[int64] | None,
    start: int,
    count: int,
    training: NDArray[int32],
    step: int,
    unit: float,
    query_labels: NDArray[Any] | None,
    training_labels: NDArray[int64] | None,
    self_index: NDArray[int64] | None,
    distance: NDArray[float64],
    index: NDArray[int64] | None,
    distance_other: NDArray[float64] | None,
    index_other: NDArray[int64] | None,
    threads: int,
    isa: int,
) -> None: ...
