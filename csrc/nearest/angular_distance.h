/* The answer's arithmetic of the angular search: float64, columns ascending, one order for all. */
#ifndef CONFSIM_ANGULAR_DISTANCE_H
#define CONFSIM_ANGULAR_DISTANCE_H

#include <float.h>
#include <math.h>
#include <stdint.h>

#include "core/matrix.h"

enum { PART = 64 }; /* float64 coordinates of a row at a time */

/* A row is x * 2^-exponent / norm; norm is 0 for a zero row. */
typedef struct {
    double norm;
    int exponent;
} row_scale;

static inline int in_range(double sum) { return sum >= 0x1p-900 && sum <= DBL_MAX; }

/* Rows whose squares overflow or vanish: first bring the largest coordinate into [0.5, 1). */
static inline row_scale scale_of_extreme(const confsim_matrix *matrix, int64_t row) {
    double largest = 0, sum = 0;
    row_scale s = {0, 0};
    for (int64_t k = 0; k < matrix->columns; k++)
        largest = fmax(largest, fabs(confsim_matrix_at(matrix, row, k)));
    if (largest == 0) return s;
    frexp(largest, &s.exponent);
    for (int64_t k = 0; k < matrix->columns; k++) {
        const double x = ldexp(confsim_matrix_at(matrix, row, k), -s.exponent);
        sum += x * x;
    }
    s.norm = sqrt(sum);
    return s;
}

static inline row_scale scale_of(const confsim_matrix *matrix, int64_t row, double sum_of_squares) {
    if (in_range(sum_of_squares)) return (row_scale){sqrt(sum_of_squares), 0};
    return scale_of_extreme(matrix, row);
}

static inline double unit_at(const confsim_matrix *matrix, int64_t row, int64_t column,
                             row_scale s) {
    double x = confsim_matrix_at(matrix, row, column);
    if (s.exponent) x = ldexp(x, -s.exponent);
    return x / s.norm;
}

/* Some coordinates of a unit row; divisions run side by side where the row is plain memory. */
static inline void unit_part(const confsim_matrix *matrix, int64_t row, int64_t from, int64_t count,
                             row_scale s, double *out) {
    const char *data = matrix->data + row * matrix->row_stride;
    if (s.exponent == 0 && matrix->is_float32 && matrix->column_stride == sizeof(float))
        for (int64_t k = 0; k < count; k++) out[k] = ((const float *)data)[from + k] / s.norm;
    else if (s.exponent == 0 && !matrix->is_float32 && matrix->column_stride == sizeof(double))
        for (int64_t k = 0; k < count; k++) out[k] = ((const double *)data)[from + k] / s.norm;
    else
        for (int64_t k = 0; k < count; k++) out[k] = unit_at(matrix, row, from + k, s);
}

/* theta / pi between a query's unit row and a training row. */
static inline double angular_distance(const double *query, int query_is_zero,
                                      const confsim_matrix *training, int64_t row, row_scale s) {
    if (s.norm == 0 || query_is_zero) return s.norm == 0 && query_is_zero ? 0 : 0.5;
    double apart = 0, together = 0;
    for (int64_t from = 0; from < training->columns; from += PART) {
        const int64_t count = training->columns - from < PART ? training->columns - from : PART;
        double part[PART];
        unit_part(training, row, from, count, s, part);
        for (int64_t k = 0; k < count; k++) {
            const double difference = query[from + k] - part[k], sum = query[from + k] + part[k];
            apart += difference * difference;
            together += sum * sum;
        }
    }
    return 2 * atan2(sqrt(apart), sqrt(together)) / 3.14159265358979323846;
}

#endif
