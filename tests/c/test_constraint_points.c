/* The points kernel: invariants that hold for any input, and small answers worked out by hand. */
#include "lp/constraint_points.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "testing.h"

enum { ROWS = 700, COLUMNS = 3 };

static double values[ROWS * COLUMNS];
static float singles[ROWS * COLUMNS];
static uint8_t positive[ROWS];
static double weight[ROWS];

static unsigned next_random(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)(state >> 33);
}

static void fill(void) {
    for (int i = 0; i < ROWS * COLUMNS; i++) singles[i] = (float)(values[i] = next_random() % 5);
    for (int i = 0; i < ROWS; i++) {
        positive[i] = next_random() % 2;
        weight[i] = next_random() % 3;
    }
}

static confsim_points all_points(void) {
    return (confsim_points){
        {(const char *)values, ROWS, COLUMNS, COLUMNS * sizeof(double), sizeof(double), 0},
        positive,
        weight};
}

static int equal(int64_t a, int64_t b) {
    for (int k = 0; k < COLUMNS; k++)
        if (values[a * COLUMNS + k] != values[b * COLUMNS + k]) return 0;
    return positive[a] == positive[b];
}

static void check_range(void) {
    double low[COLUMNS], high[COLUMNS];
    confsim_points points = all_points();
    assert(confsim_points_range(&points, low, high) == -1);
    for (int k = 0; k < COLUMNS; k++) assert(low[k] == 0 && high[k] == 4);
    const double kept = values[4 * COLUMNS + 1], bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        values[4 * COLUMNS + 1] = bad[i];
        assert(confsim_points_range(&points, low, high) == 4);
    }
    values[4 * COLUMNS + 1] = 1e308; /* large, but finite */
    assert(confsim_points_range(&points, low, high) == -1);
    values[4 * COLUMNS + 1] = kept;
}

static void check_merge_sorts_and_loses_no_weight(void) {
    static int64_t listed[ROWS];
    static double merged[ROWS];
    int64_t count;
    confsim_points points = all_points();
    assert(confsim_points_merge(&points, listed, merged, &count) == CONFSIM_OK);
    double total = 0, expected = 0;
    for (int i = 0; i < ROWS; i++) expected += weight[i];
    for (int64_t i = 0; i < count; i++) {
        total += merged[i];
        double own = 0;
        int64_t first = -1;
        for (int64_t row = ROWS - 1; row >= 0; row--)
            if (weight[row] > 0 && equal(row, listed[i])) own += weight[row], first = row;
        assert(own == merged[i] && first == listed[i]);
        if (i == 0) continue;
        int order = 0;
        for (int k = 0; k < COLUMNS && !order; k++) {
            const double a = values[listed[i - 1] * COLUMNS + k],
                         b = values[listed[i] * COLUMNS + k];
            order = (b > a) - (b < a);
        }
        assert(order > 0 || (order == 0 && positive[listed[i]] > positive[listed[i - 1]]));
    }
    assert(total == expected);
}

