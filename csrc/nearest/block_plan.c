/* The training points of each class, packed for register tiles and for lists, and an order of the
 * queries in which those of a block lie close together. */
#include "nearest/block_plan.h"

#include "core/util.h"
#include "nearest/query_order.h"

enum {
    MOST_CHUNKS_FOR_K = 2048, /* smaller ones where each holds one of the k nearest at best */
    FEWEST_TO_ORDER = 4096,   /* queries that are worth an order */
    FEWEST_TO_LIST = 256      /* training points of a class that are worth a list */
};

/* From the tiles that are packed already. */
static CONFSIM_MUST_CHECK confsim_status class_pack_for_lists(const block_plan *t, int64_t class,
                                                              block_class *out) {
    const int64_t d = t->s->packed->dimensions, tile = POINTS * (d + 1);
    out->count = t->s->classes->start[class + 1] - t->s->classes->start[class];
    if (out->count < FEWEST_TO_LIST) return CONFSIM_OK;
    out->stride = (out->count + BLOCK - 1) / BLOCK * BLOCK;
    out->columns = aligned_alloc(64, (size_t)(out->stride * d) * sizeof(float));
    out->rows = malloc((size_t)(out->count * (d + 1)) * sizeof(float));
    if (!out->columns || !out->rows) return CONFSIM_NO_MEMORY;
    for (int64_t i = 0; i < out->stride; i++) {
        const float *half = out->points + i / POINTS * tile + i % POINTS;
        const int real = i < out->count;
        if (real) out->rows[i * (d + 1)] = *half;
        for (int64_t k = 0; k < d; k++) {
            out->columns[k * out->stride + i] = real ? half[(k + 1) * POINTS] : NOWHERE;
            if (real) out->rows[i * (d + 1) + k + 1] = half[(k + 1) * POINTS];
        }
    }
    return CONFSIM_OK;
}

static CONFSIM_MUST_CHECK confsim_status class_pack(const block_plan *t, int64_t class,
                                                    block_class *out) {
    const packed_points *p = t->s->packed;
    const int64_t d = p->dimensions, tile = POINTS * (d + 1);
    const int64_t first = p->first_group[class] * LANES;
    const int64_t groups = p->first_group[class + 1] - p->first_group[class];
    const int64_t smallest = (groups * LANES + CHUNK - 1) / CHUNK;
    out->chunk_points = CHUNK * confsim_blocks(smallest, t->most_chunks);
    out->chunks = (groups * LANES + out->chunk_points - 1) / out->chunk_points;
    out->longest = 0;
    const int64_t points = out->chunks * out->chunk_points;
    const size_t bytes = (size_t)(points / POINTS * tile) * sizeof(float);
    out->points = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!out->points) return CONFSIM_NO_MEMORY;
    for (int64_t i = 0; i < points; i++) {
        float *half = out->points + i / POINTS * tile + i % POINTS;
        const int real = i < groups * LANES && p->index[first + i] >= 0;
        const double *point = real ? point_at(p, first + i) : NULL;
        double length = 0;
        for (int64_t k = 0; k < d; k++) {
            const double x = real ? placed(t, point[k * LANES], k) : 0;
            half[(k + 1) * POINTS] = (float)x;
            length += x * x;
        }
        *half = real ? (float)(length / 2) : NOWHERE;
        out->longest = fmax(out->longest, sqrt(length));
    }
    return t->most_listed ? class_pack_for_lists(t, class, out) : CONFSIM_OK;
}

/* Sort the queries by class; those of no class get their answer at once. */
static void order_by_class(block_plan *t) {
    const euclidean_search *s = t->s;
    const int64_t classes = s->classes->count, q = s->queries->rows;
    for (int64_t i = 0; i < q; i++) {
        const int64_t class = class_of(s, i);
        if (class >= 0)
            t->first_query[class + 2]++;
        else
            s->k ? confsim_store_no_top(s, i)
                 : store_both(s, i, NULL, -1, (neighbor){INFINITY, -1});
    }
    for (int64_t c = 2; c <= classes; c++) t->first_query[c] += t->first_query[c - 1];
    for (int64_t i = 0; i < q; i++) {
        const int64_t class = class_of(s, i);
        if (class >= 0) t->order[t->first_query[class + 1]++] = i;
    }
}

