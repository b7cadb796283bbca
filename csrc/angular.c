/* How the search works.
 *
 * Training rows are sorted by class. The filter computes, for tiles of queries times groups of training
 * rows held in registers, float32 upper bounds of the cosine: with orthonormal directions V,
 *     a.b <= (V'a).(V'b) + |a - VV'a| |b - VV'b|      (Cauchy-Schwarz),
 * a product of k + 1 terms instead of d. The directions are the leading principal axes of a sample of
 * the training set; how many to use is decided by counting the survivors of a sample of queries, and
 * where the spectrum is flat the "bound" is the whole product. Survivors get a whole float32 product;
 * those within its error of the best are kept, and in the end compared by the answer's float64
 * arithmetic. Every comparison gives way by a bound on all float32 rounding, so the filter can never
 * discard an answer or one of its ties.
 *
 * Rounding, with u = 2^-24, for rows of length at most 1 + 2u: a product of d terms by vectors of at
 * least four lanes errs by less than (d / 4 + 24) u (product_error); the k-term bound, summed one after
 * the other, by less than (2k + 32) u. */
#include "angular.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "classes.h"
#include "parallel.h"

#ifdef CONFSIM_X86
#include <immintrin.h>
#endif

enum {
    BLOCK = 96,       /* queries of a work item: a multiple of every tile */
    CHUNK = 4096,     /* training rows whose bounds are held at a time, at most */
    CHUNK_TERMS = 1 << 16, /* packed floats that stay in cache while a block of queries passes */
    KEPT = 48,        /* candidates of a query that wait for the exact comparison */
    MAX_WIDTH = 16,
    MAX_AXES = 32,
    SAMPLE = 1024,    /* training rows that the principal axes come from */
    PROBES = 32,      /* queries that the number of axes is chosen with */
    PREPARE_ROWS = 128,
    SMALL = 512       /* below this many queries or rows the axes do not pay */
};

static const float UNIT_ROUNDOFF = 0x1p-24f;

/* The filter's primitives for one instruction set. Lengths of rows are multiples of 2 * width. */
typedef struct {
    int width, tile;
    float (*dot)(const float *a, const float *b, int64_t d);
    void (*add_multiple)(float *sum, float factor, const float *row, int64_t d);
    void (*dots)(const float *query, const float *rows, int64_t d, const int32_t *list,
                 int64_t count, float *out);
    void (*bounds)(const float *queries, const float *points, int64_t terms, int64_t groups,
                   float *out, int64_t stride);
    float (*crest)(const float *bounds, int64_t count);
    int64_t (*sift)(const float *bounds, int64_t count, float low, int32_t *list);
} path;

typedef float four_floats __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t four_lanes __attribute__((vector_size(16)));

static inline uint32_t bits_of(four_lanes lanes) {
    const four_lanes bits = lanes & (four_lanes){1, 2, 4, 8};
    return (uint32_t)(bits[0] | bits[1] | bits[2] | bits[3]);
}

static inline int64_t list_bits(uint32_t bits, int64_t from, int32_t *list) {
    int64_t count = 0;
    for (; bits; bits &= bits - 1) list[count++] = (int32_t)from + __builtin_ctz(bits);
    return count;
}

static inline four_floats larger(four_floats a, four_floats b) {
    const four_lanes more = a > b;
    return (four_floats)((more & (four_lanes)a) | (~more & (four_lanes)b));
}

#define PATH(name) portable_##name
#define PATH_TARGET
#define PATH_WIDTH 4
#define PATH_TILE 4
#define PATH_FMA(a, b, c) ((a) * (b) + (c))
#define PATH_MAX(a, b) larger(a, b)
#define PATH_SUM(v) ((v)[0] + (v)[1] + ((v)[2] + (v)[3]))
#define PATH_AT_LEAST(a, b) bits_of((a) >= (b))
#define PATH_LIST(bits, from, list) list_bits(bits, from, list)
#include "angular_path.inc"

