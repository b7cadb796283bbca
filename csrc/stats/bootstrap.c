#include "stats/bootstrap.h"

#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"
#include "core/status.h"
#include "core/util.h"

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define INLINE static inline
#define PREFETCH(address) ((void)(address))
#endif

enum {
    SEARCHES = 8,               /* run side by side, so that none waits for memory alone */
    LANES = 64,                 /* replicates that are counted together: a cache line of weights */
    MOST_COLUMN_WEIGHT = 255,   /* of the blocked way */
    MOST_COLUMNS_AT_ONCE = 256, /* 256 * 255 < 2^16 */
    ROWS = 16,                  /* that are sorted, and then counted, together */
    TILE = 1024,                /* codes whose counts of a block stay in the cache for ROWS */
    AHEAD = 16                  /* columns whose weights are fetched before they are needed */
};

/* ---- codes ----------------------------------------------------------------------------------- */

/* How many thresholds are at most each of the scores. A NaN has none. */
static void count_at_most(const double *scores, const double *thresholds, int64_t threshold_count,
                          int64_t *found) {
    int64_t first[SEARCHES] = {0};
    int64_t left = threshold_count;
    while (left > 1) {
        const int64_t half = left / 2;
        for (int k = 0; k < SEARCHES; k++)
            first[k] += thresholds[first[k] + half - 1] <= scores[k] ? half : 0;
        left -= half;
    }
    for (int k = 0; k < SEARCHES; k++)
        found[k] = first[k] + (left == 1 && thresholds[first[k]] <= scores[k]);
}

void confsim_threshold_codes(const double *scores, const uint8_t *kinds, int64_t count,
                             const double *thresholds, int64_t threshold_count, uint16_t *codes) {
    const uint16_t unknown = (uint16_t)(2 * (threshold_count + 1));
    for (int64_t start = 0; start < count; start += SEARCHES) {
        const int64_t size = confsim_least(count - start, SEARCHES);
        double block[SEARCHES] = {0};
        int64_t found[SEARCHES];
        memcpy(block, scores + start, (size_t)size * sizeof *block);
        count_at_most(block, thresholds, threshold_count, found);
        for (int64_t k = 0; k < size; k++)
            codes[start + k] =
                block[k] != block[k] ? unknown : (uint16_t)(2 * found[k] + kinds[start + k]);
    }
}

/* ---- one replicate after another: weights of any size ---------------------------------------- */

typedef struct {
    const uint16_t *codes;
    int64_t rows, columns;
    const uint16_t *row_weights, *column_weights;
    int64_t bins;
    int64_t *counts;
} job;

static void replicate(void *context, int64_t item, int thread) {
    (void)thread;
    const job *work = context;
    const uint16_t *row_weights = work->row_weights + item * work->rows;
    const uint16_t *column_weights = work->column_weights + item * work->columns;
    int64_t *counts = work->counts + item * work->bins;
    memset(counts, 0, (size_t)work->bins * sizeof *counts);
    for (int64_t i = 0; i < work->rows; i++) {
        const int64_t weight = row_weights[i];
        if (weight == 0) /* more than a third of the rows of a bootstrap sample */
            continue;
        const uint16_t *codes = work->codes + i * work->columns;
        for (int64_t j = 0; j < work->columns; j++) counts[codes[j]] += weight * column_weights[j];
    }
}

/* ---- LANES replicates at once ---------------------------------------------------------------- */

/* Add columns, in the order of their codes, to the histogram of a block. */
typedef void adder(const uint8_t *, const uint32_t *, const uint32_t *, int64_t, const uint16_t *,
                   uint32_t *);

/* A row's columns are put in the order of their codes. The columns of one code are added up in 16
 * bits for all replicates of a block, and go into its histogram in one multiplication: the
 * histogram, which is large, is met once for each code of a row, not once for each pair. */
typedef struct {
    const job *all;
    int64_t replicates, blocks;
    int threads;
    uint16_t *row_weights;   /* blocks x rows x LANES */
    uint8_t *column_weights; /* blocks x columns x LANES */
    uint32_t *counts;        /* blocks x bins x LANES */
    uint32_t *order;         /* threads x ROWS x (columns + AHEAD) */
    uint32_t *starts;        /* threads x ROWS x (bins + 2) */
    adder *add;
} blocked_job;

/* Columns in the order of their codes; those of code b are from starts[b] on, before starts[b + 1].
 */
