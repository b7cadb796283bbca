"""Exact nearest training points by Euclidean distance and by angle; ``csrc/nearest/nearest.h``.

Both searches take ``(queries, training, query_labels, training_labels, self_index, threads, isa)``
and return ``(distance, index, distance_excluding_self, index_excluding_self)``, the last two
``None`` unless ``self_index`` is given. Coordinates are trusted to be finite.
"""

import numpy as np

from libc.stdint cimport int64_t

from confsim._kernels._common cimport check, confsim_isa, confsim_matrix, confsim_status, matrix_of
from confsim._kernels._nearest cimport confsim_nearest

from confsim._kernels import memory

cdef extern from "nearest/nearest.h":
    ctypedef struct confsim_pairing:
        const int64_t *query_labels
        const int64_t *training_labels
        const int64_t *self_index
        const int64_t *query_groups
        const int64_t *training_groups
    enum:
        CONFSIM_ANGULAR_COLUMNS
        CONFSIM_MOST_NEIGHBORS
    confsim_status confsim_euclidean_extent(
        const confsim_matrix *matrix, double *low, double *high, int threads) nogil
    confsim_status confsim_euclidean_nearest(
        const confsim_matrix *queries, const confsim_matrix *training,
        const confsim_pairing *pairing, const confsim_nearest *answer,
        int threads, confsim_isa isa) nogil
    confsim_status confsim_euclidean_k_nearest(
        const confsim_matrix *queries, const confsim_matrix *training,
        const confsim_pairing *pairing, const confsim_nearest *answer, int64_t k,
        int threads, confsim_isa isa) nogil
    confsim_status confsim_angular_nearest(
        const confsim_matrix *queries, const confsim_matrix *training,
        const confsim_pairing *pairing, const confsim_nearest *answer,
        int threads, confsim_isa isa) nogil
    confsim_status confsim_angular_k_nearest(
        const confsim_matrix *queries, const confsim_matrix *training,
        const confsim_pairing *pairing, const confsim_nearest *answer, int64_t k,
        int threads, confsim_isa isa) nogil

#: Neighbours a query that `k_nearest` can be asked for.
MOST_NEIGHBORS = <int>CONFSIM_MOST_NEIGHBORS


def extent(points, int threads):
    """Return the corners ``(low, high)`` of the box around native float32 or float64 ``points``.

    Where an entry is NaN or infinite, some corner is not finite either.
    """
    cdef confsim_matrix matrix = matrix_of(points, "points")
    cdef confsim_status status
    cdef double[::1] low, high
    corners = np.full(matrix.columns, np.inf), np.full(matrix.columns, -np.inf)
    if matrix.rows == 0 or matrix.columns == 0:
        return corners
    low, high = corners
    with nogil:
        status = confsim_euclidean_extent(&matrix, &low[0], &high[0], threads)
    check(status, "the extent of the points")
    return corners


cdef class _Search:
    """One search: the arrays of the caller, the answers, and what C knows of both."""

    cdef confsim_matrix queries, training
    cdef confsim_pairing pairing
    cdef confsim_nearest answer
    cdef const int64_t[::1] query_labels, training_labels, self_index
    cdef const int64_t[::1] query_groups, training_groups
    cdef readonly tuple results

    def __cinit__(self, queries, training, query_labels, training_labels, self_index,
                  query_groups=None, training_groups=None, int64_t k=0):
        self.queries = matrix_of(queries, "queries")
        self.training = matrix_of(training, "training")
        if self.queries.columns != self.training.columns or self.queries.columns < 1:
            raise ValueError("queries and training must have the same, positive number of columns")
        if self.training.rows < 1:
            raise ValueError("training must have at least one row, of as many columns as queries")
        if (query_labels is None) != (training_labels is None):
            raise ValueError("query_labels and training_labels must be given together")
        self.pair(query_labels, training_labels, self_index)
        self.pair_groups(query_groups, training_groups)
        self.make_room(self_index is not None or query_groups is not None, k)

    cdef pair(self, query_labels, training_labels, self_index):
        cdef int64_t i, rows = self.queries.rows, n = self.training.rows
        self.pairing.query_labels = self.pairing.training_labels = self.pairing.self_index = NULL
        if query_labels is not None:
            self.query_labels, self.training_labels = query_labels, training_labels
            if self.query_labels.shape[0] != rows or self.training_labels.shape[0] != n:
                raise ValueError("labels must have one entry per row")
            if rows:
                self.pairing.query_labels = &self.query_labels[0]
                self.pairing.training_labels = &self.training_labels[0]
        if self_index is None:
            return
        self.self_index = self_index
        if self.self_index.shape[0] != rows:
            raise ValueError("self_index must have one entry per query")
        for i in range(rows):
            if self.self_index[i] < -1 or self.self_index[i] >= n:
                raise ValueError(
                    f"self_index must be -1 or a row of training, but entry {i} is "
                    f"{self.self_index[i]}"
                )
        if rows:
            self.pairing.self_index = &self.self_index[0]

    cdef pair_groups(self, query_groups, training_groups):
        self.pairing.query_groups = self.pairing.training_groups = NULL
        if (query_groups is None) != (training_groups is None):
            raise ValueError("query_groups and training_groups must be given together")
        if query_groups is None:
            return
        self.query_groups, self.training_groups = query_groups, training_groups
        if self.query_groups.shape[0] != self.queries.rows:
            raise ValueError("query_groups must have one entry per query")
        if self.training_groups.shape[0] != self.training.rows:
            raise ValueError("training_groups must have one entry per training row")
        if self.queries.rows:
            self.pairing.query_groups = &self.query_groups[0]
            self.pairing.training_groups = &self.training_groups[0]

    cdef make_room(self, bint both, int64_t k):
        cdef int64_t rows = self.queries.rows * (k if k else 1)
        cdef double[::1] distance
        cdef int64_t[::1] index
        self.answer.distance = self.answer.distance_other = NULL
        self.answer.index = self.answer.index_other = NULL
        self.results = tuple(
            memory.empty(rows, dtype) if both or place < 2 else None
            for place, dtype in enumerate((np.float64, np.int64, np.float64, np.int64))
        )
        if rows:
            distance, index = self.results[:2]
            self.answer.distance, self.answer.index = &distance[0], &index[0]
        if rows and both:
            distance, index = self.results[2:]
            self.answer.distance_other, self.answer.index_other = &distance[0], &index[0]
        if k:
            self.results = tuple(
                None if answers is None else answers.reshape(-1, k) for answers in self.results
            )


