"""The k lowest and the k highest values, and the median (csrc/select.h)."""

from libc.stdint cimport int64_t, uint32_t

import numpy as np

cdef extern from "status.h":
    ctypedef enum confsim_status:
        CONFSIM_OK

cdef extern from "select.h" nogil:
    confsim_status confsim_extremes(const double *values, const int64_t *ids, int64_t count, int64_t k,
                                    int64_t *bottom, int64_t *top)
    confsim_status confsim_extremes_by_code(const double *values, const int64_t *ids, const uint32_t *codes,
                                            const int64_t *histogram, int64_t count, int64_t k,
                                            int64_t *bottom, int64_t *top)
    confsim_status confsim_median(const double *values, int64_t count, double *median)
    enum:
        CONFSIM_SELECT_BUCKETS


def extremes(const double[::1] values, ids, int64_t k):
    """Return (bottom, top): rows of the k lowest, ascending, and of the k highest, descending.

    ``values`` are finite; equal values are ordered by ``ids`` (None: by row).
    """
    cdef const int64_t[::1] given
    cdef const int64_t *id_pointer = NULL
    cdef int64_t count = values.shape[0]
    cdef confsim_status status
    if not 0 <= k <= count:
        raise ValueError(f"k must be between 0 and {count}, not {k}")
    bottom = np.empty(k, dtype=np.int64)
    top = np.empty(k, dtype=np.int64)
    cdef int64_t[::1] low = bottom
    cdef int64_t[::1] high = top
    if k == 0:
        return bottom, top
    if ids is not None:
        given = ids
        if given.shape[0] != count:
            raise ValueError("ids must have one entry for each value")
        id_pointer = &given[0]
    with nogil:
        status = confsim_extremes(&values[0], id_pointer, count, k, &low[0], &high[0])
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory to select extremes")
    return bottom, top


def extremes_by_code(const double[::1] values, const uint32_t[::1] codes, const int64_t[::1] histogram,
                     int64_t k):
    """Return what :func:`extremes` does, equal values by row, from what a tally left.

    ``codes`` are those of ``tally.Counts.add``, and ``histogram`` counts them by confidence bin.
    """
    cdef int64_t count = values.shape[0]
    cdef confsim_status status
    if not 0 <= k <= count:
        raise ValueError(f"k must be between 0 and {count}, not {k}")
    if codes.shape[0] != count or histogram.shape[0] != CONFSIM_SELECT_BUCKETS:
        raise ValueError("codes must have one entry for each value, histogram one for each bin")
    if np.sum(histogram) != count:
        raise ValueError(f"histogram must count {count} values")
    bottom = np.empty(k, dtype=np.int64)
    top = np.empty(k, dtype=np.int64)
    cdef int64_t[::1] low = bottom
    cdef int64_t[::1] high = top
    if k == 0:
        return bottom, top
    with nogil:
        status = confsim_extremes_by_code(&values[0], NULL, &codes[0], &histogram[0], count, k, &low[0],
                                          &high[0])
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory to select extremes")
    return bottom, top


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
