#include "stats/ranks.h"

#include <string.h>

enum { LEAF = 128, LANES = 8 };

static double sum_leaf(const double *terms, int64_t n) {
    double sum = 0.0, lanes[LANES];
    int64_t whole = n - n % LANES, i = 0;
    if (whole) {
        for (int j = 0; j < LANES; j++) lanes[j] = terms[j];
        for (i = LANES; i < whole; i += LANES)
            for (int j = 0; j < LANES; j++) lanes[j] += terms[i + j];
        sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
              ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
    }
    for (; i < n; i++) sum += terms[i];
    return sum;
}

/* Writes terms begin .. begin + n - 1 of a sum. */
typedef void (*terms_of)(const void *context, int64_t begin, int64_t n, double *terms);

static double sum_terms(terms_of fill, const void *context, int64_t begin, int64_t n) {
    if (n > LEAF) {
        int64_t half = n / 2 - n / 2 % LANES;
        return sum_terms(fill, context, begin, half) +
               sum_terms(fill, context, begin + half, n - half);
    }
    double terms[LEAF];
    fill(context, begin, n, terms);
    return sum_leaf(terms, n);
}

/* ---- terms, for each instruction set ------------------------------------------------------------
 */

typedef struct {
    const int64_t *a, *b;
    double total;
} scaled;

static inline __attribute__((always_inline)) void
write_weighted_squares(const void *context, int64_t begin, int64_t n, double *terms) {
    const scaled s = *(const scaled *)context;
    for (int64_t i = begin; i < begin + n; i++) {
        double x = (double)s.b[i] / s.total;
        terms[i - begin] = (double)s.a[i] * (x * x);
    }
}

static inline __attribute__((always_inline)) void write_products(const void *context, int64_t begin,
                                                                 int64_t n, double *terms) {
    const scaled s = *(const scaled *)context;
    for (int64_t i = begin; i < begin + n; i++)
        terms[i - begin] = ((double)s.a[i] / s.total) * ((double)s.b[i] / s.total);
}

static void weighted_squares_portable(const void *context, int64_t begin, int64_t n,
                                      double *terms) {
    write_weighted_squares(context, begin, n, terms);
}
static void products_portable(const void *context, int64_t begin, int64_t n, double *terms) {
    write_products(context, begin, n, terms);
}
#ifdef CONFSIM_X86
CONFSIM_TARGET_AVX512
static void weighted_squares_avx512(const void *context, int64_t begin, int64_t n, double *terms) {
    write_weighted_squares(context, begin, n, terms);
}
CONFSIM_TARGET_AVX512
static void products_avx512(const void *context, int64_t begin, int64_t n, double *terms) {
    write_products(context, begin, n, terms);
}
#endif

/* Only AVX-512 turns vectors of int64 into doubles. */
static terms_of weighted_squares_with(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return weighted_squares_avx512;
#endif
    (void)isa;
    return weighted_squares_portable;
}

static terms_of products_with(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return products_avx512;
#endif
    (void)isa;
    return products_portable;
}

/* ---- ranks --------------------------------------------------------------------------------------
 */

void confsim_ranks(const int64_t *counts, int64_t bins, int64_t *ranks, confsim_rank_spread *spread,
                   confsim_isa isa) {
    int64_t total = 0;
    for (int64_t i = 0; i < bins; i++) {
        ranks[i] = 2 * total + counts[i];
        total += counts[i];
    }
    for (int64_t i = 0; i < bins; i++) ranks[i] -= total;
    spread->total = total > 1 ? total : 1;
    scaled between = {counts, ranks, (double)spread->total};
    scaled within = {counts, counts, (double)spread->total};
    terms_of squares = weighted_squares_with(isa);
    spread->variance = sum_terms(squares, &between, 0, bins);
    spread->hidden = sum_terms(squares, &within, 0, bins) / 3; /* of doubled ranks */
}

double confsim_rank_covariance(const int64_t *sums, const int64_t *ranks, int64_t bins,
                               int64_t total, confsim_isa isa) {
    scaled products = {sums, ranks, (double)total};
    return sum_terms(products_with(isa), &products, 0, bins);
}

/* ---- pairs --------------------------------------------------------------------------------------
 */

static void copied(const void *context, int64_t begin, int64_t n, double *terms) {
    memcpy(terms, (const double *)context + begin, (size_t)n * sizeof *terms);
}

confsim_rank_pairs confsim_count_pairs(const int64_t *members, const int64_t *non_members,
                                       int64_t bins, int descending, double *terms) {
    confsim_rank_pairs found = {0, 0, 0.0, 0.0};
    double *below = terms, *tied = terms + bins;
    int64_t used = 0; /* bins that hold members: often few */
    for (int64_t b = 0; b < bins; b++) {
        int64_t at = descending ? bins - 1 - b : b;
        if (members[at]) {
            below[used] = (double)members[at] * (double)found.non_members;
            tied[used++] = (double)members[at] * (double)non_members[at];
        }
        found.members += members[at];
        found.non_members += non_members[at];
    }
    found.below = sum_terms(copied, below, 0, used);
    found.tied = sum_terms(copied, tied, 0, used);
    return found;
}

