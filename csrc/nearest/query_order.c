#include "nearest/query_order.h"

#include <math.h>
#include <stdlib.h>

#include "core/parallel.h"

enum { SAMPLES_PER_CELL = 4, DEEPEST_CELL = 16, QUERIES_PER_ITEM = 4096, MOST_SPREAD = 32 };

void confsim_query_order_free(query_order *p) {
    free(p->axis);
    free(p->cut);
    free(p->sample);
    free(p->cell);
}

/* Where a few of the rows lie farthest apart. */
static int32_t widest_axis(const confsim_matrix *queries, const int64_t *rows, int64_t count) {
    const int64_t step = (count + MOST_SPREAD - 1) / MOST_SPREAD;
    int32_t widest = 0;
    double most = -1;
    for (int64_t k = 0; k < queries->columns; k++) {
        double low = INFINITY, high = -INFINITY;
        for (int64_t i = 0; i < count; i += step) {
            const double x = confsim_matrix_at(queries, rows[i], k);
            low = x < low ? x : low;
            high = x > high ? x : high;
        }
        if (high - low > most) {
            most = high - low;
            widest = (int32_t)k;
        }
    }
    return widest;
}

static inline void swap_rows(int64_t *a, int64_t *b) {
    const int64_t kept = *a;
    *a = *b;
    *b = kept;
}

/* Bring rows into an order in which the coordinates before `middle` are at most that of `middle`,
 * and those after it at least (Hoare's selection). */
static double partition(const confsim_matrix *queries, int32_t axis, int64_t *rows, int64_t count,
                        int64_t middle) {
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const double pivot = confsim_matrix_at(queries, rows[low + (high - low) / 2], axis);
        int64_t i = low, j = high;
        while (i <= j) {
            while (confsim_matrix_at(queries, rows[i], axis) < pivot) i++;
            while (confsim_matrix_at(queries, rows[j], axis) > pivot) j--;
            if (i <= j) swap_rows(&rows[i++], &rows[j--]);
        }
        if (middle <= j)
            high = j;
        else if (middle >= i)
            low = i;
        else
            break;
    }
    return confsim_matrix_at(queries, rows[middle], axis);
}

static void grow(query_order *p, int64_t node, int64_t *rows, int64_t count, int depth) {
    if (depth == p->depth) return;
    const int64_t middle = count / 2;
    p->axis[node] = widest_axis(p->queries, rows, count);
    p->cut[node] = partition(p->queries, p->axis[node], rows, count, middle);
    grow(p, 2 * node + 1, rows, middle, depth + 1);
    grow(p, 2 * node + 2, rows + middle, count - middle, depth + 1);
}

static void find_cells(void *context, int64_t item, int thread) {
    const query_order *p = context;
    const int64_t begin = item * QUERIES_PER_ITEM, rest = p->queries->rows - begin;
    const int64_t end = begin + (rest < QUERIES_PER_ITEM ? rest : QUERIES_PER_ITEM);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t node = 0;
        for (int level = 0; level < p->depth; level++)
            node = 2 * node + 1 + (confsim_matrix_at(p->queries, i, p->axis[node]) >= p->cut[node]);
        p->cell[i] = (int32_t)(node + 1 - ((int64_t)1 << p->depth));
    }
}

/* Find each query's cell; there are about `per_cell` queries a cell, and more queries than that. */
confsim_status confsim_query_order_find(query_order *p, const confsim_matrix *queries,
                                        int64_t per_cell, int threads) {
    const int64_t q = queries->rows;
    *p = (query_order){.queries = queries};
    while (p->depth < DEEPEST_CELL && q >> (p->depth + 1) >= per_cell) p->depth++;
    const int64_t cells = (int64_t)1 << p->depth, samples = SAMPLES_PER_CELL * cells;
    p->axis = malloc((size_t)cells * sizeof *p->axis);
    p->cut = malloc((size_t)cells * sizeof *p->cut);
    p->sample = malloc((size_t)samples * sizeof *p->sample);
    p->cell = malloc((size_t)q * sizeof *p->cell);
    if (!p->axis || !p->cut || !p->sample || !p->cell) {
        confsim_query_order_free(p);
        return CONFSIM_NO_MEMORY;
    }
    for (int64_t i = 0; i < samples; i++)
        p->sample[i] = (int64_t)((double)i / (double)samples * (double)q);
    grow(p, 0, p->sample, samples, 0);
    confsim_parallel_for((q + QUERIES_PER_ITEM - 1) / QUERIES_PER_ITEM, threads, find_cells, p);
    return CONFSIM_OK;
}

/* Sort `count` queries by their cells, from `order` to `sorted`; `start` has room for the cells
 * + 1. */
void confsim_query_order_sort(const query_order *p, const int64_t *order, int64_t count,
                              int64_t *sorted, int64_t *start) {
    const int64_t cells = (int64_t)1 << p->depth;
    for (int64_t c = 0; c <= cells; c++) start[c] = 0;
    for (int64_t i = 0; i < count; i++) start[p->cell[order[i]] + 1]++;
    for (int64_t c = 1; c <= cells; c++) start[c] += start[c - 1];
    for (int64_t i = 0; i < count; i++) sorted[start[p->cell[order[i]]]++] = order[i];
}
