/* The angular search from C, on every path that runs here: answers that can be worked out by hand,
 * random ones that comparing all pairs finds, products in fixed point, and memory that runs out. */
#include <assert.h>

#include "failing_memory.h"
#include "nearest/angular_internal.h"
#include "random.h"
#include "testing.h"

enum { ROWS = 1100, COLUMNS = 24, DUPLICATE = 1000 };

static confsim_matrix view(const double *data, int64_t rows, int64_t columns) {
    return (confsim_matrix){(const char *)data, rows, columns, columns * (int64_t)sizeof *data,
                            sizeof *data,       0};
}

static void zero_rows_and_antipodes(confsim_isa isa, int threads) {
    static const double training[] = {0, 0, 1, 0, 0, 0, -3, 0};
    static const double queries[] = {0, 0, 2e200, 0, -1e-200, 0, 0, 1};
    static const double expected[] = {0, 0, 0, 0.5};
    static const int64_t rows[] = {0, 1, 3, 0};
    const confsim_matrix q = view(queries, 4, 2), t = view(training, 4, 2);
    const confsim_pairing pairing = {NULL, NULL, NULL, NULL, NULL};
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
    const confsim_pairing pairing = {query_labels, labels, own, NULL, NULL};
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
    const confsim_pairing pairing = {NULL, NULL, own, NULL, NULL};
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

/* Rows that use axes; what a search takes is given back wherever it stops, or sanitizers complain.
 */
static void running_out_of_memory_is_reported(void) {
    enum { N = 600, D = 24 };
    static double points[N * D], distance[2 * N];
    static int64_t index[2 * N], own[N], labels[N];
    for (int64_t i = 0; i < N; i++) {
        own[i] = i;
        labels[i] = i % 2;
        for (int64_t k = 0; k < D; k++)
            points[i * D + k] = (random_unit() - 0.5) / (double)(1 + k * k);
    }
    const confsim_matrix m = view(points, N, D);
    const confsim_nearest answer = {distance, index, distance + N, index + N};
    for (int kind = 0; kind < 4; kind++) {
        const int labelled = kind % 2;
        for (int64_t i = 0; i < N && kind == 2; i++) points[i * D] = 1e6; /* now nearly parallel */
        const int64_t *given = labelled ? labels : NULL;
        const confsim_pairing pairing = {given, given, own, NULL, NULL};
        confsim_status status = CONFSIM_NO_MEMORY;
        int64_t failures = 0;
        for (; status != CONFSIM_OK; failures++) {
            assert(status == CONFSIM_NO_MEMORY && failures < 1000);
            memory_left = failures;
            status = confsim_angular_nearest(&m, &m, &pairing, &answer, 1, CONFSIM_ISA_PORTABLE);
        }
        memory_left = INT64_MAX;
        assert(failures > (kind < 2 ? 20 : 10));
    }
}

/* The same of a search for the k nearest, by angle and by distance, with groups. */
static void running_out_of_memory_for_several_is_reported(void) {
    enum { N = 600, D = 12, K = 5 };
    static double points[N * D], distance[2 * N * K];
    static int64_t index[2 * N * K], own[N], groups[N];
    for (int64_t i = 0; i < N; i++) {
        own[i] = i;
        groups[i] = i / 3;
        for (int64_t k = 0; k < D; k++)
            points[i * D + k] = (random_unit() - 0.5) / (double)(1 + k * k);
    }
    const confsim_pairing pairing = {NULL, NULL, own, groups, groups};
    const confsim_nearest answer = {distance, index, distance + N * K, index + N * K};
    for (int kind = 0; kind < 3; kind++) { /* by angle, in blocks, by trees */
        const confsim_matrix m = {(const char *)points, N,
                                  kind == 2 ? 3 : D,    D * (int64_t)sizeof *points,
                                  sizeof *points,       0};
        confsim_status status = CONFSIM_NO_MEMORY;
        int64_t failures = 0;
        for (; status != CONFSIM_OK; failures++) {
            assert(status == CONFSIM_NO_MEMORY && failures < 1000);
            memory_left = failures;
            status = (kind ? confsim_euclidean_k_nearest : confsim_angular_k_nearest)(
                &m, &m, &pairing, &answer, K, 1, CONFSIM_ISA_PORTABLE);
        }
        memory_left = INT64_MAX;
        assert(failures > 8);
        for (int64_t i = 0; i < N; i++) {
            assert(index[i * K] == i && distance[i * K] == 0);
            for (int64_t j = 0; j < K; j++) {
                assert(index[(N + i) * K + j] / 3 != i / 3);
                assert(j == 0 || distance[(N + i) * K + j - 1] <= distance[(N + i) * K + j]);
            }
        }
    }
}

/* Coordinates that use all directions alike, mostly a few, or -1, 0 and 1: ties and zero rows; and
 * rows that float32 cannot tell apart. */
typedef enum { FLAT, SKEWED, INTEGERS, NARROW } spectrum;

typedef struct {
    int64_t queries, training, dimensions;
    spectrum spectrum;
    int labels;
} problem;

static double draw(const problem *p, int64_t k) {
    if (p->spectrum == INTEGERS) return (double)random_below(3) - 1;
    if (p->spectrum == NARROW) return k == 0 ? 1 : (double)random_below(9) * 1e-7;
    return (random_unit() - 0.5) / (p->spectrum == FLAT ? 1 : 1 + (double)(k * k));
}

static void fill(const problem *p, double *rows, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t k = 0; k < p->dimensions; k++) rows[i * p->dimensions + k] = draw(p, k);
}

