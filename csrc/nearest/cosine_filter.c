/* The angular filter: which training rows could be nearest to the queries of a block.
 *
 * Training rows are sorted by class. The filter computes, for tiles of queries times groups of
 * training rows held in registers, upper bounds of the cosine: with orthonormal directions V,
 *
 *     a.b <= (V'a).(V'b) + |a - VV'a| |b - VV'b|      (Cauchy-Schwarz),
 *
 * a product of k + 1 terms instead of d. The directions are the leading principal axes of a sample
 * of the training set; how many to use is decided by counting the survivors of a sample of queries,
 * and where the spectrum is flat the "bound" is the whole product. Terms are 16-bit fixed point,
 * because processors multiply and add twice as many of these as of float32, and their sums are
 * exact. Survivors get a whole product, with axes first in fixed point and then in float32; those
 * within its error of the best are kept, and in the end compared by the answer's float64
 * arithmetic. Every comparison gives way by a bound on all rounding, so the filter can never
 * discard an answer or one of its ties.
 *
 * Where few directions suffice, a balanced tree over the bound's own coordinates puts training rows
 * into cells of CELL neighbours, and queries are taken in the order of their cells: a query's own
 * cell gives its first guess, and each query skips the cells whose cones of directions lie too far
 * away. A query that repeats its own training row takes over what was prepared for that row.
 *
 * Rounding, with u = 2^-24, for rows of length at most 1 + 2u: a float32 product of d terms by
 * vectors of at least four lanes errs by less than (d / 4 + 24) u (product_error); fixed point errs
 * by fixed_error. */
#include "nearest/angular_internal.h"

/* Compares what was kept by the answer's arithmetic. */
static void resolve(const angular_search *s, candidate_list *list) {
    for (int i = 0; i < list->kept; i++) {
        const int64_t row = list->rows[i];
        if (list->products[i] < list->keep || (list->distance == 0 && row > list->index)) continue;
        const double distance = distance_to(s, list, row, s->rows.scales[row]);
        if (distance < list->distance || (distance == list->distance && row < list->index)) {
            list->distance = distance;
            list->index = row;
        }
    }
    list->kept = 0;
}

static void make_room(const angular_search *s, candidate_list *list) {
    int kept = 0;
    for (int i = 0; i < list->kept; i++)
        if (list->products[i] >= list->keep) {
            list->rows[kept] = list->rows[i];
            list->products[kept++] = list->products[i];
        }
    list->kept = kept;
    if (kept <= KEPT / 2) return;
    resolve(s, list);
}

static inline float low_of(const angular_search *s, const candidate_list *list) {
    return list->keep - s->error.product - s->error.bound;
}

static inline void raise_best(const angular_search *s, candidate_list *list, float product) {
    if (product <= list->best) return;
    list->best = product;
    if (product - s->error.window <= list->keep) return;
    list->keep = product - s->error.window;
    list->start = fixed_start(-low_of(s, list));
}

/* ---- lists of the k nearest */

static inline k_list *k_list_of(const query_block *b, const candidate_list *list) {
    return &b->k_lists[list - b->lists];
}

/* No row whose product is clearly below the k-th largest can be among the k nearest. */
static void raise_leading(const angular_search *s, k_list *leaders, candidate_list *list,
                          float product) {
    int64_t at = leaders->leading_count;
    if (at == s->k) {
        if (product <= leaders->leading[at - 1]) return;
        at--;
    } else {
        leaders->leading_count++;
    }
    for (; at > 0 && leaders->leading[at - 1] < product; at--)
        leaders->leading[at] = leaders->leading[at - 1];
    leaders->leading[at] = product;
    if (leaders->leading_count < s->k) return;
    const float keep = leaders->leading[s->k - 1] - s->error.window;
    if (keep <= list->keep) return;
    list->keep = keep;
    list->start = fixed_start(-low_of(s, list));
}

