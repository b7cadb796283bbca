/* Exact nearest training points by angle.
 *
 * The distance of two rows is theta / pi with theta = 2 atan2(|a - b|, |a + b|), where a and b are
 * the rows divided by sqrt(sum x^2); float64, columns ascending, without fused multiply-add. A row
 * whose sum of squares leaves the range of float64 is first multiplied by a power of two. A zero
 * row is at 0.5 from any other row and at 0 from a zero row. Among equal distances the lowest
 * training index wins. */
#ifndef CONFSIM_ANGULAR_H
#define CONFSIM_ANGULAR_H

#include "core/isa.h"
#include "core/matrix.h"
#include "nearest/nearest.h"
#include "core/status.h"

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

#endif
