#include "lp/constraint_points.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 256, LANES = 8 };

static inline double value_at(const confsim_points *points, int64_t row, int64_t column) {
    return confsim_matrix_at(&points->values, row, column);
}

static inline int counts_row(const confsim_points *points, int64_t row) {
    return !points->weight || points->weight[row] > 0;
}

/* Lexicographic order of two points' values. */
static int compare_values(const confsim_points *points, int64_t a, int64_t b) {
    for (int64_t k = 0; k < points->values.columns; k++) {
        const double left = value_at(points, a, k), right = value_at(points, b, k);
        if (left != right) return left < right ? -1 : 1;
    }
    return 0;
}

int64_t confsim_points_range(const confsim_points *points, double *low, double *high) {
    int64_t bad = -1;
    for (int64_t k = 0; k < points->values.columns; k++) {
        low[k] = INFINITY;
        high[k] = -INFINITY;
    }
    for (int64_t row = 0; row < points->values.rows; row++) {
        const int counted = counts_row(points, row);
        double poison = 0; /* becomes NaN with the first value that is not finite */
        for (int64_t k = 0; k < points->values.columns; k++) {
            const double value = value_at(points, row, k);
            poison += value * 0.0;
            if (counted && value < low[k]) low[k] = value;
            if (counted && value > high[k]) high[k] = value;
        }
        if (poison != 0.0) {
            bad = row;
            break;
        }
    }
    return bad;
}

/* A bounded list of points in ascending (key, values): the best of all that were offered. */
typedef struct {
    double key;
    int64_t row;
} entry;

typedef struct {
    entry *entries;
    int64_t capacity, count;
} shortlist;

static void offer(const confsim_points *points, shortlist *list, double key, int64_t row) {
    if (list->count == list->capacity && key > list->entries[list->count - 1].key) return;
    int64_t low = 0, high = list->count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const entry *other = &list->entries[middle];
        int order = (key > other->key) - (key < other->key);
        if (order == 0) order = compare_values(points, row, other->row);
        if (order == 0) return; /* an equal point, of an earlier row, is there already */
        if (order > 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == list->capacity) return;
    if (list->count < list->capacity) list->count++;
    memmove(&list->entries[low + 1], &list->entries[low],
            (size_t)(list->count - 1 - low) * sizeof(entry));
    list->entries[low] = (entry){key, row};
}

/* Two empty shortlists, one for each class, in one allocation that the caller frees. */
static entry *new_shortlists(int64_t capacity, shortlist lists[2]) {
    entry *entries = malloc((size_t)(2 * capacity) * sizeof(entry));
    for (int side = 0; entries && side < 2; side++)
        lists[side] = (shortlist){entries + side * capacity, capacity, 0};
    return entries;
}

static void report(const shortlist lists[2], int64_t *selected, int64_t counts[2]) {
    for (int side = 0; side < 2; side++) {
        counts[side] = lists[side].count;
        for (int64_t i = 0; i < lists[side].count; i++)
            selected[side * lists[side].capacity + i] = lists[side].entries[i].row;
    }
}

