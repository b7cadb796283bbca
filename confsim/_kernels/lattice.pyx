"""Points of a regular lattice: coordinates, labels, margins, nearest training points.

See ``csrc/lattice/lattice.h``. ``lattice`` is ``(step, points per axis, dimensions)``. ``ids`` is
``(array, start, count)``: a contiguous int64 array, or ``None`` for the ``count`` ids from
``start`` on.
"""

import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t

from confsim._kernels._common cimport check, confsim_isa, confsim_status
from confsim._kernels._nearest cimport confsim_nearest

cdef extern from "lattice/lattice.h":
    ctypedef struct confsim_lattice:
        double step
        int64_t per_axis, dimensions
    ctypedef struct confsim_ids:
        const int64_t *ids
        int64_t start, count
    ctypedef struct confsim_hyperplane:
        const double *weights
        double bias
    ctypedef struct confsim_margin_summary:
        double low, high
        int64_t right
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
    void confsim_lattice_points(
        const confsim_lattice *lattice, const confsim_ids *ids, double *points, int threads) nogil
    void confsim_lattice_labels(
        const confsim_lattice *lattice, const confsim_ids *ids, const double *weights, double bias,
        int8_t *labels, int threads) nogil
    confsim_status confsim_lattice_margins(
        const confsim_lattice *lattice, const confsim_ids *ids, const confsim_hyperplane *learned,
        const confsim_hyperplane *ideal, double *margin, int8_t *label,
        confsim_margin_summary *summary, int threads, confsim_isa isa) nogil
    confsim_status confsim_lattice_nearest(
        const confsim_lattice *lattice, const confsim_ids *ids,
        const confsim_lattice_training *training, const confsim_lattice_pairing *pairing,
        const confsim_nearest *answer, int threads, confsim_isa isa) nogil

#: Squared distances, in units, that :func:`nearest` can search are below this.
SUM_LIMIT = CONFSIM_LATTICE_SUM_LIMIT


cdef confsim_ids ids_of(given) except *:
    """Describe ids; the caller keeps the array alive."""
    cdef confsim_ids wanted
    cdef const int64_t[::1] array
    wanted.ids, wanted.start, wanted.count = NULL, given[1], given[2]
    if given[0] is not None:
        array = given[0]
        if array.shape[0] != wanted.count:
            raise ValueError("ids must hold as many as it says")
        if wanted.count > 0:
            wanted.ids = &array[0]
    return wanted


cdef confsim_lattice lattice_of(given) except *:
    cdef confsim_lattice lattice
    lattice.step, lattice.per_axis, lattice.dimensions = given
    return lattice


def ascending(const int64_t[::1] ids):
    """Whether every id is greater than the one before it."""
    cdef int answer = 1
    if ids.shape[0] > 0:
        with nogil:
            answer = confsim_lattice_ascending(&ids[0], ids.shape[0])
    return bool(answer)


def points(lattice, ids, double[:, ::1] out, int threads):
    """Write coordinates to ``out``, shape (count, dimensions)."""
    cdef confsim_lattice of = lattice_of(lattice)
    cdef confsim_ids wanted = ids_of(ids)
    if out.shape[0] != wanted.count or out.shape[1] != of.dimensions:
        raise ValueError("out must have one row per id and one column per dimension")
    if wanted.count > 0:
        with nogil:
            confsim_lattice_points(&of, &wanted, &out[0, 0], threads)


def labels(lattice, ids, const double[::1] weights, double bias, int8_t[::1] out,
           int threads):
    """Write +1 or -1 to ``out``, shape (count,)."""
    cdef confsim_lattice of = lattice_of(lattice)
    cdef confsim_ids wanted = ids_of(ids)
    if weights.shape[0] != of.dimensions:
        raise ValueError("weights must have one entry per dimension")
    if out.shape[0] != wanted.count:
        raise ValueError("out must have one entry per id")
    if wanted.count > 0:
        with nogil:
            confsim_lattice_labels(&of, &wanted, &weights[0], bias, &out[0], threads)


cdef confsim_hyperplane hyperplane_of(given, int64_t dimensions) except *:
    """Describe ``(weights, bias)``; the caller keeps the weights alive."""
    cdef confsim_hyperplane plane
    cdef const double[::1] weights = given[0]
    if weights.shape[0] == 0 or weights.shape[0] != dimensions:
        raise ValueError("weights must have one entry per dimension")
    plane.weights, plane.bias = &weights[0], given[1]
    return plane


