/* An order of the queries in which neighbours in space are neighbours: by the cells of a k-d tree.
 *
 * The tree halves a sample of the queries, always along the axis on which it spreads most; then
 * every query is handed down. Only the order comes from here, so nothing has to be exact. Included
 * by block_plan.c. */
#ifndef CONFSIM_QUERY_ORDER_H
#define CONFSIM_QUERY_ORDER_H

#include "core/matrix.h"
#include "core/status.h"

/* Node i's children are 2i + 1 and 2i + 2; the cells are what the last level of nodes parts. */
typedef struct {
    const confsim_matrix *queries;
    int depth;
    int32_t *axis;
    double *cut;
    int64_t *sample; /* rows of queries */
    int32_t *cell;   /* of each query */
} query_order;

/* Find each query's cell; there are about `per_cell` queries a cell, and more queries than that. */
CONFSIM_MUST_CHECK confsim_status confsim_query_order_find(query_order *p,
                                                           const confsim_matrix *queries,
                                                           int64_t per_cell, int threads);

void confsim_query_order_free(query_order *p);

/* Sort `count` queries by their cells, from `order` to `sorted`; `start` has room for the cells
 * + 1. */
void confsim_query_order_sort(const query_order *p, const int64_t *order, int64_t count,
                              int64_t *sorted, int64_t *start);

#endif