#ifdef CONFSIM_X86
CONFSIM_TARGET_AVX2 static inline float sum_of_eight(__m256 v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

#define PATH(name) avx2_##name
#define PATH_TARGET CONFSIM_TARGET_AVX2
#define PATH_WIDTH 8
#define PATH_TILE 6
#define PATH_FMA(a, b, c) ((VECTOR)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define PATH_MAX(a, b) ((VECTOR)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define PATH_SUM(v) sum_of_eight((__m256)(v))
#define PATH_AT_LEAST(a, b) \
    ((uint32_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)(a), (__m256)(b), _CMP_GE_OQ)))
#define PATH_LIST(bits, from, list) list_bits(bits, from, list)
#include "angular_path.inc"

/* Without a branch: whether a vector holds a survivor is hard to predict. */
CONFSIM_TARGET_AVX512 static inline int64_t compress_bits(uint32_t bits, int64_t from,
                                                          int32_t *list) {
    const __m512i lanes =
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i places = _mm512_add_epi32(_mm512_set1_epi32((int32_t)from), lanes);
    _mm512_storeu_si512(list, _mm512_maskz_compress_epi32((__mmask16)bits, places));
    return __builtin_popcount(bits);
}

#define PATH(name) avx512_##name
#define PATH_TARGET CONFSIM_TARGET_AVX512
#define PATH_WIDTH 16
#define PATH_TILE 12
#define PATH_FMA(a, b, c) ((VECTOR)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define PATH_MAX(a, b) ((VECTOR)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define PATH_SUM(v) _mm512_reduce_add_ps((__m512)(v))
#define PATH_AT_LEAST(a, b) \
    ((uint32_t)_mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_GE_OQ))
#define PATH_LIST(bits, from, list) compress_bits(bits, from, list)
#include "angular_path.inc"
#endif

static const path *path_for(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return &avx512_path;
    if (isa == CONFSIM_ISA_AVX2) return &avx2_path;
#endif
    (void)isa;
    return &portable_path;
}

/* ---- The answer's arithmetic ---------------------------------------------------------------- */

/* A row is x * 2^-exponent / norm; norm is 0 for a zero row. */
typedef struct {
    double norm;
    int exponent;
} scale;

static inline int in_range(double sum) { return sum >= 0x1p-900 && sum <= DBL_MAX; }

/* Rows whose squares overflow or vanish: first bring the largest coordinate into [0.5, 1). */
static scale scale_of_extreme(const confsim_matrix *matrix, int64_t row) {
    double largest = 0, sum = 0;
    scale s = {0, 0};
    for (int64_t k = 0; k < matrix->columns; k++)
        largest = fmax(largest, fabs(confsim_matrix_at(matrix, row, k)));
    if (largest == 0) return s;
    frexp(largest, &s.exponent);
    for (int64_t k = 0; k < matrix->columns; k++) {
        const double x = ldexp(confsim_matrix_at(matrix, row, k), -s.exponent);
        sum += x * x;
    }
    s.norm = sqrt(sum);
    return s;
}

static inline scale scale_of(const confsim_matrix *matrix, int64_t row, double sum_of_squares) {
    if (in_range(sum_of_squares)) return (scale){sqrt(sum_of_squares), 0};
    return scale_of_extreme(matrix, row);
}

static inline double unit_at(const confsim_matrix *matrix, int64_t row, int64_t column, scale s) {
    double x = confsim_matrix_at(matrix, row, column);
    if (s.exponent) x = ldexp(x, -s.exponent);
    return x / s.norm;
}

/* theta / pi between a query's unit row and a training row. */
static double angular_distance(const double *query, int query_is_zero, const confsim_matrix *training,
                               int64_t row, scale s) {
    if (s.norm == 0 || query_is_zero) return s.norm == 0 && query_is_zero ? 0 : 0.5;
    double apart = 0, together = 0;
    for (int64_t k = 0; k < training->columns; k++) {
        const double t = unit_at(training, row, k, s);
        const double difference = query[k] - t, sum = query[k] + t;
        apart += difference * difference;
        together += sum * sum;
    }
    return 2 * atan2(sqrt(apart), sqrt(together)) / 3.14159265358979323846;
}

/* ---- The training set, prepared ------------------------------------------------------------- */

