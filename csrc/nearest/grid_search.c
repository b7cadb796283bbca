/* Nearest training points in up to three dimensions, by the grid of each class.
 *
 * A query is looked up, whatever the order of the queries, and compared with the few training
 * points of its cell's leaf. */
#include "core/parallel.h"
#include "nearest/candidate_grid.h"
#include "nearest/kd_tree.h"

#ifdef CONFSIM_X86
#include <immintrin.h>
#endif

enum {
    LOOKUPS_AT_ONCE = 32,
    QUERIES_PER_CELLS_ITEM = 4096,
    SAMPLE = 1 << 14,
    ONE_IN = 32,         /* queries that tell where queries are: so many, or that share, */
    RUN = 8,             /* some in a row, because they come out of memory together */
    MOST_LOOKED_AT = 256 /* groups and cells, by a query that looks for another point */
};

/* The number of the cell along an axis; the outer cells radius beyond the grid. */
static inline int64_t cell_along(const grid *g, int64_t axis, double x) {
    const double place = (x - g->low[axis]) * g->per_width[axis], last = (double)(g->side - 1);
    return (int64_t)(place < 0 ? 0 : place > last ? last : place);
}

/* The cell with a leaf that a query falls into; `g` becomes the grid that it belongs to. */
static inline const cell *look_up(const grid **g, const double *query, int64_t d) {
    for (;;) {
        int64_t at[MOST_AXES];
        for (int64_t k = 0; k < d; k++) at[k] = cell_along(*g, k, query[k]);
        const cell *found = &(*g)->cells[number_of(at, (*g)->side, d)];
        if (found->groups >= 0) return found;
        *g = found->data;
    }
}

/* What a query waits for: the nearest but its own training row, or also the nearest of all. */
enum { PENDING_OTHER = 1, PENDING_BOTH = 2 };

typedef struct {
    const euclidean_search *s;
    candidate_grid *grids; /* one a class */
    kd_tree *trees;        /* one a class, where queries wait for it */
    char *pending;         /* by query: what of its answer the cells do not have */
    region box,
        complete; /* that they cut; in which their leaves hold whoever is nearest to a point */
} grid_search;

typedef struct {
    filter_kernel filter;
    leaf_kernel leaf;
    void (*cells)(const grid_search *c, int64_t begin, int64_t end);
} cell_kernels;

/* A query that is nearest to its own training point, and looks for another. */
typedef struct {
    const grid_search *c;
    int64_t class, self; /* which training point to leave out */
    const double *query;
    const cell *own; /* the leaf that the query falls into */
    leaf_kernel leaf;
    int64_t left; /* groups and cells to look at before a tree is quicker; then negative */
} other_search;

static neighbor search_leaf(const other_search *o, const cell *c) {
    const int64_t d = o->c->s->queries->columns;
    const double *data = c->data;
    const int32_t *index = (const int32_t *)(data + c->groups * d * LANES);
    return o->leaf(data, index, c->groups, d, o->query, o->self);
}

/* The nearest in the cells of a grid that come within `radius` along every axis, or `best`, which
 * is that of the query's own leaf. */
static neighbor search_within(other_search *o, const grid *g, double radius, neighbor best) {
    const int64_t d = o->c->s->queries->columns;
    int64_t at[MOST_AXES], from[MOST_AXES] = {0}, to[MOST_AXES] = {0};
    const void *last = NULL;
    for (int64_t k = 0; k < d; k++) {
        from[k] = cell_along(g, k, o->query[k] - radius);
        to[k] = cell_along(g, k, o->query[k] + radius);
    }
    for (at[0] = from[0]; at[0] <= to[0]; at[0]++)
        for (at[1] = from[1]; at[1] <= to[1]; at[1]++)
            for (at[2] = from[2]; at[2] <= to[2]; at[2]++) {
                const cell *c = &g->cells[number_of(at, g->side, d)];
                if (o->left-- < 0 || c->groups == 0) {
                    o->left = -1;
                    return best;
                }
                if (c->data == last || c->data == o->own->data)
                    continue; /* one leaf, several cells */
                last = c->data;
                o->left -= c->groups < 0 ? 0 : c->groups;
                best = c->groups < 0 ? search_within(o, c->data, radius, best)
                                     : better(best, search_leaf(o, c));
            }
    return best;
}

