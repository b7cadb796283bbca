/* What constraint generation asks of the points: a survey, a sample, the worst violations, merging.
 *
 * Points are read where they lie (float32 or float64, any strides) and never copied. A point counts
 * when its weight is positive; without weights every point counts. What is selected depends on the
 * set of points alone: ties are broken by the points' values in lexicographic order, and of several
 * equal points of a class only the first is ever selected.
 *
 * The margin of a point, in the centred coordinates that the linear programs use, is
 *     sign * (bias + sum_k slope_k (x_k - centre_k)),   k ascending,
 * in float64, so it does not depend on the point's place in the array. */
#ifndef CONFSIM_CONSTRAINT_POINTS_H
#define CONFSIM_CONSTRAINT_POINTS_H

#include <stdint.h>

#include "core/matrix.h"
#include "core/status.h"

typedef struct {
    confsim_matrix values;
    const uint8_t *positive; /* 1 for class +1, 0 for class -1 */
    const double *weight;    /* NULL: all 1 */
} confsim_points;

/* Smallest and largest value of each column over the points that count. Returns the first row,
 * counting or not, that holds NaN or infinity, or -1. */
int64_t confsim_points_range(const confsim_points *points, double *low, double *high);

/* For each class, the `capacity` points with the lowest hash of their values: a uniform random
 * sample of the distinct points. Class -1 fills selected[0 ..], class +1 selected[capacity ..]. */
CONFSIM_MUST_CHECK confsim_status confsim_points_sample(const confsim_points *points,
                                                        int64_t capacity, int64_t *selected,
                                                        int64_t counts[2]);

/* For each class, the `capacity` points with the smallest margin, ascending, among those whose
 * margin is below `limit`; and the smallest margin of all points. */
CONFSIM_MUST_CHECK confsim_status confsim_points_violations(
    const confsim_points *points, const double *slope, const double *centre, double bias,
    double limit, int64_t capacity, int64_t *selected, int64_t counts[2], double *smallest);

/* Margins of the listed points. */
void confsim_points_margins(const confsim_points *points, const int64_t *listed, int64_t count,
                            const double *slope, const double *centre, double bias,
                            double *margins);

/* totals[k] = sum_j coefficient_j (x_jk - centre_k) over the listed points j, and
 * totals[columns] = sum_j coefficient_j; blocks of 256 points, then the blocks, in order. */
CONFSIM_MUST_CHECK confsim_status confsim_points_combine(const confsim_points *points,
                                                         const int64_t *listed, int64_t count,
                                                         const double *coefficient,
                                                         const double *centre, double *totals);

/* The distinct points that count in lexicographic order (values, then class), each by the first of
 * its rows, with the sum of the weights of its rows taken in ascending order. `listed` and
 * `weights` have room for every row. */
CONFSIM_MUST_CHECK confsim_status confsim_points_merge(const confsim_points *points,
                                                       int64_t *listed, double *weights,
                                                       int64_t *count);

#endif
