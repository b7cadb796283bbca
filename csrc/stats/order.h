/* Numbers in ascending order, by radix: the cost does not depend on the numbers.
 *
 * NaN come last. Both zeros are equal. */
#ifndef CONFSIM_ORDER_H
#define CONFSIM_ORDER_H

#include <stdint.h>

#include "core/status.h"

/* Puts values[0..count) in order, equal zeros in any. NaN lose their bits. */
confsim_status confsim_sort(double *values, int64_t count) CONFSIM_MUST_CHECK;

/* Fills order[0..count) with the places of the values in ascending order, equal ones and NaN as
 * they come. count < 2^32. */
confsim_status confsim_sort_order(const double *values, int64_t count,
                                  int64_t *order) CONFSIM_MUST_CHECK;

/* Of points and values that are both ascending and not NaN: found[i] becomes the number of points
 * below values[i], with `up_to` also of those equal to it. Takes time for each value, and for each
 * point between the lowest value and the highest. */
void confsim_counts_below(const double *points, int64_t point_count, const double *values,
                          int64_t value_count, int up_to, int64_t *found);

#endif