static double norm_of(const double *row, int64_t d) {
    double sum = 0;
    for (int64_t k = 0; k < d; k++) sum += row[k] * row[k];
    return sqrt(sum);
}

static double distance_of(const double *a, const double *b, int64_t d) {
    const double norm_a = norm_of(a, d), norm_b = norm_of(b, d);
    double apart = 0, together = 0;
    if (norm_a == 0 || norm_b == 0) return norm_a == norm_b ? 0 : 0.5;
    for (int64_t k = 0; k < d; k++) {
        const double x = a[k] / norm_a, y = b[k] / norm_b;
        apart += (x - y) * (x - y);
        together += (x + y) * (x + y);
    }
    return 2 * atan2(sqrt(apart), sqrt(together)) / 3.14159265358979323846;
}

static void expect(const problem *p, const double *query, const double *training,
                   const int64_t *labels, int64_t label, int64_t without, double distance,
                   int64_t index) {
    double best = INFINITY;
    int64_t at = -1;
    for (int64_t i = 0; i < p->training; i++) {
        if (i == without || (p->labels && labels[i] != label)) continue;
        const double found = distance_of(query, training + i * p->dimensions, p->dimensions);
        if (found >= best) continue;
        best = found;
        at = i;
    }
    assert(index == at);
    assert(at < 0 ? isnan(distance) : distance == best);
}

/* The portable path finds what comparing all pairs finds, and every other path the same bits. */
static void answers_are_the_nearest(const problem *p) {
    const int64_t q = p->queries, n = p->training, d = p->dimensions;
    double *queries = malloc((size_t)(q * d) * sizeof(double));
    double *training = malloc((size_t)(n * d) * sizeof(double));
    double *distance = malloc((size_t)(4 * q) * sizeof(double));
    int64_t *index = malloc((size_t)(4 * q) * sizeof(int64_t));
    int64_t *self = malloc((size_t)q * sizeof(int64_t));
    int64_t *labels = malloc((size_t)(n + q) * sizeof(int64_t)), *query_labels = labels + n;
    assert(queries && training && distance && index && self && labels);
    fill(p, training, n);
    fill(p, queries, q);
    for (int64_t i = 0; i < n + q; i++) labels[i] = random_below(i < n ? 2 : 3) * 7 - 3;
    for (int64_t i = 0; i < q; i++) {
        self[i] = random_below(3) ? -1 : random_below(n);
        if (self[i] >= 0 && i % 4) /* mostly the same row, as it should be */
            memcpy(queries + i * d, training + self[i] * d, (size_t)d * sizeof(double));
    }
    const confsim_matrix a = view(queries, q, d), b = view(training, n, d);
    const confsim_pairing pairing = {p->labels ? query_labels : NULL, p->labels ? labels : NULL,
                                     self, NULL, NULL};
    for (int isa = CONFSIM_ISA_PORTABLE; isa <= CONFSIM_ISA_NEON; isa++) {
        if (!confsim_isa_available((confsim_isa)isa)) continue;
        const int64_t at = isa == CONFSIM_ISA_PORTABLE ? 0 : 2 * q;
        const confsim_nearest answer = {distance + at, index + at, distance + at + q,
                                        index + at + q};
        assert(confsim_angular_nearest(&a, &b, &pairing, &answer, 2, (confsim_isa)isa) ==
               CONFSIM_OK);
        assert(!memcmp(distance, distance + at, (size_t)(2 * q) * sizeof *distance));
        assert(!memcmp(index, index + at, (size_t)(2 * q) * sizeof *index));
    }
    for (int64_t i = 0; i < q; i += 1 + random_below(q / 20 + 1)) {
        const double *query = queries + i * d;
        expect(p, query, training, labels, query_labels[i], -1, distance[i], index[i]);
        expect(p, query, training, labels, query_labels[i], self[i], distance[q + i], index[q + i]);
    }
    free(queries), free(training), free(distance), free(index), free(self), free(labels);
}

