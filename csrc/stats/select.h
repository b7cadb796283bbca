/* The k lowest and the k highest of many values, exactly and in order; and the median. */
#ifndef CONFSIM_SELECT_H
#define CONFSIM_SELECT_H

#include <stdint.h>

#include "core/status.h"

enum { CONFSIM_SELECT_BUCKETS = 1 << 16 };

/* Where the k lowest values go, ascending, or the k highest, descending. */
typedef struct {
    int64_t *rows;
    double *values;
} confsim_extreme;

/* The k lowest and the k highest values, and the rows that hold them.
 *
 * Among equal values the lower id comes first, in both; `ids` may be null when rows are in id
 * order. Values must be finite; 0 <= k <= count. */
CONFSIM_MUST_CHECK confsim_status confsim_extremes(const double *values, const int64_t *ids,
                                                   int64_t count, int64_t k, confsim_extreme bottom,
                                                   confsim_extreme top);

/* A column whose entries, of 8 bytes, go along, in the order of the rows of either side. */
typedef struct {
    const void *from;
    void *bottom, *top;
} confsim_select_column;

/* The same where a bucket of each value is known, in the upper half of its code (confsim_tally
 * makes such codes), and how many values each bucket holds. A higher value must not have a lower
 * bucket. */
CONFSIM_MUST_CHECK confsim_status confsim_extremes_by_code(
    const double *values, const int64_t *ids, const uint32_t *codes, const int64_t *histogram,
    int64_t count, int64_t k, confsim_extreme bottom, confsim_extreme top,
    const confsim_select_column *columns, int column_count);

/* The mean of the two middle values, or the middle one. Values must be finite; count > 0. */
CONFSIM_MUST_CHECK confsim_status confsim_median(const double *values, int64_t count,
                                                 double *median);

#endif
