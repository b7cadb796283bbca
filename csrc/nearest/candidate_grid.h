/* A discrete Voronoi grid of a class's training points, in up to three dimensions.
 *
 * A box is cut into cells. A cell's leaf holds the training points that could be nearest to some
 * point of the cell, ready for comparison. Cells are made by halving: each half keeps those
 * candidates of the whole that its own bounds leave. A dense cell holds a grid of its own.
 * */
#ifndef CONFSIM_CANDIDATE_GRID_H
#define CONFSIM_CANDIDATE_GRID_H

#include "nearest/euclidean_internal.h"

enum { MOST_AXES = 3 };

/* Training points in ascending order of their indices: groups of LANES points, coordinate by
 * coordinate, padded with points at infinity; then their indices. */
typedef struct {
    int64_t groups; /* -1: `data` is a grid; 0: no leaf, the queries are for a tree */
    const void *data;
} cell;

typedef struct {
    double low[MOST_AXES], per_width[MOST_AXES], width[MOST_AXES];
    int flat[MOST_AXES]; /* too thin to cut: all queries are in the first cell */
    double slack;        /* how far outside of its cell a query may lie */
    int64_t side;
    cell *cells;
} grid;

typedef struct {
    double low[MOST_AXES], high[MOST_AXES];
} region;

/* Some training points in ascending order of their indices, an array a coordinate, padded to whole
 * groups with points at infinity; `room` has a group more. */
typedef struct {
    int64_t count, room;
    double *axis[MOST_AXES];
    int32_t *index;
} candidates;

/* Keep those of `in` that could be nearest to a point of the region. `closest` is scratch, with an
 * entry for each of `in`. */
typedef void (*filter_kernel)(const candidates *in, const region *r, int64_t d, candidates *out,
                              double *closest);

/* Parts of the box in which queries are expected. */
typedef struct {
    int64_t side;
    const char *occupied; /* a byte a part; NULL: everywhere */
    double share;         /* of the parts */
    int64_t queries;
    int flat[MOST_AXES]; /* axes along which all queries are in the first part */
} occupancy;

struct builder;

typedef struct candidate_grid {
    int64_t dimensions;
    candidates all;
    occupancy occupancy;
    filter_kernel filter;
    int prune; /* enough queries a cell for shorter leaves to be worth their making */
    grid *root;
    cell fallback; /* the leaf of all candidates, for cells in which no query is occupancy */
    int64_t part_side, parts;
    struct builder *builders; /* one a thread */
} candidate_grid;

static inline int64_t whole_power(int64_t base, int64_t exponent) {
    int64_t power = 1;
    while (exponent-- > 0) power *= base;
    return power;
}

/* The number of the cell at `at` among side^d cells. */
static inline int64_t number_of(const int64_t *at, int64_t side, int64_t d) {
    int64_t number = 0;
    for (int64_t k = 0; k < d; k++) number = number * side + at[k];
    return number;
}

static inline void candidates_pad(candidates *c, int64_t d) {
    for (int64_t i = c->count; i < c->count + LANES; i++) {
        for (int64_t k = 0; k < d; k++) c->axis[k][i] = INFINITY;
        c->index[i] = -1;
    }
}

/* The grid of `side` cells an axis between two corners; queries may lie `slack` outside of it. */
void confsim_grid_place(grid *g, int64_t d, const double *low, const double *high, int64_t side,
                        double slack);

CONFSIM_MUST_CHECK confsim_status confsim_candidate_grid_build(
    candidate_grid *v, const packed_points *p, int64_t class, int64_t points, const region *box,
    const occupancy *expected, filter_kernel filter, int threads);

void confsim_candidate_grid_free(candidate_grid *v, int threads);

#endif