static void check_violations(void) {
    const double slope[COLUMNS] = {1, -0.5, 0.25}, centre[COLUMNS] = {2, 2, 2};
    static double margins[ROWS];
    static int64_t rows[ROWS];
    for (int64_t i = 0; i < ROWS; i++) rows[i] = i;
    confsim_points points = all_points(), narrow = points;
    narrow.values.data = (const char *)singles;
    narrow.values.is_float32 = 1;
    narrow.values.row_stride = COLUMNS * sizeof(float);
    narrow.values.column_stride = sizeof(float);
    confsim_points_margins(&points, rows, ROWS, slope, centre, 0.1, margins);
    for (int64_t capacity = 1; capacity <= 64; capacity *= 4) {
        int64_t selected[128], again[128], counts[2], counts_again[2];
        double smallest, smallest_again;
        assert(confsim_points_violations(&points, slope, centre, 0.1, 1.0, capacity, selected,
                                         counts, &smallest) == CONFSIM_OK);
        assert(confsim_points_violations(&narrow, slope, centre, 0.1, 1.0, capacity, again,
                                         counts_again, &smallest_again) == CONFSIM_OK);
        assert(smallest == smallest_again);
        for (int64_t i = 0; i < ROWS; i++) assert(weight[i] == 0 || margins[i] >= smallest);
        for (int side = 0; side < 2; side++) {
            const int64_t *list = selected + side * capacity;
            assert(counts[side] == counts_again[side] && counts[side] <= capacity);
            for (int64_t i = 0; i < counts[side]; i++) {
                assert(list[i] == again[side * capacity + i]);
                assert(positive[list[i]] == side && weight[list[i]] > 0 && margins[list[i]] < 1);
                assert(i == 0 || margins[list[i]] >= margins[list[i - 1]]);
                for (int64_t j = 0; j < i; j++) assert(!equal(list[i], list[j]));
            }
            if (counts[side] < capacity) continue;
            for (int64_t i = 0; i < ROWS; i++) { /* nothing better was left out */
                if (positive[i] != side || weight[i] == 0) continue;
                if (margins[i] >= margins[list[capacity - 1]]) continue;
                int there = 0;
                for (int64_t j = 0; j < capacity; j++) there |= equal(i, list[j]);
                assert(there);
            }
        }
    }
}

static void check_sample_is_of_distinct_points(void) {
    int64_t selected[80], counts[2];
    confsim_points points = all_points();
    assert(confsim_points_sample(&points, 40, selected, counts) == CONFSIM_OK);
    for (int side = 0; side < 2; side++)
        for (int64_t i = 0; i < counts[side]; i++) {
            const int64_t row = selected[side * 40 + i];
            assert(positive[row] == side && weight[row] > 0);
            for (int64_t j = 0; j < i; j++) assert(!equal(row, selected[side * 40 + j]));
        }
    assert(counts[0] == 40 && counts[1] == 40);
}

static void check_combine_and_strides(void) {
    double columnwise[ROWS * COLUMNS], totals[COLUMNS + 1], others[COLUMNS + 1];
    static double ones[ROWS];
    static int64_t rows[ROWS];
    const double centre[COLUMNS] = {0};
    for (int64_t i = 0; i < ROWS; i++) {
        rows[i] = i;
        ones[i] = 1;
        for (int k = 0; k < COLUMNS; k++) columnwise[k * ROWS + i] = values[i * COLUMNS + k];
    }
    confsim_points points = all_points(), turned = points;
    turned.values.data = (const char *)columnwise;
    turned.values.row_stride = sizeof(double);
    turned.values.column_stride = ROWS * sizeof(double);
    assert(confsim_points_combine(&points, rows, ROWS, ones, centre, totals) == CONFSIM_OK);
    assert(confsim_points_combine(&turned, rows, ROWS, ones, centre, others) == CONFSIM_OK);
    for (int k = 0; k <= COLUMNS; k++) assert(totals[k] == others[k]);
    double sum = 0;
    for (int i = 0; i < ROWS; i++) sum += values[i * COLUMNS];
    assert(totals[0] == sum && totals[COLUMNS] == ROWS);
}

static void repeat(void (*check)(void)) {
    for (int round = 0; round < 20; round++) {
        fill();
        check();
    }
}

static void range(void) { repeat(check_range); }
static void merge_sorts_and_loses_no_weight(void) { repeat(check_merge_sorts_and_loses_no_weight); }
static void violations(void) { repeat(check_violations); }
static void sample_is_of_distinct_points(void) { repeat(check_sample_is_of_distinct_points); }
static void combine_and_strides(void) { repeat(check_combine_and_strides); }

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(range),
        CASE(merge_sorts_and_loses_no_weight),
        CASE(violations),
        CASE(sample_is_of_distinct_points),
        CASE(combine_and_strides),
    };
    return RUN_CASES(cases, argc, argv);
}