typedef struct {
    const confsim_matrix *queries, *training;
    const confsim_pairing *pairing;
    const confsim_nearest *answer;
    const path *path;
    int threads;
    confsim_classes classes;       /* of training rows; "rank" below: a place in its order */
    confsim_classes query_classes; /* the same for queries */
    int64_t length;                /* columns, padded with zeros to whole vectors */
    float *units;                  /* unit rows by rank, `length` apart */
    scale *scales;                 /* by rank */
    int64_t axes;                  /* principal axes in use; 0: whole products */
    float *directions;             /* MAX_AXES rows of `length` */
    double skew;                   /* Frobenius norm of V'V - 1 */
    int64_t terms;                 /* of a bound */
    int64_t *first_group;          /* a class's first group of packed rows; count + 1 entries */
    float *packed;                 /* groups of 2 * width rows, term by term */
    int64_t chunk_rows;            /* whole groups */
    float product_error, bound_error, window;
} search;

static inline int64_t group_rows(const search *s) { return 2 * s->path->width; }

static inline int64_t class_of_rank(const search *s, int64_t rank) {
    int64_t low = 0, high = s->classes.count;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (s->classes.start[middle] <= rank)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Scales of `count` rows; eight sums run side by side because each is a chain of dependent additions. */
static void scale_rows(const confsim_matrix *matrix, const int64_t *rows, int64_t count, scale *out) {
    enum { LANES = 8 };
    for (int64_t begin = 0; begin < count; begin += LANES) {
        double sums[LANES] = {0};
        const char *data[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            const int64_t i = begin + lane < count ? begin + lane : count - 1;
            data[lane] = matrix->data + rows[i] * matrix->row_stride;
        }
        for (int64_t k = 0; k < matrix->columns; k++)
            for (int lane = 0; lane < LANES; lane++) {
                const char *entry = data[lane] + k * matrix->column_stride;
                const double x = matrix->is_float32 ? (double)*(const float *)entry
                                                    : *(const double *)entry;
                sums[lane] += x * x;
            }
        for (int lane = 0; lane < LANES && begin + lane < count; lane++)
            out[begin + lane] = scale_of(matrix, rows[begin + lane], sums[lane]);
    }
}

/* A unit row in float32 for the filter: each coordinate within (1 + 2^-50) u of the exact one. */
static void unit_row(const search *s, const confsim_matrix *matrix, int64_t row, scale scale,
                     float *out) {
    const int64_t d = matrix->columns;
    memset(out, 0, (size_t)s->length * sizeof *out);
    if (scale.norm == 0) return;
    const double inverse = 1 / scale.norm;
    const char *data = matrix->data + row * matrix->row_stride;
    if (scale.exponent)
        for (int64_t k = 0; k < d; k++) out[k] = (float)unit_at(matrix, row, k, scale);
    else if (matrix->is_float32 && matrix->column_stride == sizeof(float))
        for (int64_t k = 0; k < d; k++) out[k] = (float)(((const float *)data)[k] * inverse);
    else
        for (int64_t k = 0; k < d; k++)
            out[k] = (float)(confsim_matrix_at(matrix, row, k) * inverse);
}

/* The terms of a bound for one unit row, `step` floats apart. */
static void write_terms(const search *s, const float *unit, float *out, int64_t step) {
    if (s->axes == 0) {
        for (int64_t k = 0; k < s->terms; k++) out[k * step] = unit[k];
        return;
    }
    double left = 1 + 2.5 * s->product_error * sqrt((double)s->axes) + s->skew;
    for (int64_t j = 0; j < s->axes; j++) {
        const float part = s->path->dot(s->directions + j * s->length, unit, s->length);
        out[j * step] = part;
        left -= (double)part * part;
    }
    out[s->axes * step] = left > 0 ? (float)sqrt(left) * (1 + 4 * UNIT_ROUNDOFF) : 0;
}

static void prepare_rows(void *context, int64_t item, int thread) {
    const search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->training->rows;
    const int64_t end = begin + PREPARE_ROWS < n ? begin + PREPARE_ROWS : n;
    (void)thread;
    scale_rows(s->training, s->classes.order + begin, end - begin, s->scales + begin);
    for (int64_t rank = begin; rank < end; rank++)
        unit_row(s, s->training, s->classes.order[rank], s->scales[rank],
                 s->units + rank * s->length);
}

static void pack_rows(void *context, int64_t item, int thread) {
    const search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->training->rows, width = group_rows(s);
    const int64_t end = begin + PREPARE_ROWS < n ? begin + PREPARE_ROWS : n;
    int64_t class = class_of_rank(s, begin);
    (void)thread;
    for (int64_t rank = begin; rank < end; rank++) {
        while (rank >= s->classes.start[class + 1]) class++;
        const int64_t within = rank - s->classes.start[class];
        const int64_t group = s->first_group[class] + within / width;
        write_terms(s, s->units + rank * s->length,
                    s->packed + group * width * s->terms + within % width, width);
    }
}

/* ---- Principal axes ------------------------------------------------------------------------- */

/* Makes the rows orthonormal, in their order; a row that depends on earlier ones becomes zero. */
static void orthonormalise(const path *p, float *rows, int64_t count, int64_t d) {
    for (int64_t i = 0; i < count; i++) {
        float *row = rows + i * d;
        const float before = p->dot(row, row, d);
        for (int pass = 0; pass < 2; pass++)
            for (int64_t j = 0; j < i; j++)
                p->add_multiple(row, -p->dot(row, rows + j * d, d), rows + j * d, d);
        const float after = p->dot(row, row, d);
        const float factor = after > 1e-6f * before && after > 0 ? 1 / sqrtf(after) : 0;
        for (int64_t k = 0; k < d; k++) row[k] *= factor;
    }
    /* Lengths are only right to float32 once more after scaling. */
    for (int64_t i = 0; i < count; i++) {
        float *row = rows + i * d;
        double square = 0;
        for (int64_t k = 0; k < d; k++) square += (double)row[k] * row[k];
        for (int64_t k = 0; square > 0 && k < d; k++) row[k] = (float)(row[k] / sqrt(square));
    }
}

/* Norm of V'V - 1 over the non-zero rows: zero rows add nothing to either side of the bound. */
static double skew_of(const float *rows, int64_t count, int64_t d) {
    double total = 0;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j <= i; j++) {
            double product = 0;
            for (int64_t k = 0; k < d; k++) product += (double)rows[i * d + k] * rows[j * d + k];
            if (i == j && product > 0) product -= 1;
            total += (i == j ? 1 : 2) * product * product;
        }
    return sqrt(total) * (1 + 1e-6);
}

