from typing import Any

import numpy as np
from numpy.typing import NDArray

def sigmoid(scores: NDArray[np.float64], complement: bool, threads: int) -> NDArray[np.float64]: ...
def softmax(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.int64] | None, threads: int
) -> dict[str, NDArray[Any]]: ...
def extremes(
    values: NDArray[np.float64], ids: NDArray[np.int64] | None, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
def extremes_by_code(
    values: NDArray[np.float64],
    codes: NDArray[np.uint32],
    histogram: NDArray[np.int64],
    k: int,
    *columns: NDArray[np.float64] | NDArray[np.int64],
) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]: ...
def median(values: NDArray[np.float64]) -> float: ...

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
def resample_counts(
    codes: NDArray[np.uint16],
    row_weights: NDArray[np.uint16],
    column_weights: NDArray[np.uint16],
    bins: int,
    threads: int,
    isa: int,
) -> NDArray[np.int64]: ...
def threshold_codes(
    scores: NDArray[np.float64],
    kinds: NDArray[np.uint8],
    thresholds: NDArray[np.float64],
    codes: NDArray[np.uint16],
) -> None: ...
def best_places(
    rows: NDArray[np.int32],
    members: NDArray[np.bool_],
    last_of_equals: NDArray[np.bool_],
    partner: NDArray[np.int64] | None,
    row_count: int,
    threads: int,
) -> NDArray[np.int64]: ...
def sort(values: NDArray[np.float64]) -> None: ...
def sort_order(values: NDArray[np.float64]) -> NDArray[np.int64]: ...
def counts_below(
    points: NDArray[np.float64], values: NDArray[np.float64], up_to: bool
) -> NDArray[np.int64]: ...
def sort_columns(values: NDArray[np.float64], isa: int) -> None: ...
def auc_by_column(
    scores: NDArray[np.float64], members: NDArray[np.uint8], isa: int
) -> NDArray[np.float64]: ...
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
