"""Points of a two-class problem, as the linear program's solver looks at them.

See ``csrc/lp/constraint_points.h``.
"""

from libc.stdint cimport int64_t, uint8_t

import numpy as np


from confsim._kernels._common cimport check, confsim_matrix, confsim_status, matrix_of

cdef extern from "lp/constraint_points.h" nogil:
    ctypedef struct confsim_points:
        confsim_matrix values
        const uint8_t *positive
        const double *weight

    int64_t confsim_points_range(const confsim_points *, double *, double *)
    confsim_status confsim_points_sample(const confsim_points *, int64_t, int64_t *, int64_t *)
    confsim_status confsim_points_violations(
        const confsim_points *, const double *, const double *, double, double, int64_t,
        int64_t *, int64_t *, double *)
    void confsim_points_margins(
        const confsim_points *, const int64_t *, int64_t, const double *, const double *, double,
        double *)
    confsim_status confsim_points_combine(
        const confsim_points *, const int64_t *, int64_t, const double *, const double *, double *)
    confsim_status confsim_points_merge(const confsim_points *, int64_t *, double *, int64_t *)


cdef class Points:
    """Labelled, perhaps weighted points, read where they lie.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64, any strides
    positive : ndarray of shape (n,), bool
        Whether a point is of class +1.
    weight : ndarray of shape (n,), float64, optional
        Points whose weight is not positive do not count.
    """

    cdef confsim_points points
    cdef object _X
    cdef const uint8_t[::1] _positive
    cdef const double[::1] _weight

    def __cinit__(self, X, positive, weight=None):
        if not isinstance(X, np.ndarray) or X.ndim != 2 or X.dtype not in (np.float32, np.float64):
            raise TypeError("X must be a two-dimensional float32 or float64 array")
        if not X.dtype.isnative or not X.flags.aligned:
            raise TypeError("X must be in native byte order, and aligned")
        if X.shape[0] == 0 or X.shape[1] == 0:
            raise ValueError("X must not be empty")
        if positive.dtype != np.bool_ or positive.shape != (X.shape[0],):
            raise TypeError("positive must be a bool array with one entry a row of X")
        self._X = X
        self._positive = positive.view(np.uint8)
        self.points.values = matrix_of(X, "X")
        self.points.positive = &self._positive[0]
        self.points.weight = NULL
        if weight is not None:
            if weight.shape != (X.shape[0],):
                raise ValueError("weight must have one entry a row of X")
            self._weight = weight
            self.points.weight = &self._weight[0]

    def range(self):
        """Return (low, high, first row with NaN or infinity or -1)."""
        low, high = np.empty(self.points.values.columns), np.empty(self.points.values.columns)
        cdef double[::1] low_view = low, high_view = high
        cdef int64_t bad
        with nogil:
            bad = confsim_points_range(&self.points, &low_view[0], &high_view[0])
        return low, high, bad

    def sample(self, int64_t capacity):
        """Return rows of a uniform random sample of distinct points, ``capacity`` of each class."""
        if capacity < 1:
            raise ValueError("capacity must be positive")
        selected = np.empty(2 * capacity, np.int64)
        cdef int64_t[::1] view = selected
        cdef int64_t counts[2]
        cdef confsim_status status
        with nogil:
            status = confsim_points_sample(&self.points, capacity, &view[0], counts)
        check(status, "the points of a linear program")
        return np.concatenate([selected[: counts[0]], selected[capacity : capacity + counts[1]]])

    def violations(self, const double[::1] slope, const double[::1] centre, double bias,
                   double limit, int64_t capacity):
        """Return (rows of the smallest margins below ``limit``, smallest margin of all)."""
        if capacity < 1:
            raise ValueError("capacity must be positive")
        self._check_columns(slope, centre)
        selected = np.empty(2 * capacity, np.int64)
        cdef int64_t[::1] view = selected
        cdef int64_t counts[2]
        cdef double smallest
        cdef confsim_status status
        with nogil:
            status = confsim_points_violations(
                &self.points, &slope[0], &centre[0], bias, limit, capacity, &view[0], counts,
                &smallest)
        check(status, "the points of a linear program")
        rows = np.concatenate([selected[: counts[0]], selected[capacity : capacity + counts[1]]])
        return rows, smallest

    def margins(self, const int64_t[::1] rows, const double[::1] slope, const double[::1] centre,
                double bias):
        """Return the margins of the given rows."""
        self._check_columns(slope, centre)
        self._check_rows(rows)
        margins = np.empty(rows.shape[0])
        cdef double[::1] view = margins
        if rows.shape[0]:
            with nogil:
                confsim_points_margins(
                    &self.points, &rows[0], rows.shape[0], &slope[0], &centre[0], bias, &view[0])
        return margins

    def combine(self, const int64_t[::1] rows, const double[::1] coefficient,
                const double[::1] centre):
        """Return ``(d + 1,)``: sums of coefficient times (centred values, 1) over the rows."""
        self._check_columns(centre, centre)
        self._check_rows(rows)
        if coefficient.shape[0] != rows.shape[0]:
            raise ValueError("coefficient must have one entry a row")
        totals = np.zeros(self.points.values.columns + 1)
        cdef double[::1] view = totals
        cdef confsim_status status
        if rows.shape[0]:
            with nogil:
                status = confsim_points_combine(
                    &self.points, &rows[0], rows.shape[0], &coefficient[0], &centre[0], &view[0])
            check(status, "the points of a linear program")
        return totals

    def merge(self):
        """Return (rows of the distinct points in lexicographic order, their summed weights)."""
        cdef int64_t rows = self.points.values.rows
        listed, weights = np.empty(rows, np.int64), np.empty(rows)
        cdef int64_t[::1] listed_view = listed
        cdef double[::1] weights_view = weights
        cdef int64_t count
        cdef confsim_status status
        with nogil:
            status = confsim_points_merge(&self.points, &listed_view[0], &weights_view[0], &count)
        check(status, "the points of a linear program")
        return listed[:count], weights[:count]

    cdef _check_columns(self, const double[::1] slope, const double[::1] centre):
        cdef int64_t columns = self.points.values.columns
        if slope.shape[0] != columns or centre.shape[0] != columns:
            raise ValueError("slope and centre must have one entry a column of X")

    cdef _check_rows(self, const int64_t[::1] rows):
        cdef int64_t j
        for j in range(rows.shape[0]):
            if rows[j] < 0 or rows[j] >= self.points.values.rows:
                raise IndexError("rows must be row numbers of X")