/* Leading principal axes by orthogonal iteration on evenly spaced training rows. Any directions give
 * right bounds; better ones give tighter bounds. */
static CONFSIM_MUST_CHECK confsim_status find_directions(search *s) {
    enum { ITERATIONS = 4 };
    const path *p = s->path;
    const int64_t d = s->length, n = s->training->rows;
    const int64_t count = s->training->columns < MAX_AXES ? s->training->columns : MAX_AXES;
    const int64_t rows = n < SAMPLE ? n : SAMPLE;
    float *next = malloc((size_t)(count * d) * sizeof *next);
    if (!next) return CONFSIM_NO_MEMORY;
    uint64_t random = 1;
    memset(s->directions, 0, (size_t)(MAX_AXES * d) * sizeof *s->directions);
    for (int64_t j = 0; j < count; j++)
        for (int64_t k = 0; k < s->training->columns; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            s->directions[j * d + k] = (float)((double)(random >> 40) * 0x1p-23 - 1);
        }
    for (int iteration = 0; iteration < ITERATIONS; iteration++) {
        memset(next, 0, (size_t)(count * d) * sizeof *next);
        for (int64_t i = 0; i < rows; i++) {
            const float *unit = s->units + i * n / rows * d;
            for (int64_t j = 0; j < count; j++)
                p->add_multiple(next + j * d, p->dot(s->directions + j * d, unit, d), unit, d);
        }
        orthonormalise(p, next, count, d);
        memcpy(s->directions, next, (size_t)(count * d) * sizeof *next);
    }
    free(next);
    s->skew = skew_of(s->directions, count, d);
    return CONFSIM_OK;
}

static void set_axes(search *s, int64_t axes) {
    s->axes = axes;
    s->terms = axes ? axes + 1 : s->training->columns;
    const double k = (double)s->terms;
    double error = (2 * k + 32) * UNIT_ROUNDOFF;
    if (axes) error += 3 * sqrt(k) * s->product_error + 3 * s->skew;
    s->bound_error = (float)(error * 1.01);
}

