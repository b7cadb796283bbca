#include "euclidean.h"

#include <math.h>
#include <string.h>

#include "classes.h"
#include "parallel.h"

#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are only passed to functions that are inlined */

enum { LANES = 8, QUERIES_PER_ITEM = 64 };

typedef double f64x8 __attribute__((vector_size(64)));
typedef int64_t i64x8 __attribute__((vector_size(64)));

/* The training points for scanning: each class padded to whole groups of eight with points at
 * infinity, a group stored coordinate by coordinate. */
typedef struct {
    int64_t dimensions;
    int64_t *first_group; /* a class's first group; count + 1 entries */
    int64_t *position;    /* where training point i is: group * 8 + lane */
    int64_t *index;       /* which training point is at a position */
    double *groups;
} packed;

typedef struct {
    const confsim_matrix *queries;
    const confsim_pairing *pairing;
    const confsim_nearest *answer;
    const confsim_classes *classes;
    const packed *packed;
    double *scratch; /* one query a thread */
    confsim_isa isa;
} search;

/* The nearest so far: its sum of squares and where it is, -1 for none. */
typedef struct {
    double sum;
    int64_t position;
} nearest;

static void packed_free(packed *p) {
    free(p->first_group);
    free(p->position);
    free(p->index);
    free(p->groups);
}

static confsim_status packed_build(packed *p, const confsim_matrix *training,
                                   const confsim_classes *classes) {
    const int64_t d = training->columns;
    *p = (packed){.dimensions = d};
    p->first_group = malloc(((size_t)classes->count + 1) * sizeof(int64_t));
    p->position = malloc((size_t)training->rows * sizeof(int64_t));
    if (!p->first_group || !p->position) goto no_memory;
    p->first_group[0] = 0;
    for (int64_t c = 0; c < classes->count; c++)
        p->first_group[c + 1] =
            p->first_group[c] + (classes->start[c + 1] - classes->start[c] + LANES - 1) / LANES;
    const int64_t positions = p->first_group[classes->count] * LANES;
    p->index = malloc((size_t)positions * sizeof(int64_t));
    p->groups = aligned_alloc(64, (size_t)(positions * d) * sizeof(double));
    if (!p->index || !p->groups) goto no_memory;
    for (int64_t i = 0; i < positions * d; i++) p->groups[i] = INFINITY;
    for (int64_t i = 0; i < positions; i++) p->index[i] = -1;
    for (int64_t c = 0; c < classes->count; c++)
        for (int64_t i = classes->start[c]; i < classes->start[c + 1]; i++) {
            const int64_t at = p->first_group[c] * LANES + i - classes->start[c];
            const int64_t point = classes->order[i];
            p->index[at] = point;
            p->position[point] = at;
            confsim_matrix_row(training, point, p->groups + at / LANES * d * LANES + at % LANES,
                               LANES);
        }
    return CONFSIM_OK;

no_memory:
    packed_free(p);
    return CONFSIM_NO_MEMORY;
}

/* Whether a is a smaller distance than b. Roots round: different sums can be the same distance. */
static inline int closer(double a, double b) { return a < b && sqrt(a) < sqrt(b); }

static inline __attribute__((always_inline)) f64x8 sums_of_squares(const double *group,
                                                                   const double *query,
                                                                   int64_t d) {
    f64x8 sum = {0};
    for (int64_t k = 0; k < d; k++) {
        const f64x8 difference = query[k] - *(const f64x8 *)(group + k * LANES);
        sum += difference * difference;
    }
    return sum;
}

/* The nearest of a class, without the point at position `without`. */
static inline __attribute__((always_inline)) nearest scan(const packed *p, const double *query,
                                                          int64_t class, int64_t without) {
    const int64_t d = p->dimensions;
    f64x8 best = {0};
    best += INFINITY;
    i64x8 where = {-1, -1, -1, -1, -1, -1, -1, -1};
    for (int64_t group = p->first_group[class]; group < p->first_group[class + 1]; group++) {
        f64x8 sum = sums_of_squares(p->groups + group * d * LANES, query, d);
        if (group == without / LANES && without >= 0) sum[without % LANES] = INFINITY;
        const i64x8 less = sum < best;
        int any = 0;
        for (int lane = 0; lane < LANES; lane++) any |= less[lane] != 0;
        if (!any) continue;
        for (int lane = 0; lane < LANES; lane++)
            if (closer(sum[lane], best[lane])) {
                best[lane] = sum[lane];
                where[lane] = group * LANES + lane;
            }
    }
    nearest found = {INFINITY, -1};
    for (int lane = 0; lane < LANES; lane++) {
        if (where[lane] < 0) continue;
        const int is_closer = found.position < 0 || closer(best[lane], found.sum);
        const int is_tie = !is_closer && sqrt(best[lane]) == sqrt(found.sum);
        if (is_closer || (is_tie && where[lane] < found.position))
            found = (nearest){best[lane], where[lane]};
    }
    return found;
}

