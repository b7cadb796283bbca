/* Sorted columns and areas of columns, against loops, on every path; also where memory fails. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "failing_memory.h"
#include "random.h"
#include "stats/columns.h"
#include "testing.h"

enum { ROWS = 70, COLUMNS = 70 };

static double given[ROWS * COLUMNS], sorted[ROWS * COLUMNS], areas[COLUMNS];
static uint8_t members[ROWS * COLUMNS];
static confsim_isa isa;

static void fill(int64_t count, int kinds) {
    static const double odd[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1.0};
    for (int64_t i = 0; i < count; i++) {
        given[i] = kinds ? odd[random_below(kinds)] : random_unit() - 0.5;
        members[i] = (uint8_t)random_below(2);
    }
}

static int is_before(double a, double b) { return a < b || (isnan(b) && !isnan(a)); }

static void check_sorted(int64_t rows, int64_t columns) {
    memcpy(sorted, given, sizeof given);
    assert(confsim_sort_columns(sorted, rows, columns, isa) == CONFSIM_OK);
    for (int64_t c = 0; c < columns; c++)
        for (int64_t i = 0; i < rows; i++) {
            int64_t equal = 0;
            double value = sorted[i * columns + c];
            assert(i == 0 || !is_before(value, sorted[(i - 1) * columns + c]));
            for (int64_t k = 0; k < rows; k++) {
                double other = given[k * columns + c], kept = sorted[k * columns + c];
                equal += !is_before(other, value) && !is_before(value, other);
                equal -= !is_before(kept, value) && !is_before(value, kept);
            }
            assert(equal == 0);
        }
}

static void check_areas(int64_t rows, int64_t columns) {
    assert(confsim_auc_by_column(given, members, rows, columns, areas, isa) == CONFSIM_OK);
    for (int64_t c = 0; c < columns; c++) {
        double twice = 0, pairs = 0;
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < rows; k++) {
                double a = given[i * columns + c], b = given[k * columns + c];
                if (!members[i * columns + c] || members[k * columns + c] || isnan(a) || isnan(b))
                    continue;
                twice += (a > b) + (a >= b);
                pairs += 1;
            }
        assert(pairs ? areas[c] == twice / 2 / pairs : isnan(areas[c]));
    }
}

static void check_all(confsim_isa with) {
    isa = with;
    for (int64_t rows = 0; rows <= ROWS; rows += 1 + rows / 8)
        for (int64_t columns = 1; columns <= COLUMNS; columns = columns * 2 + 1)
            for (int kinds = 0; kinds <= 6; kinds += 3) {
                fill(rows * columns, kinds);
                check_sorted(rows, columns);
                check_areas(rows, columns);
            }
}

static void columns_are_those_of_loops(void) { on_every_isa(check_all); }

static void failing_memory_is_said(void) {
    memory_left = 0;
    assert(confsim_sort_columns(given, 3, 3, CONFSIM_ISA_PORTABLE) == CONFSIM_NO_MEMORY);
    assert(confsim_auc_by_column(given, members, 3, 3, areas, CONFSIM_ISA_PORTABLE) ==
           CONFSIM_NO_MEMORY);
    memory_left = INT64_MAX;
}

int main(int argc, char **argv) {
    static const test_case cases[] = {CASE(columns_are_those_of_loops),
                                      CASE(failing_memory_is_said)};
    return RUN_CASES(cases, argc, argv);
}
