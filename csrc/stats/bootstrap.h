/* Histograms of resampled matrices: the inner loop of a two-way bootstrap. */
#ifndef CONFSIM_BOOTSTRAP_H
#define CONFSIM_BOOTSTRAP_H

#include <stdint.h>

#include "core/isa.h"

/* codes[i] = 2 * b + kinds[i], where b thresholds are at most scores[i]; 2 * (count of thresholds +
 * 1) for a NaN. Thresholds are ascending, fewer than 2^15; kinds are 0 or 1. */
void confsim_threshold_codes(const double *scores, const uint8_t *kinds, int64_t count,
                             const double *thresholds, int64_t threshold_count, uint16_t *codes);

/* For each replicate r, counts[r * bins + codes[i * columns + j]] = sum over (i, j) of
 * row_weights[r * rows + i] * column_weights[r * columns + j]. Every code is below `bins`,
 * there are fewer than 2^32 columns; `counts` is overwritten. Integers, so nothing depends on the
 * number of threads. Quicker with about `columns` bytes a replicate; without them it does with
 * none. */
void confsim_resample(const uint16_t *codes, int64_t rows, int64_t columns,
                      const uint16_t *row_weights, const uint16_t *column_weights,
                      int64_t replicates, int64_t bins, int64_t *counts, int threads,
                      confsim_isa isa);

#endif
