"""Exact nearest training points by Euclidean distance; see ``csrc/euclidean.h``."""

import numpy as np

from confsim._kernels import memory

from libc.stdint cimport int64_t

cdef extern from "core/isa.h":
    ctypedef enum confsim_isa:
        CONFSIM_ISA_PORTABLE

cdef extern from "core/status.h":
    ctypedef enum confsim_status:
        CONFSIM_OK

cdef extern from "core/matrix.h":
    ctypedef struct confsim_matrix:
        const char *data
        int64_t rows, columns, row_stride, column_stride
        int is_float32

cdef extern from "nearest/nearest.h":
    ctypedef struct confsim_pairing:
        const int64_t *query_labels
        const int64_t *training_labels
        const int64_t *self_index
    ctypedef struct confsim_nearest:
        double *distance
        int64_t *index
        double *distance_other
        int64_t *index_other

cdef extern from "nearest/euclidean.h":
    confsim_status confsim_euclidean_extent(const confsim_matrix *matrix, double *low, double *high,
                                            int threads) nogil
    confsim_status confsim_euclidean_nearest(
        const confsim_matrix *queries, const confsim_matrix *training,
        const confsim_pairing *pairing, const confsim_nearest *answer,
        int threads, confsim_isa isa) nogil

ctypedef fused real:
    float
    double


cdef confsim_matrix matrix_of(const real[:, :] array):
    cdef confsim_matrix matrix
    matrix.rows, matrix.columns = array.shape[0], array.shape[1]
    matrix.row_stride, matrix.column_stride = array.strides[0], array.strides[1]
    matrix.data = <const char *>&array[0, 0] if matrix.rows > 0 and matrix.columns > 0 else NULL
    matrix.is_float32 = real is float
    return matrix


cdef confsim_matrix view(array):
    cdef const float[:, :] single
    cdef const double[:, :] double_
    if not array.flags.aligned:
        raise ValueError("points must be aligned in memory")
    if array.dtype == np.float32:
        single = array
        return matrix_of(single)
    double_ = array
    return matrix_of(double_)


def extent(points, int threads):
    """Return the corners ``(low, high)`` of the box around native float32 or float64 ``points``.

    Where an entry is NaN or infinite, some corner is not finite either.
    """
    cdef confsim_matrix matrix = view(points)
    cdef confsim_status status
    cdef double[::1] low, high
    corners = np.full(matrix.columns, np.inf), np.full(matrix.columns, -np.inf)
    if matrix.rows == 0 or matrix.columns == 0:
        return corners
    low, high = corners
    with nogil:
        status = confsim_euclidean_extent(&matrix, &low[0], &high[0], threads)
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory for the extent of the points")
    return corners


def nearest(queries, training, const int64_t[::1] query_labels, const int64_t[::1] training_labels,
            const int64_t[::1] self_index, int threads, int isa):
    """Distances and indices of the nearest training points.

    Returns ``(distance, index, distance_excluding_self, index_excluding_self)``, the last two
    ``None`` unless ``self_index`` is given. Arguments are trusted to be valid: finite, not empty,
    of matching lengths, native float32 or float64.
    """
    cdef confsim_matrix q = view(queries), t = view(training)
    cdef confsim_pairing pairing
    cdef confsim_nearest answer
    cdef confsim_status status
    cdef double[::1] distance, distance_other
    cdef int64_t[::1] index, index_other
    if q.columns != t.columns or t.rows < 1 or q.columns < 1:
        raise ValueError("queries and training must have the same, positive number of columns")
    if t.rows >= 1 << 31:
        raise ValueError("training must have fewer than 2**31 points; search it in parts")
    results = [memory.empty(q.rows, np.float64), memory.empty(q.rows, np.int64), None, None]
    if self_index is not None:
        results[2:] = memory.empty(q.rows, np.float64), memory.empty(q.rows, np.int64)
    if q.rows == 0:
        return tuple(results)
    distance, index = results[0], results[1]
    answer.distance, answer.index = &distance[0], &index[0]
    answer.distance_other, answer.index_other = NULL, NULL
    pairing.query_labels = pairing.training_labels = pairing.self_index = NULL
    if query_labels is not None:
        if query_labels.shape[0] != q.rows or training_labels.shape[0] != t.rows:
            raise ValueError("labels must have one entry a row")
        pairing.query_labels, pairing.training_labels = &query_labels[0], &training_labels[0]
    if self_index is not None:
        if self_index.shape[0] != q.rows:
            raise ValueError("self_index must have one entry a query")
        pairing.self_index = &self_index[0]
        distance_other, index_other = results[2], results[3]
        answer.distance_other, answer.index_other = &distance_other[0], &index_other[0]
    with nogil:
        status = confsim_euclidean_nearest(&q, &t, &pairing, &answer, threads, <confsim_isa>isa)
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory for the nearest-neighbour search")
    return tuple(results)
