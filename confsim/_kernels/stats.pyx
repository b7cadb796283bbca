"""Histograms, extremes, the bootstrap, and columns of confidence; see ``csrc/stats/``."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t

import numpy as np

from confsim._kernels._common cimport check, confsim_isa, confsim_matrix, confsim_status, matrix_of

from confsim._kernels import memory

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
    void confsim_softmax(
        const confsim_matrix *logits, const int64_t *labels, const confsim_softmax_columns *out,
        int threads)

cdef extern from "stats/select.h" nogil:
    ctypedef struct confsim_extreme:
        int64_t *rows
        double *values
    confsim_status confsim_extremes(
            const double *values, const int64_t *ids, int64_t count, int64_t k, confsim_extreme
            bottom, confsim_extreme top)
    ctypedef struct confsim_select_column:
        const void *source "from"
        void *bottom
        void *top
    confsim_status confsim_extremes_by_code(
            const double *values, const int64_t *ids, const uint32_t *codes, const int64_t
            *histogram, int64_t count, int64_t k, confsim_extreme bottom, confsim_extreme top, const
            confsim_select_column *columns, int column_count)
    confsim_status confsim_median(const double *values, int64_t count, double *median)
    enum:
        CONFSIM_SELECT_BUCKETS

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
    confsim_status confsim_tally(
            const double *confidence, const double *distance, int64_t count, confsim_bins bins,
            int64_t *grid, int64_t *fine_confidence, int64_t *fine_distance, confsim_moments
            *moments, uint32_t *codes, int threads, confsim_isa isa)
    confsim_status confsim_rank_sums(const uint32_t *codes, const double *distance, int64_t count,
                                     const int64_t *rank, int64_t *sums, int threads)
    int64_t confsim_rows_in_bins(const uint32_t *codes, int64_t count, const uint8_t *wanted,
                                 uint32_t *rows)
    void confsim_grid_counts(
            const double *confidence, const double *distance, int64_t count, confsim_bins bins,
            int64_t *grid, confsim_isa isa)

cdef extern from "stats/bootstrap.h" nogil:
    void confsim_threshold_codes(
            const double *scores, const uint8_t *kinds, int64_t count, const double *thresholds,
            int64_t threshold_count, uint16_t *codes)
    void confsim_resample(
            const uint16_t *codes, int64_t rows, int64_t columns, const uint16_t *row_weights, const
            uint16_t *column_weights, int64_t replicates, int64_t bins, int64_t *counts,
            int threads, confsim_isa isa)

cdef extern from "stats/class_threshold.h" nogil:
    enum:
        CONFSIM_IS_MEMBER
        CONFSIM_LAST_OF_EQUALS
    ctypedef struct confsim_pool:
        const int32_t *rows
        const uint8_t *kinds
        int64_t count
        const int64_t *members
        const int64_t *non_members
        int64_t row_count
    void confsim_best_places(
            const confsim_pool *pool, const int64_t *partner, int64_t *places, int threads)

cdef extern from "stats/columns.h" nogil:
    confsim_status confsim_sort_columns(
            double *values, int64_t rows, int64_t columns, confsim_isa isa)
    confsim_status confsim_auc_by_column(
            const double *scores, const uint8_t *members, int64_t rows, int64_t columns, double
            *areas, confsim_isa isa)

cdef extern from "stats/order.h" nogil:
    confsim_status confsim_sort(double *values, int64_t count)
    confsim_status confsim_sort_order(const double *values, int64_t count, int64_t *order)
    void confsim_counts_below(
            const double *points, int64_t point_count, const double *values, int64_t value_count,
            int up_to, int64_t *found)

cdef extern from "stats/ranks.h" nogil:
    enum:
        CONFSIM_RANK_BINS
        CONFSIM_RANK_PADDING
    ctypedef struct confsim_rank_spread:
        int64_t total
        double variance, hidden
    void confsim_ranks(
            const int64_t *counts, int64_t bins, int64_t *ranks, confsim_rank_spread *spread,
            confsim_isa isa)
    double confsim_rank_covariance(
        const int64_t *sums, const int64_t *ranks, int64_t bins, int64_t total, confsim_isa isa)
    ctypedef struct confsim_rank_pairs:
        int64_t members, non_members
        double below, tied
    confsim_rank_pairs confsim_count_pairs(
            const int64_t *members, const int64_t *non_members, int64_t bins, int descending, double
            *terms)
    ctypedef struct confsim_rank_scratch:
        int64_t *keys
        uint32_t *rows
        uint32_t *next
    void confsim_midranks(
            const double *values, const uint32_t *codes, int shift, const int64_t *histogram,
            int64_t count, int32_t *ranks, confsim_rank_scratch scratch, confsim_isa isa)


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
        confsim_softmax(&matrix, label_pointer, &out, threads)
    columns["predicted"] = predicted
    return columns


cdef class _Side:
    """Room for one extreme: its rows, its values, and what a kernel writes them by."""

    cdef readonly object rows, values
    cdef confsim_extreme out

    def __cinit__(self, int64_t k):
        self.rows, self.values = np.empty(k, dtype=np.int64), np.empty(k)
        cdef int64_t[::1] rows = self.rows
        cdef double[::1] values = self.values
        if k:
            self.out = confsim_extreme(&rows[0], &values[0])


def extremes(const double[::1] values, ids, int64_t k):
    """Return (bottom, top): rows of the k lowest, ascending, and of the k highest, descending.

    ``values`` are finite; equal values are ordered by ``ids`` (None: by row).
    """
    cdef const int64_t[::1] given
    cdef const int64_t *id_pointer = NULL
    cdef int64_t count = values.shape[0]
    cdef confsim_status status = <confsim_status>0
    if not 0 <= k <= count:
        raise ValueError(f"k must be between 0 and {count}, not {k}")
    cdef _Side bottom = _Side(k), top = _Side(k)
    if ids is not None and k:
        given = ids
        if given.shape[0] != count:
            raise ValueError("ids must have one entry for each value")
        id_pointer = &given[0]
    if k:
        with nogil:
            status = confsim_extremes(&values[0], id_pointer, count, k, bottom.out, top.out)
    check(status, "the extremes")
    return bottom.rows, top.rows


def extremes_by_code(
        const double[::1] values, const uint32_t[::1] codes, const int64_t[::1] histogram, int64_t
        k, *columns):
    """Return two tuples, of the k lowest and of the k highest values, in order; equal ones by row.

    ``codes`` are those of ``tally.Counts.add``, and ``histogram`` counts them by confidence bin.
    ``columns``, float64 or int64, have one entry for each value. A tuple holds the rows, the values
    and the rows' entries of each column.
    """
    cdef int64_t count = values.shape[0]
    cdef confsim_select_column along[4]
    cdef int column_count = len(columns)
    cdef const int64_t[::1] source
    cdef int64_t[::1] low, high
    cdef confsim_status status = <confsim_status>0
    if not 0 <= k <= count:
        raise ValueError(f"k must be between 0 and {count}, not {k}")
    if codes.shape[0] != count or histogram.shape[0] != CONFSIM_SELECT_BUCKETS:
        raise ValueError("codes must have one entry for each value, histogram one for each bin")
    if np.sum(histogram) != count:
        raise ValueError(f"histogram must count {count} values")
    if column_count > 4:
        raise ValueError(f"columns must be at most 4, not {column_count}")
    cdef _Side bottom = _Side(k), top = _Side(k)
    taken = [], []
    for c, column in enumerate(columns):
        if column.shape != (count,) or column.dtype not in (np.float64, np.int64):
            raise ValueError("columns must have one entry for each value, float64 or int64")
        lowest, highest = np.empty(k, dtype=column.dtype), np.empty(k, dtype=column.dtype)
        taken[0].append(lowest)
        taken[1].append(highest)
        if k:
            source, low, high = column.view(np.int64), lowest.view(np.int64), highest.view(np.int64)
            along[c] = confsim_select_column(&source[0], &low[0], &high[0])
    if k:
        with nogil:
            status = confsim_extremes_by_code(
                &values[0], NULL, &codes[0], &histogram[0], count, k, bottom.out, top.out, along,
                column_count)
    check(status, "the extremes")
    return (bottom.rows, bottom.values, *taken[0]), (top.rows, top.values, *taken[1])


def median(const double[::1] values):
    """Return the median of finite values, as ``numpy.median`` does."""
    cdef double found
    cdef confsim_status status
    if values.shape[0] == 0:
        raise ValueError("values must hold at least one value")
    with nogil:
        status = confsim_median(&values[0], values.shape[0], &found)
    check(status, "a median")
    return found


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

    def __init__(
            self, *, double confidence_divisor, double grid_low, double grid_scale, double fine_low,
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
        """Count a block of at most 2^31 queries; return fine bins, (k,) uint32, for `rank_sums`."""
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
            status = confsim_tally(
                &confidence[0], &distance[0], count, self.bins, &grid[0, 0], &fine_confidence[0, 0],
                &fine_distance[0], &self.sums, &out[0], threads, <confsim_isa>isa)
        check(status, "histograms")
        self.queries += count
        return codes


def rank_sums(
        const uint32_t[::1] codes, distance, const int64_t[::1] rank, int64_t[::1] sums, int
        threads):
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
    check(status, "sums of ranks")


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


def resample_counts(const uint16_t[:, ::1] codes, const uint16_t[:, ::1] row_weights,
                    const uint16_t[:, ::1] column_weights, int64_t bins, int threads, int isa):
    """Return (replicates, bins) int64: how often each code is in each replicate.

    Parameters
    ----------
    codes : (rows, columns) uint16
    row_weights, column_weights : (replicates, rows) and (replicates, columns) uint16
        How often a replicate holds each row and each column.
    bins : int
        Codes are below it.
    threads, isa : int
    """
    cdef int64_t rows = codes.shape[0], columns = codes.shape[1], replicates = row_weights.shape[0]
    if row_weights.shape[1] != rows or column_weights.shape[1] != columns:
        raise ValueError("weights must have one column for each row and each column of codes")
    if column_weights.shape[0] != replicates:
        raise ValueError("row_weights and column_weights must have equally many replicates")
    if rows == 0 or columns == 0 or replicates == 0:
        raise ValueError("codes and weights must not be empty")
    if columns >= 1 << 32:
        raise ValueError("codes must have fewer than 2^32 columns")
    if np.max(codes) >= bins:
        raise ValueError(f"codes must be below bins = {bins}")
    counts = np.empty((replicates, bins), dtype=np.int64)
    cdef int64_t[:, ::1] view = counts
    with nogil:
        confsim_resample(
            &codes[0, 0], rows, columns, &row_weights[0, 0], &column_weights[0, 0], replicates,
            bins, &view[0, 0], threads, <confsim_isa>isa)
    return counts


def threshold_codes(const double[::1] scores, const uint8_t[::1] kinds,
                    const double[::1] thresholds, uint16_t[::1] codes):
    """Write ``2 * b + kind`` of each score, where ``b`` of the ascending thresholds are at most it.

    A NaN gets ``2 * (len(thresholds) + 1)``.
    """
    cdef int64_t count = scores.shape[0], steps = thresholds.shape[0]
    if kinds.shape[0] != count or codes.shape[0] != count:
        raise ValueError("kinds and codes must have one entry for each score")
    if steps >= (1 << 15) - 1:
        raise ValueError("thresholds must be fewer than 2^15 - 1")
    if count == 0:
        return
    cdef const double *first = &thresholds[0] if steps else NULL
    with nogil:
        confsim_threshold_codes(&scores[0], &kinds[0], count, first, steps, &codes[0])


def best_places(const int32_t[::1] rows, members, last_of_equals, partner, int row_count,
                int threads):
    """Return the place of each row's best threshold in a pool of scores, -1 where there is none.

    Parameters
    ----------
    rows : (n,) int32
        Of which row each score is; scores in descending order.
    members, last_of_equals : (n,) bool
        Whether each is a member's, and whether the next score is another.
    partner : (row_count,) int64 or None
        A row that is left out beside each row itself.
    row_count, threads : int
    """
    cdef int64_t count = rows.shape[0]
    if count == 0 or members.shape != (count,) or last_of_equals.shape != (count,):
        raise ValueError("rows, members and last_of_equals must be equally long, and not empty")
    if np.min(rows) < 0 or np.max(rows) >= row_count:
        raise ValueError("rows must be in [0, row_count)")
    cdef const uint8_t[::1] kinds = (
        CONFSIM_IS_MEMBER * members.view(np.uint8)
        + CONFSIM_LAST_OF_EQUALS * last_of_equals.view(np.uint8)
    )
    cdef const int64_t[::1] held, others, given
    cdef const int64_t *partner_pointer = NULL
    held = np.bincount(np.asarray(rows)[members], minlength=row_count)
    others = np.bincount(np.asarray(rows)[~members], minlength=row_count)
    if partner is not None:
        given = np.ascontiguousarray(partner, dtype=np.int64)
        if given.shape[0] != row_count:
            raise ValueError("partner must have one entry for each row")
        partner_pointer = &given[0]
    places = np.empty(row_count, dtype=np.int64)
    cdef int64_t[::1] out = places
    cdef confsim_pool pool
    pool.rows, pool.kinds, pool.count = &rows[0], &kinds[0], count
    pool.members, pool.non_members, pool.row_count = &held[0], &others[0], row_count
    with nogil:
        confsim_best_places(&pool, partner_pointer, &out[0], threads)
    return places


def sort(double[::1] values):
    """Put values in ascending order, NaN last."""
    cdef confsim_status status
    if values.shape[0] == 0:
        return
    with nogil:
        status = confsim_sort(&values[0], values.shape[0])
    check(status, "sorting")


def sort_order(const double[::1] values):
    """Return (n,) int64: places of values in ascending order, NaN last, equal ones as they come.

    Fewer than 2^32 values.
    """
    cdef int64_t count = values.shape[0]
    cdef confsim_status status
    if count >= 1 << 32:
        raise ValueError("values must be fewer than 2^32")
    order = np.empty(count, dtype=np.int64)
    cdef int64_t[::1] out = order
    if count == 0:
        return order
    with nogil:
        status = confsim_sort_order(&values[0], count, &out[0])
    check(status, "sorting")
    return order


def counts_below(const double[::1] points, const double[::1] values, bint up_to):
    """Return (n,) int64: how many points are below each value, with ``up_to`` also equal to it.

    Both are ascending and hold no NaN.
    """
    cdef int64_t count = values.shape[0]
    found = np.empty(count, dtype=np.int64)
    cdef int64_t[::1] out = found
    cdef const double *first = &points[0] if points.shape[0] else NULL
    if count == 0:
        return found
    with nogil:
        confsim_counts_below(first, points.shape[0], &values[0], count, up_to, &out[0])
    return found


def sort_columns(double[:, ::1] values, int isa):
    """Put each column in ascending order, NaN last."""
    cdef confsim_status status
    if values.shape[0] == 0 or values.shape[1] == 0:
        return
    with nogil:
        status = confsim_sort_columns(
            &values[0, 0], values.shape[0], values.shape[1], <confsim_isa>isa)
    check(status, "sorting columns")


def auc_by_column(const double[:, ::1] scores, const uint8_t[:, ::1] members, int isa):
    """Return (columns,) float64: the AUC of each column, NaN scores left out; NaN without pairs."""
    cdef int64_t rows = scores.shape[0], columns = scores.shape[1]
    cdef confsim_status status
    if members.shape[0] != rows or members.shape[1] != columns:
        raise ValueError("scores and members must have the same shape")
    areas = np.full(columns, np.nan)
    cdef double[::1] out = areas
    if rows == 0 or columns == 0:
        return areas
    with nogil:
        status = confsim_auc_by_column(
            &scores[0, 0], &members[0, 0], rows, columns, &out[0], <confsim_isa>isa)
    check(status, "areas of columns")
    return areas


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


def midranks(
        const double[::1] values, const uint32_t[::1] codes, int shift, const int64_t[::1]
        histogram, int isa):
    """Return the number of values below each value less that of values above it, (k,) int32.

    The bin of a value is the lower (``shift`` 0) or the upper (16) half of its code; ``histogram``
    counts the values by bin, and a higher value must not have a lower bin. Values must not be NaN.
    """
    cdef int64_t count = values.shape[0]
    cdef confsim_rank_scratch scratch
    if codes.shape[0] != count or histogram.shape[0] != CONFSIM_RANK_BINS:
        raise ValueError(
            "values and codes must have equal lengths, and histogram one entry for each bin"
        )
    if (
        shift not in (0, 16) or count >= 1 << 31
        or np.min(histogram) < 0 or np.sum(histogram) != count
    ):
        raise ValueError(
            "histogram must count the values by the lower or the upper half of their codes"
        )
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