static void sort_columns(const uint16_t *codes, int64_t columns, int64_t bins, uint32_t *order,
                         uint32_t *starts) {
    uint32_t *next = starts + 1; /* where the next column of a code goes, in the end its end */
    memset(starts, 0, (size_t)(bins + 2) * sizeof *starts);
    for (int64_t j = 0; j < columns; j++) starts[codes[j] + 2]++;
    for (int64_t b = 0; b < bins; b++) starts[b + 2] += starts[b + 1];
    for (int64_t j = 0; j < columns; j++) order[next[codes[j]]++] = (uint32_t)j;
    for (int64_t j = columns; j < columns + AHEAD; j++) order[j] = 0;
}

/* `order` has AHEAD more entries. */
INLINE void add_columns(const uint8_t *weights, const uint32_t *order, int64_t count,
                        const uint16_t *times, uint32_t *counts) {
    for (int64_t start = 0; start < count; start += MOST_COLUMNS_AT_ONCE) {
        const int64_t size = confsim_least(count - start, MOST_COLUMNS_AT_ONCE);
        uint16_t sum[LANES] = {0};
        for (int64_t k = 0; k < size; k++) {
            const uint8_t *column = weights + (int64_t)order[start + k] * LANES;
            PREFETCH(weights + (int64_t)order[start + k + AHEAD] * LANES);
            for (int r = 0; r < LANES; r++) sum[r] = (uint16_t)(sum[r] + column[r]);
        }
        for (int r = 0; r < LANES; r++) counts[r] += (uint32_t)times[r] * sum[r];
    }
}

INLINE void add_codes(const uint8_t *weights, const uint32_t *order, const uint32_t *starts,
                      int64_t codes, const uint16_t *times, uint32_t *counts) {
    for (int64_t b = 0; b < codes; b++)
        add_columns(weights, order + starts[b], starts[b + 1] - starts[b], times,
                    counts + b * LANES);
}

static void add_codes_portable(const uint8_t *weights, const uint32_t *order,
                               const uint32_t *starts, int64_t codes, const uint16_t *times,
                               uint32_t *counts) {
    add_codes(weights, order, starts, codes, times, counts);
}

#if CONFSIM_X86
CONFSIM_TARGET_AVX2 static void add_codes_avx2(const uint8_t *weights, const uint32_t *order,
                                               const uint32_t *starts, int64_t codes,
                                               const uint16_t *times, uint32_t *counts) {
    add_codes(weights, order, starts, codes, times, counts);
}

CONFSIM_TARGET_AVX512 static void add_codes_avx512(const uint8_t *weights, const uint32_t *order,
                                                   const uint32_t *starts, int64_t codes,
                                                   const uint16_t *times, uint32_t *counts) {
    add_codes(weights, order, starts, codes, times, counts);
}
#endif

static adder *adder_of(confsim_isa isa) {
#if CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return add_codes_avx512;
    if (isa == CONFSIM_ISA_AVX2) return add_codes_avx2;
#else
    (void)isa;
#endif
    return add_codes_portable;
}

/* Add some sorted rows to the histograms of a block, one tile of codes after another. */
static void add_rows(const blocked_job *work, int64_t block, int64_t first, int64_t count,
                     const uint32_t *order, const uint32_t *starts) {
    const job *all = work->all;
    const uint8_t *weights = work->column_weights + block * all->columns * LANES;
    const uint16_t *times = work->row_weights + (block * all->rows + first) * LANES;
    uint32_t *counts = work->counts + block * all->bins * LANES;
    for (int64_t b = 0; b < all->bins; b += TILE) {
        const int64_t codes = confsim_least(all->bins - b, TILE);
        for (int64_t i = 0; i < count; i++)
            work->add(weights, order + i * (all->columns + AHEAD), starts + i * (all->bins + 2) + b,
                      codes, times + i * LANES, counts + b * LANES);
    }
}

static void give_counts(const blocked_job *work, int64_t block) {
    const int64_t bins = work->all->bins, first = block * LANES;
    const int64_t lanes = confsim_least(work->replicates - first, LANES);
    const uint32_t *counts = work->counts + block * bins * LANES;
    int64_t *out = work->all->counts + first * bins;
    for (int64_t b = 0; b < bins; b++)
        for (int64_t r = 0; r < lanes; r++) out[r * bins + b] = counts[b * LANES + r];
}

