/* The search where float32 cannot tell rows apart: nearly parallel ones, and repeated ones.
 *
 * The filter of cosine_filter.c knows cosines to about 2^-24, which for small angles is no better
 * than 2^-12. Here every distinct training row is a float64 unit row, and a query's candidates are
 * those whose |q - t|^2, computed in the answer's order, is not clearly above that of the nearest
 * so far. For angles near pi that no longer decides, and |q + t|^2 does.
 *
 * Rounding: with A = |q - t|^2 and T = |q + t|^2, A + T is within (d + 8) 2^-52 of 4, relatively.
 * The answer is 2 atan(sqrt(A / T)) / pi. Where A is at most MOST_APART, a row whose A is larger by
 * the factor 1 + slack has T smaller by 64 times that error, and sqrt, atan and the division cannot
 * make its answer equal. Near pi the answer is 1 less about sqrt(T) / pi, rounded at 2^-53. */
#include "nearest/angular_internal.h"

enum { EXACT_LANES = 8, EXACT_GROUPS = 4, EXACT_ROWS = EXACT_LANES * EXACT_GROUPS };

#define MOST_APART 3.9
#define LEAST_TOGETHER 0.2 /* where the first kind of sum decides again: apart from MOST_APART */

typedef struct {
    uint64_t hash;
    int64_t row;
} hashed_row;

