"""Linear scores of any points (csrc/scores.h), and margins of lattice points."""

from libc.stdint cimport int8_t, int64_t

import numpy as np

from confsim._kernels.matrix cimport confsim_matrix, matrix_of

cdef extern from "core/isa.h":
    ctypedef enum confsim_isa:
        pass

cdef extern from "core/status.h":
    ctypedef enum confsim_status:
        CONFSIM_OK

cdef extern from "lattice/scores_old.h" nogil:
    ctypedef struct confsim_lattice_points:
        const int64_t *ids
        int64_t start, count
        int dimensions
        int64_t points_per_axis
        double granularity
    ctypedef struct confsim_hyperplane:
        const double *weights
        double bias
    ctypedef struct confsim_margin_summary:
        double low, high
        int64_t right
    void confsim_scores(confsim_matrix points, const double *weights, double bias, double *scores, int threads)
    confsim_status confsim_lattice_margins(confsim_lattice_points points, confsim_hyperplane learned,
                                           confsim_hyperplane ideal, double *margin, int8_t *label,
                                           confsim_margin_summary *summary, int threads, confsim_isa isa)


def linear_scores(points, weights, double bias, int threads):
    """Return ``points @ weights + bias`` in float64, summed in column order, without a copy."""
    cdef confsim_matrix matrix = matrix_of(points, "points")
    cdef const double[::1] w = np.ascontiguousarray(weights, dtype=np.float64)
    if w.shape[0] != matrix.columns:
        raise ValueError(f"weights must have {matrix.columns} entries, one a column, not {w.shape[0]}")
    scores = np.empty(matrix.rows)
    cdef double[::1] out = scores
    if matrix.rows and matrix.columns:
        with nogil:
            confsim_scores(matrix, &w[0], bias, &out[0], threads)
    elif matrix.rows:
        scores[:] = bias
    return scores


def lattice_margins(ids, int64_t points_per_axis, double granularity,
                    const double[::1] weights, double bias,
                    const double[::1] ideal_weights, double ideal_bias,
                    double[::1] margin, label, int threads, int isa):
    """Write the margins |w.x + b| and the ideal labels of lattice points; return a summary.

    ``ids`` is an ascending int64 array, or a ``range`` of step 1. ``label`` is an int8 array or None.
    Returns (lowest margin, highest margin, number of points on the ideal hyperplane's side).
    """
    cdef confsim_lattice_points points
    cdef const int64_t[::1] given
    cdef int8_t[::1] labels
    cdef int8_t *label_pointer = NULL
    cdef confsim_margin_summary summary
    cdef confsim_hyperplane learned, ideal
    cdef confsim_status status
    points.ids = NULL
    points.start = 0
    points.count = len(ids)
    if isinstance(ids, range):
        if ids.step != 1:
            raise ValueError("ids must be a range of step 1")
        points.start = ids.start
    else:
        given = ids
        if points.count:
            points.ids = &given[0]
    if margin.shape[0] != points.count:
        raise ValueError("margin must have one entry for each id")
    if label is not None:
        labels = label
        if labels.shape[0] != points.count:
            raise ValueError("label must have one entry for each id")
        if points.count:
            label_pointer = &labels[0]
    if weights.shape[0] == 0 or weights.shape[0] != ideal_weights.shape[0]:
        raise ValueError("weights and ideal_weights must have one entry for each dimension")
    points.dimensions = weights.shape[0]
    points.points_per_axis = points_per_axis
    points.granularity = granularity
    learned.weights = &weights[0]
    learned.bias = bias
    ideal.weights = &ideal_weights[0]
    ideal.bias = ideal_bias
    if points.count == 0:
        return float("inf"), 0.0, 0
    with nogil:
        status = confsim_lattice_margins(points, learned, ideal, &margin[0], label_pointer, &summary,
                                         threads, <confsim_isa>isa)
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory for the margins of lattice points")
    return summary.low, summary.high, summary.right
