/* The angular search: prepares the training set, chooses the filter, and hands out blocks of
 * queries. */
#include "nearest/angular_internal.h"

typedef struct {
    int64_t query_class, begin, end; /* places in query_classes.order */
} work;

typedef struct {
    const angular_search *s;
    const work *items;
    query_block *blocks;
} job;

static void search_item(void *context, int64_t item, int thread) {
    const job *j = context;
    const angular_search *s = j->s;
    query_block *b = &j->blocks[thread];
    const work *w = &j->items[item];
    const int64_t *queries = s->query_classes.order + w->begin, count = w->end - w->begin;
    const int64_t class = training_class(s, queries[0]);
    if (class < 0) {
        const top_list none = {.k = s->k};
        for (int64_t i = 0; i < count; i++) {
            if (s->k) {
                top_list_store(&none, queries[i], s->answer->distance, s->answer->index);
                top_list_store(&none, queries[i], s->answer->distance_other,
                               s->answer->index_other);
                continue;
            }
            confsim_angular_put(s->answer->distance, s->answer->index, queries[i], NAN, -1);
            confsim_angular_put(s->answer->distance_other, s->answer->index_other, queries[i], NAN,
                                -1);
        }
        return;
    }
    if (s->distinct.units) {
        confsim_exact_search(s, b, queries, count, class);
    } else {
        confsim_cosine_filter(s, b, queries, count, class);
    }
    for (int64_t i = 0; i < count; i++)
        if (s->k)
            confsim_angular_answer_k(s, b, i, class);
        else
            confsim_angular_answer(s, &b->lists[i], class);
}

static void search_free(angular_search *s) {
    confsim_classes_free(&s->classes);
    confsim_classes_free(&s->query_classes);
    confsim_classes_free(&s->by_group);
    free(s->rows.units);
    free(s->rows.scales);
    free(s->axes.directions);
    free(s->rows.first_group);
    free(s->rows.packed);
    free(s->tree.row_terms);
    free(s->tree.first_cell);
    free(s->tree.first_centre);
    free(s->tree.lowest);
    free(s->tree.centres);
    free(s->tree.splits);
    free(s->prepared.terms);
    free(s->prepared.scales);
    free(s->prepared.leaves);
    free(s->prepared.repeats);
    free(s->rows.fixed);
    confsim_distinct_rows_free(&s->distinct);
}

static CONFSIM_MUST_CHECK confsim_status search_build(angular_search *s) {
    const int64_t n = s->training->rows;
    confsim_status status = confsim_classes_build(&s->classes, s->pairing->training_labels, n);
    if (!status)
        status =
            confsim_classes_build(&s->query_classes, s->pairing->query_labels, s->queries->rows);
    if (!status && s->k && s->pairing->training_groups)
        status = confsim_classes_build(&s->by_group, s->pairing->training_groups, n);
    if (!status) status = confsim_angular_prepare(s);
    if (status) return status;
    confsim_set_axes(s, 0);
    if (!s->k && s->queries->rows >= PROBES && n >= TOO_CLOSE_ONE_IN &&
        confsim_float32_is_too_coarse(s))
        return confsim_distinct_rows_build(s);
    if (s->queries->rows >= SMALL && n >= SMALL && n <= INT32_MAX && s->training->columns >= 8) {
        status = confsim_find_directions(s);
        if (status) return status;
        confsim_choose_axes(s);
    }
    status = confsim_cone_tree_list_cells(s);
    if (!status && s->axes.count) status = confsim_cone_tree_build(s);
    if (!status && s->axes.count) status = confsim_cone_tree_order_queries(s);
    if (status) return status;
    for (int64_t c = 0; c < s->classes.count; c++) confsim_cone_tree_find_lowest(s, c);
    return confsim_angular_pack(s);
}

static CONFSIM_MUST_CHECK confsim_status list_work(const angular_search *s, work **items,
                                                   int64_t *count) {
    const confsim_classes *classes = &s->query_classes;
    *items = malloc((size_t)(s->queries->rows / BLOCK + classes->count) * sizeof **items);
    if (!*items) return CONFSIM_NO_MEMORY;
    *count = 0;
    for (int64_t c = 0; c < classes->count; c++)
        for (int64_t begin = classes->start[c]; begin < classes->start[c + 1]; begin += BLOCK) {
            const int64_t rest = classes->start[c + 1] - begin;
            (*items)[(*count)++] = (work){c, begin, begin + (rest < BLOCK ? rest : BLOCK)};
        }
    return CONFSIM_OK;
}

