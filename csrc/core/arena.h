/* Several arrays in one piece of memory: laid out once to measure it, and again to place them. */
#ifndef CONFSIM_ARENA_H
#define CONFSIM_ARENA_H

#include <stddef.h>

/* `bytes` of `memory`, aligned to 64, from `used` on; NULL while a layout is only measured. */
static inline void *confsim_take(char *memory, size_t *used, size_t bytes) {
    const size_t at = *used;
    *used += (bytes + 63) / 64 * 64;
    return memory ? memory + at : NULL;
}

#endif
