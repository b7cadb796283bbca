"""The k lowest and the k highest values, and the median (csrc/select.h)."""

from libc.stdint cimport int64_t, uint32_t

import numpy as np

cdef extern from "core/status.h":
    ctypedef enum confsim_status:
        CONFSIM_OK

cdef extern from "stats/select.h" nogil:
    ctypedef struct confsim_extreme:
        int64_t *rows
        double *values
    confsim_status confsim_extremes(const double *values, const int64_t *ids, int64_t count, int64_t k,
                                    confsim_extreme bottom, confsim_extreme top)
    ctypedef struct confsim_select_column:
        const void *source "from"
        void *bottom
        void *top
    confsim_status confsim_extremes_by_code(const double *values, const int64_t *ids, const uint32_t *codes,
                                            const int64_t *histogram, int64_t count, int64_t k,
                                            confsim_extreme bottom, confsim_extreme top,
                                            const confsim_select_column *columns, int column_count)
    confsim_status confsim_median(const double *values, int64_t count, double *median)
    enum:
        CONFSIM_SELECT_BUCKETS


cdef class _Side:
    """Room for one extreme: its rows, its values, and what a kernel writes them by."""

    cdef readonly object rows, values
    cdef confsim_extreme out

    def __cinit__(self, int64_t k):
        self.rows, self.values = np.empty(k, dtype=np.int64), np.empty(k)
        cdef int64_t[::1] rows = self.rows
        cdef double[::1] values = self.values
        if k:
            self.out = confsim_extreme(&rows[0], &values[0])


def extremes(const double[::1] values, ids, int64_t k):
    """Return (bottom, top): rows of the k lowest, ascending, and of the k highest, descending.

    ``values`` are finite; equal values are ordered by ``ids`` (None: by row).
    """
    cdef const int64_t[::1] given
    cdef const int64_t *id_pointer = NULL
    cdef int64_t count = values.shape[0]
    cdef confsim_status status = CONFSIM_OK
    if not 0 <= k <= count:
        raise ValueError(f"k must be between 0 and {count}, not {k}")
    cdef _Side bottom = _Side(k), top = _Side(k)
    if ids is not None and k:
        given = ids
        if given.shape[0] != count:
            raise ValueError("ids must have one entry for each value")
        id_pointer = &given[0]
    if k:
        with nogil:
            status = confsim_extremes(&values[0], id_pointer, count, k, bottom.out, top.out)
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory to select extremes")
    return bottom.rows, top.rows


def extremes_by_code(const double[::1] values, const uint32_t[::1] codes, const int64_t[::1] histogram,
                     int64_t k, *columns):
    """Return two tuples, of the k lowest and of the k highest values, in order; equal ones by row.

    ``codes`` are those of ``tally.Counts.add``, and ``histogram`` counts them by confidence bin.
    ``columns``, float64 or int64, have one entry for each value. A tuple holds the rows, the values
    and the rows' entries of each column.
    """
    cdef int64_t count = values.shape[0]
    cdef confsim_select_column along[4]
    cdef int column_count = len(columns)
    cdef const int64_t[::1] source
    cdef int64_t[::1] low, high
    cdef confsim_status status = CONFSIM_OK
    if not 0 <= k <= count:
        raise ValueError(f"k must be between 0 and {count}, not {k}")
    if codes.shape[0] != count or histogram.shape[0] != CONFSIM_SELECT_BUCKETS:
        raise ValueError("codes must have one entry for each value, histogram one for each bin")
    if np.sum(histogram) != count:
        raise ValueError(f"histogram must count {count} values")
    if column_count > 4:
        raise ValueError(f"columns must be at most 4, not {column_count}")
    cdef _Side bottom = _Side(k), top = _Side(k)
    taken = [], []
    for c, column in enumerate(columns):
        if column.shape != (count,) or column.dtype not in (np.float64, np.int64):
            raise ValueError("columns must have one entry for each value, float64 or int64")
        lowest, highest = np.empty(k, dtype=column.dtype), np.empty(k, dtype=column.dtype)
        taken[0].append(lowest)
        taken[1].append(highest)
        if k:
            source, low, high = column.view(np.int64), lowest.view(np.int64), highest.view(np.int64)
            along[c] = confsim_select_column(&source[0], &low[0], &high[0])
    if k:
        with nogil:
            status = confsim_extremes_by_code(&values[0], NULL, &codes[0], &histogram[0], count, k, bottom.out,
                                              top.out, along, column_count)
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory to select extremes")
    return (bottom.rows, bottom.values, *taken[0]), (top.rows, top.values, *taken[1])


def median(const double[::1] values):
    """Return the median of finite values, as ``numpy.median`` does."""
    cdef double found
    cdef confsim_status status
    if values.shape[0] == 0:
        raise ValueError("values must hold at least one value")
    with nogil:
        status = confsim_median(&values[0], values.shape[0], &found)
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory for a median")
    return found