static uint64_t mix(uint64_t state) { /* the finaliser of splitmix64 */
    state = (state ^ (state >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    state = (state ^ (state >> 27)) * UINT64_C(0x94d049bb133111eb);
    return state ^ (state >> 31);
}

confsim_status confsim_points_sample(const confsim_points *points, int64_t capacity,
                                     int64_t *selected, int64_t counts[2]) {
    shortlist lists[2];
    entry *entries = new_shortlists(capacity, lists);
    if (!entries) return CONFSIM_NO_MEMORY;
    for (int64_t row = 0; row < points->values.rows; row++) {
        if (!counts_row(points, row)) continue;
        uint64_t state = 0;
        for (int64_t k = 0; k < points->values.columns; k++) {
            const double value = value_at(points, row, k) + 0.0; /* -0 becomes 0 */
            uint64_t bits;
            memcpy(&bits, &value, sizeof bits);
            state = mix(state + bits + UINT64_C(0x9e3779b97f4a7c15));
        }
        offer(points, &lists[points->positive[row]], (double)(state >> 11), row);
    }
    report(lists, selected, counts);
    free(entries);
    return CONFSIM_OK;
}

/* Distances sum_k slope_k (x_k - centre_k) + bias of `count` <= LANES consecutive points,
 * interleaved to hide the latency of the additions; each sum is in the order of the definition.
 * Inlined with a constant kind of value and number of points, so that the inner loop is straight.
 */
static inline void distances_of(const confsim_points *points, int64_t row, int count,
                                int is_float32, const double *slope, const double *centre,
                                double bias, double *out) {
    confsim_points view = *points;
    view.values.is_float32 = is_float32;
    for (int r = 0; r < count; r++) out[r] = bias;
    for (int64_t k = 0; k < points->values.columns; k++)
        for (int r = 0; r < count; r++)
            out[r] += slope[k] * (value_at(&view, row + r, k) - centre[k]);
}

static void block_distances(const confsim_points *points, int64_t start, int64_t stop,
                            const double *slope, const double *centre, double bias, double *out) {
    int64_t row = start;
    if (points->values.is_float32)
        for (; row + LANES <= stop; row += LANES)
            distances_of(points, row, LANES, 1, slope, centre, bias, out + (row - start));
    else
        for (; row + LANES <= stop; row += LANES)
            distances_of(points, row, LANES, 0, slope, centre, bias, out + (row - start));
    for (; row < stop; row++)
        distances_of(points, row, 1, points->values.is_float32, slope, centre, bias,
                     out + (row - start));
}

confsim_status confsim_points_violations(const confsim_points *points, const double *slope,
                                         const double *centre, double bias, double limit,
                                         int64_t capacity, int64_t *selected, int64_t counts[2],
                                         double *smallest) {
    shortlist lists[2];
    entry *entries = new_shortlists(capacity, lists);
    if (!entries) return CONFSIM_NO_MEMORY;
    double distances[BLOCK];
    *smallest = INFINITY;
    for (int64_t start = 0; start < points->values.rows; start += BLOCK) {
        const int64_t stop =
            start + BLOCK < points->values.rows ? start + BLOCK : points->values.rows;
        block_distances(points, start, stop, slope, centre, bias, distances);
        for (int64_t row = start; row < stop; row++) {
            const double distance = distances[row - start];
            const int side = points->positive[row];
            const double margin = side ? distance : -distance;
            if ((margin >= limit && margin >= *smallest) || !counts_row(points, row)) continue;
            /* A margin that overflowed to NaN is no certificate: it stays the smallest. */
            if (!(margin >= *smallest) && !isnan(*smallest)) *smallest = margin;
            if (margin < limit) offer(points, &lists[side], margin, row);
        }
    }
    report(lists, selected, counts);
    free(entries);
    return CONFSIM_OK;
}

void confsim_points_margins(const confsim_points *points, const int64_t *listed, int64_t count,
                            const double *slope, const double *centre, double bias,
                            double *margins) {
    for (int64_t j = 0; j < count; j++) {
        const int64_t row = listed[j];
        double distance;
        distances_of(points, row, 1, points->values.is_float32, slope, centre, bias, &distance);
        margins[j] = points->positive[row] ? distance : -distance;
    }
}

confsim_status confsim_points_combine(const confsim_points *points, const int64_t *listed,
                                      int64_t count, const double *coefficient,
                                      const double *centre, double *totals) {
    const int64_t columns = points->values.columns;
    double *block = malloc((size_t)(columns + 1) * sizeof(double));
    if (!block) return CONFSIM_NO_MEMORY;
    for (int64_t k = 0; k <= columns; k++) totals[k] = 0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        const int64_t stop = start + BLOCK < count ? start + BLOCK : count;
        for (int64_t k = 0; k <= columns; k++) block[k] = 0;
        for (int64_t j = start; j < stop; j++) {
            if (coefficient[j] == 0) continue;
            for (int64_t k = 0; k < columns; k++)
                block[k] += coefficient[j] * (value_at(points, listed[j], k) - centre[k]);
            block[columns] += coefficient[j];
        }
        for (int64_t k = 0; k <= columns; k++) totals[k] += block[k];
    }
    free(block);
    return CONFSIM_OK;
}

/* The order of confsim_points_merge; `key` is the first value, so that most comparisons stay in one
 * array. */
static int compare_entries(const confsim_points *points, const entry *a, const entry *b) {
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    const int order = compare_values(points, a->row, b->row);
    if (order) return order;
    if (points->positive[a->row] != points->positive[b->row])
        return points->positive[a->row] ? 1 : -1;
    return 0;
}

static int compare_for_sort(const confsim_points *points, const entry *a, const entry *b) {
    const int order = compare_entries(points, a, b);
    if (order || !points->weight || points->weight[a->row] == points->weight[b->row]) return order;
    return points->weight[a->row] < points->weight[b->row] ? -1 : 1;
}

/* Bottom-up merge sort, stable. Returns the array that holds the result: `from` or `to`. */
static entry *sort_entries(const confsim_points *points, entry *from, entry *to, int64_t count) {
    for (int64_t width = 1; width < count; width *= 2) {
        for (int64_t start = 0; start < count; start += 2 * width) {
            const int64_t middle = start + width < count ? start + width : count;
            const int64_t stop = middle + width < count ? middle + width : count;
            int64_t left = start, right = middle;
            for (int64_t out = start; out < stop; out++) {
                const int take_left =
                    left < middle &&
                    (right == stop || compare_for_sort(points, &from[left], &from[right]) <= 0);
                to[out] = take_left ? from[left++] : from[right++];
            }
        }
        entry *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

confsim_status confsim_points_merge(const confsim_points *points, int64_t *listed, double *weights,
                                    int64_t *count) {
    entry *space = malloc((size_t)(2 * points->values.rows) * sizeof(entry));
    if (!space) return CONFSIM_NO_MEMORY;
    int64_t kept = 0;
    for (int64_t row = 0; row < points->values.rows; row++)
        if (counts_row(points, row)) space[kept++] = (entry){value_at(points, row, 0), row};
    const entry *sorted = sort_entries(points, space, space + points->values.rows, kept);
    int64_t groups = 0;
    for (int64_t i = 0; i < kept; i++) {
        const double weight = points->weight ? points->weight[sorted[i].row] : 1.0;
        if (i > 0 && compare_entries(points, &sorted[i - 1], &sorted[i]) == 0) {
            weights[groups - 1] += weight;
            if (sorted[i].row < listed[groups - 1]) listed[groups - 1] = sorted[i].row;
        } else {
            weights[groups] = weight;
            listed[groups++] = sorted[i].row;
        }
    }
    *count = groups;
    free(space);
    return CONFSIM_OK;
}
