"""Exact nearest training points by angle; see ``csrc/angular.h``."""

import numpy as np

from libc.stdint cimport int64_t

from confsim._kernels.matrix cimport confsim_matrix, matrix_of

cdef extern from "core/isa.h":
    ctypedef enum confsim_isa:
        CONFSIM_ISA_PORTABLE

cdef extern from "core/status.h":
    ctypedef enum confsim_status:
        CONFSIM_OK

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

cdef extern from "nearest/angular.h":
    enum:
        CONFSIM_ANGULAR_COLUMNS
    confsim_status confsim_angular_nearest(
        const confsim_matrix *queries, const confsim_matrix *training,
        const confsim_pairing *pairing, const confsim_nearest *answer,
        int threads, confsim_isa isa) nogil


def nearest(queries, training, const int64_t[::1] query_labels, const int64_t[::1] training_labels,
            const int64_t[::1] self_index, int threads, int isa):
    """Angular distances (theta / pi) and indices of the nearest training points.

    Returns ``(distance, index, distance_excluding_self, index_excluding_self)``, the last two
    ``None`` unless ``self_index`` is given. Coordinates are trusted to be finite.
    """
    cdef confsim_matrix q = matrix_of(queries, "queries"), t = matrix_of(training, "training")
    cdef confsim_pairing pairing
    cdef confsim_nearest answer
    cdef confsim_status status
    cdef double[::1] distance, distance_other
    cdef int64_t[::1] index, index_other
    cdef int64_t i
    if q.columns != t.columns or t.rows < 1 or q.columns < 1:
        raise ValueError("queries and training must have the same, positive number of columns")
    if q.columns > CONFSIM_ANGULAR_COLUMNS:
        raise ValueError(
            f"queries and training may have at most {CONFSIM_ANGULAR_COLUMNS} columns for angles, "
            f"not {q.columns}"
        )
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    if (query_labels is None) != (training_labels is None):
        raise ValueError("query_labels and training_labels must be given together")
    results = [np.empty(q.rows, np.float64), np.empty(q.rows, np.int64), None, None]
    if self_index is not None:
        results[2], results[3] = np.empty(q.rows, np.float64), np.empty(q.rows, np.int64)
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
        for i in range(q.rows):
            if self_index[i] < -1 or self_index[i] >= t.rows:
                raise ValueError(f"self_index must be -1 or a row of training, but entry {i} is {self_index[i]}")
        pairing.self_index = &self_index[0]
        distance_other, index_other = results[2], results[3]
        answer.distance_other, answer.index_other = &distance_other[0], &index_other[0]
    with nogil:
        status = confsim_angular_nearest(&q, &t, &pairing, &answer, threads, <confsim_isa>isa)
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory for the nearest-neighbour search")
    return tuple(results)
