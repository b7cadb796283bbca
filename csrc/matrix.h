/* A rectangular array as NumPy has it: float32 or float64, any strides. */
#ifndef CONFSIM_MATRIX_H
#define CONFSIM_MATRIX_H

#include <stdint.h>

typedef struct {
    const char *data;
    int64_t rows, columns;
    int64_t row_stride, column_stride; /* in bytes */
    int item_size;                     /* 4: float32, 8: float64 */
} confsim_matrix;

#endif
