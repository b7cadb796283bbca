/* Extremes against a full sort, on distributions that fill one bucket, few, or all. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "stats/select.h"
#include "testing.h"

static uint64_t state = 88172645463325252ull;

static double uniform(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) / 9007199254740992.0;
}

static double value_of(int kind) {
    switch (kind) {
    case 0:
        return uniform();
    case 1:
        return floor(uniform() * 4);
    case 2:
        return uniform() < 0.01 ? 1e300 : uniform();
    case 3:
        return (uniform() - 0.5) * 1.7e308;
    case 4:
        return uniform() * 1e-310;
    case 5: /* bands, as scores of a lattice have them */
        return floor(uniform() * 9) + floor(uniform() * 9000) * 1e-7;
    default:
        return 7.0;
    }
}

/* Whether row a comes before row b when looking from `sign`. */
static int before(const double *values, const int64_t *ids, double sign, int64_t a, int64_t b) {
    double x = sign * values[a], y = sign * values[b];
    return x < y || (x == y && (ids ? ids[a] < ids[b] : a < b));
}

/* The chosen rows are in order, and none that was left out belongs before the last of them. */
static void check_side(const double *values, const int64_t *ids, int64_t n, int64_t k, double sign,
                       confsim_extreme found) {
    const int64_t *rows = found.rows;
    char *chosen = calloc((size_t)n, 1);
    for (int64_t i = 0; i < k; i++) {
        assert(rows[i] >= 0 && rows[i] < n && !chosen[rows[i]]);
        chosen[rows[i]] = 1;
        assert(found.values[i] == values[rows[i]]);
        if (i) assert(before(values, ids, sign, rows[i - 1], rows[i]));
    }
    for (int64_t i = 0; i < n; i++)
        if (!chosen[i] && k) assert(before(values, ids, sign, rows[k - 1], i));
    free(chosen);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check_median(const double *values, int64_t n) {
    double found, *sorted = malloc((size_t)n * sizeof *sorted);
    for (int64_t i = 0; i < n; i++) sorted[i] = values[i];
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    assert(confsim_median(values, n, &found) == CONFSIM_OK);
    assert(found == (n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2));
    free(sorted);
}

/* Codes of few buckets, so that each holds many values. */
static void check_codes(const double *values, int64_t n, int64_t k, confsim_extreme bottom,
                        confsim_extreme top) {
    static int64_t histogram[CONFSIM_SELECT_BUCKETS];
    uint32_t *codes = malloc((size_t)n * sizeof *codes);
    for (int64_t i = 0; i < CONFSIM_SELECT_BUCKETS; i++) histogram[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bucket = values[i] < 0.25 ? 0 : values[i] < 0.5 ? 9 : CONFSIM_SELECT_BUCKETS - 1;
        codes[i] = bucket << 16 | (uint32_t)(i & 0xffff);
        histogram[bucket]++;
    }
    int64_t *lowest = malloc((size_t)k * sizeof *lowest),
            *highest = malloc((size_t)k * sizeof *highest);
    int64_t *numbers = malloc((size_t)n * sizeof *numbers);
    for (int64_t i = 0; i < n; i++) numbers[i] = 3 * i;
    confsim_select_column column = {numbers, lowest, highest};
    assert(confsim_extremes_by_code(values, 0, codes, histogram, n, k, bottom, top, &column, 1) ==
           CONFSIM_OK);
    check_side(values, 0, n, k, 1.0, bottom);
    check_side(values, 0, n, k, -1.0, top);
    for (int64_t i = 0; i < k; i++)
        assert(lowest[i] == 3 * bottom.rows[i] && highest[i] == 3 * top.rows[i]);
    free(numbers);
    free(lowest);
    free(highest);
    free(codes);
}

static void extremes_are_those_of_a_full_sort(void) {
    const int64_t sizes[] = {1, 2, 7, 8, 9, 100, 5000};
    for (int kind = 0; kind < 7; kind++)
        for (int s = 0; s < 7; s++)
            for (int with_ids = 0; with_ids < 2; with_ids++) {
                int64_t n = sizes[s], k = 1 + (int64_t)(uniform() * (double)n / 2);
                double *values = malloc((size_t)n * sizeof *values);
                int64_t *ids = malloc((size_t)n * sizeof *ids);
                confsim_extreme bottom = {malloc((size_t)k * sizeof *ids),
                                          malloc((size_t)k * sizeof *values)};
                confsim_extreme top = {malloc((size_t)k * sizeof *ids),
                                       malloc((size_t)k * sizeof *values)};
                for (int64_t i = 0; i < n; i++) {
                    values[i] = value_of(kind);
                    ids[i] = n - i;
                }
                const int64_t *given = with_ids ? ids : 0;
                assert(confsim_extremes(values, given, n, k, bottom, top) == CONFSIM_OK);
                check_side(values, given, n, k, 1.0, bottom);
                check_side(values, given, n, k, -1.0, top);
                assert(confsim_extremes(values, given, n, 0, bottom, top) == CONFSIM_OK);
                check_codes(values, n, k, bottom, top);
                check_median(values, n);
                free(values);
                free(ids);
                free(bottom.rows);
                free(bottom.values);
                free(top.rows);
                free(top.values);
            }
}

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(extremes_are_those_of_a_full_sort),
    };
    return RUN_CASES(cases, argc, argv);
}