/* Within each class, bring queries that lie close together into the same blocks. */
static confsim_status order_by_cell(block_plan *t, int threads) {
    const int64_t classes = t->s->classes->count;
    query_order p;
    confsim_status status = confsim_query_order_find(&p, t->s->queries, BLOCK, threads);
    if (status) return status;
    int64_t *sorted = malloc((size_t)t->s->queries->rows * sizeof(int64_t));
    int64_t *start = malloc((((size_t)1 << p.depth) + 1) * sizeof(int64_t));
    if (sorted && start) {
        for (int64_t c = 0; c < classes; c++) {
            const int64_t first = t->first_query[c], count = t->first_query[c + 1] - first;
            if (count) confsim_query_order_sort(&p, t->order + first, count, sorted + first, start);
        }
        int64_t *const kept = t->order;
        t->order = sorted;
        sorted = kept;
    } else {
        status = CONFSIM_NO_MEMORY;
    }
    free(sorted);
    free(start);
    confsim_query_order_free(&p);
    return status;
}

static confsim_status order_queries(block_plan *t, int threads) {
    const euclidean_search *s = t->s;
    const int64_t classes = s->classes->count, q = s->queries->rows;
    confsim_status status = CONFSIM_OK;
    t->first_query = calloc((size_t)classes + 2, sizeof(int64_t));
    t->first_block = calloc((size_t)classes + 2, sizeof(int64_t));
    t->order = malloc((size_t)q * sizeof(int64_t));
    if (!t->first_query || !t->first_block || !t->order) return CONFSIM_NO_MEMORY;
    if (s->pairing->query_labels) {
        order_by_class(t);
    } else {
        for (int64_t i = 0; i < q; i++) t->order[i] = i;
        t->first_query[1] = q;
    }
    if (t->most_listed) status = order_by_cell(t, threads);
    for (int64_t c = 0; c < classes; c++)
        t->first_block[c + 1] =
            t->first_block[c] + (t->first_query[c + 1] - t->first_query[c] + BLOCK - 1) / BLOCK;
    return status;
}

/* The middle of the training points, and a scale that brings everything to within 1 of it. */
static void place(block_plan *t, const extent_pair *x) {
    double farthest = 0, *const centre = t->centre;
    for (int64_t k = 0; k < t->s->queries->columns; k++) {
        centre[k] = x->training_low[k] + (x->training_high[k] - x->training_low[k]) / 2;
        farthest =
            fmax(farthest, fmax(x->training_high[k] - centre[k], centre[k] - x->training_low[k]));
        farthest = fmax(farthest, fmax(x->query_high[k] - centre[k], centre[k] - x->query_low[k]));
    }
    int exponent;
    frexp(farthest, &exponent);
    t->scale = ldexp(1, -exponent);
}

/* How many points the largest class has that is worth lists, padded; 0 where no class is. */
static int64_t most_listed(const euclidean_search *s) {
    int64_t most = 0;
    for (int64_t c = 0; c < s->classes->count; c++) {
        const int64_t count = s->classes->start[c + 1] - s->classes->start[c];
        most = count > most ? count : most;
    }
    if (s->k || s->queries->rows < FEWEST_TO_ORDER || most < FEWEST_TO_LIST) return 0;
    return (most + BLOCK - 1) / BLOCK * BLOCK;
}

confsim_status confsim_block_plan_make(block_plan *t, const extent_pair *x, int threads) {
    const euclidean_search *s = t->s;
    t->most_chunks = s->k ? MOST_CHUNKS_FOR_K : MOST_CHUNKS;
    t->most_listed = most_listed(s);
    t->centre = malloc((size_t)s->queries->columns * sizeof(double));
    t->classes = calloc((size_t)s->classes->count, sizeof *t->classes);
    if (!t->centre || !t->classes) return CONFSIM_NO_MEMORY;
    place(t, x);
    confsim_status status = confsim_block_axes_choose(t);
    for (int64_t c = 0; c < s->classes->count && !status; c++) {
        status = class_pack(t, c, &t->classes[c]);
        if (!status) status = confsim_block_axes_pack(t, c, &t->classes[c], threads);
    }
    return status ? status : order_queries(t, threads);
}

void confsim_block_plan_free(block_plan *t) {
    for (int64_t c = 0; t->classes && c < t->s->classes->count; c++) {
        free(t->classes[c].points);
        free(t->classes[c].columns);
        free(t->classes[c].rows);
        free(t->classes[c].bounds);
    }
    free(t->axes.directions);
    free(t->classes);
    free(t->centre);
    free(t->order);
    free(t->first_query);
    free(t->first_block);
}
