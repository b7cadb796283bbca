/* Cells of near rows: a balanced tree over the terms of the bound puts CELL rows into each.
 *
 * Terms of rows and queries are nearly unit vectors whose product is the bound, so a cell's rows
 * within the angle r of its centre c all have bounds below t for a query q if q.c < cos(acos(t) +
 * r). */
#include "nearest/angular_internal.h"

typedef struct {
    float key;
    int32_t row;
} keyed;

static inline int comes_before(keyed a, keyed b) {
    return a.key < b.key || (a.key == b.key && a.row < b.row);
}

/* Brings the `count` first of the order to the front. */
static void select_first(keyed *rows, int64_t n, int64_t count) {
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const keyed pivot = rows[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (comes_before(rows[i], pivot)) i++;
            while (comes_before(pivot, rows[j])) j--;
            if (i > j) break;
            const keyed swapped = rows[i];
            rows[i++] = rows[j];
            rows[j--] = swapped;
        }
        if (count <= j)
            high = j;
        else if (count >= i)
            low = i;
        else
            return;
    }
}

static int64_t widest_term(const angular_search *s, const keyed *rows, int64_t n) {
    double sums[MAX_AXES + 1] = {0}, squares[MAX_AXES + 1] = {0}, widest = -1;
    int64_t term = 0;
    const int64_t step = n / 512 + 1;
    for (int64_t i = 0; i < n; i += step)
        for (int64_t k = 0; k < s->axes.terms; k++) {
            const double x = s->tree.row_terms[rows[i].row * s->axes.terms + k];
            sums[k] += x;
            squares[k] += x * x;
        }
    const double count = (double)((n + step - 1) / step);
    for (int64_t k = 0; k < s->axes.terms; k++) {
        const double spread = squares[k] - sums[k] * sums[k] / count;
        if (spread <= widest) continue;
        widest = spread;
        term = k;
    }
    return term;
}

/* Orders `n` rows so that every CELL of them are near; returns the node. */
static int32_t grow(const angular_search *s, keyed *rows, int64_t n, int64_t cell,
                    tree_split *splits, int32_t *used) {
    if (n <= CELL) return ~(int32_t)cell;
    const int32_t node = (*used)++;
    const int64_t left = ((n + CELL - 1) / CELL + 1) / 2, term = widest_term(s, rows, n);
    for (int64_t i = 0; i < n; i++)
        rows[i].key = s->tree.row_terms[rows[i].row * s->axes.terms + term];
    select_first(rows, n, left * CELL);
    splits[node].term = (int32_t)term;
    splits[node].cut = rows[left * CELL].key;
    for (int64_t i = left * CELL; i < n; i++)
        splits[node].cut = fminf(splits[node].cut, rows[i].key);
    splits[node].left = grow(s, rows, left * CELL, cell, splits, used);
    splits[node].right = grow(s, rows + left * CELL, n - left * CELL, cell + left, splits, used);
    return node;
}

static int64_t leaf_of(const angular_search *s, int64_t class, const float *terms) {
    if (s->tree.first_cell[class + 1] - s->tree.first_cell[class] == 1) return 0;
    int32_t node = 0;
    while (node >= 0) {
        const tree_split *here = s->tree.splits + s->tree.first_cell[class] + node;
        node = terms[here->term] < here->cut ? here->left : here->right;
    }
    return ~node;
}

/* The least cosine between a centre and the directions of some rows, and whose it is. */
static int64_t farthest_row(float rows[][CELL], int64_t terms, const float *centre, float *cosine) {
    float products[CELL] = {0};
    int64_t farthest = 0;
    for (int64_t k = 0; k < terms; k++)
        for (int i = 0; i < CELL; i++) products[i] += centre[k] * rows[k][i];
    for (int i = 1; i < CELL; i++)
        if (products[i] < products[farthest]) farthest = i;
    *cosine = products[farthest];
    return farthest;
}

/* Writes a cell's centre, and the cosine and the sine of the angle that all its rows are within.
 * The narrowest such cone is approached by steps towards whichever row is farthest (Badoiu and
 * Clarkson). */
