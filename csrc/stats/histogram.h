/* Histograms and sums over (confidence, distance) pairs, in one pass, for any number of queries.
 *
 * Confidence may be any finite number; a distance may be NaN (no training point of the class), and
 * such a pair counts only in the confidence histogram, in its second half. Counts are integers and
 * sums are made block by block in a fixed order, so nothing depends on the number of threads. */
#ifndef CONFSIM_HISTOGRAM_H
#define CONFSIM_HISTOGRAM_H

#include <stdint.h>

#include "core/isa.h"
#include "core/status.h"

enum {
    CONFSIM_GRID = 128,     /* bins of either axis of the joint histogram */
    CONFSIM_FINE = 1 << 16, /* bins of the histograms that ranks come from */
    CONFSIM_TALLY_BLOCK = 1 << 14
};

/* Where the bins are. Values outside go to the first or the last bin.
 *   grid bin of confidence c: (c / confidence_divisor - grid_low) * grid_scale
 *   grid bin of distance d:   (d / distance_divisor) * CONFSIM_GRID
 *   fine bin of c:            (c - fine_low) * fine_scale
 *   fine bin of d:            (d / distance_divisor) * distance_fine_scale */
typedef struct {
    double confidence_divisor, grid_low, grid_scale;
    double fine_low, fine_scale;
    double distance_divisor, distance_fine_scale;
} confsim_bins;

/* Sums over pairs without NaN, of u = (c - fine_low) * fine_scale / CONFSIM_FINE and
 * v = d / distance_divisor. */
typedef struct {
    int64_t pairs;
    double u, v, uu, vv, uv;
} confsim_moments;

/* Adds to all of them. `fine_confidence` has 2 * CONFSIM_FINE bins, the second half for NaN
 * distances; `codes`, 4 bytes a query, receives fine bins for confsim_rank_sums: distance + 65536 *
 * confidence. `codes` may be null. */
CONFSIM_MUST_CHECK
confsim_status confsim_tally(const double *confidence, const double *distance, int64_t count,
                             confsim_bins bins, int64_t *grid, int64_t *fine_confidence,
                             int64_t *fine_distance, confsim_moments *moments, uint32_t *codes,
                             int threads, confsim_isa isa);

/* sums[distance bin] += rank[confidence bin], over pairs without NaN; `distance` may be null where
 * there is none. Integers: exact in any order. |rank| must be at most 2^62 / count. */
CONFSIM_MUST_CHECK
confsim_status confsim_rank_sums(const uint32_t *codes, const double *distance, int64_t count,
                                 const int64_t *rank, int64_t *sums, int threads);

/* Writes the rows, ascending, whose fine bin of confidence or of distance is wanted, and returns
 * how many they are. `wanted` holds 0 or 1 for each bin of confidence, then for each of distance.
 * `rows` has room for `count` of them, of which there are fewer than 2^32. */
int64_t confsim_rows_in_bins(const uint32_t *codes, int64_t count, const uint8_t *wanted,
                             uint32_t *rows);

/* Adds to the joint histogram only, on one thread. */
void confsim_grid_counts(const double *confidence, const double *distance, int64_t count,
                         confsim_bins bins, int64_t *grid, confsim_isa isa);

#endif
