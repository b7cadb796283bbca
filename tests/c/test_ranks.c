/* Rank statistics: every path gives the same bits, near a plain sum; pairs and ranks of points are
 * exact. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "stats/ranks.h"
#include "testing.h"

enum { MOST = 3000 };

static int64_t counts[MOST], others[MOST], ranks[MOST], again[MOST];
static double terms[2 * MOST];

static void check_ranks(int64_t bins) {
    confsim_rank_spread first, other;
    double variance = 0.0, hidden = 0.0;
    int64_t below = 0, total = 0;
    confsim_ranks(counts, bins, ranks, &first, CONFSIM_ISA_PORTABLE);
    for (int64_t i = 0; i < bins; i++) total += counts[i];
    for (int64_t i = 0; i < bins; below += counts[i++]) {
        assert(ranks[i] == 2 * below + counts[i] - total);
        variance += (double)counts[i] * pow((double)ranks[i] / (double)first.total, 2);
        hidden += (double)counts[i] * pow((double)counts[i] / (double)first.total, 2) / 3;
    }
    assert(first.total == (total ? total : 1));
    assert(fabs(first.variance - variance) <= 1e-12 * variance &&
           fabs(first.hidden - hidden) <= 1e-12 * hidden);
    double covariance =
        confsim_rank_covariance(others, ranks, bins, first.total, CONFSIM_ISA_PORTABLE);
    for (int isa = 0; isa <= CONFSIM_ISA_NEON; isa++) {
        if (!confsim_isa_available((confsim_isa)isa)) continue;
        confsim_ranks(counts, bins, again, &other, (confsim_isa)isa);
        for (int64_t i = 0; i < bins; i++) assert(again[i] == ranks[i]);
        assert(other.total == first.total && other.variance == first.variance &&
               other.hidden == first.hidden);
        assert(confsim_rank_covariance(others, ranks, bins, first.total, (confsim_isa)isa) ==
               covariance);
    }
}

static void check_pairs(int64_t bins, int descending) {
    confsim_rank_pairs found = confsim_count_pairs(counts, others, bins, descending, terms);
    int64_t below = 0, tied = 0, members = 0, non_members = 0;
    for (int64_t b = 0; b < bins; b++) {
        int64_t at = descending ? bins - 1 - b : b;
        below += counts[at] * non_members;
        tied += counts[at] * others[at];
        members += counts[at];
        non_members += others[at];
    }
    assert(found.members == members && found.non_members == non_members);
    assert(found.below == (double)below &&
           found.tied == (double)tied); /* sums of small integers are exact */
}

/* Values of few or of many kinds, in bins that are too few for them. */
static void check_midranks(int64_t count, int kinds, int shift) {
    double *values = malloc((size_t)count * sizeof *values);
    uint32_t *codes = malloc((size_t)count * sizeof *codes);
    int64_t *histogram = calloc(CONFSIM_RANK_BINS, sizeof *histogram);
    int32_t *found = malloc((size_t)count * sizeof *found);
    confsim_rank_scratch scratch = {
        malloc((size_t)(count + CONFSIM_RANK_PADDING) * sizeof(int64_t)),
        malloc((size_t)count * sizeof(uint32_t)), malloc(CONFSIM_RANK_BINS * sizeof(uint32_t))};
    assert(values && codes && histogram && found && scratch.keys && scratch.rows && scratch.next);
    for (int64_t i = 0; i < count; i++) {
        int64_t kind = i * 7919 % kinds - kinds / 3;
        uint32_t bin = (uint32_t)(kind < 0                        ? 0
                                  : kind / 50 < CONFSIM_RANK_BINS ? kind / 50
                                                                  : CONFSIM_RANK_BINS - 1);
        values[i] = kind ? (double)kind / 7 : i % 2 ? 0.0 : -0.0;
        codes[i] = bin << shift | 0xabcdu << (16 - shift);
        histogram[bin]++;
    }
    for (int isa = 0; isa <= CONFSIM_ISA_NEON; isa++) {
        if (!confsim_isa_available((confsim_isa)isa)) continue;
        confsim_midranks(values, codes, shift, histogram, count, found, scratch, (confsim_isa)isa);
        for (int64_t i = 0; i < count; i++) {
            int32_t rank = 0;
            for (int64_t j = 0; j < count; j++)
                rank += (values[j] < values[i]) - (values[j] > values[i]);
            assert(found[i] == rank);
        }
    }
    free(values);
    free(codes);
    free(histogram);
    free(found);
    free(scratch.keys);
    free(scratch.rows);
    free(scratch.next);
}

static void ranks_and_pairs_are_those_of_a_loop(void) {
    const int64_t sizes[] = {1, 7, 8, 9, 127, 128, 129, 137, 1000, MOST};
    for (int every = 1; every <= 1000; every *= 10)
        for (int s = 0; s < 10; s++) {
            for (int64_t i = 0; i < sizes[s]; i++) {
                counts[i] = i % every ? 0 : i * 7919 % 101;
                others[i] = i * 104729 % 997;
            }
            check_ranks(sizes[s]);
            check_pairs(sizes[s], 0);
            check_pairs(sizes[s], 1);
        }
    for (int64_t count = 1; count <= 1000; count = count * 5 / 2 + 1)
        for (int kinds = 1; kinds <= 10000; kinds *= 10)
            for (int shift = 0; shift <= 16; shift += 16) check_midranks(count, kinds, shift);
}

int main(int argc, char **argv) {
    static const test_case cases[] = {CASE(ranks_and_pairs_are_those_of_a_loop)};
    return RUN_CASES(cases, argc, argv);
}