/* Whether the leaves can be complete up to `radius` around a query; `all`: whether that is all of
 * them, with every training point of the class in one. */
static int within_box(const other_search *o, double radius, int *all) {
    const region *box = &o->c->box, *complete = &o->c->complete;
    int within = 1;
    *all = 1;
    for (int64_t k = 0; k < o->c->s->queries->columns; k++) {
        const double low = o->query[k] - radius, high = o->query[k] + radius;
        within &= low >= complete->low[k] && high <= complete->high[k];
        *all &= low <= box->low[k] && high >= box->high[k];
        *all &= isinf(complete->low[k]) &&
                isinf(complete->high[k]); /* else some may lie beyond the box */
    }
    return within;
}

/* The nearest training point but a query's own, which is the nearest of all.
 *
 * Halfway between a training point and its neighbor other one, nobody is nearer than these two: the
 * leaf of the cell there holds that other one. So the cells within half its distance are enough.
 * Where a query lies elsewhere than its own training point, those within the whole distance are: in
 * the cell where the other one lies, nobody is nearer than itself. These may be many cells, or
 * crowded ones: then the answer is no, and a tree has to find it. */
static int nearest_other(other_search *o, neighbor *found) {
    const euclidean_search *s = o->c->s;
    const int64_t position = s->packed->position[o->self], d = s->queries->columns;
    const double share = sum_at(s->packed, o->query, position) == 0 ? 0.5 : 1;
    const grid *root = o->c->grids[o->class].root, *inner = root;
    o->own = look_up(&inner, o->query, d);
    o->left = MOST_LOOKED_AT;
    neighbor best = search_leaf(o, o->own);
    double radius = 0;
    for (int all = 0;; best = search_within(o, root, radius, best)) {
        const double wanted = share * sqrt(best.sum) * (1 + 1e-9);
        if (o->left >= 0 && (all || wanted <= radius)) {
            *found = best;
            return 1;
        }
        double wider = fmax(2 * radius, inner->slack); /* a box may have no width at all */
        for (int64_t k = 0; k < d; k++) wider = fmax(wider, inner->width[k]);
        radius = best.index >= 0 ? wanted : wider;
        if (o->left < 0 || !within_box(o, radius, &all)) return 0;
    }
}

#define NAME(x) x##_portable
#define TARGET
#define LOWER(a, b) lower_portable(&(a), &(b))
#define SMALLEST(v) smallest_portable(&(v))
#define AT_MOST(v, bound) at_most_portable(&(v), bound)
static inline f64x8 lower_portable(const f64x8 *a, const f64x8 *b) {
    f64x8 lower;
    for (int lane = 0; lane < LANES; lane++)
        lower[lane] = (*a)[lane] < (*b)[lane] ? (*a)[lane] : (*b)[lane];
    return lower;
}
static inline double smallest_portable(const f64x8 *v) {
    double smallest = (*v)[0];
    for (int lane = 1; lane < LANES; lane++)
        smallest = (*v)[lane] < smallest ? (*v)[lane] : smallest;
    return smallest;
}
static inline unsigned at_most_portable(const f64x8 *v, double bound) {
    unsigned bits = 0;
    for (int lane = 0; lane < LANES; lane++) bits |= (unsigned)((*v)[lane] <= bound) << lane;
    return bits;
}
#include "nearest/simd/grid_simd.inc"
#include "nearest/simd/undef.inc"

