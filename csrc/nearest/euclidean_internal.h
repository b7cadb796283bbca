/* What the methods of the Euclidean search share: packed training points, and how answers compare.
 *
 * Hot helpers are inline, so that every method compiles its own copy for each instruction set. */
#ifndef CONFSIM_EUCLIDEAN_INTERNAL_H
#define CONFSIM_EUCLIDEAN_INTERNAL_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/classes.h"
#include "core/isa.h"
#include "core/matrix.h"
#include "core/status.h"
#include "nearest/nearest.h"
#include "nearest/top_list.h"

#pragma GCC diagnostic ignored "-Wpsabi" /* vectors are only passed to functions that are inlined  \
                                          */

enum { LANES = 8 };

typedef double f64x8 __attribute__((vector_size(64)));
typedef int64_t i64x8 __attribute__((vector_size(64)));

/* The training points for scanning: each class padded to whole groups of eight with points at
 * infinity, a group stored coordinate by coordinate. */
typedef struct {
    int64_t dimensions;
    int64_t *first_group; /* a class's first group; count + 1 entries */
    int64_t *position;    /* where training point i is: group * 8 + lane */
    int32_t *index;       /* which training point is at a position, -1 for none */
    double *groups;
} packed_points;

typedef struct {
    const confsim_matrix *queries, *training;
    const confsim_pairing *pairing;
    const confsim_nearest *answer;
    const confsim_classes *classes;
    const packed_points *packed;
    double *scratch; /* one query a thread */
    confsim_isa isa;
    int64_t k;                       /* neighbours a query, in a search for several */
    const confsim_classes *by_group; /* training rows by duplicate group, where there are groups */
} euclidean_search;

/* The nearest so far: its sum of squares and which training point it is, -1 for none. */
typedef struct {
    double sum;
    int64_t index;
} neighbor;

/* The corners of the boxes around both sets, `columns` entries each. */
typedef struct {
    double *query_low, *query_high, *training_low, *training_high;
} extent_pair;

typedef neighbor (*leaf_kernel)(const double *data, const int32_t *index, int64_t groups, int64_t d,
                                const double *query, int64_t without);

/* Whether a is a smaller distance than b. Roots round: different sums can be the same distance. */
static inline int closer(double a, double b) { return a < b && sqrt(a) < sqrt(b); }

/* The smaller distance; of equal ones, the lower index. */
static inline neighbor better(neighbor a, neighbor b) {
    if (a.index < 0 || b.index < 0) return a.index < 0 ? b : a;
    if (closer(a.sum, b.sum)) return a;
    if (closer(b.sum, a.sum)) return b;
    return a.index < b.index ? a : b;
}

static inline __attribute__((always_inline)) f64x8 sums_of_squares(const double *group,
                                                                   const double *query, int64_t d) {
    f64x8 sum = {0};
    for (int64_t k = 0; k < d; k++) {
        const f64x8 difference = query[k] - *(const f64x8 *)(group + k * LANES);
        sum += difference * difference;
    }
    return sum;
}

static const double *point_at(const packed_points *p, int64_t position) {
    return p->groups + position / LANES * p->dimensions * LANES + position % LANES;
}

static double sum_at(const packed_points *p, const double *query, int64_t position) {
    const double *point = point_at(p, position);
    double sum = 0;
    for (int64_t k = 0; k < p->dimensions; k++) {
        const double difference = query[k] - point[k * LANES];
        sum += difference * difference;
    }
    return sum;
}

/* The classes whose training points some queries are compared with, -1 for none. */
static inline __attribute__((always_inline)) void
classes_of(const euclidean_search *s, int64_t first, int64_t count, int64_t *class) {
    const int64_t *labels = s->pairing->query_labels;
    for (int64_t i = 0; i < count; i++) class[i] = labels ? -1 : 0;
    if (!labels) return;
    if (s->classes->count > 4)
        for (int64_t i = 0; i < count; i++)
            class[i] = confsim_classes_find(s->classes, labels[first + i]);
    else /* without branches: labels are as good as random */
        for (int64_t c = 0; c < s->classes->count; c++)
            for (int64_t i = 0, label = s->classes->labels[c]; i < count; i++)
                class[i] = labels[first + i] == label ? c : class[i];
}

static inline int64_t class_of(const euclidean_search *s, int64_t query) {
    int64_t class;
    classes_of(s, query, 1, &class);
    return class;
}

/* A query's own training row where it would be a candidate, else -1. */
static inline int64_t own_row(const euclidean_search *s, int64_t query) {
    const confsim_pairing *pairing = s->pairing;
    const int64_t self = pairing->self_index ? pairing->self_index[query] : -1;
    if (self < 0 || !pairing->query_labels) return self;
    return pairing->training_labels[self] == pairing->query_labels[query] ? self : -1;
}

static inline double distance_of(neighbor found) { return found.index < 0 ? NAN : sqrt(found.sum); }

static inline void store_other(neighbor other, int64_t query, const confsim_nearest *to) {
    if (to->distance_other) to->distance_other[query] = distance_of(other);
    if (to->index_other) to->index_other[query] = other.index;
}

/* The answer of a query that is no member, so that nobody is left out. */
static inline void store(neighbor found, int64_t query, const confsim_nearest *to) {
    const double distance = distance_of(found);
    if (to->distance) to->distance[query] = distance;
    if (to->index) to->index[query] = found.index;
    if (to->distance_other) to->distance_other[query] = distance;
    if (to->index_other) to->index_other[query] = found.index;
}

/* One search gives both answers: it leaves the query's own row out, which then competes with the
 * winner. */
static inline void store_both(const euclidean_search *s, int64_t query, const double *coordinates,
                              int64_t self, neighbor other) {
    if (self < 0) {
        store(other, query, s->answer);
        return;
    }
    const neighbor itself = {sum_at(s->packed, coordinates, s->packed->position[self]), self};
    store(better(itself, other), query, s->answer);
    store_other(other, query, s->answer);
}

/* How an instruction set compares a query with a leaf's points. */
leaf_kernel confsim_leaf_kernel(confsim_isa isa);

/* How an instruction set offers a leaf's points to a list of the k nearest. */
typedef void (*offer_kernel)(const double *data, const int32_t *index, int64_t groups, int64_t d,
                             const double *query, const exclusion *out, top_list *top);
offer_kernel confsim_offer_kernel(confsim_isa isa);

/* Store a query's k nearest others, and with what was left out the k nearest; or that there is
 * none. */
void confsim_store_top(const euclidean_search *s, int64_t query, int64_t class,
                       const double *coordinates, const exclusion *out, top_list *top);
void confsim_store_no_top(const euclidean_search *s, int64_t query);

/* The k nearest, by k-d trees: k_nearest.c. */
CONFSIM_MUST_CHECK confsim_status confsim_tree_search(const euclidean_search *s, int threads);

/* In up to MOST_AXES dimensions, by a grid of candidates: grid_search.c. */
CONFSIM_MUST_CHECK confsim_status confsim_grid_search(const euclidean_search *s,
                                                      const extent_pair *x, int threads);

/* In any number of dimensions, by blocks of queries in float32: block_search.c. */
CONFSIM_MUST_CHECK confsim_status confsim_block_search(const euclidean_search *s,
                                                       const extent_pair *x, int threads);

#endif