typedef struct {
    const search *s;
    double survivors[MAX_AXES + 1]; /* by number of axes: a share of all pairs */
    double probes[PROBES][MAX_AXES + 1];
} probing;

static int64_t training_class(const search *s, int64_t query) {
    const int64_t *labels = s->pairing->query_labels;
    return labels ? confsim_classes_find(&s->classes, labels[query]) : 0;
}

/* The share of training rows whose bound by 1, 2, ... axes reaches a query's nearest. */
static void probe(void *context, int64_t item, int thread) {
    probing *probing = context;
    const search *s = probing->s;
    const int64_t d = s->length, query = item * s->queries->rows / PROBES;
    const int64_t class = training_class(s, query);
    const int64_t own = s->pairing->self_index ? s->pairing->self_index[query] : -1;
    double *share = probing->probes[item];
    float terms[MAX_AXES], best = -2;
    scale scale;
    (void)thread;
    memset(share, 0, sizeof probing->probes[item]);
    float *unit = malloc((size_t)d * sizeof *unit); /* without memory: no opinion */
    if (class < 0 || !unit) {
        free(unit);
        return;
    }
    const int64_t begin = s->classes.start[class], end = s->classes.start[class + 1];
    scale_rows(s->queries, &query, 1, &scale);
    unit_row(s, s->queries, query, scale, unit);
    for (int64_t rank = begin; rank < end; rank++)
        if (s->classes.order[rank] != own)
            best = fmaxf(best, s->path->dot(unit, s->units + rank * d, d));
    for (int64_t j = 0; j < MAX_AXES; j++) terms[j] = s->path->dot(s->directions + j * d, unit, d);
    const int64_t step = (end - begin) / 256 + 1;
    for (int64_t rank = begin; rank < end; rank += step) {
        const float *row = s->units + rank * d;
        double bound = 0, left = 1, row_left = 1;
        for (int64_t j = 0; j < MAX_AXES; j++) {
            const double part = s->path->dot(s->directions + j * d, row, d);
            bound += terms[j] * part;
            left -= (double)terms[j] * terms[j];
            row_left -= part * part;
            const double rest = left > 0 && row_left > 0 ? sqrt(left * row_left) : 0;
            share[j + 1] += bound + rest >= best;
        }
    }
    for (int64_t j = 1; j <= MAX_AXES; j++) share[j] *= (double)step / (double)(end - begin);
    free(unit);
}

/* Chooses the number of axes that makes the search cheapest; 0, whole products, where none helps. */
static void choose_axes(search *s) {
    static const int64_t choices[] = {4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32};
    const double per_term = 1.0 / group_rows(s); /* cycles a pair */
    const double per_survivor = 40 + (double)s->length / s->path->width;
    probing probing = {.s = s};
    double cheapest = per_term * (double)s->training->columns;
    set_axes(s, 0);
    confsim_parallel_for(PROBES, s->threads, probe, &probing);
    for (int i = 0; i < PROBES; i++)
        for (int64_t j = 0; j <= MAX_AXES; j++)
            probing.survivors[j] += probing.probes[i][j] / PROBES;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        const int64_t axes = choices[i];
        if (axes >= s->training->columns) break;
        const double cost =
            per_term * (double)(axes + 1) + per_survivor * probing.survivors[axes];
        if (cost >= cheapest) continue;
        cheapest = cost;
        set_axes(s, axes);
    }
}

/* ---- The search ----------------------------------------------------------------------------- */

/* One query of a block on its way to its nearest other training row. */
typedef struct {
    int64_t query, own; /* own: its training row, -1 for none */
    scale scale;
    double *unit;       /* float64 unit row, made when it is first needed */
    int unit_ready;
    float best, keep;   /* largest product so far, and how large one must be to matter */
    double distance;    /* nearest so far by the answer's arithmetic; infinite for none */
    int64_t index;
    int kept;
    int64_t ranks[KEPT];
    float products[KEPT];
} candidate_list;

