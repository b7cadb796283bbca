"""Transcendental columns (csrc/columns.h)."""

from libc.stdint cimport int64_t

import numpy as np

from confsim._kernels.matrix cimport confsim_matrix, matrix_of

cdef extern from "stats/confidence.h" nogil:
    ctypedef struct confsim_softmax_columns:
        double *softmax
        double *log_odds_max
        double *log_odds_true
        double *loss
        double *modified_entropy
        double *entropy
        int64_t *predicted
    void confsim_sigmoid_confidence(const double *scores, int64_t count, double *out, int threads)
    void confsim_sigmoid_complement(const double *scores, int64_t count, double *out, int threads)
    void confsim_softmax(confsim_matrix logits, const int64_t *labels, confsim_softmax_columns out, int threads)


def sigmoid(const double[::1] scores, bint complement, int threads):
    """Return tanh(|s|/2), or its complement 2 expit(-|s|)."""
    column = np.empty(scores.shape[0])
    cdef double[::1] out = column
    if scores.shape[0] == 0:
        return column
    with nogil:
        if complement:
            confsim_sigmoid_complement(&scores[0], scores.shape[0], &out[0], threads)
        else:
            confsim_sigmoid_confidence(&scores[0], scores.shape[0], &out[0], threads)
    return column


cdef double *column_pointer(dict columns, str name, int64_t rows) except NULL:
    cdef double[::1] view
    columns[name] = np.empty(rows)
    view = columns[name]
    return &view[0]


def softmax(logits, labels, int threads):
    """Return a dict of columns of finite logits (n >= 1, K >= 2); labels in [0, K) or None."""
    cdef confsim_matrix matrix = matrix_of(logits, "logits")
    cdef const int64_t[::1] given
    cdef const int64_t *label_pointer = NULL
    cdef confsim_softmax_columns out
    cdef dict columns = {}
    cdef int64_t rows = matrix.rows
    predicted = np.empty(rows, dtype=np.int64)
    cdef int64_t[::1] predicted_view = predicted
    if rows < 1 or matrix.columns < 2:
        raise ValueError("logits must have at least one row and two columns")
    out.predicted = &predicted_view[0]
    out.softmax = column_pointer(columns, "softmax", rows)
    out.log_odds_max = column_pointer(columns, "log_odds_max", rows)
    out.entropy = column_pointer(columns, "entropy", rows)
    out.log_odds_true = out.loss = out.modified_entropy = NULL
    if labels is not None:
        given = labels
        if given.shape[0] != rows:
            raise ValueError("labels must have one entry for each row of logits")
        label_pointer = &given[0]
        out.log_odds_true = column_pointer(columns, "log_odds_true", rows)
        out.loss = column_pointer(columns, "loss", rows)
        out.modified_entropy = column_pointer(columns, "modified_entropy", rows)
    with nogil:
        confsim_softmax(matrix, label_pointer, out, threads)
    columns["predicted"] = predicted
    return columns
