/* What a search in blocks prepares once: the training points of each class, packed, and an order of
 * the queries. Included by block_plan.c and block_search.c. */
#ifndef CONFSIM_BLOCK_PLAN_H
#define CONFSIM_BLOCK_PLAN_H

#include "nearest/block_kernels.h"
#include "nearest/kd_tree.h"

enum {
    CHUNK = 24,       /* training points of the smallest chunk: whole tiles and whole groups */
    MOST_CHUNKS = 512 /* of a class: larger classes have larger chunks */
};

/* One class, packed for the register tile: for each tile the halved squared lengths of its points,
 * then coordinate by coordinate. Packed for lists: `stride` points a coordinate, and points row by
 * row behind their halved squared lengths; NULL where lists are never made. */
typedef struct {
    float *points, *columns, *rows;
    int64_t chunk_points, chunks, stride, count;
    double longest; /* of a training point, from the centre */
} block_class;

/* What the blocks of a thread have taught: how far the next one will have to radius, and whether
 * lists are worth the trouble. Answers do not depend on it. */
typedef struct {
    double radius;
    int failures, skipped;
} list_radius;

typedef struct {
    const euclidean_search *s;
    double *centre;
    double scale; /* a power of two: coordinates from the centre, scaled, are at most 1 */
    block_class *classes;
    int64_t *order;       /* queries by class */
    int64_t *first_query; /* of each class in `order`, and the end */
    int64_t *first_block; /* of each class, and the end */
    int64_t most_chunks;  /* of a class */
    int64_t most_listed;  /* points of the largest class that is listed, padded; 0: no lists */
    /* The search's own. */
    const block_kernels *kernels;
    leaf_kernel leaf;
    offer_kernel offer;
    char *memory;
    size_t bytes_per_thread;
    list_radius *radii; /* one a thread */
    kd_tree *trees;     /* one a class, where they are quicker; without nodes elsewhere */
} block_plan;

static inline double placed(const block_plan *t, double coordinate, int64_t k) {
    return (coordinate - t->centre[k]) * t->scale;
}

/* Pack the points of the search `s` and order its queries; what fails is freed as what does not. */
CONFSIM_MUST_CHECK confsim_status confsim_block_plan_make(block_plan *t, const extent_pair *x,
                                                          int threads);

void confsim_block_plan_free(block_plan *t);

#endif