static void resolve_k(const angular_search *s, k_list *leaders, candidate_list *list) {
    for (int64_t i = 0; i < leaders->kept; i++) {
        const int64_t row = leaders->rows[i];
        if (leaders->products[i] < list->keep) continue;
        top_list_offer(&leaders->top, distance_to(s, list, row, s->rows.scales[row]), row);
    }
    leaders->kept = 0;
    if (leaders->top.count < s->k) return;
    list->distance = leaders->top.distance[s->k - 1];
    list->index = leaders->top.index[s->k - 1];
}

static __attribute__((noinline)) void consider_k(const angular_search *s, const query_block *b,
                                                 candidate_list *list, int64_t row, float product) {
    k_list *leaders = k_list_of(b, list);
    if (product < list->keep || is_excluded(&leaders->out, row)) return;
    raise_leading(s, leaders, list, product);
    if (leaders->kept == KEPT + 2 * s->k) {
        int64_t kept = 0;
        for (int64_t i = 0; i < leaders->kept; i++)
            if (leaders->products[i] >= list->keep) {
                leaders->rows[kept] = leaders->rows[i];
                leaders->products[kept++] = leaders->products[i];
            }
        leaders->kept = kept;
        if (kept > KEPT / 2 + s->k) resolve_k(s, leaders, list);
    }
    if (product < list->keep) return;
    leaders->rows[leaders->kept] = row;
    leaders->products[leaders->kept++] = product;
}

static void consider(const angular_search *s, const query_block *b, candidate_list *list,
                     int64_t row, float product) {
    if (s->k) {
        consider_k(s, b, list, row, product);
        return;
    }
    if (product < list->keep || row == list->own) return;
    raise_best(s, list, product);
    if (list->kept == KEPT) make_room(s, list);
    if (product < list->keep) return;
    list->rows[list->kept] = row;
    list->products[list->kept++] = product;
}

/* Products with the rows of a query's own cell, no larger than what the search will find for them.
 */
static void guess_products(const angular_search *s, const candidate_list *list, const int64_t *rows,
                           int64_t count, float *out) {
    const int16_t *queries[CELL] = {NULL}, *fixed_rows[CELL] = {NULL};
    int32_t products[CELL];
    if (!s->axes.count) {
        s->kernels->dots(list->row, s->rows.units, s->rows.length, rows, count, out);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        queries[i] = list->fixed_row;
        fixed_rows[i] = s->rows.fixed + rows[i] * s->rows.length;
    }
    s->kernels->fixed_products(queries, fixed_rows, s->rows.length, count, products);
    for (int64_t i = 0; i < count; i++)
        out[i] = (float)(products[i] - s->error.fixed) / (ONE * ONE) - 2 * s->error.product;
}

static void first_guess(const angular_search *s, candidate_list *list, int64_t class) {
    const int64_t cell = s->axes.count ? s->prepared.leaves[list->query] : 0;
    const int64_t rank = s->classes.start[class] + cell * CELL;
    const int64_t rest = s->classes.start[class + 1] - rank;
    const int64_t count = rest < CELL ? rest : CELL, *rows = s->classes.order + rank;
    float products[CELL];
    guess_products(s, list, rows, count, products);
    for (int64_t i = 0; i < count; i++)
        if (rows[i] != list->own) raise_best(s, list, products[i]);
}

/* The first bound comes from the rows of a query's own cell and of the next ones. They are met
 * again in the search, which therefore starts with an empty list of leading products. */
static void first_guess_k(const angular_search *s, k_list *leaders, candidate_list *list,
                          int64_t class) {
    const int64_t first = s->classes.start[class], end = s->classes.start[class + 1];
    const int64_t cells = 3 + (s->k + CELL - 1) / CELL;
    const int64_t own = s->axes.count ? s->prepared.leaves[list->query] : 0;
    for (int64_t cell = own; cell < own + cells; cell++) {
        const int64_t rank = first + cell * CELL;
        if (rank >= end) break;
        const int64_t *rows = s->classes.order + rank,
                      count = end - rank < CELL ? end - rank : CELL;
        float products[CELL];
        guess_products(s, list, rows, count, products);
        for (int64_t i = 0; i < count; i++)
            if (!is_excluded(&leaders->out, rows[i])) raise_leading(s, leaders, list, products[i]);
    }
    leaders->leading_count = 0;
}

