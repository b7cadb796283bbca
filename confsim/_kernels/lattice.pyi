from typing import Any, TypeAlias

from numpy import float64, int8, int32, int64
from numpy.typing import NDArray

SUM_LIMIT: int

_Lattice: TypeAlias = tuple[float, int, int]
_Ids: TypeAlias = tuple[NDArray[int64] | None, int, int]
_Hyperplane: TypeAlias = tuple[NDArray[float64], float]

def ascending(ids: NDArray[int64]) -> bool: ...
def points(lattice: _Lattice, ids: _Ids, out: NDArray[float64], threads: int) -> None: ...
def labels(
    lattice: _Lattice,
    ids: _Ids,
    weights: NDArray[float64],
    bias: float,
    out: NDArray[int8],
    threads: int,
) -> None: ...
def margins(
    lattice: _Lattice,
    ids: _Ids,
    learned: _Hyperplane,
    ideal: _Hyperplane,
    margin: NDArray[float64],
    label: NDArray[int8] | None,
    threads: int,
    isa: int,
) -> tuple[float, float, int]: ...
def nearest(
    lattice: _Lattice,
    ids: _Ids,
    training: tuple[NDArray[int32], int, float],
    pairing: tuple[NDArray[Any] | None, NDArray[int64] | None, NDArray[int64] | None],
    out: tuple[
        NDArray[float64], NDArray[int64] | None, NDArray[float64] | None, NDArray[int64] | None
    ],
    threads: int,
    isa: int,
) -> None: ...
