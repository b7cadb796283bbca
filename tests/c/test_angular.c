/* The angular search from C: answers that can be worked out by hand, on every path that runs here. */
#include "../../csrc/angular.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 1100, COLUMNS = 24, DUPLICATE = 1000 };

static confsim_matrix view(const double *data, int64_t rows, int64_t columns) {
    return (confsim_matrix){(const char *)data, rows, columns, columns * (int64_t)sizeof *data,
                            sizeof *data, 0};
}

static void zero_rows_and_antipodes(confsim_isa isa, int threads) {
    static const double training[] = {0, 0, 1, 0, 0, 0, -3, 0};
    static const double queries[] = {0, 0, 2e200, 0, -1e-200, 0, 0, 1};
    static const double expected[] = {0, 0, 0, 0.5};
    static const int64_t rows[] = {0, 1, 3, 0};
    const confsim_matrix q = view(queries, 4, 2), t = view(training, 4, 2);
    const confsim_pairing pairing = {NULL, NULL, NULL};
    double distance[4];
    int64_t index[4];
    const confsim_nearest answer = {distance, index, NULL, NULL};
    assert(confsim_angular_nearest(&q, &t, &pairing, &answer, threads, isa) == CONFSIM_OK);
    for (int i = 0; i < 4; i++) assert(distance[i] == expected[i] && index[i] == rows[i]);
}

static void a_lone_member_has_no_other(confsim_isa isa, int threads) {
    static const double points[] = {1, 0, 0, 1, 0, 2};
    static const int64_t labels[] = {5, 6, 6}, query_labels[] = {5, 6, 7}, own[] = {0, 1, -1};
    const confsim_matrix m = view(points, 3, 2);
    const confsim_pairing pairing = {query_labels, labels, own};
    double distance[3], other[3];
    int64_t index[3], other_index[3];
    const confsim_nearest answer = {distance, index, other, other_index};
    assert(confsim_angular_nearest(&m, &m, &pairing, &answer, threads, isa) == CONFSIM_OK);
    assert(distance[0] == 0 && index[0] == 0 && isnan(other[0]) && other_index[0] == -1);
    assert(distance[1] == 0 && index[1] == 1 && other[1] == 0 && other_index[1] == 2);
    assert(isnan(distance[2]) && index[2] == -1 && isnan(other[2]) && other_index[2] == -1);
}

/* Large enough for principal axes; rows from DUPLICATE on repeat the first ones. */
static void duplicates_go_to_the_lowest(confsim_isa isa, int threads) {
    double *points = malloc(ROWS * COLUMNS * sizeof *points);
    double *distance = malloc(2 * ROWS * sizeof *distance);
    int64_t *index = malloc(3 * ROWS * sizeof *index), *own = index + 2 * ROWS;
    assert(points && distance && index);
    uint32_t random = 1;
    for (int i = 0; i < ROWS; i++) {
        own[i] = i;
        for (int k = 0; k < COLUMNS; k++) {
            random = random * 1664525u + 1013904223u;
            points[i * COLUMNS + k] = i >= DUPLICATE ? points[(i - DUPLICATE) * COLUMNS + k]
                                                     : (random / 4294967296.0 - 0.5) / (1 + k * k);
        }
    }
    const confsim_matrix m = view(points, ROWS, COLUMNS);
    const confsim_pairing pairing = {NULL, NULL, own};
    const confsim_nearest answer = {distance, index, distance + ROWS, index + ROWS};
    assert(confsim_angular_nearest(&m, &m, &pairing, &answer, threads, isa) == CONFSIM_OK);
    for (int i = 0; i < ROWS; i++) {
        const int twice = i < ROWS - DUPLICATE || i >= DUPLICATE;
        assert(distance[i] == 0 && index[i] == (i < DUPLICATE ? i : i - DUPLICATE));
        assert((distance[ROWS + i] == 0) == twice && index[ROWS + i] != i);
    }
    free(points);
    free(distance);
    free(index);
}

int main(void) {
    for (int isa = CONFSIM_ISA_PORTABLE; isa <= CONFSIM_ISA_NEON; isa++)
        for (int threads = 1; confsim_isa_available((confsim_isa)isa) && threads <= 4; threads++) {
            zero_rows_and_antipodes((confsim_isa)isa, threads);
            a_lone_member_has_no_other((confsim_isa)isa, threads);
            duplicates_go_to_the_lowest((confsim_isa)isa, threads);
        }
    puts("angular: ok");
    return 0;
}