static void blocks_of_thread(void *context, int64_t item, int thread) {
    (void)thread;
    const blocked_job *work = context;
    const job *all = work->all;
    uint32_t *order = work->order + item * ROWS * (all->columns + AHEAD);
    uint32_t *starts = work->starts + item * ROWS * (all->bins + 2);
    for (int64_t first = 0; first < all->rows; first += ROWS) {
        const int64_t count = confsim_least(all->rows - first, ROWS);
        for (int64_t i = 0; i < count; i++)
            sort_columns(all->codes + (first + i) * all->columns, all->columns, all->bins,
                         order + i * (all->columns + AHEAD), starts + i * (all->bins + 2));
        for (int64_t b = item; b < work->blocks; b += work->threads)
            add_rows(work, b, first, count, order, starts);
    }
    for (int64_t b = item; b < work->blocks; b += work->threads) give_counts(work, b);
}

static void pack_weights(blocked_job *work) {
    const job *all = work->all;
    for (int64_t r = 0; r < work->replicates; r++) {
        const int64_t block = r / LANES, lane = r % LANES;
        uint16_t *rows = work->row_weights + block * all->rows * LANES + lane;
        uint8_t *columns = work->column_weights + block * all->columns * LANES + lane;
        for (int64_t i = 0; i < all->rows; i++)
            rows[i * LANES] = all->row_weights[r * all->rows + i];
        for (int64_t j = 0; j < all->columns; j++)
            columns[j * LANES] = (uint8_t)all->column_weights[r * all->columns + j];
    }
}

/* Whether weights fit into their packed types, and every count into 32 bits. */
static int fits_blocks(const job *all, int64_t replicates) {
    for (int64_t r = 0; r < replicates; r++) {
        int64_t of_rows = 0, of_columns = 0;
        for (int64_t i = 0; i < all->rows; i++) of_rows += all->row_weights[r * all->rows + i];
        for (int64_t j = 0; j < all->columns; j++) {
            const uint16_t weight = all->column_weights[r * all->columns + j];
            if (weight > MOST_COLUMN_WEIGHT) return 0;
            of_columns += weight;
        }
        if (of_columns > 0 && of_rows > (int64_t)UINT32_MAX / of_columns) return 0;
    }
    return 1;
}

static confsim_status resample_blocks(const job *all, int64_t replicates, int threads,
                                      confsim_isa isa) {
    const int64_t blocks = confsim_blocks(replicates, LANES);
    threads = (int)confsim_least(threads, blocks);
    blocked_job work = {.all = all,
                        .replicates = replicates,
                        .blocks = blocks,
                        .threads = threads,
                        .add = adder_of(isa)};
    const size_t wide = (size_t)blocks * LANES;
    work.row_weights = calloc(wide * (size_t)all->rows, sizeof *work.row_weights);
    work.column_weights = calloc(wide * (size_t)all->columns, sizeof *work.column_weights);
    work.counts = calloc(wide * (size_t)all->bins, sizeof *work.counts);
    const size_t sorted = (size_t)threads * ROWS;
    work.order = malloc(sorted * (size_t)(all->columns + AHEAD) * sizeof *work.order);
    work.starts = malloc(sorted * (size_t)(all->bins + 2) * sizeof *work.starts);
    confsim_status status = CONFSIM_NO_MEMORY;
    if (!work.row_weights || !work.column_weights || !work.counts || !work.order || !work.starts)
        goto out;
    pack_weights(&work);
    confsim_parallel_for(threads, threads, blocks_of_thread, &work);
    status = CONFSIM_OK;
out:
    free(work.row_weights);
    free(work.column_weights);
    free(work.counts);
    free(work.order);
    free(work.starts);
    return status;
}

void confsim_resample(const uint16_t *codes, int64_t rows, int64_t columns,
                      const uint16_t *row_weights, const uint16_t *column_weights,
                      int64_t replicates, int64_t bins, int64_t *counts, int threads,
                      confsim_isa isa) {
    const job all = {codes, rows, columns, row_weights, column_weights, bins, counts};
    /* The other way needs no memory, and gives the same counts. */
    if (fits_blocks(&all, replicates) && !resample_blocks(&all, replicates, threads, isa)) return;
    confsim_parallel_for(replicates, threads, replicate, (void *)(uintptr_t)&all);
}
