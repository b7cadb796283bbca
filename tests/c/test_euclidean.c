/* Every method of the Euclidean search gives the definition's answer, on every instruction set. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "failing_memory.h"
#include "nearest/nearest.h"
#include "random.h"
#include "testing.h"

typedef struct {
    int64_t queries, training, dimensions;
    int integers, labels; /* coordinates 0..3, so that ties abound; two classes */
    double scale;
    int64_t varied; /* coordinates of training points that are not all equal; 0: all */
} problem;

static double draw(const problem *p) {
    return p->scale * (p->integers ? (double)random_below(4) : random_unit());
}

static void expect(const problem *p, const double *q, const double *t, int64_t query,
                   const confsim_pairing *pairing, int64_t without, double distance,
                   int64_t index) {
    double best = INFINITY;
    int64_t at = -1;
    for (int64_t i = 0; i < p->training; i++) {
        double sum = 0;
        if (i == without) continue;
        if (p->labels && pairing->training_labels[i] != pairing->query_labels[query]) continue;
        for (int64_t k = 0; k < p->dimensions; k++) {
            const double x = q[query * p->dimensions + k] - t[i * p->dimensions + k];
            sum += x * x;
        }
        if (sqrt(sum) < best) {
            best = sqrt(sum);
            at = i;
        }
    }
    assert(index == at);
    assert(at < 0 ? isnan(distance) : distance == best);
}

static void check(const problem *p, confsim_isa isa) {
    const int64_t q = p->queries, n = p->training, d = p->dimensions;
    double *queries = malloc((size_t)(q * d) * sizeof(double));
    double *training = malloc((size_t)(n * d) * sizeof(double));
    double *distance = malloc((size_t)(2 * q) * sizeof(double));
    int64_t *index = malloc((size_t)(2 * q) * sizeof(int64_t));
    int64_t *self = malloc((size_t)q * sizeof(int64_t));
    int64_t *labels = malloc((size_t)(q + n) * sizeof(int64_t));
    for (int64_t i = 0; i < q * d; i++) queries[i] = draw(p);
    for (int64_t i = 0; i < n * d; i++) training[i] = p->varied && i % d >= p->varied ? 1 : draw(p);
    for (int64_t i = 0; i < q + n; i++) labels[i] = random_below(i < q ? 3 : 2) * 7 - 3;
    for (int64_t i = 0; i < q; i++) {
        self[i] = random_below(4) ? -1 : random_below(n);
        if (self[i] >= 0)
            memcpy(queries + i * d, training + self[i] * d, (size_t)d * sizeof(double));
    }
    const int64_t row = d * (int64_t)sizeof(double);
    const confsim_matrix a = {(char *)queries, q, d, row, sizeof(double), 0};
    const confsim_matrix b = {(char *)training, n, d, row, sizeof(double), 0};
    const confsim_pairing pairing = {p->labels ? labels : NULL, p->labels ? labels + q : NULL, self,
                                     NULL, NULL};
    const confsim_nearest answer = {distance, index, distance + q, index + q};
    assert(confsim_euclidean_nearest(&a, &b, &pairing, &answer, 2, isa) == CONFSIM_OK);
    for (int64_t i = 0; i < q; i += 1 + random_below(7)) {
        expect(p, queries, training, i, &pairing, -1, distance[i], index[i]);
        expect(p, queries, training, i, &pairing, self[i], distance[q + i], index[q + i]);
    }
    free(queries), free(training), free(distance), free(index), free(self), free(labels);
}

/* Grids with trees behind them, blocks, blocks given up for trees, and scans: what a search takes
 * is given back wherever it stops, or sanitizers complain. */
