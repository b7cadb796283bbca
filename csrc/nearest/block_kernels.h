/* The inner loops of the block search, compiled once for each instruction set. */
#ifndef CONFSIM_BLOCK_KERNELS_H
#define CONFSIM_BLOCK_KERNELS_H

#include <stdint.h>

#include "core/isa.h"

enum {
    BLOCK = 64, /* queries that are compared at a time */
    POINTS = 6  /* training points of a register tile */
};

#define NOWHERE 1e30F /* the score of a point that pads a chunk */

/* block_simd.inc says what each does. */
typedef struct {
    void (*chunk)(const float *points, int64_t tiles, int64_t d, const float *block,
                  float *smallest);
    void (*box_bounds)(const float *columns, int64_t stride, int64_t d, const float *low,
                       const float *high, float *box_bound);
    void (*listed)(const float *rows, const int32_t *list, int64_t count, int64_t d,
                   const float *block, float *scores, float *smallest);
    uint64_t (*within)(const float *scores, const float *bound);
} block_kernels;

const block_kernels *confsim_block_kernels(confsim_isa isa);

#endif