#ifdef CONFSIM_X86
#define NAME(x) x##_avx2
#define TARGET CONFSIM_TARGET_AVX2
#define LOWER(a, b) lower_avx2(&(a), &(b))
#define SMALLEST(v) smallest_avx2(&(v))
#define AT_MOST(v, bound) at_most_avx2(&(v), bound)
typedef union {
    f64x8 all;
    __m256d half[2];
} halves;
CONFSIM_TARGET_AVX2 static inline f64x8 lower_avx2(const f64x8 *a, const f64x8 *b) {
    halves x = {*a};
    const halves y = {*b};
    x.half[0] = _mm256_min_pd(x.half[0], y.half[0]);
    x.half[1] = _mm256_min_pd(x.half[1], y.half[1]);
    return x.all;
}
CONFSIM_TARGET_AVX2 static inline double smallest_avx2(const f64x8 *v) {
    const halves x = {*v};
    const __m256d four = _mm256_min_pd(x.half[0], x.half[1]);
    const __m128d two = _mm_min_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_min_sd(two, _mm_unpackhi_pd(two, two)));
}
CONFSIM_TARGET_AVX2 static inline unsigned at_most_avx2(const f64x8 *v, double bound) {
    const halves x = {*v};
    const __m256d most = _mm256_set1_pd(bound);
    return (unsigned)_mm256_movemask_pd(_mm256_cmp_pd(x.half[0], most, _CMP_LE_OQ)) |
           (unsigned)_mm256_movemask_pd(_mm256_cmp_pd(x.half[1], most, _CMP_LE_OQ)) << 4;
}
#include "nearest/simd/grid_simd.inc"
#include "nearest/simd/undef.inc"

#define NAME(x) x##_avx512
#define TARGET CONFSIM_TARGET_AVX512
#define LOWER(a, b) ((f64x8)_mm512_min_pd((__m512d)(a), (__m512d)(b)))
#define SMALLEST(v) _mm512_reduce_min_pd((__m512d)(v))
#define AT_MOST(v, bound)                                                                          \
    ((unsigned)_mm512_cmp_pd_mask((__m512d)(v), _mm512_set1_pd(bound), _CMP_LE_OQ))
/* Compressed in a register, then stored whole: a compressing store is slow on AMD Zen 4. */
#define KEEP_DOUBLES(bits, from, to)                                                               \
    _mm512_storeu_pd(to, _mm512_maskz_compress_pd((__mmask8)(bits), _mm512_load_pd(from)))
#define KEEP_INDICES(bits, from, to)                                                               \
    _mm256_storeu_si256(                                                                           \
        (__m256i *)(to),                                                                           \
        _mm256_maskz_compress_epi32((__mmask8)(bits), _mm256_load_si256((const __m256i *)(from))))
#include "nearest/simd/grid_simd.inc"
#include "nearest/simd/undef.inc"
#endif

static cell_kernels cell_kernels_for(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return (cell_kernels){filter_avx512, leaf_avx512, cells_avx512};
    if (isa == CONFSIM_ISA_AVX2) return (cell_kernels){filter_avx2, leaf_avx2, cells_avx2};
#endif
    (void)isa;
    return (cell_kernels){filter_portable, leaf_portable, cells_portable};
}

leaf_kernel confsim_leaf_kernel(confsim_isa isa) { return cell_kernels_for(isa).leaf; }

static void cells_item(void *context, int64_t item, int thread) {
    const grid_search *c = context;
    const int64_t begin = item * QUERIES_PER_CELLS_ITEM;
    const int64_t rest = c->s->queries->rows - begin;
    (void)thread;
    cell_kernels_for(c->s->isa).cells(
        c, begin, begin + (rest < QUERIES_PER_CELLS_ITEM ? rest : QUERIES_PER_CELLS_ITEM));
}

static void pending_item(void *context, int64_t item, int thread) {
    const grid_search *c = context;
    const euclidean_search *s = c->s;
    const leaf_kernel leaf = cell_kernels_for(s->isa).leaf;
    const int64_t begin = item * QUERIES_PER_CELLS_ITEM, rest = s->queries->rows - begin;
    const int64_t end = begin + (rest < QUERIES_PER_CELLS_ITEM ? rest : QUERIES_PER_CELLS_ITEM);
    int64_t compared = 0;
    (void)thread;
    for (int64_t query = begin; query < end; query++) {
        if (!c->pending[query]) continue;
        const kd_tree *t = &c->trees[class_of(s, query)];
        const int64_t self = own_row(s, query);
        double coordinates[MOST_AXES];
        confsim_matrix_row(s->queries, query, coordinates, 1);
        neighbor found = {INFINITY, self};
        if (c->pending[query] == PENDING_BOTH) {
            found = confsim_kd_tree_nearest(t, leaf, coordinates, -1, &compared);
            store(found, query, s->answer);
        }
        if (self >= 0 && found.index == self)
            store_other(confsim_kd_tree_nearest(t, leaf, coordinates, self, &compared), query,
                        s->answer);
    }
}

