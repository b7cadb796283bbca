/* The k nearest training points by Euclidean distance: lists of k where the other methods have one.
 *
 * In few dimensions a k-d tree is searched; a node is passed over where its bound is above the k-th
 * distance so far. In more of them block_search.c bounds chunks of training points in float32: the
 * k-th smallest of the chunks' smallest scores bounds the k-th smallest score, because these are
 * scores of k points; rows that do not count for a query raise the k. */
#include "nearest/euclidean_internal.h"

#include "core/parallel.h"
#include "core/util.h"
#include "nearest/kd_tree.h"

/* The squares of distances that could still enter the list; roots round, so a little more. */
static inline double sum_limit(const top_list *top) {
    const double last = top_list_limit(top);
    return last * last * (1 + 0x1p-48) + 1e-300;
}

#define NAME(x) x##_portable
#define TARGET
#include "nearest/simd/top_simd.inc"
#undef NAME
#undef TARGET

#ifdef CONFSIM_X86
#define NAME(x) x##_avx2
#define TARGET CONFSIM_TARGET_AVX2
#include "nearest/simd/top_simd.inc"
#undef NAME
#undef TARGET

#define NAME(x) x##_avx512
#define TARGET CONFSIM_TARGET_AVX512
#include "nearest/simd/top_simd.inc"
#undef NAME
#undef TARGET
#endif

offer_kernel confsim_offer_kernel(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return offer_avx512;
    if (isa == CONFSIM_ISA_AVX2) return offer_avx2;
#endif
    (void)isa;
    return offer_portable;
}

void confsim_store_top(const euclidean_search *s, int64_t query, int64_t class,
                       const double *coordinates, const exclusion *out, top_list *top) {
    top_list_store(top, query, s->answer->distance_other, s->answer->index_other);
    const int64_t *rows = NULL;
    int64_t count = 0;
    if (out->group >= 0) {
        rows = s->by_group->order + s->by_group->start[out->group];
        count = s->by_group->start[out->group + 1] - s->by_group->start[out->group];
    }
    for (int64_t i = -1; i < count; i++) {
        const int64_t row = i < 0 ? out->self : rows[i];
        if (row < 0 || (i >= 0 && row == out->self)) continue;
        const int64_t position = s->packed->position[row];
        if (position / LANES < s->packed->first_group[class] ||
            position / LANES >= s->packed->first_group[class + 1])
            continue; /* of another class */
        top_list_offer(top, sqrt(sum_at(s->packed, coordinates, position)), row);
    }
    top_list_store(top, query, s->answer->distance, s->answer->index);
}

void confsim_store_no_top(const euclidean_search *s, int64_t query) {
    const top_list none = {.k = s->k};
    top_list_store(&none, query, s->answer->distance_other, s->answer->index_other);
    top_list_store(&none, query, s->answer->distance, s->answer->index);
}

/* ---------------------------------------------------------------- by trees */

typedef struct {
    const euclidean_search *s;
    kd_tree *trees;  /* one a class */
    double *scratch; /* per thread: the query, then the list's distances */
    int64_t *index;
    offer_kernel offer;
} tree_search;

enum { QUERIES_PER_ITEM = 256 };

static void search_item(void *context, int64_t item, int thread) {
    const tree_search *t = context;
    const euclidean_search *s = t->s;
    const int64_t d = s->queries->columns, begin = item * QUERIES_PER_ITEM;
    double *coordinates = t->scratch + thread * (d + s->k);
    for (int64_t query = begin; query < confsim_least(s->queries->rows, begin + QUERIES_PER_ITEM);
         query++) {
        const int64_t class = class_of(s, query);
        if (class < 0) {
            confsim_store_no_top(s, query);
            continue;
        }
        top_list top = {s->k, 0, coordinates + d, t->index + thread * s->k};
        const exclusion out = exclusion_of(s->pairing, s->by_group, query);
        confsim_matrix_row(s->queries, query, coordinates, 1);
        confsim_kd_tree_offer(&t->trees[class], t->offer, coordinates, &out, &top);
        confsim_store_top(s, query, class, coordinates, &out, &top);
    }
}

confsim_status confsim_tree_search(const euclidean_search *s, int threads) {
    const int64_t classes = s->classes->count, *start = s->classes->start;
    const size_t per_thread = (size_t)(s->queries->columns + s->k);
    tree_search t = {.s = s, .offer = confsim_offer_kernel(s->isa)};
    confsim_status status = CONFSIM_OK;
    t.trees = calloc((size_t)classes, sizeof *t.trees);
    t.scratch = malloc((size_t)threads * per_thread * sizeof *t.scratch);
    t.index = malloc((size_t)threads * (size_t)s->k * sizeof *t.index);
    if (!t.trees || !t.scratch || !t.index) status = CONFSIM_NO_MEMORY;
    for (int64_t c = 0; c < classes && !status; c++)
        status =
            confsim_kd_tree_build(&t.trees[c], s->packed, c, start[c + 1] - start[c], INT64_MAX);
    if (!status)
        confsim_parallel_for(confsim_blocks(s->queries->rows, QUERIES_PER_ITEM), threads,
                             search_item, &t);
    for (int64_t c = 0; t.trees && c < classes; c++) confsim_kd_tree_free(&t.trees[c]);
    free(t.trees);
    free(t.scratch);
    free(t.index);
    return status;
}