def margins(lattice, ids, learned, ideal, double[::1] margin, label,
            int threads, int isa):
    """Write the margins |w.x + b| and the ideal labels of lattice points; return a summary.

    Ids ascend. ``learned`` and ``ideal`` are ``(weights, bias)``; ``label`` is an int8 array or
    ``None``. Returns (lowest margin, highest margin, number of points on the ideal hyperplane's
    side).
    """
    cdef confsim_lattice of = lattice_of(lattice)
    cdef confsim_ids wanted = ids_of(ids)
    cdef confsim_hyperplane fitted = hyperplane_of(learned, of.dimensions)
    cdef confsim_hyperplane true = hyperplane_of(ideal, of.dimensions)
    cdef int8_t[::1] labels
    cdef int8_t *label_pointer = NULL
    cdef confsim_margin_summary summary
    cdef confsim_status status
    if margin.shape[0] != wanted.count:
        raise ValueError("margin must have one entry per id")
    if label is not None:
        labels = label
        if labels.shape[0] != wanted.count:
            raise ValueError("label must have one entry per id")
        if wanted.count:
            label_pointer = &labels[0]
    if wanted.count == 0:
        return float("inf"), 0.0, 0
    with nogil:
        status = confsim_lattice_margins(
            &of, &wanted, &fitted, &true, &margin[0], label_pointer, &summary, threads,
            <confsim_isa>isa)
    check(status, "the margins of lattice points")
    return summary.low, summary.high, summary.right


cdef confsim_lattice_pairing pairing_of(given, int64_t queries, int64_t n) except *:
    """Describe ``(query labels, training labels, self_index)``; the caller keeps them alive."""
    cdef confsim_lattice_pairing pairing
    cdef const int8_t[::1] bytes_
    cdef const int64_t[::1] words
    query_labels, training_labels, self_index = given
    pairing.query_labels = pairing.training_labels = pairing.self_index = NULL
    pairing.query_label_bytes = 8
    for array in (query_labels, self_index):
        if array is not None and array.shape != (queries,):
            raise ValueError("query labels and self_index must have one entry per id")
    if query_labels is not None:
        words = training_labels
        if words.shape[0] != n:
            raise ValueError("training labels must have one entry per training point")
        pairing.training_labels = &words[0]
        if query_labels.dtype == np.int8:
            bytes_ = query_labels
            pairing.query_labels, pairing.query_label_bytes = &bytes_[0], 1
        else:
            words = query_labels
            pairing.query_labels = &words[0]
    if self_index is not None:
        words = self_index
        pairing.self_index = &words[0]
    return pairing


cdef confsim_nearest answer_of(given, int64_t queries) except *:
    """Describe the arrays that answers are written to; the caller keeps them alive."""
    cdef confsim_nearest answer
    cdef double[::1] floats
    cdef int64_t[::1] words
    distance, index, distance_other, index_other = given
    answer.distance = answer.distance_other = NULL
    answer.index = answer.index_other = NULL
    for array in given:
        if array is not None and array.shape != (queries,):
            raise ValueError("every array must have one entry per id")
    floats = distance
    answer.distance = &floats[0]
    if index is not None:
        words = index
        answer.index = &words[0]
    if distance_other is not None:
        floats = distance_other
        answer.distance_other = &floats[0]
    if index_other is not None:
        words = index_other
        answer.index_other = &words[0]
    return answer


def nearest(lattice, ids, training, pairing, out, int threads,
            int isa):
    """Write distances and indices to the arrays of ``out``; all but the first may be ``None``.

    ``training`` is ``(points, step, unit)``: int32 coordinates and the lattice's step, both in
    units of ``unit``, a power of two; ids ascend strictly. ``pairing`` is ``(query labels, training
    labels, self_index)``, query labels int8 or int64; ``out`` is ``(distance, index, distance
    excluding self, index excluding self)``. Arguments are trusted to be valid, but for the entries
    of ``self_index``: where one is out of range, this raises ValueError when the others are done.
    """
    cdef confsim_lattice of = lattice_of(lattice)
    cdef confsim_ids wanted = ids_of(ids)
    cdef const int32_t[:, ::1] coordinates = training[0]
    cdef confsim_lattice_training points
    cdef confsim_lattice_pairing who
    cdef confsim_nearest answer
    cdef confsim_status status
    if coordinates.shape[0] < 1 or coordinates.shape[1] != of.dimensions:
        raise ValueError("training must have at least one row, and one column per dimension")
    if wanted.count == 0:
        return
    points.points, points.count = &coordinates[0, 0], coordinates.shape[0]
    points.step, points.unit = training[1], training[2]
    who = pairing_of(pairing, wanted.count, points.count)
    answer = answer_of(out, wanted.count)
    if who.self_index == NULL:
        answer.distance_other, answer.index_other = NULL, NULL
    with nogil:
        status = confsim_lattice_nearest(
            &of, &wanted, &points, &who, &answer, threads, <confsim_isa>isa)
    check(status, "the nearest-neighbour search")