static __attribute__((noinline)) void start_k_list(const angular_search *s, query_block *b,
                                                   int64_t place, int64_t class) {
    k_list *leaders = &b->k_lists[place];
    leaders->out = exclusion_of(s->pairing, &s->by_group, b->lists[place].query);
    leaders->leading_count = leaders->kept = leaders->top.count = 0;
    first_guess_k(s, leaders, &b->lists[place], class);
}

static void start_list(const angular_search *s, query_block *b, int64_t place, int64_t query,
                       row_scale scale) {
    const int64_t *self = s->pairing->self_index;
    candidate_list *list = &b->lists[place];
    const int64_t repeated = repeated_row(s, query);
    float *row = (repeated < 0 ? b->units : s->rows.units) +
                 (repeated < 0 ? place : repeated) * s->rows.length;
    if (repeated < 0) confsim_unit_row(s, s->queries, query, scale, row);
    list->query = query;
    list->own = self ? self[query] : -1;
    list->scale = scale;
    list->row = row;
    list->fixed_row = NULL;
    if (s->axes.count && repeated >= 0) list->fixed_row = s->rows.fixed + repeated * s->rows.length;
    if (s->axes.count && repeated < 0) {
        confsim_fix_row(s, row, b->fixed_rows + place * s->rows.length);
        list->fixed_row = b->fixed_rows + place * s->rows.length;
    }
    list->terms = (s->axes.count ? s->prepared.terms : b->terms) +
                  (s->axes.count ? query : place) * s->axes.step;
    for (int64_t k = 0; k < s->axes.padded && !s->axes.count; k++)
        list->terms[k] = k < s->axes.terms ? fixed(row[k]) : 0;
    list->unit = b->units64 + place * s->queries->columns;
    list->unit_ready = 0;
    list->best = list->keep = -2;
    list->start = fixed_start(-low_of(s, list));
    list->distance = INFINITY;
    list->index = -1;
    list->kept = 0;
}

static void load_block(const angular_search *s, query_block *b, const int64_t *queries,
                       int64_t count, int64_t class) {
    row_scale scales[BLOCK];
    if (s->axes.count)
        for (int64_t i = 0; i < count; i++) scales[i] = s->prepared.scales[queries[i]];
    else
        confsim_scale_rows(s->queries, queries, count, scales);
    for (int64_t i = 0; i < count; i++) {
        start_list(s, b, i, queries[i], scales[i]);
        if (s->k)
            start_k_list(s, b, i, class);
        else
            first_guess(s, &b->lists[i], class);
    }
}

/* Lists for each cell of a group the queries of a block that cannot do without it. */
static void find_needed_cells(const angular_search *s, query_block *b, int64_t count,
                              const int16_t *centres) {
    const int tile = s->kernels->tile;
    const int32_t slack =
        fixed_start(s->error.bound + s->error.cell + 2 * (float)s->axes.inflation + 2e-5f);
    survivors found[MAX_TILE];
    memset(b->pending, 0, sizeof b->pending);
    for (int64_t begin = 0; begin < count; begin += tile) {
        const int some = count - begin < tile ? (int)(count - begin) : tile;
        const int16_t *queries[MAX_TILE];
        int32_t start[MAX_TILE];
        for (int i = 0; i < tile; i++) {
            candidate_list *list = &b->lists[begin + (i < some ? i : 0)];
            const float low = low_of(s, list) - s->error.bound - (float)s->axes.inflation - 1e-6f;
            const double square = low >= 0 ? fmax(0, 1 - (double)low * low) : 0;
            list->terms[s->axes.padded] = fixed(low >= 0 ? -low : 0);
            list->terms[s->axes.padded + 1] = fixed((float)sqrt(square));
            queries[i] = list->terms;
            start[i] = low >= 0 ? slack : ALWAYS;
        }
        const int hit = s->kernels->filter(queries, start, centres, s->axes.step / 2, 1, found);
        for (int i = 0; i < hit && found[i].query < some; i++)
            for (uint32_t bits = found[i].rows; bits; bits &= bits - 1) {
                const int cell = __builtin_ctz(bits);
                b->places[cell][b->pending[cell]++] = (uint8_t)(begin + found[i].query);
            }
    }
}

