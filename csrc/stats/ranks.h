/* Rank statistics: of points that share the bins of a histogram, and exact ranks of single points.
 *
 * Ranks are integers, twice the centred mid-rank. Sums of floating-point terms are pairwise: blocks
 * of at most 128 in eight interleaved partial sums, then halves; the order depends on the number of
 * terms alone. Counts of `bins` bins are in ascending order of the value. */
#ifndef CONFSIM_RANKS_H
#define CONFSIM_RANKS_H

#include <stdint.h>

#include "core/isa.h"

enum { CONFSIM_RANK_BINS = 1 << 16, CONFSIM_RANK_PADDING = 8 };

/* Of mid-ranks, doubled and divided by the number of points: their variance times that number, and
 * what the order inside bins can add to it at most. Without points both are 0. */
typedef struct {
    int64_t total; /* at least 1 */
    double variance, hidden;
} confsim_rank_spread;

/* Fills ranks[0..bins). */
void confsim_ranks(const int64_t *counts, int64_t bins, int64_t *ranks, confsim_rank_spread *spread,
                   confsim_isa isa);

/* sum of (sums / total) * (ranks / total) */
double confsim_rank_covariance(const int64_t *sums, const int64_t *ranks, int64_t bins,
                               int64_t total, confsim_isa isa);

/* Members, non-members and pairs of one of either: in `below` the non-member is in a lower bin
 * (with `descending` in a higher one), in `tied` in the same. */
typedef struct {
    int64_t members, non_members;
    double below, tied;
} confsim_rank_pairs;

/* `terms` has room for 2 * bins. */
confsim_rank_pairs confsim_count_pairs(const int64_t *members, const int64_t *non_members,
                                       int64_t bins, int descending, double *terms);

/* Arrays that confsim_midranks works in: `keys` of count + CONFSIM_RANK_PADDING entries, `rows` of
 * count, `next` of CONFSIM_RANK_BINS. */
typedef struct {
    int64_t *keys;
    uint32_t *rows, *next;
} confsim_rank_scratch;

/* Exact ranks: ranks[i] becomes the number of values below values[i] less that of values above it.
 *
 * The bin of a value is (codes[i] >> shift) % CONFSIM_RANK_BINS, `histogram` counts them, and a
 * higher value must not have a lower bin (confsim_tally makes such codes). No value is NaN; count <
 * 2^31. Values that crowd into few bins cost a factor of at most 64, the number of their bits. */
void confsim_midranks(const double *values, const uint32_t *codes, int shift,
                      const int64_t *histogram, int64_t count, int32_t *ranks,
                      confsim_rank_scratch scratch, confsim_isa isa);

#endif
