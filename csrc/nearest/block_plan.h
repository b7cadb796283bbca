/* What a search in blocks prepares once: the training points of each class, packed, and an order of
 * the queries. Included by block_plan.c and block_search.c. */
#ifndef CONFSIM_BLOCK_PLAN_H
#define CONFSIM_BLOCK_PLAN_H

#include "nearest/block_kernels.h"
#include "nearest/kd_tree.h"

enum {
    CHUNK = 24,        /* training points of the smallest chunk: whole tiles and whole groups */
    MOST_CHUNKS = 512, /* of a class: larger classes have larger chunks */
    MOST_BLOCK_AXES = 32
};

#define MOST_SKEW 1e-9

/* Finds the `count` + 1 terms of LANES vectors, whose coordinates are placed. */
typedef struct block_axes block_axes;
typedef void axes_terms(const block_axes *axes, int64_t d, const f64x8 *placed_lanes,
                        const f64x8 *lengths, f64x8 *terms);

/* Directions for bounds of scores; `skew` is how far they are from orthonormal. */
struct block_axes {
    int64_t count; /* 0: no bounds */
    double *directions, skew;
    axes_terms *find_terms;
};

/* One class, packed for the register tile: for each tile the halved squared lengths of its points,
 * then coordinate by coordinate. Packed for lists: `stride` points a coordinate, and points row by
 * row behind their halved squared lengths; NULL where lists are never made. `bounds` are packed as
 * `points` are, with the terms of a bound instead of coordinates; NULL where there are none. */
typedef struct {
    float *points, *columns, *rows, *bounds;
    int64_t chunk_points, chunks, stride, count;
    double longest; /* of a training point, from the centre */
} block_class;

/* Whether a way to search that may fail is worth trying. */
typedef struct {
    int failures, skipped;
} patience;

/* What the blocks of a thread have taught: how far the next one will have to look, and whether
 * lists and bounds are worth the trouble. Answers do not depend on it. */
typedef struct {
    double radius;
    patience lists, bounds;
} lessons;

typedef struct {
    const euclidean_search *s;
    double *centre;
    double scale; /* a power of two: coordinates from the centre, scaled, are at most 1 */
    block_class *classes;
    block_axes axes;
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
    lessons *lessons; /* one a thread */
    kd_tree *trees;   /* one a class, where they are quicker; without nodes elsewhere */
} block_plan;

static inline double placed(const block_plan *t, double coordinate, int64_t k) {
    return (coordinate - t->centre[k]) * t->scale;
}

/* Pack the points of the search `s` and order its queries; what fails is freed as what does not. */
CONFSIM_MUST_CHECK confsim_status confsim_block_plan_make(block_plan *t, const extent_pair *x,
                                                          int threads);

void confsim_block_plan_free(block_plan *t);

/* ---- block_axes.c */

/* Chooses directions for a plan whose points are placed. */
CONFSIM_MUST_CHECK confsim_status confsim_block_axes_choose(block_plan *t);

/* Fills `bounds` of a class that is packed, where there are directions. */
CONFSIM_MUST_CHECK confsim_status confsim_block_axes_pack(const block_plan *t, int64_t class,
                                                          block_class *out, int threads);

#endif