/* Answer by trees what the cells left unanswered. */
static confsim_status search_pending(grid_search *c, int threads) {
    const euclidean_search *s = c->s;
    const int64_t classes = s->classes->count, count = s->queries->rows;
    confsim_status status = CONFSIM_OK;
    int64_t pending = 0;
    for (int64_t query = 0; query < count && !status; query++) {
        if (!c->pending[query]) continue;
        const int64_t class = class_of(s, query);
        pending++;
        if (!c->trees[class].nodes)
            status =
                confsim_kd_tree_build(&c->trees[class], s->packed, class,
                                      s->classes->start[class + 1] - s->classes->start[class], 2);
    }
    if (!status && pending)
        confsim_parallel_for((count + QUERIES_PER_CELLS_ITEM - 1) / QUERIES_PER_CELLS_ITEM, threads,
                             pending_item, c);
    for (int64_t class = 0; class < classes; class++) confsim_kd_tree_free(&c->trees[class]);
    return status;
}

/* Cut the box around the queries; with members among them, a little more, so that few of them have
 * to look for another point where no leaf is to be complete. */
static void choose_box(grid_search *c, const extent_pair *x) {
    const int64_t d = c->s->queries->columns;
    const double apart = pow((double)c->s->classes->start[c->s->classes->count], -1.0 / (double)d);
    for (int64_t k = 0; k < d; k++) {
        const double margin =
            c->s->pairing->self_index ? apart * (x->training_high[k] - x->training_low[k]) : 0;
        c->box.low[k] = fmin(x->query_low[k], fmax(x->training_low[k], x->query_low[k] - margin));
        c->box.high[k] =
            fmax(x->query_high[k], fmin(x->training_high[k], x->query_high[k] + margin));
        c->complete.low[k] = x->training_low[k] < c->box.low[k] ? c->box.low[k] : -INFINITY;
        c->complete.high[k] = x->training_high[k] > c->box.high[k] ? c->box.high[k] : INFINITY;
    }
}

/* Where queries are expected, in the making. */
typedef struct {
    const grid_search *c;
    grid parts;
    int64_t count;  /* of parts */
    char *occupied; /* class by class */
} occupancy_estimate;

static void mark(const occupancy_estimate *v, const confsim_matrix *points, int64_t row,
                 int64_t class) {
    int64_t at[MOST_AXES];
    for (int64_t k = 0; k < points->columns; k++)
        at[k] = cell_along(&v->parts, k, confsim_matrix_at(points, row, k));
    v->occupied[class * v->count + number_of(at, v->parts.side, points->columns)] = 1;
}

/* Mark where a sample of the queries is: small cells are only worth making there. Members will also
 * look around themselves, as far as other training points. */
static void mark_all(const occupancy_estimate *v, occupancy *expected) {
    const euclidean_search *s = v->c->s;
    const int64_t count = s->queries->rows, wanted = count / SAMPLE;
    const int64_t step = wanted < 1 ? 1 : wanted < ONE_IN ? wanted : ONE_IN;
    uint32_t random = 1; /* any sequence that no order of queries is in step with */
    for (int64_t first = 0; first < count; first += RUN * step) {
        random = random * 1664525 + 1013904223;
        const int64_t begin = first + (random >> 16) % step * RUN;
        for (int64_t query = begin; query < begin + RUN && query < count; query++) {
            const int64_t class = class_of(s, query);
            if (class < 0) continue;
            mark(v, s->queries, query, class);
            expected[class].queries += step;
        }
    }
    const confsim_classes *classes = s->classes;
    for (int64_t class = 0; s->pairing->self_index && class < classes->count; class++)
        for (int64_t i = classes->start[class]; i < classes->start[class + 1]; i++)
            mark(v, s->training, classes->order[i], class);
}

