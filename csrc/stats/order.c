#include "stats/order.h"

#include <stdlib.h>
#include <string.h>

#include "core/arena.h"

/* A digit of 8 bits: with more of them the ends of its runs no longer fit into the nearest cache.
 */
enum { BITS = 8, KINDS = 1 << BITS, DIGITS = 64 / BITS };

typedef struct {
    int64_t count[DIGITS][KINDS];
} census;

/* Integers that are in the order of the numbers, NaN above all. */
static inline uint64_t key_of(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t flipped = bits ^ ((uint64_t)((int64_t)bits >> 63) | (uint64_t)1 << 63);
    return value != value ? UINT64_MAX : flipped;
}

static inline double value_of(uint64_t key) {
    double value;
    uint64_t bits = key >> 63 ? key ^ (uint64_t)1 << 63 : ~key;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int digit_of(uint64_t key, int digit) {
    return (int)(key >> digit * BITS) & (KINDS - 1);
}

static inline void count_digits(census *all, uint64_t key) {
    for (int d = 0; d < DIGITS; d++) all->count[d][digit_of(key, d)]++;
}

/* Turns counts of a digit into where its runs start; returns 0 where all keys share one. */
static int find_starts(int64_t *count, int shared, int64_t total) {
    if (count[shared] == total) return 0;
    int64_t start = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        int64_t held = count[kind];
        count[kind] = start;
        start += held;
    }
    return 1;
}

confsim_status confsim_sort(double *values, int64_t count) {
    if (count < 2) return CONFSIM_OK;
    uint64_t *memory = malloc(2 * (size_t)count * sizeof *memory);
    if (!memory) return CONFSIM_NO_MEMORY;
    uint64_t *keys = memory, *moved = memory + count;
    census all = {{{0}}};
    for (int64_t i = 0; i < count; i++) {
        keys[i] = key_of(values[i]);
        count_digits(&all, keys[i]);
    }
    for (int d = 0; d < DIGITS; d++) {
        int64_t *next = all.count[d];
        if (!find_starts(next, digit_of(keys[0], d), count)) continue;
        for (int64_t i = 0; i < count; i++) moved[next[digit_of(keys[i], d)]++] = keys[i];
        uint64_t *done = moved;
        moved = keys;
        keys = done;
    }
    for (int64_t i = 0; i < count; i++) values[i] = value_of(keys[i]);
    free(memory);
    return CONFSIM_OK;
}

typedef struct {
    uint64_t *keys;
    uint32_t *rows;
} keyed_rows;

static size_t lay_out(char *memory, int64_t count, keyed_rows *first, keyed_rows *second) {
    size_t used = 0;
    for (int i = 0; i < 2; i++) {
        keyed_rows *one = i ? second : first;
        one->keys = confsim_take(memory, &used, (size_t)count * sizeof *one->keys);
        one->rows = confsim_take(memory, &used, (size_t)count * sizeof *one->rows);
    }
    return used;
}

confsim_status confsim_sort_order(const double *values, int64_t count, int64_t *order) {
    if (count == 0) return CONFSIM_OK;
    keyed_rows now, moved;
    char *memory = malloc(lay_out(NULL, count, &now, &moved));
    if (!memory) return CONFSIM_NO_MEMORY;
    lay_out(memory, count, &now, &moved);
    census all = {{{0}}};
    for (int64_t i = 0; i < count; i++) {
        now.keys[i] = key_of(values[i] + 0.0); /* one zero for both */
        now.rows[i] = (uint32_t)i;
        count_digits(&all, now.keys[i]);
    }
    for (int d = 0; d < DIGITS; d++) {
        int64_t *next = all.count[d];
        if (!find_starts(next, digit_of(now.keys[0], d), count)) continue;
        for (int64_t i = 0; i < count; i++) {
            int64_t place = next[digit_of(now.keys[i], d)]++;
            moved.keys[place] = now.keys[i];
            moved.rows[place] = now.rows[i];
        }
        keyed_rows done = moved;
        moved = now;
        now = done;
    }
    for (int64_t i = 0; i < count; i++) order[i] = now.rows[i];
    free(memory);
    return CONFSIM_OK;
}

/* Points that are below a value, or not above it. */
static int64_t place_of(const double *points, int64_t count, double value, int up_to) {
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (points[middle] < value || (up_to && points[middle] == value))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline __attribute__((always_inline)) void merge(const double *points, int64_t point_count,
                                                        const double *values, int64_t value_count,
                                                        int up_to, int64_t at, int64_t *found) {
    /* Each step passes a point or a value, without a branch that would be mispredicted. */
    int64_t i = 0;
    while (i < value_count && at < point_count) {
        int passes = up_to ? points[at] <= values[i] : points[at] < values[i];
        found[i] = at;
        at += passes;
        i += !passes;
    }
    for (; i < value_count; i++) found[i] = at;
}

void confsim_counts_below(const double *points, int64_t point_count, const double *values,
                          int64_t value_count, int up_to, int64_t *found) {
    if (value_count == 0) return;
    int64_t at = place_of(points, point_count, values[0], up_to);
    if (up_to)
        merge(points, point_count, values, value_count, 1, at, found);
    else
        merge(points, point_count, values, value_count, 0, at, found);
}