static void running_out_of_memory_is_reported(void) {
    enum { MOST = 4200, D = 4 };
    static double points[MOST * D], distance[2 * MOST];
    static int64_t index[2 * MOST], own[MOST];
    const int64_t queries[] = {600, 600, MOST, 20}, dimensions[] = {2, 4, 4, 4};
    for (int64_t i = 0; i < MOST; i++) {
        own[i] = i;
        for (int64_t k = 0; k < D; k++) /* many on a line: lists and grids fail */
            points[i * D + k] = k == 0 || i % 9 == 0 ? random_unit() : 0.5;
    }
    for (int kind = 0; kind < 4; kind++) {
        const int64_t n = queries[kind], stride = D * (int64_t)sizeof *points;
        const confsim_matrix m = {(const char *)points, n, dimensions[kind], stride,
                                  sizeof *points,       0};
        const confsim_pairing pairing = {.self_index = own};
        const confsim_nearest answer = {distance, index, distance + n, index + n};
        confsim_status status = CONFSIM_NO_MEMORY;
        int64_t failures = 0;
        for (; status != CONFSIM_OK; failures++) {
            assert(status == CONFSIM_NO_MEMORY && failures < 5000);
            memory_left = failures;
            status = confsim_euclidean_nearest(&m, &m, &pairing, &answer, 1, CONFSIM_ISA_PORTABLE);
        }
        memory_left = INT64_MAX;
        assert(failures > 5);
        for (int64_t i = 0; i < n; i++) assert(distance[i] == 0 && index[n + i] != i);
    }
}

static void every_shape(confsim_isa isa) {
    const int64_t dimensions[] = {1, 2, 3, 4, 10, 129};
    const int64_t queries[] = {1, 63, 64, 65, 256, 1000};
    const int64_t training[] = {1, 7, 8, 9, 24, 25, 200};
    const double scales[] = {1, 1e150, 1e-150, 1e-165};
    for (int i = 0; i < 6 * 6 * 7; i++) {
        const problem p = {queries[i / 6 % 6],
                           training[i / 36],
                           dimensions[i % 6],
                           i % 2 == 0,
                           i % 3 == 0,
                           scales[i % 4],
                           0};
        check(&p, isa);
    }
}

/* Enough queries to be brought into an order, and training points to be listed. */
static void ordered(confsim_isa isa) {
    for (int i = 0; i < 6; i++) {
        const problem p = {4200, 700, i % 2 ? 4 : 9, i < 2, i % 3 == 0, i == 5 ? 1e-150 : 1, 0};
        check(&p, isa);
    }
}

/* Enough queries for occupancy to come from a sample, and for candidates to be pruned. */
static void sampled(confsim_isa isa) {
    for (int i = 0; i < 6; i++) {
        const problem p = {40000, 300, 1 + i % 3, i < 3, i % 2, 1, 0};
        check(&p, isa);
    }
}

/* Training points on a plane or a line, some of them equal: what trees are for. */
static void degenerate(confsim_isa isa) {
    for (int i = 0; i < 12; i++) {
        const int64_t d = 2 + i / 2 % 3, q = d > 3 ? 4200 : 1000;
        const problem p = {q, 900, d, i % 2, i % 3 == 0, 1, i < 6 ? d - 1 : 1};
        check(&p, isa);
    }
}

/* Enough pairs in many dimensions, of which few vary, for bounds by principal axes. */
static void near_a_subspace(confsim_isa isa) {
    for (int i = 0; i < 4; i++) {
        const problem p = {4300, 1000, 32 + i, i % 2, i % 3 == 0, i == 3 ? 1e-120 : 1, 4};
        check(&p, isa);
    }
}

static void answers_of_every_shape(void) { on_every_isa(every_shape); }
static void answers_of_ordered_queries(void) { on_every_isa(ordered); }
static void answers_of_sampled_queries(void) { on_every_isa(sampled); }
static void answers_of_degenerate_points(void) { on_every_isa(degenerate); }
static void answers_near_a_subspace(void) { on_every_isa(near_a_subspace); }

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(running_out_of_memory_is_reported), CASE(answers_of_every_shape),
        CASE(answers_of_ordered_queries),        CASE(answers_of_sampled_queries),
        CASE(answers_of_degenerate_points),      CASE(answers_near_a_subspace),
    };
    return RUN_CASES(cases, argc, argv);
}