/* ---- exact ranks --------------------------------------------------------------------------------
 */

/* Up to so many keys are ranked by comparing all pairs. */
enum { FEW = 64 };

/* Integers that are in the order of the numbers; both zeros have the same one. */
static inline int64_t key_of(double value) {
    int64_t bits;
    value += 0.0;
    memcpy(&bits, &value, sizeof bits);
    return bits ^ (int64_t)((uint64_t)(bits >> 63) >> 1);
}

/* Writes the ranks of the rows that hold n keys; `base` is the rank of a value in their midst. Up
 * to CONFSIM_RANK_PADDING entries after the keys are read, too. */
typedef void (*rank_few)(const int64_t *keys, const uint32_t *rows, int64_t n, int32_t base,
                         int32_t *ranks);

static inline __attribute__((always_inline)) void
write_few(const int64_t *keys, const uint32_t *rows, int64_t n, int32_t base, int32_t *ranks) {
    for (int64_t i = 0; i < n; i += LANES) {
        int64_t own[LANES], rank[LANES] = {0};
        for (int j = 0; j < LANES; j++) own[j] = keys[i + j];
        for (int64_t k = 0; k < n; k++)
            for (int j = 0; j < LANES; j++) rank[j] += (keys[k] < own[j]) - (keys[k] > own[j]);
        int64_t used = n - i < LANES ? n - i : LANES;
        for (int64_t j = 0; j < used; j++) ranks[rows[i + j]] = base + (int32_t)rank[j];
    }
}

static void few_portable(const int64_t *keys, const uint32_t *rows, int64_t n, int32_t base,
                         int32_t *ranks) {
    write_few(keys, rows, n, base, ranks);
}
#ifdef CONFSIM_X86
CONFSIM_TARGET_AVX2
static void few_avx2(const int64_t *keys, const uint32_t *rows, int64_t n, int32_t base,
                     int32_t *ranks) {
    write_few(keys, rows, n, base, ranks);
}
CONFSIM_TARGET_AVX512
static void few_avx512(const int64_t *keys, const uint32_t *rows, int64_t n, int32_t base,
                       int32_t *ranks) {
    write_few(keys, rows, n, base, ranks);
}
#endif

static rank_few few_with(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return few_avx512;
    if (isa == CONFSIM_ISA_AVX2) return few_avx2;
#endif
    (void)isa;
    return few_portable;
}

/* Moves keys up to `middle` to the front, and their rows with them; returns how many they are. */
static int64_t part(int64_t *keys, uint32_t *rows, int64_t n, int64_t middle) {
    int64_t lower = 0;
    for (int64_t i = 0; i < n;
         i++) { /* always swapped, and kept sometimes: no branch to mispredict */
        int64_t key = keys[i];
        uint32_t row = rows[i];
        keys[i] = keys[lower];
        rows[i] = rows[lower];
        keys[lower] = key;
        rows[lower] = row;
        lower += key <= middle;
    }
    return lower;
}

/* Halves the range of the keys until few of them are left, or all are equal: at most 64 times. */
static void rank_group(int64_t *keys, uint32_t *rows, int64_t n, int32_t base, int32_t *ranks,
                       rank_few few) {
    while (n > FEW) {
        int64_t low = keys[0], high = keys[0];
        for (int64_t i = 1; i < n; i++) {
            low = keys[i] < low ? keys[i] : low;
            high = keys[i] > high ? keys[i] : high;
        }
        if (low == high) {
            for (int64_t i = 0; i < n; i++) ranks[rows[i]] = base;
            return;
        }
        uint64_t width = (uint64_t)high - (uint64_t)low;
        int64_t lower = part(keys, rows, n, (int64_t)((uint64_t)low + width / 2));
        rank_group(keys, rows, lower, base - (int32_t)(n - lower), ranks, few);
        keys += lower;
        rows += lower;
        base += (int32_t)lower;
        n -= lower;
    }
    few(keys, rows, n, base, ranks);
}

void confsim_midranks(const double *values, const uint32_t *codes, int shift,
                      const int64_t *histogram, int64_t count, int32_t *ranks,
                      confsim_rank_scratch scratch, confsim_isa isa) {
    int64_t *keys = scratch.keys;
    uint32_t *rows = scratch.rows, *next = scratch.next;
    rank_few few = few_with(isa);
    int64_t start = 0;
    for (int b = 0; b < CONFSIM_RANK_BINS; start += histogram[b++]) next[b] = (uint32_t)start;
    for (int64_t i = 0; i < count; i++) {
        uint32_t place = next[codes[i] >> shift & (CONFSIM_RANK_BINS - 1)]++;
        keys[place] = key_of(values[i]);
        rows[place] = (uint32_t)i;
    }
    memset(keys + count, 0, CONFSIM_RANK_PADDING * sizeof *keys);
    for (int b = 0; b < CONFSIM_RANK_BINS; b++) {
        int64_t held = histogram[b], first = next[b] - held;
        if (held)
            rank_group(keys + first, rows + first, held, (int32_t)(first + next[b] - count), ranks,
                       few);
    }
}
