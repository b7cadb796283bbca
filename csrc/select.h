/* The k lowest and the k highest of many values, exactly and in order. */
#ifndef CONFSIM_SELECT_H
#define CONFSIM_SELECT_H

#include <stdint.h>

#include "status.h"

/* bottom[0..k): rows of the k lowest values, ascending; top[0..k): of the k highest, descending.
 *
 * Among equal values the lower id comes first, in both; `ids` may be null when rows are in id order.
 * Values must be finite; 0 <= k <= count. */
CONFSIM_MUST_CHECK confsim_status confsim_extremes(const double *values, const int64_t *ids, int64_t count, int64_t k,
                                                   int64_t *bottom, int64_t *top);

#endif