def euclidean(queries, training, query_labels, training_labels, self_index, int threads, int isa):
    """Return Euclidean distances and indices; see the module."""
    cdef confsim_status status
    cdef _Search s
    if len(training) >= 1 << 31:
        raise ValueError("training must have fewer than 2**31 points; search it in parts")
    s = _Search(queries, training, query_labels, training_labels, self_index)
    if s.queries.rows:
        with nogil:
            status = confsim_euclidean_nearest(
                &s.queries, &s.training, &s.pairing, &s.answer, threads, <confsim_isa>isa)
        check(status, "the nearest-neighbour search")
    return s.results


def angular(queries, training, query_labels, training_labels, self_index, int threads, int isa):
    """Return angular distances (theta / pi) and indices; see the module."""
    cdef confsim_status status
    cdef _Search s
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    s = _Search(queries, training, query_labels, training_labels, self_index)
    if s.queries.columns > CONFSIM_ANGULAR_COLUMNS:
        raise ValueError(
            f"queries and training may have at most {CONFSIM_ANGULAR_COLUMNS} columns for angles, "
            f"not {s.queries.columns}"
        )
    if s.queries.rows:
        with nogil:
            status = confsim_angular_nearest(
                &s.queries, &s.training, &s.pairing, &s.answer, threads, <confsim_isa>isa)
        check(status, "the nearest-neighbour search")
    return s.results


def k_nearest(queries, training, query_labels, training_labels, self_index, query_groups,
              training_groups, int64_t k, bint angles, int threads, int isa):
    """Return the distances and indices of the ``k`` nearest, arrays (q, k), by angle or not.

    The last two leave out a query's own row and the training rows of its group; they are ``None``
    unless ``self_index`` or groups are given. Where there are fewer than ``k``: NaN and -1.
    """
    cdef confsim_status status
    cdef _Search s
    if not 1 <= k <= CONFSIM_MOST_NEIGHBORS:
        raise ValueError(f"k must be between 1 and {CONFSIM_MOST_NEIGHBORS}, not {k}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    if len(training) >= 1 << 31:
        raise ValueError("training must have fewer than 2**31 points; search it in parts")
    s = _Search(queries, training, query_labels, training_labels, self_index, query_groups,
                training_groups, k)
    if angles and s.queries.columns > CONFSIM_ANGULAR_COLUMNS:
        raise ValueError(
            f"queries and training may have at most {CONFSIM_ANGULAR_COLUMNS} columns for angles, "
            f"not {s.queries.columns}"
        )
    if s.queries.rows == 0:
        return s.results
    with nogil:
        if angles:
            status = confsim_angular_k_nearest(
                &s.queries, &s.training, &s.pairing, &s.answer, k, threads, <confsim_isa>isa)
        else:
            status = confsim_euclidean_k_nearest(
                &s.queries, &s.training, &s.pairing, &s.answer, k, threads, <confsim_isa>isa)
    check(status, "the nearest-neighbour search")
    return s.results
