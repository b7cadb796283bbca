/* Rank statistics of histograms: every path gives the same bits, near a plain sum; pairs are exact. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ranks.h"

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
    assert(fabs(first.variance - variance) <= 1e-12 * variance && fabs(first.hidden - hidden) <= 1e-12 * hidden);
    double covariance = confsim_rank_covariance(others, ranks, bins, first.total, CONFSIM_ISA_PORTABLE);
    for (int isa = 0; isa <= CONFSIM_ISA_NEON; isa++) {
        if (!confsim_isa_available((confsim_isa)isa)) continue;
        confsim_ranks(counts, bins, again, &other, (confsim_isa)isa);
        for (int64_t i = 0; i < bins; i++) assert(again[i] == ranks[i]);
        assert(other.total == first.total && other.variance == first.variance && other.hidden == first.hidden);
        assert(confsim_rank_covariance(others, ranks, bins, first.total, (confsim_isa)isa) == covariance);
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
    assert(found.below == (double)below && found.tied == (double)tied); /* sums of small integers are exact */
}

int main(void) {
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
    puts("ranks: ok");
    return 0;
}
