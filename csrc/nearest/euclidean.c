/* The Euclidean search: packs the training points, chooses a method, and scans where none pays.
 *
 * In up to three dimensions a grid of candidates is looked up (grid_search.c), in more of them
 * blocks of queries are compared in float32 (block_search.c), and a few queries scan the packed
 * points. Every method ends in the same float64 arithmetic. */
#include "core/parallel.h"
#include "nearest/block_kernels.h"
#include "nearest/candidate_grid.h"
#include "nearest/euclidean_internal.h"
#include "nearest/kd_tree.h"

enum { QUERIES_PER_ITEM = 64, FEWEST_FOR_CELLS = 256 };

static void packed_free(packed_points *p) {
    free(p->first_group);
    free(p->position);
    free(p->index);
    free(p->groups);
}

static confsim_status packed_build(packed_points *p, const confsim_matrix *training,
                                   const confsim_classes *classes) {
    const int64_t d = training->columns;
    *p = (packed_points){.dimensions = d};
    p->first_group = malloc(((size_t)classes->count + 1) * sizeof(int64_t));
    p->position = malloc((size_t)training->rows * sizeof(int64_t));
    if (!p->first_group || !p->position) goto no_memory;
    p->first_group[0] = 0;
    for (int64_t c = 0; c < classes->count; c++)
        p->first_group[c + 1] =
            p->first_group[c] + (classes->start[c + 1] - classes->start[c] + LANES - 1) / LANES;
    const int64_t positions = p->first_group[classes->count] * LANES;
    p->index = malloc((size_t)positions * sizeof(int32_t));
    p->groups = aligned_alloc(64, (size_t)(positions * d) * sizeof(double));
    if (!p->index || !p->groups) goto no_memory;
    for (int64_t i = 0; i < positions * d; i++) p->groups[i] = INFINITY;
    for (int64_t i = 0; i < positions; i++) p->index[i] = -1;
    for (int64_t c = 0; c < classes->count; c++)
        for (int64_t i = classes->start[c]; i < classes->start[c + 1]; i++) {
            const int64_t at = p->first_group[c] * LANES + i - classes->start[c];
            const int64_t point = classes->order[i];
            p->index[at] = (int32_t)point;
            p->position[point] = at;
            confsim_matrix_row(training, point, p->groups + at / LANES * d * LANES + at % LANES,
                               LANES);
        }
    return CONFSIM_OK;

no_memory:
    packed_free(p);
    return CONFSIM_NO_MEMORY;
}

/* The nearest of a class, without the point at position `without`. */
static inline __attribute__((always_inline)) neighbor scan(const packed_points *p,
                                                           const double *query, int64_t class,
                                                           int64_t without) {
    const int64_t d = p->dimensions;
    f64x8 best = {0};
    best += INFINITY;
    i64x8 where = {-1, -1, -1, -1, -1, -1, -1, -1};
    for (int64_t group = p->first_group[class]; group < p->first_group[class + 1]; group++) {
        f64x8 sum = sums_of_squares(p->groups + group * d * LANES, query, d);
        if (group == without / LANES && without >= 0) sum[without % LANES] = INFINITY;
        const i64x8 less = sum < best;
        int any = 0;
        for (int lane = 0; lane < LANES; lane++) any |= less[lane] != 0;
        if (!any) continue;
        for (int lane = 0; lane < LANES; lane++)
            if (closer(sum[lane], best[lane])) {
                best[lane] = sum[lane];
                where[lane] = group * LANES + lane;
            }
    }
    neighbor found = {INFINITY, -1};
    for (int lane = 0; lane < LANES; lane++)
        if (where[lane] >= 0) found = better(found, (neighbor){best[lane], p->index[where[lane]]});
    return found;
}

static neighbor scan_portable(const packed_points *p, const double *query, int64_t class,
                              int64_t without) {
    return scan(p, query, class, without);
}

#ifdef CONFSIM_X86
CONFSIM_TARGET_AVX2 static neighbor scan_avx2(const packed_points *p, const double *query,
                                              int64_t class, int64_t without) {
    return scan(p, query, class, without);
}

CONFSIM_TARGET_AVX512 static neighbor scan_avx512(const packed_points *p, const double *query,
                                                  int64_t class, int64_t without) {
    return scan(p, query, class, without);
}
#endif

