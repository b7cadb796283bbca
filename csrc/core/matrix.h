/* A read-only view of somebody's two-dimensional array: either floating-point type, any strides. */
#ifndef CONFSIM_MATRIX_H
#define CONFSIM_MATRIX_H

#include <stdint.h>

typedef struct {
    const char *data;
    int64_t rows, columns;
    int64_t row_stride, column_stride; /* in bytes; may be negative or zero */
    int is_float32;                    /* otherwise float64 */
} confsim_matrix;

static inline double confsim_matrix_at(const confsim_matrix *matrix, int64_t row, int64_t column) {
    const char *entry = matrix->data + row * matrix->row_stride + column * matrix->column_stride;
    return matrix->is_float32 ? (double)*(const float *)entry : *(const double *)entry;
}

/* Copy one row to `out`, `step` doubles apart. */
static inline void confsim_matrix_row(const confsim_matrix *matrix, int64_t row, double *out,
                                      int64_t step) {
    const char *entry = matrix->data + row * matrix->row_stride;
    const int64_t stride = matrix->column_stride;
    if (matrix->is_float32)
        for (int64_t k = 0; k < matrix->columns; k++)
            out[k * step] = (double)*(const float *)(entry + k * stride);
    else
        for (int64_t k = 0; k < matrix->columns; k++)
            out[k * step] = *(const double *)(entry + k * stride);
}

#endif