static void write_centre(const angular_search *s, int64_t rank, int64_t count, int16_t *out,
                         int64_t place) {
    enum { STEPS = 24 };
    float rows[MAX_AXES + 1][CELL], centre[MAX_AXES + 1] = {0}, best[MAX_AXES + 1] = {0},
                                                      narrowest = -2;
    const int64_t terms = s->axes.terms;
    for (int64_t i = 0; i < CELL; i++) {
        const float *row =
            s->tree.row_terms + s->classes.order[rank + (i < count ? i : 0)] * s->axes.terms;
        float square = 0;
        for (int64_t k = 0; k < terms; k++) square += row[k] * row[k];
        const float factor = square > 0 ? 1 / sqrtf(square) : 0;
        for (int64_t k = 0; k < terms; k++) rows[k][i] = row[k] * factor;
        for (int64_t k = 0; k < terms; k++) centre[k] += rows[k][i];
    }
    for (int i = 0; i < STEPS; i++) {
        float square = 0, cosine;
        for (int64_t k = 0; k < terms; k++) square += centre[k] * centre[k];
        if (square <= 0) break;
        const float factor = 1 / sqrtf(square);
        for (int64_t k = 0; k < terms; k++) centre[k] *= factor;
        const int64_t farthest = farthest_row(rows, terms, centre, &cosine);
        if (cosine > narrowest) {
            narrowest = cosine;
            memcpy(best, centre, sizeof best);
        }
        for (int64_t k = 0; k < terms; k++)
            centre[k] += (rows[k][farthest] - centre[k]) / (float)(i + 2);
    }
    const double cosine = narrowest - 1e-5;
    const int useful = cosine > 0; /* if not, the product is positive whatever the query */
    for (int64_t k = 0; k < terms; k++)
        out[packed_place(s, place, k)] = fixed(useful ? best[k] : 0);
    out[packed_place(s, place, s->axes.padded)] = fixed(useful ? (float)cosine : 0);
    out[packed_place(s, place, s->axes.padded + 1)] =
        fixed(useful ? (float)sqrt(1 - cosine * cosine) : 1);
}

static void list_terms(void *context, int64_t item, int thread) {
    const angular_search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->training->rows;
    (void)thread;
    for (int64_t row = begin; row < n && row < begin + PREPARE_ROWS; row++) {
        confsim_write_terms(s, s->rows.units + row * s->rows.length,
                            s->tree.row_terms + row * s->axes.terms);
        confsim_fix_row(s, s->rows.units + row * s->rows.length,
                        s->rows.fixed + row * s->rows.length);
    }
}

confsim_status confsim_cone_tree_build(angular_search *s) {
    const int64_t n = s->training->rows, width = group_rows(s), step = s->axes.step;
    const int64_t cells = s->tree.first_cell[s->classes.count];
    const int64_t centres = s->tree.first_centre[s->classes.count] * width * step;
    s->tree.row_terms = floats(n * s->axes.terms);
    s->tree.centres = calloc((size_t)centres, sizeof *s->tree.centres);
    s->tree.splits = malloc((size_t)cells * sizeof *s->tree.splits);
    keyed *rows = malloc((size_t)n * sizeof *rows);
    s->rows.fixed = malloc((size_t)(n * s->rows.length) * sizeof *s->rows.fixed);
    if (!s->rows.fixed || !s->tree.row_terms || !s->tree.centres || !s->tree.splits || !rows) {
        free(rows);
        return CONFSIM_NO_MEMORY;
    }
    confsim_parallel_for((n + PREPARE_ROWS - 1) / PREPARE_ROWS, s->threads, list_terms, s);
    for (int64_t rank = 0; rank < n; rank++) rows[rank].row = (int32_t)s->classes.order[rank];
    for (int64_t c = 0; c < s->classes.count; c++) {
        int32_t used = 0;
        const int64_t begin = s->classes.start[c], end = s->classes.start[c + 1];
        grow(s, rows + begin, end - begin, 0, s->tree.splits + s->tree.first_cell[c], &used);
        for (int64_t rank = begin; rank < end; rank++) s->classes.order[rank] = rows[rank].row;
        for (int64_t cell = 0; cell < s->tree.first_cell[c + 1] - s->tree.first_cell[c]; cell++) {
            const int64_t rank = begin + cell * CELL, rest = end - rank;
            write_centre(s, rank, rest < CELL ? rest : CELL,
                         s->tree.centres + (s->tree.first_centre[c] + cell / width) * width * step,
                         cell % width);
        }
    }
    free(rows);
    return CONFSIM_OK;
}

confsim_status confsim_cone_tree_list_cells(angular_search *s) {
    const int64_t count = s->classes.count, width = group_rows(s);
    s->tree.first_cell = malloc(((size_t)count + 1) * sizeof *s->tree.first_cell);
    s->tree.first_centre = malloc(((size_t)count + 1) * sizeof *s->tree.first_centre);
    if (!s->tree.first_cell || !s->tree.first_centre) return CONFSIM_NO_MEMORY;
    s->tree.first_cell[0] = s->tree.first_centre[0] = 0;
    for (int64_t c = 0; c < count; c++) {
        const int64_t cells = (s->classes.start[c + 1] - s->classes.start[c] + CELL - 1) / CELL;
        s->tree.first_cell[c + 1] = s->tree.first_cell[c] + cells;
        s->tree.first_centre[c + 1] = s->tree.first_centre[c] + (cells + width - 1) / width;
    }
    s->tree.lowest = malloc((size_t)s->tree.first_cell[count] * sizeof *s->tree.lowest);
    return s->tree.lowest ? CONFSIM_OK : CONFSIM_NO_MEMORY;
}

