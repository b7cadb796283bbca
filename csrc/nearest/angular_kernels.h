/* The angular filter's primitives, compiled once for each instruction set. */
#ifndef CONFSIM_ANGULAR_KERNELS_H
#define CONFSIM_ANGULAR_KERNELS_H

#include <stdint.h>

#include "core/isa.h"

enum {
    MAX_TILE = 8,  /* queries of a register tile */
    MAX_GROUP = 32 /* rows, or cells */
};

/* Rows of one group of points that may be nearer to one query of a tile, a bit each. */
typedef struct {
    int query, group;
    uint32_t rows;
} survivors;

/* The filter's primitives for one instruction set. Lengths of rows are multiples of 2 * width. */
typedef struct {
    int width, tile;
    int split; /* rows whose terms are neighbours in a pair of packed terms: the width, or 1 */
    float (*dot)(const float *a, const float *b, int64_t d);
    void (*add_multiple)(float *sum, float factor, const float *row, int64_t d);
    void (*dots)(const float *query, const float *rows, int64_t d, const int64_t *list,
                 int64_t count, float *out);
    void (*apart)(const double *groups, int64_t d, const double *query, int plus, double *sums);
    void (*products)(const float *const *a, const float *const *b, int64_t d, int64_t count,
                     float *out);
    void (*fixed_products)(const int16_t *const *a, const int16_t *const *b, int64_t d,
                           int64_t count, int32_t *out);
    int (*filter)(const int16_t *const *queries, const int32_t *start, const int16_t *points,
                  int64_t pairs, int groups, survivors *out);
} angular_kernels;

extern const angular_kernels confsim_angular_portable;
#ifdef CONFSIM_X86
extern const angular_kernels confsim_angular_avx2, confsim_angular_avx512, confsim_angular_vnni;
#endif
#ifdef CONFSIM_NEON
extern const angular_kernels confsim_angular_neon;
#endif

const angular_kernels *confsim_angular_kernels(confsim_isa isa);

#endif
