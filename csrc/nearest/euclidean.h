/* Exact nearest training points by Euclidean distance.
 *
 * The distance is sqrt(sum_k (q_k - t_k)^2) in float64, k ascending, without fused multiply-add;
 * among equal distances (not: equal sums) the lowest training index wins. */
#ifndef CONFSIM_EUCLIDEAN_H
#define CONFSIM_EUCLIDEAN_H

#include "core/isa.h"
#include "core/matrix.h"
#include "nearest/nearest.h"
#include "core/status.h"

/* The corners of the box around the rows, `columns` entries each. Where an entry is NaN or
 * infinite, some corner is not finite either. There is at least one row. */
CONFSIM_MUST_CHECK confsim_status confsim_euclidean_extent(const confsim_matrix *matrix,
                                                           double *low, double *high, int threads);

/* Both matrices are finite, have the same number of columns (at least one) and at least one
 * training row; no sum of squares overflows. */
CONFSIM_MUST_CHECK confsim_status confsim_euclidean_nearest(const confsim_matrix *queries,
                                                            const confsim_matrix *training,
                                                            const confsim_pairing *pairing,
                                                            const confsim_nearest *answer,
                                                            int threads, confsim_isa isa);

#endif