/* One thread's memory: a block of queries. */
typedef struct {
    candidate_list lists[BLOCK];
    double *units64;
    float *units;
    float *packed; /* tile by tile, term by term */
    float *bounds; /* of a tile and a chunk of training rows */
    int32_t *found; /* rows of the chunk that may be nearer */
    float *products;
} block;

typedef struct {
    int64_t query_class, begin, end; /* places in query_classes.order */
} work;

typedef struct {
    const search *s;
    const work *items;
    block *blocks;
} job;

static double distance_to(const search *s, candidate_list *list, int64_t row, scale scale) {
    if (!list->unit_ready && list->scale.norm > 0)
        for (int64_t k = 0; k < s->queries->columns; k++)
            list->unit[k] = unit_at(s->queries, list->query, k, list->scale);
    list->unit_ready = 1;
    return angular_distance(list->unit, list->scale.norm == 0, s->training, row, scale);
}

/* Compares what was kept by the answer's arithmetic. */
static void resolve(const search *s, candidate_list *list) {
    for (int i = 0; i < list->kept; i++) {
        const int64_t rank = list->ranks[i], row = s->classes.order[rank];
        if (list->products[i] < list->keep || (list->distance == 0 && row > list->index)) continue;
        const double distance = distance_to(s, list, row, s->scales[rank]);
        if (distance < list->distance || (distance == list->distance && row < list->index)) {
            list->distance = distance;
            list->index = row;
        }
    }
    list->kept = 0;
}

static void make_room(const search *s, candidate_list *list) {
    int kept = 0;
    for (int i = 0; i < list->kept; i++)
        if (list->products[i] >= list->keep) {
            list->ranks[kept] = list->ranks[i];
            list->products[kept++] = list->products[i];
        }
    list->kept = kept;
    if (kept <= KEPT / 2) return;
    resolve(s, list);
    /* Nothing is nearer than 0, and later rows of a class have higher indices. */
    if (list->distance == 0) list->keep = INFINITY;
}

static inline void raise_best(const search *s, candidate_list *list, float product) {
    if (product <= list->best) return;
    list->best = product;
    if (product - s->window > list->keep) list->keep = product - s->window;
}

static void consider(const search *s, candidate_list *list, int64_t rank, float product) {
    if (product < list->keep || s->classes.order[rank] == list->own) return;
    raise_best(s, list, product);
    if (list->kept == KEPT) make_room(s, list);
    if (product < list->keep) return;
    list->ranks[list->kept] = rank;
    list->products[list->kept++] = product;
}

static void load_block(const search *s, block *b, const int64_t *queries, int64_t count) {
    scale scales[BLOCK];
    const int64_t tile = s->path->tile;
    scale_rows(s->queries, queries, count, scales);
    memset(b->packed, 0, (size_t)(BLOCK * s->terms) * sizeof *b->packed);
    for (int64_t i = 0; i < count; i++) {
        candidate_list *list = &b->lists[i];
        const int64_t *self = s->pairing->self_index;
        list->query = queries[i];
        list->own = self ? self[queries[i]] : -1;
        list->scale = scales[i];
        list->unit = b->units64 + i * s->queries->columns;
        list->unit_ready = 0;
        list->best = list->keep = -2;
        list->distance = INFINITY;
        list->index = -1;
        list->kept = 0;
        unit_row(s, s->queries, queries[i], scales[i], b->units + i * s->length);
        write_terms(s, b->units + i * s->length, b->packed + i / tile * tile * s->terms + i % tile,
                    tile);
    }
}

/* A run of training rows of one class: `rows` of them from `rank`, in `groups` packed from `group`. */
typedef struct {
    int64_t rank, rows, group, groups;
} chunk;

/* Products with the rows whose bounds reach `low`, into b->found and b->products. */
static int64_t products(const search *s, block *b, int64_t i, const float *bounds, chunk c, float low) {
    int64_t count = s->path->sift(bounds, c.groups * group_rows(s), low, b->found);
    while (count > 0 && b->found[count - 1] >= c.rows) count--; /* what pads the last group */
    s->path->dots(b->units + i * s->length, s->units + c.rank * s->length, s->length, b->found, count,
                  b->products);
    return count;
}