static nearest scan_portable(const packed *p, const double *query, int64_t class, int64_t without) {
    return scan(p, query, class, without);
}

#ifdef CONFSIM_X86
CONFSIM_TARGET_AVX2 static nearest scan_avx2(const packed *p, const double *query, int64_t class,
                                             int64_t without) {
    return scan(p, query, class, without);
}

CONFSIM_TARGET_AVX512 static nearest scan_avx512(const packed *p, const double *query,
                                                 int64_t class, int64_t without) {
    return scan(p, query, class, without);
}
#endif

static nearest scan_class(confsim_isa isa, const packed *p, const double *query, int64_t class,
                          int64_t without) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return scan_avx512(p, query, class, without);
    if (isa == CONFSIM_ISA_AVX2) return scan_avx2(p, query, class, without);
#endif
    (void)isa;
    return scan_portable(p, query, class, without);
}

static double sum_at(const packed *p, const double *query, int64_t position) {
    const double *point = p->groups + position / LANES * p->dimensions * LANES + position % LANES;
    double sum = 0;
    for (int64_t k = 0; k < p->dimensions; k++) {
        const double difference = query[k] - point[k * LANES];
        sum += difference * difference;
    }
    return sum;
}

static void store(const packed *p, nearest found, double *distance, int64_t *index, int64_t query) {
    if (distance) distance[query] = found.position < 0 ? NAN : sqrt(found.sum);
    if (index) index[query] = found.position < 0 ? -1 : p->index[found.position];
}

/* One search gives both answers: without the query's own row, which then competes with the winner. */
static void search_one(const search *s, int64_t query, double *coordinates) {
    const packed *p = s->packed;
    const int64_t *labels = s->pairing->query_labels;
    const int64_t class = labels ? confsim_classes_find(s->classes, labels[query]) : 0;
    const int64_t self = s->pairing->self_index ? s->pairing->self_index[query] : -1;
    int64_t own = self < 0 ? -1 : p->position[self];
    nearest other = {INFINITY, -1};
    confsim_matrix_row(s->queries, query, coordinates, 1);
    if (class >= 0) {
        if (own < p->first_group[class] * LANES || own >= p->first_group[class + 1] * LANES)
            own = -1; /* of another class: no candidate anyway */
        other = scan_class(s->isa, p, coordinates, class, own);
    } else {
        own = -1;
    }
    nearest found = other;
    if (own >= 0) {
        const nearest itself = {sum_at(p, coordinates, own), own};
        const int tie = other.position >= 0 && sqrt(itself.sum) == sqrt(other.sum);
        if (other.position < 0 || (tie ? own < other.position : itself.sum < other.sum))
            found = itself;
    }
    store(p, found, s->answer->distance, s->answer->index, query);
    store(p, other, s->answer->distance_other, s->answer->index_other, query);
}

static void search_item(void *context, int64_t item, int thread) {
    const search *s = context;
    double *coordinates = s->scratch + thread * s->queries->columns;
    const int64_t begin = item * QUERIES_PER_ITEM;
    const int64_t rest = s->queries->rows - begin;
    const int64_t end = begin + (rest < QUERIES_PER_ITEM ? rest : QUERIES_PER_ITEM);
    for (int64_t query = begin; query < end; query++) search_one(s, query, coordinates);
}

confsim_status confsim_euclidean_nearest(const confsim_matrix *queries,
                                         const confsim_matrix *training,
                                         const confsim_pairing *pairing,
                                         const confsim_nearest *answer, int threads,
                                         confsim_isa isa) {
    confsim_classes classes;
    packed p;
    confsim_status status = confsim_classes_build(&classes, pairing->training_labels, training->rows);
    if (status) return status;
    status = packed_build(&p, training, &classes);
    if (status) goto free_classes;
    double *scratch = malloc((size_t)threads * (size_t)queries->columns * sizeof(double));
    if (!scratch) {
        status = CONFSIM_NO_MEMORY;
        goto free_packed;
    }
    search s = {queries, pairing, answer, &classes, &p, scratch, isa};
    confsim_parallel_for((queries->rows + QUERIES_PER_ITEM - 1) / QUERIES_PER_ITEM, threads,
                         search_item, &s);
    free(scratch);
free_packed:
    packed_free(&p);
free_classes:
    confsim_classes_free(&classes);
    return status;
}