static neighbor scan_class(confsim_isa isa, const packed_points *p, const double *query,
                           int64_t class, int64_t without) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return scan_avx512(p, query, class, without);
    if (isa == CONFSIM_ISA_AVX2) return scan_avx2(p, query, class, without);
#endif
    (void)isa;
    return scan_portable(p, query, class, without);
}

static void search_one(const euclidean_search *s, int64_t query, double *coordinates) {
    const int64_t class = class_of(s, query), self = own_row(s, query);
    neighbor other = {INFINITY, -1};
    confsim_matrix_row(s->queries, query, coordinates, 1);
    if (class >= 0)
        other = scan_class(s->isa, s->packed, coordinates, class,
                           self < 0 ? -1 : s->packed->position[self]);
    store_both(s, query, coordinates, self, other);
}

static void search_item(void *context, int64_t item, int thread) {
    const euclidean_search *s = context;
    double *coordinates = s->scratch + thread * s->queries->columns;
    const int64_t begin = item * QUERIES_PER_ITEM;
    const int64_t rest = s->queries->rows - begin;
    const int64_t end = begin + (rest < QUERIES_PER_ITEM ? rest : QUERIES_PER_ITEM);
    for (int64_t query = begin; query < end; query++) search_one(s, query, coordinates);
}

/* ---------------------------------------------------------------- extents */

typedef struct {
    const confsim_matrix *matrix;
    double *corners; /* a block's lows, then its highs */
    int64_t rows_per_block;
} extents;

/* Eight rows at a time, entry by entry, so that the loop vectorises whatever the columns are. */
static void extent_of_doubles(const double *entries, int64_t rows, int64_t d, double *low,
                              double *high) {
    enum { ROWS = 8, MOST = 32 };
    double lows[ROWS * MOST], highs[ROWS * MOST], zero[ROWS * MOST];
    for (int64_t e = 0; e < ROWS * d; e++) {
        lows[e] = INFINITY;
        highs[e] = -INFINITY;
        zero[e] = 0;
    }
    int64_t row = 0;
    for (; row + ROWS <= rows; row += ROWS)
        for (int64_t e = 0; e < ROWS * d; e++) {
            const double x = entries[row * d + e];
            lows[e] = x < lows[e] ? x : lows[e];
            highs[e] = x > highs[e] ? x : highs[e];
            zero[e] += x - x; /* NaN once an entry is not finite */
        }
    for (; row < rows; row++)
        for (int64_t k = 0; k < d; k++) {
            const double x = entries[row * d + k];
            lows[k] = x < lows[k] ? x : lows[k];
            highs[k] = x > highs[k] ? x : highs[k];
            zero[k] += x - x;
        }
    for (int64_t e = 0; e < ROWS * d; e++) {
        const int64_t k = e % d;
        low[k] = fmin(low[k], lows[e]);
        high[k] = zero[e] == 0 ? fmax(high[k], highs[e]) : INFINITY;
    }
}

