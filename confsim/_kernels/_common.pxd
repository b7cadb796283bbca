"""What every wrapper shares: instruction sets, views of arrays, what a status means in Python."""

from libc.stdint cimport int64_t

cdef extern from "core/isa.h":
    ctypedef enum confsim_isa:
        CONFSIM_ISA_PORTABLE
        CONFSIM_ISA_AVX2
        CONFSIM_ISA_AVX512
        CONFSIM_ISA_NEON

cdef extern from "core/status.h":
    ctypedef enum confsim_status:
        CONFSIM_OK
        CONFSIM_NO_MEMORY
        CONFSIM_NO_SUCH_TRAINING_ROW

cdef extern from "core/matrix.h":
    ctypedef struct confsim_matrix:
        const char *data
        int64_t rows, columns
        int64_t row_stride, column_stride
        int is_float32


cdef inline int check(confsim_status status, str task) except -1:
    """Raise what a status stands for; ``task`` is what was being done."""
    if status == CONFSIM_OK:
        return 0
    if status == CONFSIM_NO_MEMORY:
        raise MemoryError(f"not enough memory for {task}")
    if status == CONFSIM_NO_SUCH_TRAINING_ROW:
        raise ValueError("self_index must be -1 or a row of training")
    raise SystemError(f"{task} ended with the unknown status {<int>status}")


cdef inline confsim_matrix matrix_of(array, str name) except *:
    """Describe a 2-D float32 or float64 array of any strides; the caller keeps it alive."""
    cdef confsim_matrix matrix
    if array.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, not {array.ndim}")
    if array.dtype.char not in "fd" or not array.dtype.isnative:
        raise TypeError(f"{name} must be float32 or float64, not {array.dtype}")
    if not array.flags.aligned:
        raise ValueError(f"{name} must be aligned in memory")
    matrix.data = <const char *><size_t>array.__array_interface__["data"][0]
    matrix.rows, matrix.columns = array.shape
    matrix.row_stride, matrix.column_stride = array.strides
    matrix.is_float32 = array.dtype.itemsize == 4
    return matrix
