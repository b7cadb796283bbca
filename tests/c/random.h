/* Small repeatable random numbers for tests. */
#ifndef CONFSIM_TEST_RANDOM_H
#define CONFSIM_TEST_RANDOM_H

#include <stdint.h>

static uint64_t random_state = 0x9e3779b97f4a7c15u;

/* A number in [0, limit). */
static inline int64_t random_below(int64_t limit) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (int64_t)(random_state % (uint64_t)limit);
}

static inline double random_unit(void) { return (double)random_below(1 << 30) / (1 << 30); }

#endif