/* Mark the neighbours of a class's marked parts too: a sample misses some. `spare` has room for a
 * copy. */
static void mark_neighbors(char *occupied, char *spare, int64_t side, int64_t d) {
    const int64_t parts = whole_power(side, d);
    for (int64_t stride = 1; stride < parts; stride *= side) {
        memcpy(spare, occupied, (size_t)parts);
        for (int64_t i = 0; i < parts; i++) {
            const int64_t at = i / stride % side;
            if (at > 0) occupied[i] |= spare[i - stride];
            if (at < side - 1) occupied[i] |= spare[i + stride];
        }
    }
}

/* What queries to expect of each class; the bitmap is the caller's to free. */
static confsim_status estimate_occupancy(const grid_search *c, occupancy *expected,
                                         char **occupied) {
    const int64_t d = c->s->queries->columns, classes = c->s->classes->count;
    const int64_t side = (int64_t[]){1024, 32, 16}[d - 1];
    occupancy_estimate v = {.c = c, .count = whole_power(side, d)};
    for (int64_t class = 0; class < classes; class++)
        expected[class] = (occupancy){1, NULL, 1, c->s->queries->rows / classes, {0}};
    if (classes * v.count > c->s->queries->rows) return CONFSIM_OK; /* it would take too long */
    *occupied = v.occupied = calloc((size_t)((classes + 1) * v.count), 1);
    if (!v.occupied) return CONFSIM_NO_MEMORY;
    confsim_grid_place(&v.parts, d, c->box.low, c->box.high, side, 0);
    for (int64_t class = 0; class < classes; class++)
        expected[class] = (occupancy){side, v.occupied + class * v.count, 0, 0, {0}};
    for (int64_t class = 0; class < classes; class++)
        memcpy(expected[class].flat, v.parts.flat, sizeof v.parts.flat);
    mark_all(&v, expected);
    for (int64_t i = 0; i < classes * v.count; i++)
        expected[i / v.count].share += v.occupied[i] / (double)v.count;
    for (int64_t class = 0; class < classes; class++)
        mark_neighbors(v.occupied + class * v.count, v.occupied + classes * v.count, side, d);
    return CONFSIM_OK;
}

confsim_status confsim_grid_search(const euclidean_search *s, const extent_pair *x, int threads) {
    const confsim_classes *classes = s->classes;
    const int64_t count = s->queries->rows;
    const filter_kernel filter = cell_kernels_for(s->isa).filter;
    grid_search c = {.s = s,
                     .grids = calloc((size_t)classes->count, sizeof(candidate_grid)),
                     .trees = calloc((size_t)classes->count, sizeof(kd_tree)),
                     .pending = calloc((size_t)count, 1)};
    occupancy *expected = malloc((size_t)classes->count * sizeof *expected);
    char *occupied = NULL;
    choose_box(&c, x);
    confsim_status status = c.grids && c.trees && c.pending && expected
                                ? estimate_occupancy(&c, expected, &occupied)
                                : CONFSIM_NO_MEMORY;
    int64_t built = 0;
    for (; !status && built < classes->count; built++) {
        const int64_t points = classes->start[built + 1] - classes->start[built];
        status = confsim_candidate_grid_build(&c.grids[built], s->packed, built, points, &c.box,
                                              &expected[built], filter, threads);
        if (status) break;
    }
    if (!status)
        confsim_parallel_for((count + QUERIES_PER_CELLS_ITEM - 1) / QUERIES_PER_CELLS_ITEM, threads,
                             cells_item, &c);
    for (int64_t i = 0; i < built; i++) confsim_candidate_grid_free(&c.grids[i], threads);
    if (!status) status = search_pending(&c, threads);
    free(c.grids);
    free(c.trees);
    free(c.pending);
    free(expected);
    free(occupied);
    return status;
}