/* A query without a first guess takes it from the rows of the highest bounds. */
static void search_chunk(const search *s, block *b, int64_t i, const float *bounds, chunk c) {
    candidate_list *list = &b->lists[i];
    int64_t count = 0;
    if (list->best == -2)
        count = products(s, b, i, bounds, c, s->path->crest(bounds, c.groups * group_rows(s)));
    for (int64_t j = 0; j < count; j++)
        if (s->classes.order[c.rank + b->found[j]] != list->own) raise_best(s, list, b->products[j]);
    count = products(s, b, i, bounds, c, list->keep - s->product_error - s->bound_error);
    for (int64_t j = 0; j < count; j++) consider(s, list, c.rank + b->found[j], b->products[j]);
}

static void scan(const search *s, block *b, int64_t class, int64_t count) {
    const int64_t tile = s->path->tile, width = group_rows(s), end = s->classes.start[class + 1];
    chunk c = {.rank = s->classes.start[class], .group = s->first_group[class]};
    for (; c.rank < end; c.rank += c.rows, c.group += c.groups) {
        c.rows = end - c.rank < s->chunk_rows ? end - c.rank : s->chunk_rows;
        c.groups = (c.rows + width - 1) / width;
        for (int64_t begin = 0; begin < count; begin += tile) {
            s->path->bounds(b->packed + begin * s->terms, s->packed + c.group * width * s->terms,
                            s->terms, c.groups, b->bounds, s->chunk_rows);
            for (int64_t i = begin; i < begin + tile && i < count; i++)
                search_chunk(s, b, i, b->bounds + (i - begin) * s->chunk_rows, c);
        }
    }
}

static void put(double *distance, int64_t *index, int64_t query, double found, int64_t row) {
    if (distance) distance[query] = row < 0 ? NAN : found;
    if (index) index[query] = row < 0 ? -1 : row;
}

/* The search left out the query's own row, which now competes with the winner. */
static void answer(const search *s, candidate_list *list, int64_t class) {
    resolve(s, list);
    put(s->answer->distance_other, s->answer->index_other, list->query, list->distance, list->index);
    double distance = list->distance;
    int64_t index = list->index;
    const int64_t own = list->own;
    const int64_t *labels = s->pairing->training_labels;
    if (own >= 0 && (!labels || labels[own] == s->classes.labels[class])) {
        scale scale;
        scale_rows(s->training, &own, 1, &scale);
        const double mine = distance_to(s, list, own, scale);
        if (index < 0 || mine < distance || (mine == distance && own < index)) {
            distance = mine;
            index = own;
        }
    }
    put(s->answer->distance, s->answer->index, list->query, distance, index);
}

static void search_item(void *context, int64_t item, int thread) {
    const job *j = context;
    const search *s = j->s;
    block *b = &j->blocks[thread];
    const work *w = &j->items[item];
    const int64_t *queries = s->query_classes.order + w->begin, count = w->end - w->begin;
    const int64_t class = training_class(s, queries[0]);
    if (class < 0) {
        for (int64_t i = 0; i < count; i++) {
            put(s->answer->distance, s->answer->index, queries[i], NAN, -1);
            put(s->answer->distance_other, s->answer->index_other, queries[i], NAN, -1);
        }
        return;
    }
    load_block(s, b, queries, count);
    scan(s, b, class, count);
    for (int64_t i = 0; i < count; i++) answer(s, &b->lists[i], class);
}

/* ---- Putting it together -------------------------------------------------------------------- */

static void search_free(search *s) {
    confsim_classes_free(&s->classes);
    confsim_classes_free(&s->query_classes);
    free(s->units);
    free(s->scales);
    free(s->directions);
    free(s->first_group);
    free(s->packed);
}

static void *floats(int64_t count) { return aligned_alloc(64, (size_t)((count * 4 + 63) / 64 * 64)); }

