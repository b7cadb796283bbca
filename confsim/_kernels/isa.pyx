"""Instruction sets: what this processor can run and what the build knows."""

from confsim._kernels._common cimport (
    CONFSIM_ISA_AVX2,
    CONFSIM_ISA_AVX512,
    CONFSIM_ISA_NEON,
    CONFSIM_ISA_PORTABLE,
    confsim_isa,
)

cdef extern from "core/isa.h":
    int confsim_isa_available(confsim_isa isa)
    confsim_isa confsim_isa_best()

cdef extern from "core/parallel.h":
    int confsim_parallel_has_openmp()

CODES = {
    "portable": <int>CONFSIM_ISA_PORTABLE,
    "avx2": <int>CONFSIM_ISA_AVX2,
    "avx512": <int>CONFSIM_ISA_AVX512,
    "neon": <int>CONFSIM_ISA_NEON,
}


def available():
    """Names of the instruction sets that can run here, the portable path first."""
    return tuple(
        name for name, code in CODES.items() if confsim_isa_available(<confsim_isa><int>code)
    )


def best():
    """Name of the fastest one that can run here."""
    cdef int code = confsim_isa_best()
    return next(name for name, value in CODES.items() if value == code)


def has_openmp():
    """Whether the kernels were built with OpenMP."""
    return bool(confsim_parallel_has_openmp())
