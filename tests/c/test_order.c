/* Sorting by radix and counts by merging, against loops; also where memory fails. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "failing_memory.h"
#include "random.h"
#include "stats/order.h"
#include "testing.h"

enum { MOST = 2000 };

static double values[MOST], sorted[MOST];
static int64_t order[MOST], found[MOST];

/* Numbers of one kind: of all sizes, few distinct ones, with NaN and infinities, all equal. */
static double number(int kind) {
    static const double odd[] = {NAN, -NAN, INFINITY, -INFINITY, 0.0, -0.0, 5e-324, -5e-324, 1.0};
    switch (kind) {
    case 0:
        return ldexp(random_unit() - 0.5, (int)random_below(2000) - 1000);
    case 1:
        return (double)random_below(5);
    case 2:
        return odd[random_below(9)];
    case 3:
        return -1e300;
    default:
        return 1.0 + random_unit() * 1e-12;
    }
}

static int is_before(double a, double b) { return a < b || (isnan(b) && !isnan(a)); }

static void check_sorted(int64_t count) {
    assert(confsim_sort_order(values, count, order) == CONFSIM_OK);
    memcpy(sorted, values, (size_t)count * sizeof *values);
    assert(confsim_sort(sorted, count) == CONFSIM_OK);
    for (int64_t i = 0; i < count; i++) {
        double value = values[order[i]];
        assert(sorted[i] == value || (isnan(sorted[i]) && isnan(value)));
        if (i == 0) continue;
        double before = values[order[i - 1]];
        assert(!is_before(value, before));
        if (!is_before(before, value)) assert(order[i - 1] < order[i]);
    }
}

static void numbers_of_all_kinds_are_in_order(void) {
    for (int kind = 0; kind < 5; kind++)
        for (int64_t count = 0; count <= MOST; count = count * 3 / 2 + 1) {
            for (int64_t i = 0; i < count; i++) values[i] = number(kind);
            check_sorted(count);
        }
}

static void counts_are_those_of_a_loop(void) {
    for (int round = 0; round < 200; round++) {
        int kind = round % 2, first = round / 2 % 2;
        int64_t points = random_below(60), count = random_below(60);
        for (int64_t i = 0; i < points + count; i++) values[i] = number(kind);
        assert(confsim_sort(values, points) == CONFSIM_OK);
        assert(confsim_sort(values + points, count) == CONFSIM_OK);
        confsim_counts_below(values, points, values + points, count, first, found);
        for (int64_t i = 0; i < count; i++) {
            int64_t below = 0;
            for (int64_t j = 0; j < points; j++)
                below += first ? values[j] <= values[points + i] : values[j] < values[points + i];
            assert(found[i] == below);
        }
    }
}

static void failing_memory_is_said(void) {
    memory_left = 0;
    assert(confsim_sort(values, 10) == CONFSIM_NO_MEMORY);
    assert(confsim_sort_order(values, 10, order) == CONFSIM_NO_MEMORY);
    memory_left = INT64_MAX;
}

int main(int argc, char **argv) {
    static const test_case cases[] = {CASE(numbers_of_all_kinds_are_in_order),
                                      CASE(counts_are_those_of_a_loop),
                                      CASE(failing_memory_is_said)};
    return RUN_CASES(cases, argc, argv);
}
