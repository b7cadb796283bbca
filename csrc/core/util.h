/* Small arithmetic that every kernel needs. */
#ifndef CONFSIM_UTIL_H
#define CONFSIM_UTIL_H

#include <stdint.h>

static inline int64_t confsim_least(int64_t a, int64_t b) { return a < b ? a : b; }

/* How many blocks of `size` hold `count` items; the last one may be short. */
static inline int64_t confsim_blocks(int64_t count, int64_t size) {
    return (count + size - 1) / size;
}

#endif