void confsim_cone_tree_find_lowest(angular_search *s, int64_t class) {
    for (int64_t rank = s->classes.start[class]; rank < s->classes.start[class + 1]; rank++) {
        const int64_t within = rank - s->classes.start[class], row = s->classes.order[rank];
        int64_t *lowest = &s->tree.lowest[s->tree.first_cell[class] + within / CELL];
        if (within % CELL == 0 || row < *lowest) *lowest = row;
    }
}

static void locate_query(const angular_search *s, int64_t query, const float *terms) {
    const int64_t class = training_class(s, query);
    int16_t *out = s->prepared.terms + query * s->axes.step;
    for (int64_t k = 0; k < s->axes.padded; k++) out[k] = k < s->axes.terms ? fixed(terms[k]) : 0;
    s->prepared.leaves[query] = class < 0 ? 0 : (int32_t)leaf_of(s, class, terms);
}

static void locate_queries(void *context, int64_t item, int thread) {
    const angular_search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->queries->rows;
    const int64_t end = n - begin < PREPARE_ROWS ? n : begin + PREPARE_ROWS;
    int64_t fresh[PREPARE_ROWS], count = 0;
    row_scale scales[PREPARE_ROWS];
    float *unit = floats(s->rows.length);
    (void)thread;
    for (int64_t query = begin; query < end; query++) {
        const int64_t own = repeated_row(s, query);
        s->prepared.leaves[query] = -1; /* no memory */
        if (!unit) continue;
        if (own < 0) {
            fresh[count++] = query;
            continue;
        }
        s->prepared.scales[query] = s->rows.scales[own];
        locate_query(s, query, s->tree.row_terms + own * s->axes.terms);
    }
    if (count > 0) confsim_scale_rows(s->queries, fresh, count, scales);
    for (int64_t i = 0; i < count; i++) {
        float terms[MAX_AXES + 1];
        s->prepared.scales[fresh[i]] = scales[i];
        confsim_unit_row(s, s->queries, fresh[i], scales[i], unit);
        confsim_write_terms(s, unit, terms);
        locate_query(s, fresh[i], terms);
    }
    free(unit);
}

/* Brings the queries of a class into the order of their cells. */
confsim_status confsim_cone_tree_order_queries(angular_search *s) {
    const int64_t n = s->queries->rows;
    s->prepared.terms = malloc((size_t)(n * s->axes.step) * sizeof *s->prepared.terms);
    s->prepared.scales = malloc((size_t)n * sizeof *s->prepared.scales);
    s->prepared.leaves = malloc((size_t)n * sizeof *s->prepared.leaves);
    int64_t *order = malloc((size_t)n * sizeof *order);
    int64_t *next = malloc((size_t)(s->tree.first_cell[s->classes.count] + 1) * sizeof *next);
    int failed =
        !s->prepared.terms || !s->prepared.scales || !s->prepared.leaves || !order || !next;
    if (!failed)
        confsim_parallel_for((n + PREPARE_ROWS - 1) / PREPARE_ROWS, s->threads, locate_queries, s);
    for (int64_t i = 0; i < n && !failed; i++) failed = s->prepared.leaves[i] < 0;
    for (int64_t c = 0; c < s->query_classes.count && !failed; c++) {
        const int64_t begin = s->query_classes.start[c], end = s->query_classes.start[c + 1];
        const int64_t *from = s->query_classes.order;
        if (begin == end) continue;
        const int64_t class = training_class(s, from[begin]);
        if (class < 0) {
            memcpy(order + begin, from + begin, (size_t)(end - begin) * sizeof *order);
            continue;
        }
        const int64_t cells = s->tree.first_cell[class + 1] - s->tree.first_cell[class];
        memset(next, 0, ((size_t)cells + 1) * sizeof *next);
        for (int64_t i = begin; i < end; i++) next[s->prepared.leaves[from[i]] + 1]++;
        for (int64_t cell = 0; cell < cells; cell++) next[cell + 1] += next[cell];
        for (int64_t i = begin; i < end; i++)
            order[begin + next[s->prepared.leaves[from[i]]]++] = from[i];
    }
    free(next);
    free(failed ? (void *)order : (void *)s->query_classes.order);
    if (failed) return CONFSIM_NO_MEMORY;
    s->query_classes.order = order;
    return CONFSIM_OK;
}
