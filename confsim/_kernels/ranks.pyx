"""Rank statistics of histograms and of single points (csrc/ranks.h)."""

from libc.stdint cimport int32_t, int64_t, uint32_t

import numpy as np

from confsim._kernels import memory

cdef extern from "core/isa.h":
    ctypedef enum confsim_isa:
        pass

cdef extern from "stats/ranks.h" nogil:
    enum:
        CONFSIM_RANK_BINS
        CONFSIM_RANK_PADDING
    ctypedef struct confsim_rank_spread:
        int64_t total
        double variance, hidden
    void confsim_ranks(const int64_t *counts, int64_t bins, int64_t *ranks, confsim_rank_spread *spread,
                       confsim_isa isa)
    double confsim_rank_covariance(const int64_t *sums, const int64_t *ranks, int64_t bins, int64_t total,
                                   confsim_isa isa)
    ctypedef struct confsim_rank_pairs:
        int64_t members, non_members
        double below, tied
    confsim_rank_pairs confsim_count_pairs(const int64_t *members, const int64_t *non_members, int64_t bins,
                                           int descending, double *terms)
    ctypedef struct confsim_rank_scratch:
        int64_t *keys
        uint32_t *rows
        uint32_t *next
    void confsim_midranks(const double *values, const uint32_t *codes, int shift, const int64_t *histogram,
                          int64_t count, int32_t *ranks, confsim_rank_scratch scratch, confsim_isa isa)


def rank_spread(const int64_t[::1] counts, int isa):
    """Return (ranks, total, variance, hidden) of a histogram, as csrc/ranks.h defines them."""
    cdef int64_t bins = counts.shape[0]
    cdef confsim_rank_spread found
    if bins == 0:
        raise ValueError("counts must hold at least one bin")
    ranks = np.empty(bins, dtype=np.int64)
    cdef int64_t[::1] out = ranks
    with nogil:
        confsim_ranks(&counts[0], bins, &out[0], &found, <confsim_isa>isa)
    return ranks, found.total, found.variance, found.hidden


def rank_covariance(const int64_t[::1] sums, const int64_t[::1] ranks, int64_t total, int isa):
    """Return the sum of ``(sums / total) * (ranks / total)``."""
    cdef int64_t bins = sums.shape[0]
    cdef double found
    if bins == 0 or ranks.shape[0] != bins:
        raise ValueError("sums and ranks must have one entry for each bin")
    with nogil:
        found = confsim_rank_covariance(&sums[0], &ranks[0], bins, total, <confsim_isa>isa)
    return found


def count_pairs(const int64_t[::1] members, const int64_t[::1] non_members, bint descending):
    """Return (members, non-members, below, tied): how many there are, and pairs of one of either.

    In ``below`` the non-member is in a lower bin (``descending``: in a higher one), in ``tied`` in
    the same.
    """
    cdef int64_t bins = members.shape[0]
    cdef confsim_rank_pairs found
    if bins == 0 or non_members.shape[0] != bins:
        raise ValueError("members and non_members must have one entry for each bin")
    cdef double[::1] terms = np.empty(2 * bins)
    with nogil:
        found = confsim_count_pairs(&members[0], &non_members[0], bins, descending, &terms[0])
    return found.members, found.non_members, found.below, found.tied


def midranks(const double[::1] values, const uint32_t[::1] codes, int shift, const int64_t[::1] histogram,
             int isa):
    """Return the number of values below each value less that of values above it, (k,) int32.

    The bin of a value is the lower (``shift`` 0) or the upper (16) half of its code; ``histogram`` counts
    the values by bin, and a higher value must not have a lower bin. Values must not be NaN.
    """
    cdef int64_t count = values.shape[0]
    cdef confsim_rank_scratch scratch
    if codes.shape[0] != count or histogram.shape[0] != CONFSIM_RANK_BINS:
        raise ValueError("values and codes must have equal lengths, and histogram one entry for each bin")
    if shift not in (0, 16) or count >= 1 << 31 or np.min(histogram) < 0 or np.sum(histogram) != count:
        raise ValueError("histogram must count the values by the lower or the upper half of their codes")
    found = memory.empty(count, np.int32)
    if count == 0:
        return found
    cdef int64_t[::1] keys = memory.empty(count + CONFSIM_RANK_PADDING, np.int64)
    cdef uint32_t[::1] rows = memory.empty(count, np.uint32)
    cdef uint32_t[::1] next_row = np.empty(CONFSIM_RANK_BINS, dtype=np.uint32)
    cdef int32_t[::1] ranks = found
    scratch = confsim_rank_scratch(&keys[0], &rows[0], &next_row[0])
    with nogil:
        confsim_midranks(&values[0], &codes[0], shift, &histogram[0], count, &ranks[0], scratch,
                         <confsim_isa>isa)
    return found