static void random_answers_are_the_nearest(void) {
    static const int64_t dimensions[] = {1, 3, 7, 8, 33, 130};
    static const int64_t sizes[][2] = {{1, 1}, {11, 65}, {200, 9}, {550, 700}, {700, 550}};
    for (int i = 0; i < 6 * 5 * 4; i++) {
        const int64_t *size = sizes[i / 4 % 5];
        const problem p = {size[0], size[1], dimensions[i / 20], (spectrum)(i % 4), i % 2};
        answers_are_the_nearest(&p);
    }
}

/* Products in fixed point are exact, on the paths that dispatch passes over here as well. */
static void fixed_point_is_exact(const angular_kernels *p) {
    enum { TERMS = 130, GROUPS = 3, MOST = 3 * MAX_GROUP };
    const angular_search s = {.kernels = p};
    const int64_t width = group_rows(&s);
    static int16_t queries[MAX_TILE][TERMS], rows[MOST][TERMS], packed[MOST * TERMS];
    for (int64_t terms = 2; terms <= TERMS; terms += 16) {
        const int16_t *pointers[MAX_TILE];
        int32_t start[MAX_TILE];
        survivors found[MAX_TILE * GROUPS + 1];
        uint32_t bits[MAX_TILE][GROUPS] = {{0}}, expected[MAX_TILE][GROUPS] = {{0}};
        const int64_t most = (int64_t)(ONE / sqrt((double)terms));
        for (int i = 0; i < p->tile; i++) {
            pointers[i] = queries[i];
            start[i] = i == 1   ? NEVER
                       : i == 2 ? ALWAYS
                                : (int32_t)random_below(1 << 27) - (1 << 26);
            for (int64_t k = 0; k < terms; k++)
                queries[i][k] = (int16_t)(random_below(2 * most) - most);
        }
        for (int64_t row = 0; row < GROUPS * width; row++)
            for (int64_t k = 0; k < terms; k++) {
                rows[row][k] = (int16_t)(random_below(2 * most) - most);
                packed[row / width * width * terms + packed_place(&s, row % width, k)] =
                    rows[row][k];
            }
        const int count = p->filter(pointers, start, packed, terms / 2, GROUPS, found);
        for (int i = 0; i < count; i++) bits[found[i].query][found[i].group] = found[i].rows;
        for (int i = 0; i < p->tile; i++)
            for (int64_t row = 0; row < GROUPS * width; row++) {
                int64_t sum = start[i];
                for (int64_t k = 0; k < terms; k++) sum += queries[i][k] * rows[row][k];
                expected[i][row / width] |= (uint32_t)(sum >= 0) << row % width;
            }
        /* Whole words, because GCC 12 for x86-64 forgets the sign in `(bits >> i & 1) == (sum >=
         * 0)`. */
        assert(!memcmp(bits, expected, sizeof bits));
    }
    for (int64_t d = 2 * p->width; d <= 128; d += 2 * p->width)
        for (int count = 1; count <= MAX_TILE; count++) {
            const int16_t *a[MAX_TILE], *b[MAX_TILE];
            int32_t products[MAX_TILE];
            for (int i = 0; i < count; i++) {
                a[i] = queries[i % p->tile];
                b[i] = rows[i];
            }
            p->fixed_products(a, b, d, count, products);
            for (int i = 0; i < count; i++) {
                int64_t sum = 0;
                for (int64_t k = 0; k < d; k++) sum += a[i][k] * b[i][k];
                assert(products[i] == sum);
            }
        }
}

static void every_path_is_exact_in_fixed_point(void) {
    fixed_point_is_exact(&confsim_angular_portable);
#ifdef CONFSIM_X86
    if (confsim_isa_available(CONFSIM_ISA_AVX2)) fixed_point_is_exact(&confsim_angular_avx2);
    if (confsim_isa_available(CONFSIM_ISA_AVX512)) fixed_point_is_exact(&confsim_angular_avx512);
    if (__builtin_cpu_supports("avx512vnni")) fixed_point_is_exact(&confsim_angular_vnni);
#endif
#ifdef CONFSIM_NEON
    fixed_point_is_exact(&confsim_angular_neon);
#endif
}

static void hand_made(confsim_isa isa) {
    for (int threads = 1; threads <= 4; threads++) {
        zero_rows_and_antipodes(isa, threads);
        a_lone_member_has_no_other(isa, threads);
        duplicates_go_to_the_lowest(isa, threads);
    }
}

static void answers_known_by_hand(void) { on_every_isa(hand_made); }

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(every_path_is_exact_in_fixed_point),
        CASE(running_out_of_memory_is_reported),
        CASE(running_out_of_memory_for_several_is_reported),
        CASE(random_answers_are_the_nearest),
        CASE(answers_known_by_hand),
    };
    return RUN_CASES(cases, argc, argv);
}
