from typing import Any

from numpy import float64, int64
from numpy.typing import NDArray

def extent(points: NDArray[Any], threads: int) -> tuple[NDArray[float64], NDArray[float64]]: ...
def euclidean(
    queries: NDArray[Any],
    training: NDArray[Any],
    query_labels: NDArray[int64] | None,
    training_labels: NDArray[int64] | None,
    self_index: NDArray[int64] | None,
    threads: int,
    isa: int,
) -> tuple[NDArray[float64], NDArray[int64], NDArray[float64] | None, NDArray[int64] | None]: ...
def angular(
    queries: NDArray[Any],
    training: NDArray[Any],
    query_labels: NDArray[int64] | None,
    training_labels: NDArray[int64] | None,
    self_index: NDArray[int64] | None,
    threads: int,
    isa: int,
) -> tuple[NDArray[float64], NDArray[int64], NDArray[float64] | None, NDArray[int64] | None]: ...