static void blocks_free(query_block *blocks, int threads) {
    for (int i = 0; blocks && i < threads; i++) {
        free(blocks[i].units64);
        free(blocks[i].units);
        free(blocks[i].terms);
        free(blocks[i].fixed_rows);
        free(blocks[i].k_lists);
    }
    free(blocks);
}

/* Lists for the queries of a block, and their arrays behind them in one piece. */
static k_list *k_lists_build(int64_t k) {
    const size_t kept = (size_t)(KEPT + 2 * k), each = (size_t)k;
    const size_t entries = kept * (sizeof(int64_t) + sizeof(float)) +
                           each * (sizeof(double) + sizeof(int64_t) + sizeof(float));
    k_list *lists = malloc(BLOCK * (sizeof *lists + entries));
    if (!lists) return NULL;
    double *distances = (double *)(lists + BLOCK);
    int64_t *indices = (int64_t *)(distances + BLOCK * each), *rows = indices + BLOCK * each;
    float *products = (float *)(rows + BLOCK * kept), *leading = products + BLOCK * kept;
    for (size_t i = 0; i < BLOCK; i++)
        lists[i] = (k_list){.leading = leading + i * each,
                            .rows = rows + i * kept,
                            .products = products + i * kept,
                            .top = {k, 0, distances + i * each, indices + i * each}};
    return lists;
}

static CONFSIM_MUST_CHECK confsim_status blocks_build(const angular_search *s,
                                                      query_block **blocks) {
    query_block *made = calloc((size_t)s->threads, sizeof *made);
    *blocks = made;
    if (!made) return CONFSIM_NO_MEMORY;
    for (int i = 0; i < s->threads; i++) {
        made[i].units64 = malloc((size_t)(BLOCK * s->queries->columns) * sizeof(double));
        made[i].units = floats(BLOCK * s->rows.length);
        made[i].terms = malloc((size_t)(BLOCK * s->axes.step) * sizeof(int16_t));
        made[i].fixed_rows = malloc((size_t)(BLOCK * s->rows.length) * sizeof(int16_t));
        if (s->k) made[i].k_lists = k_lists_build(s->k);
        if (!made[i].units64 || !made[i].units || !made[i].terms || !made[i].fixed_rows ||
            (s->k && !made[i].k_lists))
            return CONFSIM_NO_MEMORY;
    }
    return CONFSIM_OK;
}

static CONFSIM_MUST_CHECK confsim_status run(angular_search s) {
    work *items = NULL;
    query_block *blocks = NULL;
    int64_t count = 0;
    confsim_status status = search_build(&s);
    if (!status) status = list_work(&s, &items, &count);
    if (!status) status = blocks_build(&s, &blocks);
    if (!status) {
        job j = {&s, items, blocks};
        confsim_parallel_for(count, s.threads, search_item, &j);
    }
    blocks_free(blocks, s.threads);
    free(items);
    search_free(&s);
    return status;
}

confsim_status confsim_angular_nearest(const confsim_matrix *queries,
                                       const confsim_matrix *training,
                                       const confsim_pairing *pairing,
                                       const confsim_nearest *answer, int threads,
                                       confsim_isa isa) {
    return run((angular_search){.queries = queries,
                                .training = training,
                                .pairing = pairing,
                                .answer = answer,
                                .kernels = confsim_angular_kernels(isa),
                                .threads = threads});
}

confsim_status confsim_angular_k_nearest(const confsim_matrix *queries,
                                         const confsim_matrix *training,
                                         const confsim_pairing *pairing,
                                         const confsim_nearest *answer, int64_t k, int threads,
                                         confsim_isa isa) {
    return run((angular_search){.queries = queries,
                                .training = training,
                                .pairing = pairing,
                                .answer = answer,
                                .kernels = confsim_angular_kernels(isa),
                                .threads = threads,
                                .k = k});
}
