"""Views of float32 and float64 arrays for C, without copies."""

from libc.stdint cimport int64_t

cdef extern from "core/matrix.h":
    ctypedef struct confsim_matrix:
        const char *data
        int64_t rows, columns
        int64_t row_stride, column_stride
        int is_float32

cdef inline confsim_matrix matrix_of(array, str name) except *:
    """Describe a 2-D float32 or float64 array; the caller keeps it alive."""
    cdef confsim_matrix matrix
    interface = array.__array_interface__
    if array.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, not {array.ndim}")
    if array.dtype.char not in "fd" or not array.dtype.isnative:
        raise TypeError(f"{name} must be float32 or float64, not {array.dtype}")
    if not array.flags.aligned:
        raise ValueError(f"{name} must be aligned in memory")
    matrix.data = <const char *><size_t>interface["data"][0]
    matrix.rows, matrix.columns = array.shape
    matrix.row_stride, matrix.column_stride = array.strides
    matrix.is_float32 = array.dtype.itemsize == 4
    return matrix
