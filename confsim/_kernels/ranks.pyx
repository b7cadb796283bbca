"""Rank statistics from histograms (csrc/ranks.h)."""

from libc.stdint cimport int64_t

import numpy as np

cdef extern from "isa.h":
    ctypedef enum confsim_isa:
        pass

cdef extern from "ranks.h" nogil:
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
