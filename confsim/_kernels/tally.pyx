"""Histograms and sums over (confidence, distance) pairs (csrc/tally.h)."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

import numpy as np

from confsim._kernels import memory

cdef extern from "core/isa.h":
    ctypedef enum confsim_isa:
        pass

cdef extern from "core/status.h":
    ctypedef enum confsim_status:
        CONFSIM_OK

cdef extern from "stats/histogram.h" nogil:
    enum:
        CONFSIM_GRID
        CONFSIM_FINE
    ctypedef struct confsim_bins:
        double confidence_divisor, grid_low, grid_scale
        double fine_low, fine_scale
        double distance_divisor, distance_fine_scale
    ctypedef struct confsim_moments:
        int64_t pairs
        double u, v, uu, vv, uv
    confsim_status confsim_tally(const double *confidence, const double *distance, int64_t count, confsim_bins bins,
                                 int64_t *grid, int64_t *fine_confidence, int64_t *fine_distance,
                                 confsim_moments *moments, uint32_t *codes, int threads, confsim_isa isa)
    confsim_status confsim_rank_sums(const uint32_t *codes, const double *distance, int64_t count,
                                     const int64_t *rank, int64_t *sums, int threads)
    int64_t confsim_rows_in_bins(const uint32_t *codes, int64_t count, const uint8_t *wanted,
                                 uint32_t *rows)
    void confsim_grid_counts(const double *confidence, const double *distance, int64_t count, confsim_bins bins,
                             int64_t *grid, confsim_isa isa)

GRID = <int>CONFSIM_GRID
FINE = <int>CONFSIM_FINE


cdef class Counts:
    """Counts and sums that grow block by block; without ``fine``, only `add_grid` may be used.

    Attributes
    ----------
    grid : (GRID, GRID) int64
        Pairs by confidence and distance bin.
    fine_confidence : (2, FINE) int64
        Queries by fine confidence bin: with a distance, and without one (NaN).
    fine_distance : (FINE,) int64
        Pairs by fine distance bin.
    """

    cdef readonly object grid, fine_confidence, fine_distance
    cdef int64_t queries
    cdef confsim_moments sums
    cdef confsim_bins bins

    def __init__(self, *, double confidence_divisor, double grid_low, double grid_scale, double fine_low,
                 double fine_scale, double distance_divisor, double distance_fine_scale, bint fine=True):
        self.grid = np.zeros((GRID, GRID), dtype=np.int64)
        self.fine_confidence = np.zeros((2, FINE), dtype=np.int64) if fine else None
        self.fine_distance = np.zeros(FINE, dtype=np.int64) if fine else None
        self.queries = 0
        self.sums = confsim_moments(0, 0, 0, 0, 0, 0)
        self.bins = confsim_bins(confidence_divisor, grid_low, grid_scale, fine_low, fine_scale,
                                 distance_divisor, distance_fine_scale)

    @property
    def missing(self):
        """How many queries had no distance (NaN)."""
        return self.queries - self.sums.pairs

    @property
    def confidence(self):
        """(FINE,) int64: queries by fine confidence bin, with a distance or without."""
        return self.fine_confidence.sum(axis=0) if self.missing else self.fine_confidence[0]

    @property
    def moments(self):
        """(pairs, sum u, sum v, sum uu, sum vv, sum uv) as csrc/tally.h defines u and v."""
        s = self.sums
        return np.array([s.pairs, s.u, s.v, s.uu, s.vv, s.uv], dtype=np.float64)

    def add_grid(self, const double[::1] confidence, const double[::1] distance, int isa):
        """Count a block in ``grid`` alone."""
        cdef int64_t count = confidence.shape[0]
        cdef int64_t[:, ::1] grid = self.grid
        if distance.shape[0] != count:
            raise ValueError("confidence and distance must have equal lengths")
        if count:
            with nogil:
                confsim_grid_counts(&confidence[0], &distance[0], count, self.bins, &grid[0, 0],
                                    <confsim_isa>isa)

    def add(self, const double[::1] confidence, const double[::1] distance, int threads, int isa):
        """Count a block of at most 2^31 queries; return their fine bins, (k,) uint32, for `rank_sums`."""
        cdef int64_t count = confidence.shape[0]
        cdef int64_t[:, ::1] grid = self.grid
        cdef int64_t[:, ::1] fine_confidence = self.fine_confidence
        cdef int64_t[::1] fine_distance = self.fine_distance
        cdef confsim_status status
        if distance.shape[0] != count:
            raise ValueError("confidence and distance must have equal lengths")
        codes = memory.empty(count, np.uint32)
        cdef uint32_t[::1] out = codes
        if count == 0:
            return codes
        with nogil:
            status = confsim_tally(&confidence[0], &distance[0], count, self.bins, &grid[0, 0],
                                   &fine_confidence[0, 0], &fine_distance[0], &self.sums, &out[0], threads,
                                   <confsim_isa>isa)
        if status != CONFSIM_OK:
            raise MemoryError("not enough memory for histograms")
        self.queries += count
        return codes


def rank_sums(const uint32_t[::1] codes, distance, const int64_t[::1] rank, int64_t[::1] sums, int threads):
    """Add to ``sums``, by distance bin, the rank of each pair's confidence bin.

    ``distance``, (k,) float64, tells which pairs have a NaN; None: no pair has.
    """
    cdef int64_t count = codes.shape[0]
    cdef const double[::1] given
    cdef const double *known = NULL
    cdef confsim_status status
    if rank.shape[0] != FINE or sums.shape[0] != FINE:
        raise ValueError("rank and sums must have FINE entries")
    if count == 0:
        return
    if distance is not None:
        given = distance
        if given.shape[0] != count:
            raise ValueError("codes and distance must have equal lengths")
        known = &given[0]
    with nogil:
        status = confsim_rank_sums(&codes[0], known, count, &rank[0], &sums[0], threads)
    if status != CONFSIM_OK:
        raise MemoryError("not enough memory for sums of ranks")


def rows_in_bins(const uint32_t[::1] codes, confidence, distance):
    """Return the rows, ascending, whose confidence bin or whose distance bin is wanted, as uint32.

    ``confidence`` and ``distance`` are arrays of wanted bins. At most 2^32 - 1 codes.
    """
    cdef int64_t count = codes.shape[0], found
    flags = np.zeros((2, FINE), dtype=np.uint8)
    flags[0][confidence] = 1
    flags[1][distance] = 1
    cdef const uint8_t[:, ::1] wanted = flags
    if count >= 1 << 32:
        raise ValueError("codes must be fewer than 2^32")
    rows = memory.empty(count, np.uint32)
    cdef uint32_t[::1] out = rows
    if count == 0:
        return rows
    with nogil:
        found = confsim_rows_in_bins(&codes[0], count, &wanted[0, 0], &out[0])
    return rows[:found]