/* Drops pairs whose products cannot matter by the products in fixed point. */
static void thin_pairs(const angular_search *s, query_block *b) {
    const int16_t *queries[PAIRS], *rows[PAIRS];
    int32_t products[PAIRS];
    int64_t kept = 0;
    for (int64_t i = 0; i < b->pairs; i++) {
        queries[i] = b->pair_lists[i]->fixed_row;
        rows[i] = s->rows.fixed + b->pair_rows[i] * s->rows.length;
    }
    s->kernels->fixed_products(queries, rows, s->rows.length, b->pairs, products);
    for (int64_t i = 0; i < b->pairs; i++) {
        b->pair_lists[kept] = b->pair_lists[i];
        b->pair_rows[kept] = b->pair_rows[i];
        kept += products[i] + b->pair_lists[i]->start + s->error.fixed >= 0;
    }
    b->pairs = kept;
}

/* Whole products of what the bounds left over. */
static void multiply_pairs(const angular_search *s, query_block *b) {
    const float *queries[PAIRS], *rows[PAIRS];
    float products[PAIRS];
    if (s->axes.count) thin_pairs(s, b);
    for (int64_t i = 0; i < b->pairs; i++) {
        queries[i] = b->pair_lists[i]->row;
        rows[i] = s->rows.units + b->pair_rows[i] * s->rows.length;
    }
    s->kernels->products(queries, rows, s->rows.length, b->pairs, products);
    for (int64_t i = 0; i < b->pairs; i++)
        consider(s, b, b->pair_lists[i], b->pair_rows[i], products[i]);
    b->pairs = 0;
}

/* Bounds of a tile of queries and the rows of a cell. */
static void search_tile(const angular_search *s, query_block *b, const uint8_t *places,
                        int64_t count, cell_rows cell) {
    const int64_t width = group_rows(s);
    const int16_t *queries[MAX_TILE];
    int32_t start[MAX_TILE];
    survivors found[MAX_TILE * CELL / 8 + 1];
    for (int i = 0; i < s->kernels->tile; i++) {
        const candidate_list *list = &b->lists[places[i < count ? i : 0]];
        /* Nothing is nearer than 0: only a lower row could still win. */
        const int done = list->distance == 0 && list->index < cell.lowest;
        queries[i] = list->terms;
        start[i] = i >= count || done ? NEVER : list->start;
    }
    const int hit =
        s->kernels->filter(queries, start, cell.packed, s->axes.padded / 2, cell.groups, found);
    for (int h = 0; h < hit; h++) {
        candidate_list *list = &b->lists[places[found[h].query]];
        const int64_t within = found[h].group * width;
        for (uint32_t bits = found[h].rows; bits; bits &= bits - 1) {
            const int64_t i = within + __builtin_ctz(bits);
            if (i >= cell.count) break; /* padding */
            b->pair_lists[b->pairs] = list;
            b->pair_rows[b->pairs++] = cell.rows[i];
        }
    }
    if (b->pairs > PAIRS - MAX_TILE * CELL) multiply_pairs(s, b);
}

static void search_cell(const angular_search *s, query_block *b, const uint8_t *places,
                        int64_t count, int64_t class, int64_t cell) {
    const int64_t tile = s->kernels->tile, width = group_rows(s);
    const int64_t rank = s->classes.start[class] + cell * CELL;
    const int64_t rest = s->classes.start[class + 1] - rank;
    const cell_rows here = {
        .rows = s->classes.order + rank,
        .count = rest < CELL ? rest : CELL,
        .groups = (int)((rest < CELL ? rest + width - 1 : CELL) / width),
        .packed =
            s->rows.packed + (s->rows.first_group[class] * width + cell * CELL) * s->axes.padded,
        .lowest = s->tree.lowest[s->tree.first_cell[class] + cell],
    };
    for (int64_t i = 0; i < count; i += tile)
        search_tile(s, b, places + i, count - i < tile ? count - i : tile, here);
    multiply_pairs(s, b);
}

