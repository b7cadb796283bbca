/* Properties of the lattice kernels that cannot be seen from Python. */
#include <assert.h>

#include "lattice/lattice_internal.h"
#include "random.h"
#include "testing.h"

/* Slow builds check every ROOTS_STEPth root; no power of two, for all kinds of bits to be met. */
#ifndef ROOTS_STEP
#ifdef __SANITIZE_ADDRESS__
#define ROOTS_STEP 61
#else
#define ROOTS_STEP 1
#endif
#endif

/* Every root that a kernel can be asked for is the one that sqrt() gives, whichever turn it is. */
static void roots_are_correctly_rounded(const kernels *k) {
    uint32_t sums[2 * SIDE];
    double distances[2 * SIDE];
    const int32_t index[2 * SIDE] = {0};
    for (uint64_t first = 0; first < CONFSIM_LATTICE_SUM_LIMIT; first += SIDE * ROOTS_STEP) {
        for (uint32_t i = 0; i < SIDE; i++)
            sums[i] = sums[SIDE + i] =
                (uint32_t)((first + (uint64_t)i * ROOTS_STEP) % CONFSIM_LATTICE_SUM_LIMIT);
        k->emit(sums, index, 2 * SIDE, 0.25, &(confsim_nearest){.distance = distances}, 0);
        for (int i = 0; i < 2 * SIDE; i++) assert(distances[i] == sqrt((double)sums[i]) * 0.25);
    }
}

/* Every instruction set and thread count finds what comparing all pairs finds. */
static void answers_are_the_nearest(confsim_isa isa, int64_t d, int64_t per_axis, int64_t n) {
    enum { MOST = 20000 };
    int32_t *points = malloc((size_t)(n * d) * sizeof *points);
    int64_t *labels = malloc((size_t)n * sizeof *labels), *ids = malloc(MOST * sizeof *ids);
    int64_t *self = malloc(MOST * sizeof *self), *found = malloc(2 * MOST * sizeof *found);
    int8_t *query_labels = malloc(MOST);
    double *distance = malloc(2 * MOST * sizeof *distance);
    const confsim_lattice lattice = {0.5, per_axis, d};
    int64_t size = 1, count = 0;
    for (int64_t k = 0; k < d; k++) size *= per_axis;
    for (int64_t id = 0; id < size && count < MOST; id++) {
        if (random_below(10) == 0) continue;
        ids[count] = id;
        query_labels[count] = (int8_t)random_below(3);
        self[count++] = random_below(3) ? -1 : random_below(n);
    }
    for (int64_t i = 0; i < n * d; i++) points[i] = (int32_t)random_below(per_axis + 3) - 1;
    for (int64_t i = 0; i < n; i++) labels[i] = random_below(2);
    const confsim_ids queries = {ids, 0, count};
    const confsim_lattice_training training = {points, n, 1, 0.5};
    const confsim_lattice_pairing pairing = {query_labels, 1, labels, self};
    const confsim_nearest answer = {distance, found, distance + MOST, found + MOST};
    assert(confsim_lattice_nearest(&lattice, &queries, &training, &pairing, &answer, 2, isa) ==
           CONFSIM_OK);
    for (int64_t q = 0; q < count; q += 1 + random_below(20)) {
        int64_t best[2] = {-1, -1}, sums[2] = {INT64_MAX, INT64_MAX};
        for (int64_t i = 0; i < n; i++) {
            int64_t sum = 0, rest = ids[q];
            for (int64_t k = d - 1; k >= 0; k--, rest /= per_axis)
                sum +=
                    (rest % per_axis - points[i * d + k]) * (rest % per_axis - points[i * d + k]);
            for (int other = 0; other < 2; other++)
                if (labels[i] == query_labels[q] && sum < sums[other] && !(other && i == self[q])) {
                    sums[other] = sum;
                    best[other] = i;
                }
        }
        for (int other = 0; other < 2; other++) {
            assert(found[other * MOST + q] == best[other]);
            if (best[other] >= 0)
                assert(distance[other * MOST + q] == 0.5 * sqrt((double)sums[other]));
            else
                assert(isnan(distance[other * MOST + q]));
        }
    }
    free(points), free(labels), free(ids), free(self), free(found), free(query_labels);
    free(distance);
}

static void roots(confsim_isa isa) { roots_are_correctly_rounded(confsim_lattice_kernels(isa)); }

static void answers(confsim_isa isa) {
    answers_are_the_nearest(isa, 1, 1000, 20);
    answers_are_the_nearest(isa, 2, 15, 1);
    answers_are_the_nearest(isa, 2, 133, 300);
    answers_are_the_nearest(isa, 3, 27, 90);
    answers_are_the_nearest(isa, 5, 4, 40);
}

static void every_root_is_correctly_rounded(void) { on_every_isa(roots); }
static void every_answer_is_the_nearest(void) { on_every_isa(answers); }

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(every_root_is_correctly_rounded),
        CASE(every_answer_is_the_nearest),
    };
    return RUN_CASES(cases, argc, argv);
}
