"""Histograms of resampled matrices (csrc/resample.h)."""

from libc.stdint cimport int32_t, int64_t, uint16_t

import numpy as np

cdef extern from "stats/bootstrap.h" nogil:
    void confsim_resample(const uint16_t *codes, int64_t rows, int64_t columns, const int32_t *row_weights,
                          const int32_t *column_weights, int64_t replicates, int64_t bins, int64_t *counts,
                          int threads)


def resample_counts(const uint16_t[:, ::1] codes, const int32_t[:, ::1] row_weights,
                    const int32_t[:, ::1] column_weights, int64_t bins, int threads):
    """Return (replicates, bins) int64: how often each code is in each replicate.

    Parameters
    ----------
    codes : (rows, columns) uint16
    row_weights, column_weights : (replicates, rows) and (replicates, columns) int32
        How often a replicate holds each row and each column.
    bins : int
        Codes are below it.
    threads : int
    """
    cdef int64_t rows = codes.shape[0], columns = codes.shape[1], replicates = row_weights.shape[0]
    if row_weights.shape[1] != rows or column_weights.shape[1] != columns:
        raise ValueError("weights must have one column for each row and each column of codes")
    if column_weights.shape[0] != replicates:
        raise ValueError("row_weights and column_weights must have equally many replicates")
    if rows == 0 or columns == 0 or replicates == 0:
        raise ValueError("codes and weights must not be empty")
    if np.max(codes) >= bins:
        raise ValueError(f"codes must be below bins = {bins}")
    counts = np.empty((replicates, bins), dtype=np.int64)
    cdef int64_t[:, ::1] view = counts
    with nogil:
        confsim_resample(&codes[0, 0], rows, columns, &row_weights[0, 0], &column_weights[0, 0], replicates, bins,
                         &view[0, 0], threads)
    return counts
