from typing import Any

from numpy import float64, int64
from numpy.typing import NDArray

MOST_NEIGHBORS: int

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
def k_nearest(
    queries: NDArray[Any],
    training: NDArray[Any],
    query_labels: NDArray[int64] | None,
    training_labels: NDArray[int64] | None,
    self_index: NDArray[int64] | None,
    query_groups: NDArray[int64] | None,
    training_groups: NDArray[int64] | None,
    k: int,
    angles: bool,
    threads: int,
    isa: int,
) -> tuple[NDArray[float64], NDArray[int64], NDArray[float64] | None, NDArray[int64] | None]: ...
