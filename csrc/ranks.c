#include "ranks.h"

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
        return sum_terms(fill, context, begin, half) + sum_terms(fill, context, begin + half, n - half);
    }
    double terms[LEAF];
    fill(context, begin, n, terms);
    return sum_leaf(terms, n);
}

/* ---- terms, for each instruction set ------------------------------------------------------------ */

typedef struct {
    const int64_t *a, *b;
    double total;
} scaled;

static inline __attribute__((always_inline))
void write_weighted_squares(const void *context, int64_t begin, int64_t n, double *terms) {
    const scaled s = *(const scaled *)context;
    for (int64_t i = begin; i < begin + n; i++) {
        double x = (double)s.b[i] / s.total;
        terms[i - begin] = (double)s.a[i] * (x * x);
    }
}

static inline __attribute__((always_inline))
void write_products(const void *context, int64_t begin, int64_t n, double *terms) {
    const scaled s = *(const scaled *)context;
    for (int64_t i = begin; i < begin + n; i++)
        terms[i - begin] = ((double)s.a[i] / s.total) * ((double)s.b[i] / s.total);
}

static void weighted_squares_portable(const void *context, int64_t begin, int64_t n, double *terms) {
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

/* ---- ranks -------------------------------------------------------------------------------------- */

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

double confsim_rank_covariance(const int64_t *sums, const int64_t *ranks, int64_t bins, int64_t total,
                               confsim_isa isa) {
    scaled products = {sums, ranks, (double)total};
    return sum_terms(products_with(isa), &products, 0, bins);
}

/* ---- pairs -------------------------------------------------------------------------------------- */

static void copied(const void *context, int64_t begin, int64_t n, double *terms) {
    memcpy(terms, (const double *)context + begin, (size_t)n * sizeof *terms);
}

confsim_rank_pairs confsim_count_pairs(const int64_t *members, const int64_t *non_members, int64_t bins,
                                       int descending, double *terms) {
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
