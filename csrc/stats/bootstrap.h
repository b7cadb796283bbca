/* Histograms of resampled matrices: the inner loop of a two-way bootstrap. */
#ifndef CONFSIM_BOOTSTRAP_H
#define CONFSIM_BOOTSTRAP_H

#include <stdint.h>

#include "core/status.h"

/* For each replicate r, counts[r * bins + codes[i * columns + j]] = sum over (i, j) of
 * row_weights[r * rows + i] * column_weights[r * columns + j]. Every code is below `bins`; `counts`
 * is overwritten. Integers, so nothing depends on the number of threads. */
void confsim_resample(const uint16_t *codes, int64_t rows, int64_t columns,
                      const int32_t *row_weights, const int32_t *column_weights, int64_t replicates,
                      int64_t bins, int64_t *counts, int threads);

#endif