static void extent_block(void *context, int64_t item, int thread) {
    const extents *x = context;
    const int64_t d = x->matrix->columns, begin = item * x->rows_per_block;
    const int64_t rest = x->matrix->rows - begin;
    const int64_t end = begin + (rest < x->rows_per_block ? rest : x->rows_per_block);
    double *low = x->corners + 2 * item * d, *high = low + d;
    (void)thread;
    for (int64_t k = 0; k < d; k++) {
        low[k] = INFINITY;
        high[k] = -INFINITY;
    }
    const int64_t entry = (int64_t)sizeof(double);
    if (!x->matrix->is_float32 && d <= 32 && x->matrix->column_stride == entry &&
        x->matrix->row_stride == d * entry) {
        extent_of_doubles((const double *)(x->matrix->data + begin * x->matrix->row_stride),
                          end - begin, d, low, high);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        for (int64_t k = 0; k < d; k++) {
            const double value = confsim_matrix_at(x->matrix, i, k);
            low[k] = value < low[k] ? value : low[k];
            high[k] = value > high[k] || value - value != 0 ? value : high[k];
            if (value - value != 0) low[k] = -INFINITY;
        }
}

confsim_status confsim_euclidean_extent(const confsim_matrix *matrix, double *low, double *high,
                                        int threads) {
    const int64_t d = matrix->columns, rows = 1 + (1 << 15) / d;
    const int64_t blocks = (matrix->rows + rows - 1) / rows;
    double *corners = malloc((size_t)(2 * blocks * d) * sizeof(double));
    if (!corners) return CONFSIM_NO_MEMORY;
    confsim_parallel_for(blocks, threads, extent_block, &(extents){matrix, corners, rows});
    for (int64_t k = 0; k < d; k++) {
        low[k] = INFINITY;
        high[k] = -INFINITY;
        for (int64_t block = 0; block < blocks; block++) {
            low[k] = fmin(low[k], corners[2 * block * d + k]);
            high[k] = fmax(high[k], corners[2 * block * d + d + k]);
        }
    }
    free(corners);
    return CONFSIM_OK;
}

/* ---------------------------------------------------------------- choice of a method */

static confsim_status scan_run(euclidean_search *s, int threads) {
    s->scratch = malloc((size_t)threads * (size_t)s->queries->columns * sizeof(double));
    if (!s->scratch) return CONFSIM_NO_MEMORY;
    confsim_parallel_for((s->queries->rows + QUERIES_PER_ITEM - 1) / QUERIES_PER_ITEM, threads,
                         search_item, s);
    free(s->scratch);
    return CONFSIM_OK;
}

/* Float32 scores need room for their error bound above the smallest float64 squares. */
static int tiles_are_exact(const extent_pair *x, int64_t d) {
    double widest = 0;
    for (int64_t k = 0; k < d; k++)
        widest = fmax(widest, fmax(x->training_high[k], x->query_high[k]) -
                                  fmin(x->training_low[k], x->query_low[k]));
    return widest > 1e-130;
}

static confsim_status run(euclidean_search *s, int threads) {
    const int64_t d = s->queries->columns, q = s->queries->rows;
    double *corners = malloc((size_t)(4 * d) * sizeof(double));
    if (!corners) return CONFSIM_NO_MEMORY;
    const extent_pair x = {corners, corners + d, corners + 2 * d, corners + 3 * d};
    confsim_status status =
        confsim_euclidean_extent(s->queries, x.query_low, x.query_high, threads);
    if (!status)
        status = confsim_euclidean_extent(s->training, x.training_low, x.training_high, threads);
    if (!status) {
        if (s->k && (d <= MOST_TREE_AXES || !tiles_are_exact(&x, d)))
            status = confsim_tree_search(s, threads);
        else if (s->k)
            status = confsim_block_search(s, &x, threads);
        else if (d <= MOST_AXES && q >= FEWEST_FOR_CELLS)
            status = confsim_grid_search(s, &x, threads);
        else if (q >= BLOCK && tiles_are_exact(&x, d))
            status = confsim_block_search(s, &x, threads);
        else
            status = scan_run(s, threads);
    }
    free(corners);
    return status;
}

static CONFSIM_MUST_CHECK confsim_status prepare_and_run(euclidean_search s, int threads) {
    confsim_classes classes, by_group = {0};
    packed_points p;
    if (s.queries->rows == 0) return CONFSIM_OK;
    confsim_status status =
        confsim_classes_build(&classes, s.pairing->training_labels, s.training->rows);
    if (status) return status;
    if (s.k && s.pairing->training_groups)
        status = confsim_classes_build(&by_group, s.pairing->training_groups, s.training->rows);
    if (!status) {
        status = packed_build(&p, s.training, &classes);
        if (!status) {
            s.classes = &classes;
            s.by_group = &by_group;
            s.packed = &p;
            status = run(&s, threads);
            packed_free(&p);
        }
    }
    confsim_classes_free(&by_group);
    confsim_classes_free(&classes);
    return status;
}

confsim_status confsim_euclidean_nearest(const confsim_matrix *queries,
                                         const confsim_matrix *training,
                                         const confsim_pairing *pairing,
                                         const confsim_nearest *answer, int threads,
                                         confsim_isa isa) {
    return prepare_and_run((euclidean_search){.queries = queries,
                                              .training = training,
                                              .pairing = pairing,
                                              .answer = answer,
                                              .isa = isa},
                           threads);
}

confsim_status confsim_euclidean_k_nearest(const confsim_matrix *queries,
                                           const confsim_matrix *training,
                                           const confsim_pairing *pairing,
                                           const confsim_nearest *answer, int64_t k, int threads,
                                           confsim_isa isa) {
    return prepare_and_run((euclidean_search){.queries = queries,
                                              .training = training,
                                              .pairing = pairing,
                                              .answer = answer,
                                              .isa = isa,
                                              .k = k},
                           threads);
}
