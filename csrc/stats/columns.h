/* Columns of a matrix in order, many at once: for few rows, faster than one column after another.
 *
 * Matrices are contiguous in rows. */
#ifndef CONFSIM_COLUMNS_H
#define CONFSIM_COLUMNS_H

#include <stdint.h>

#include "core/isa.h"
#include "core/status.h"

/* Puts each column in ascending order, NaN last. */
confsim_status confsim_sort_columns(double *values, int64_t rows, int64_t columns,
                                    confsim_isa isa) CONFSIM_MUST_CHECK;

/* areas[c] becomes the share of pairs of a member and another row of column c in which the member
 * has the higher score, equal ones counting half; NaN scores are left out, and without pairs it is
 * NaN. `members` has the shape of the scores. */
confsim_status confsim_auc_by_column(const double *scores, const uint8_t *members, int64_t rows,
                                     int64_t columns, double *areas,
                                     confsim_isa isa) CONFSIM_MUST_CHECK;

#endif