static int by_hash(const void *a, const void *b) {
    const hashed_row *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static inline uint64_t bits_at(const confsim_matrix *matrix, int64_t row, int64_t column) {
    const double x = confsim_matrix_at(matrix, row, column);
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static uint64_t hash_of_row(const confsim_matrix *matrix, int64_t row) {
    uint64_t hash = 0x9e3779b97f4a7c15u;
    for (int64_t k = 0; k < matrix->columns; k++) {
        hash = (hash ^ bits_at(matrix, row, k)) * 0xbf58476d1ce4e5b9u;
        hash ^= hash >> 29;
    }
    return hash;
}

static int equal_rows(const confsim_matrix *matrix, int64_t a, int64_t b) {
    for (int64_t k = 0; k < matrix->columns; k++)
        if (bits_at(matrix, a, k) != bits_at(matrix, b, k)) return 0;
    return 1;
}

void confsim_distinct_rows_free(distinct_rows *c) {
    free(c->rows);
    free(c->next);
    free(c->first);
    free(c->units);
}

/* Chain the equal rows of a class in ascending order, and list the first of each. */
static int64_t list_distinct(const angular_search *s, int64_t class, hashed_row *hashed,
                             int64_t *rows) {
    const int64_t begin = s->classes.start[class], count = s->classes.start[class + 1] - begin;
    int64_t distinct = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t row = s->classes.order[begin + i];
        hashed[i] = (hashed_row){hash_of_row(s->training, row), row};
        s->distinct.next[row] = -1;
    }
    qsort(hashed, (size_t)count, sizeof *hashed, by_hash);
    for (int64_t i = 0; i < count; i++) {
        const int64_t before = i > 0 ? hashed[i - 1].row : -1;
        if (i > 0 && hashed[i].hash == hashed[i - 1].hash &&
            equal_rows(s->training, before, hashed[i].row))
            s->distinct.next[before] = hashed[i].row;
        else
            rows[distinct++] = hashed[i].row;
    }
    return distinct;
}

static void write_units(void *context, int64_t item, int thread) {
    const angular_search *s = context;
    const int64_t d = s->training->columns;
    double *group = s->distinct.units + item * EXACT_LANES * d, part[PART];
    (void)thread;
    for (int64_t lane = 0; lane < EXACT_LANES; lane++) {
        const int64_t row = s->distinct.rows[item * EXACT_LANES + lane];
        for (int64_t from = 0; from < d; from += PART) {
            const int64_t count = d - from < PART ? d - from : PART;
            for (int64_t k = 0; k < count; k++) part[k] = row < 0 ? INFINITY : 0;
            if (row >= 0 && s->rows.scales[row].norm > 0)
                unit_part(s->training, row, from, count, s->rows.scales[row], part);
            for (int64_t k = 0; k < count; k++) group[(from + k) * EXACT_LANES + lane] = part[k];
        }
    }
}

confsim_status confsim_distinct_rows_build(angular_search *s) {
    const int64_t n = s->training->rows, d = s->training->columns, classes = s->classes.count;
    const int64_t most = n + classes * EXACT_ROWS;
    distinct_rows *c = &s->distinct;
    hashed_row *hashed = malloc((size_t)n * sizeof *hashed);
    c->rows = malloc((size_t)most * sizeof *c->rows);
    c->next = malloc((size_t)n * sizeof *c->next);
    c->first = malloc(((size_t)classes + 1) * sizeof *c->first);
    if (hashed && c->rows && c->next && c->first) {
        c->first[0] = 0;
        for (int64_t class = 0; class < classes; class++) {
            int64_t end = c->first[class];
            end += list_distinct(s, class, hashed, c->rows + end);
            while (end % EXACT_ROWS) c->rows[end++] = -1;
            c->first[class + 1] = end;
        }
        c->units = aligned_alloc(64, (size_t)(c->first[classes] * d) * sizeof(double));
    }
    free(hashed);
    if (!c->units) return CONFSIM_NO_MEMORY;
    confsim_parallel_for(c->first[classes] / EXACT_LANES, s->threads, write_units, s);
    return CONFSIM_OK;
}

/* A query on its way through the distinct rows of its class. */
typedef struct {
    candidate_list *list;
    int mirrored; /* look at |q + t|^2 instead */
    double limit; /* what a candidate has at most; mirrored: at least */
} exact_query;

/* What may be compared with the answer's arithmetic after a row with these sums was the nearest. */
static void set_limit(const angular_search *s, exact_query *q, double sum) {
    const double slack = 64 * ((double)s->training->columns + 64) * 0x1p-52;
    if (q->mirrored) {
        const double root = sqrt(sum) * (1 - slack) - 0x1p-47;
        q->limit = root > 0 ? root * root : -1;
    } else {
        q->limit = sum * (1 + slack);
    }
}

/* Compare the row of a place, or where that is the query's own, the next one that equals it. Return
 * whether the other kind of sum is needed from here on. */
static int exact_compare(const angular_search *s, exact_query *q, int64_t place, double sum) {
    candidate_list *list = q->list;
    int64_t row = s->distinct.rows[place];
    if (row == list->own) row = s->distinct.next[row];
    if (row < 0) return 0;
    const int zero = s->rows.scales[row].norm == 0 || list->scale.norm == 0;
    const double distance = distance_to(s, list, row, s->rows.scales[row]);
    if (distance > list->distance || (distance == list->distance && row > list->index)) return 0;
    list->distance = distance;
    list->index = row;
    if (zero) sum = 2; /* a zero row is, as it were, at a right angle to every other */
    if (!q->mirrored && sum > MOST_APART) {
        q->mirrored = 1;
        q->limit = -1;
        return 1;
    }
    if (q->mirrored && (zero || sum > LEAST_TOGETHER)) {
        q->mirrored = 0;
        q->limit = INFINITY;
        return 1;
    }
    set_limit(s, q, sum);
    return 0;
}

static void exact_chunk(const angular_search *s, exact_query *q, int64_t place) {
    const int64_t d = s->training->columns;
    const double *groups = s->distinct.units + place * d;
    double sums[EXACT_ROWS];
    for (int again = 1; again;) {
        again = 0;
        s->kernels->apart(groups, d, q->list->unit, q->mirrored, sums);
        for (int64_t i = 0; i < EXACT_ROWS && !again; i++) {
            if (s->distinct.rows[place + i] < 0) break;
            if (q->mirrored ? sums[i] < q->limit : sums[i] > q->limit) continue;
            /* The row that changes the kind of sum is met again, and sets the limit. */
            again = exact_compare(s, q, place + i, sums[i]);
        }
    }
}

void confsim_exact_search(const angular_search *s, query_block *b, const int64_t *queries,
                          int64_t count, int64_t class) {
    exact_query waiting[BLOCK];
    row_scale scales[BLOCK];
    confsim_scale_rows(s->queries, queries, count, scales);
    for (int64_t i = 0; i < count; i++) {
        candidate_list *list = &b->lists[i];
        *list = (candidate_list){
            .query = queries[i], .own = -1, .scale = scales[i], .distance = INFINITY, .index = -1};
        if (s->pairing->self_index) list->own = s->pairing->self_index[queries[i]];
        list->unit = b->units64 + i * s->queries->columns;
        for (int64_t k = 0; k < s->queries->columns; k++) list->unit[k] = 0;
        if (list->scale.norm > 0)
            unit_part(s->queries, list->query, 0, s->queries->columns, list->scale, list->unit);
        list->unit_ready = 1;
        waiting[i] = (exact_query){list, 0, INFINITY};
    }
    for (int64_t place = s->distinct.first[class]; place < s->distinct.first[class + 1];
         place += EXACT_ROWS)
        for (int64_t i = 0; i < count; i++) exact_chunk(s, &waiting[i], place);
}

/* Whether float32 leaves many rows within its error of the best: the more, the more exact
 * arithmetic. */
int confsim_float32_is_too_coarse(const angular_search *s) {
    int64_t within = 0, all = 0;
    const int64_t q = s->queries->rows, d = s->rows.length;
    float *unit = floats(d);
    for (int64_t i = 0; unit && i < PROBES; i++) {
        const int64_t query = i * q / PROBES, class = training_class(s, query);
        if (class < 0) continue;
        const int64_t own = s->pairing->self_index ? s->pairing->self_index[query] : -1;
        const int64_t begin = s->classes.start[class], end = s->classes.start[class + 1];
        const int64_t step = (end - begin) / 1024 + 1;
        row_scale scale;
        float best = -2;
        confsim_scale_rows(s->queries, &query, 1, &scale);
        confsim_unit_row(s, s->queries, query, scale, unit);
        for (int pass = 0; pass < 2; pass++)
            for (int64_t rank = begin; rank < end; rank += step) {
                const int64_t row = s->classes.order[rank];
                if (row == own) continue;
                const float product = s->kernels->dot(unit, s->rows.units + row * d, d);
                if (pass == 0)
                    best = fmaxf(best, product);
                else
                    all++, within += product >= best - s->error.window;
            }
    }
    free(unit);
    return within * TOO_CLOSE_ONE_IN > all;
}