/* Goes through the groups of cells in a ring, from the cell of its middle query. */
static void scan(const angular_search *s, query_block *b, int64_t class, int64_t count) {
    const int64_t width = group_rows(s),
                  cells = s->tree.first_cell[class + 1] - s->tree.first_cell[class];
    const int64_t groups = (cells + width - 1) / width;
    const int64_t first_group =
        s->axes.count ? s->prepared.leaves[b->lists[count / 2].query] / width : 0;
    b->pairs = 0;
    for (int64_t i = 0; i < count && !s->axes.count; i++) b->places[0][i] = (uint8_t)i;
    for (int64_t i = 0; i < groups; i++) {
        const int64_t group = (first_group + i) % groups, first = group * width;
        if (s->axes.count)
            find_needed_cells(s, b, count,
                              s->tree.centres +
                                  (s->tree.first_centre[class] + group) * width * s->axes.step);
        for (int64_t j = 0; j < width && first + j < cells; j++)
            search_cell(s, b, b->places[s->axes.count ? j : 0],
                        s->axes.count ? b->pending[j] : count, class, first + j);
    }
}

void confsim_cosine_filter(const angular_search *s, query_block *b, const int64_t *queries,
                           int64_t count, int64_t class) {
    load_block(s, b, queries, count, class);
    scan(s, b, class, count);
}

void confsim_angular_put(double *distance, int64_t *index, int64_t query, double found,
                         int64_t row) {
    if (distance) distance[query] = row < 0 ? NAN : found;
    if (index) index[query] = row < 0 ? -1 : row;
}

static double distance_to_own(const angular_search *s, candidate_list *list) {
    row_scale scale;
    if (repeated_row(s, list->query) >= 0) return 0; /* rows of equal bytes are exactly 0 apart */
    confsim_scale_rows(s->training, &list->own, 1, &scale);
    return distance_to(s, list, list->own, scale);
}

/* The search left out the query's own row, which now competes with the winner. */
void confsim_angular_answer(const angular_search *s, candidate_list *list, int64_t class) {
    resolve(s, list);
    confsim_angular_put(s->answer->distance_other, s->answer->index_other, list->query,
                        list->distance, list->index);
    double distance = list->distance;
    int64_t index = list->index;
    const int64_t own = list->own;
    const int64_t *labels = s->pairing->training_labels;
    if (own >= 0 && (!labels || labels[own] == s->classes.labels[class])) {
        const double mine = distance_to_own(s, list);
        if (index < 0 || mine < distance || (mine == distance && own < index)) {
            distance = mine;
            index = own;
        }
    }
    confsim_angular_put(s->answer->distance, s->answer->index, list->query, distance, index);
}

static void offer_excluded(const angular_search *s, k_list *leaders, candidate_list *list,
                           int64_t class, int64_t row) {
    const int64_t *labels = s->pairing->training_labels;
    if (labels && labels[row] != s->classes.labels[class]) return;
    const double distance = row == list->own ? distance_to_own(s, list)
                                             : distance_to(s, list, row, s->rows.scales[row]);
    top_list_offer(&leaders->top, distance, row);
}

void confsim_angular_answer_k(const angular_search *s, query_block *b, int64_t place,
                              int64_t class) {
    candidate_list *list = &b->lists[place];
    k_list *leaders = &b->k_lists[place];
    const exclusion *out = &leaders->out;
    resolve_k(s, leaders, list);
    top_list_store(&leaders->top, list->query, s->answer->distance_other, s->answer->index_other);
    if (out->self >= 0) offer_excluded(s, leaders, list, class, out->self);
    if (out->group >= 0)
        for (int64_t i = s->by_group.start[out->group]; i < s->by_group.start[out->group + 1]; i++)
            if (s->by_group.order[i] != out->self)
                offer_excluded(s, leaders, list, class, s->by_group.order[i]);
    top_list_store(&leaders->top, list->query, s->answer->distance, s->answer->index);
}
