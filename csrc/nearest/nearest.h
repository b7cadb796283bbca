/* Exact nearest training points, by Euclidean distance and by angle.
 *
 * What is asked for, where the answers go, and the two searches. docs/how-the-search-works.md tells
 * which method answers what. */
#ifndef CONFSIM_NEAREST_H
#define CONFSIM_NEAREST_H

#include <stdint.h>

#include "core/isa.h"
#include "core/matrix.h"
#include "core/status.h"

enum { CONFSIM_MOST_NEIGHBORS = 1024 }; /* that a search can be asked for, per query */

/* Who may be paired with whom. Both label arrays are given (same class only) or neither. */
typedef struct {
    const int64_t *query_labels;
    const int64_t *training_labels;
    const int64_t *self_index; /* a query's own training row, -1 for none; NULL: nobody has one */
    /* Duplicate groups: rows of a query's own group do not count either where its own row does not.
     * Both arrays or neither; searches for the k nearest alone look at them. */
    const int64_t *query_groups;
    const int64_t *training_groups;
} confsim_pairing;

/* One entry a query each; no neighbour: NaN and -1. Any array but `distance` may be NULL; those
 * that exclude a query's own training row need `self_index`. */
typedef struct {
    double *distance;
    int64_t *index;
    double *distance_other;
    int64_t *index_other;
} confsim_nearest;

/* ---------------------------------------------------------------- Euclidean distance
 *
 * The distance is sqrt(sum_k (q_k - t_k)^2) in float64, k ascending, without fused multiply-add;
 * among equal distances (not: equal sums) the lowest training index wins. */

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

/* The same for the `k` nearest, in ascending order of (distance, index): arrays of k entries a
 * query. From the second pair of arrays a query's own row and its group are left out. */
CONFSIM_MUST_CHECK confsim_status confsim_euclidean_k_nearest(
    const confsim_matrix *queries, const confsim_matrix *training, const confsim_pairing *pairing,
    const confsim_nearest *answer, int64_t k, int threads, confsim_isa isa);

/* ---------------------------------------------------------------- angle
 *
 * The distance of two rows is theta / pi with theta = 2 atan2(|a - b|, |a + b|), where a and b are
 * the rows divided by sqrt(sum x^2); float64, columns ascending, without fused multiply-add. A row
 * whose sum of squares leaves the range of float64 is first multiplied by a power of two. A zero
 * row is at 0.5 from any other row and at 0 from a zero row. Among equal distances the lowest
 * training index wins. */

enum {
    CONFSIM_ANGULAR_COLUMNS = 1 << 24
}; /* at most: with many more, the filter's sums overflow */

/* Both matrices are finite, have the same number of columns, from 1 to CONFSIM_ANGULAR_COLUMNS, and
 * at least one training row. */
CONFSIM_MUST_CHECK confsim_status confsim_angular_nearest(const confsim_matrix *queries,
                                                          const confsim_matrix *training,
                                                          const confsim_pairing *pairing,
                                                          const confsim_nearest *answer,
                                                          int threads, confsim_isa isa);

/* The `k` nearest, as by confsim_euclidean_k_nearest. */
CONFSIM_MUST_CHECK confsim_status confsim_angular_k_nearest(
    const confsim_matrix *queries, const confsim_matrix *training, const confsim_pairing *pairing,
    const confsim_nearest *answer, int64_t k, int threads, confsim_isa isa);

#endif