static CONFSIM_MUST_CHECK confsim_status search_build(search *s) {
    const int64_t n = s->training->rows, width = group_rows(s);
    const int64_t items = (n + PREPARE_ROWS - 1) / PREPARE_ROWS;
    s->length = (s->training->columns + width - 1) / width * width;
    s->product_error = ((float)s->length / 4 + 24) * UNIT_ROUNDOFF;
    /* What float32 may misjudge on both sides, and what float64 answers may. */
    s->window = 2 * s->product_error + ((float)s->length + 32) * 0x1p-49f;
    if (confsim_classes_build(&s->classes, s->pairing->training_labels, n)) return CONFSIM_NO_MEMORY;
    if (confsim_classes_build(&s->query_classes, s->pairing->query_labels, s->queries->rows))
        return CONFSIM_NO_MEMORY;
    s->units = floats(n * s->length);
    s->scales = malloc((size_t)n * sizeof *s->scales);
    s->first_group = malloc(((size_t)s->classes.count + 1) * sizeof *s->first_group);
    s->directions = floats(MAX_AXES * s->length);
    if (!s->units || !s->scales || !s->first_group || !s->directions) return CONFSIM_NO_MEMORY;
    confsim_parallel_for(items, s->threads, prepare_rows, s);
    set_axes(s, 0);
    if (s->queries->rows >= SMALL && n >= SMALL && s->training->columns >= 8) {
        if (find_directions(s)) return CONFSIM_NO_MEMORY;
        choose_axes(s);
    }
    s->chunk_rows = CHUNK_TERMS / s->terms / width * width;
    s->chunk_rows = s->chunk_rows < width ? width : s->chunk_rows > CHUNK ? CHUNK : s->chunk_rows;
    s->first_group[0] = 0;
    for (int64_t c = 0; c < s->classes.count; c++)
        s->first_group[c + 1] =
            s->first_group[c] + (s->classes.start[c + 1] - s->classes.start[c] + width - 1) / width;
    const int64_t packed = s->first_group[s->classes.count] * width * s->terms;
    s->packed = floats(packed);
    if (!s->packed) return CONFSIM_NO_MEMORY;
    for (int64_t c = 0; c < s->classes.count; c++) /* what pads a class's last group */
        memset(s->packed + (s->first_group[c + 1] - 1) * width * s->terms, 0,
               (size_t)(width * s->terms) * sizeof *s->packed);
    confsim_parallel_for(items, s->threads, pack_rows, s);
    return CONFSIM_OK;
}

static CONFSIM_MUST_CHECK confsim_status list_work(const search *s, work **items, int64_t *count) {
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

static void blocks_free(block *blocks, int threads) {
    for (int i = 0; blocks && i < threads; i++) {
        free(blocks[i].units64);
        free(blocks[i].units);
        free(blocks[i].packed);
        free(blocks[i].bounds);
        free(blocks[i].found);
        free(blocks[i].products);
    }
    free(blocks);
}

static block *blocks_build(const search *s) {
    block *blocks = calloc((size_t)s->threads, sizeof *blocks);
    for (int i = 0; blocks && i < s->threads; i++) {
        blocks[i].units64 = malloc((size_t)(BLOCK * s->queries->columns) * sizeof(double));
        blocks[i].units = floats(BLOCK * s->length);
        blocks[i].packed = floats(BLOCK * s->terms);
        blocks[i].bounds = floats(s->path->tile * s->chunk_rows);
        blocks[i].found = malloc((size_t)(s->chunk_rows + MAX_WIDTH) * sizeof(int32_t));
        blocks[i].products = floats(s->chunk_rows);
        if (blocks[i].units64 && blocks[i].units && blocks[i].packed && blocks[i].bounds &&
            blocks[i].found && blocks[i].products)
            continue;
        blocks_free(blocks, s->threads);
        return NULL;
    }
    return blocks;
}

confsim_status confsim_angular_nearest(const confsim_matrix *queries, const confsim_matrix *training,
                                       const confsim_pairing *pairing, const confsim_nearest *answer,
                                       int threads, confsim_isa isa) {
    search s = {.queries = queries, .training = training, .pairing = pairing, .answer = answer};
    work *items = NULL;
    block *blocks = NULL;
    int64_t count = 0;
    s.path = path_for(isa);
    s.threads = threads;
    confsim_status status = search_build(&s);
    if (!status) status = list_work(&s, &items, &count);
    if (!status && !(blocks = blocks_build(&s))) status = CONFSIM_NO_MEMORY;
    if (!status) {
        job j = {&s, items, blocks};
        confsim_parallel_for(count, threads, search_item, &j);
    }
    blocks_free(blocks, threads);
    free(items);
    search_free(&s);
    return status;
}
