"""Points of a regular lattice, their labels, their nearest training points; see ``csrc/lattice.h``.

Ids are a contiguous int64 array, or ``None`` for the ``count`` ids from ``start`` on.
"""

import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t

cdef extern from "core/isa.h":
    ctypedef enum confsim_isa:
        CONFSIM_ISA_PORTABLE

cdef extern from "core/status.h":
    ctypedef enum confsim_status:
        CONFSIM_OK
        CONFSIM_INVALID

cdef extern from "nearest/nearest.h":
    ctypedef struct confsim_nearest:
        double *distance
        int64_t *index
        double *distance_other
        int64_t *index_other

cdef extern from "lattice/lattice.h":
    ctypedef struct confsim_lattice:
        double step
        int64_t per_axis, dimensions
    ctypedef struct confsim_ids:
        const int64_t *ids
        int64_t start, count
    ctypedef struct confsim_lattice_training:
        const int32_t *points
        int64_t count
        int32_t step
        double unit
    ctypedef struct confsim_lattice_pairing:
        const void *query_labels
        int query_label_bytes
        const int64_t *training_labels
        const int64_t *self_index
    const int64_t CONFSIM_LATTICE_SUM_LIMIT
    int confsim_lattice_ascending(const int64_t *ids, int64_t count) nogil
    void confsim_lattice_points(const confsim_lattice *lattice, const confsim_ids *ids,
                                double *points, int threads) nogil
    void confsim_lattice_labels(const confsim_lattice *lattice, const confsim_ids *ids,
                                const double *weights, double bias, int8_t *labels,
                                int threads) nogil
    confsim_status confsim_lattice_nearest(
        const confsim_lattice *lattice, const confsim_ids *ids,
        const confsim_lattice_training *training, const confsim_lattice_pairing *pairing,
        const confsim_nearest *answer, int threads, confsim_isa isa) nogil

#: Squared distances, in units, that :func:`nearest` can search are below this.
SUM_LIMIT = CONFSIM_LATTICE_SUM_LIMIT


cdef confsim_ids ids_of(const int64_t[::1] ids, int64_t start, int64_t count) except *:
    cdef confsim_ids wanted
    wanted.ids, wanted.start, wanted.count = NULL, start, count
    if ids is not None:
        wanted.count = ids.shape[0]
        if wanted.count > 0:
            wanted.ids = &ids[0]
    return wanted


def ascending(const int64_t[::1] ids):
    """Whether every id is greater than the one before it."""
    cdef int answer = 1
    if ids.shape[0] > 0:
        with nogil:
            answer = confsim_lattice_ascending(&ids[0], ids.shape[0])
    return bool(answer)


def points(double step, int64_t per_axis, ids, int64_t start, int64_t count, double[:, ::1] out,
           int threads):
    """Write coordinates to ``out``, shape (count, dimensions)."""
    cdef confsim_lattice lattice
    cdef confsim_ids wanted = ids_of(ids, start, count)
    lattice.step, lattice.per_axis, lattice.dimensions = step, per_axis, out.shape[1]
    if out.shape[0] != wanted.count:
        raise ValueError("out must have one row an id")
    if wanted.count > 0:
        with nogil:
            confsim_lattice_points(&lattice, &wanted, &out[0, 0], threads)


def labels(double step, int64_t per_axis, ids, int64_t start, int64_t count,
           const double[::1] weights, double bias, int8_t[::1] out, int threads):
    """Write +1 or -1 to ``out``, shape (count,)."""
    cdef confsim_lattice lattice
    cdef confsim_ids wanted = ids_of(ids, start, count)
    lattice.step, lattice.per_axis, lattice.dimensions = step, per_axis, weights.shape[0]
    if out.shape[0] != wanted.count:
        raise ValueError("out must have one entry an id")
    if wanted.count > 0:
        with nogil:
            confsim_lattice_labels(&lattice, &wanted, &weights[0], bias, &out[0], threads)


def nearest(int64_t per_axis, ids, int64_t start, int64_t count, const int32_t[:, ::1] training,
            int32_t step, double unit, query_labels, const int64_t[::1] training_labels,
            const int64_t[::1] self_index, double[::1] distance, int64_t[::1] index,
            double[::1] distance_other, int64_t[::1] index_other, int threads, int isa):
    """Write distances and indices to the arrays that are given; all but ``distance`` may be ``None``.

    ``training`` and ``step`` are in units of ``unit``, a power of two; ids ascend strictly. Query
    labels are int8 or int64. Arguments are trusted to be valid, but for the entries of
    ``self_index``: where one is out of range, this raises ValueError when the others are done.
    """
    cdef confsim_lattice lattice
    cdef confsim_ids wanted = ids_of(ids, start, count)
    cdef confsim_lattice_training points
    cdef confsim_lattice_pairing pairing
    cdef confsim_nearest answer
    cdef confsim_status status
    cdef const int8_t[::1] bytes_
    cdef const int64_t[::1] words
    cdef int64_t q = wanted.count
    if training.shape[0] < 1 or distance.shape[0] != q:
        raise ValueError("training must not be empty, and distance must have one entry an id")
    for given in (index, distance_other, index_other, self_index, query_labels):
        if given is not None and given.shape[0] != q:
            raise ValueError("every array must have one entry an id")
    if q == 0:
        return
    lattice.step, lattice.per_axis, lattice.dimensions = step * unit, per_axis, training.shape[1]
    points.points, points.count = &training[0, 0], training.shape[0]
    points.step, points.unit = step, unit
    pairing.query_labels = pairing.training_labels = pairing.self_index = NULL
    pairing.query_label_bytes = 8
    if query_labels is not None:
        if training_labels.shape[0] != training.shape[0]:
            raise ValueError("training_labels must have one entry a training point")
        pairing.training_labels = &training_labels[0]
        if query_labels.dtype == np.int8:
            bytes_ = query_labels
            pairing.query_labels, pairing.query_label_bytes = &bytes_[0], 1
        else:
            words = query_labels
            pairing.query_labels = &words[0]
    answer.distance = &distance[0]
    answer.index = answer.index_other = NULL
    answer.distance_other = NULL
    if index is not None:
        answer.index = &index[0]
    if self_index is not None:
        pairing.self_index = &self_index[0]
        if distance_other is not None:
            answer.distance_other = &distance_other[0]
        if index_other is not None:
            answer.index_other = &index_other[0]
    with nogil:
        status = confsim_lattice_nearest(&lattice, &wanted, &points, &pairing, &answer, threads,
                                         <confsim_isa>isa)
    if status == CONFSIM_INVALID:
        raise ValueError("self_index must be -1 or a row of training")
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory for the nearest-neighbour search")
