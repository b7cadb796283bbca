"""Where the answers of a nearest-neighbour search go; ``csrc/nearest/nearest.h``."""

from libc.stdint cimport int64_t

cdef extern from "nearest/nearest.h":
    ctypedef struct confsim_nearest:
        double *distance
        int64_t *index
        double *distance_other
        int64_t *index_other
