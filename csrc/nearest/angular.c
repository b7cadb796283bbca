/* How the search works.
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
#include "nearest/angular.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/classes.h"
#include "core/parallel.h"

#ifdef CONFSIM_X86
#include <immintrin.h>
#endif
#ifdef CONFSIM_NEON
#include <arm_neon.h>
#endif

enum {
    BLOCK = 192, /* queries of a work item: whole tiles, and places that fit into a byte */
    CELL = 32,   /* training rows that are skipped or searched together: whole groups */
    KEPT = 48,   /* candidates of a query that wait for the exact comparison */
    MAX_TILE = 8,
    MAX_GROUP = 32, /* rows, or cells */
    PAIRS = 1024,   /* that get their whole products at a time */
    MAX_AXES = 32,
    SAMPLE = 1024, /* training rows that the principal axes come from */
    PROBES = 16,   /* queries that the number of axes is chosen with */
    PREPARE_ROWS = 128,
    PART = 64, /* float64 coordinates of a row at a time */
    CROWDED_ONE_IN =
        32,     /* rows within float32's error of the best: more are told apart otherwise */
    SMALL = 512 /* below this many queries or rows the axes do not pay */
};

static const float UNIT_ROUNDOFF = 0x1p-24f;

/* What 1 is in fixed point of 16 bits. Sums are exact in 32 bits: the vectors have lengths of at
 * most 1.2, or 1.6 where a cell is judged, and a sum starts where it stays between -2^31 and 2^31
 * (given CONFSIM_ANGULAR_COLUMNS). */
static const float ONE = 23170;
static const int32_t ALWAYS = 3 << 28, NEVER = -(1 << 30);

/* Rows of one group of points that may be nearer to one query of a tile, a bit each. */
typedef struct {
    int query, group;
    uint32_t rows;
} hits;

/* The filter's primitives for one instruction set. Lengths of rows are multiples of 2 * width. */
typedef struct {
    int width, tile;
    int split; /* rows whose terms are neighbours in a pair of packed terms: the width, or 1 */
    float (*dot)(const float *a, const float *b, int64_t d);
    void (*add_multiple)(float *sum, float factor, const float *row, int64_t d);
    void (*dots)(const float *query, const float *rows, int64_t d, const int64_t *list,
                 int64_t count, float *out);
    void (*apart)(const double *groups, int64_t d, const double *query, int plus, double *sums);
    void (*products)(const float *const *a, const float *const *b, int64_t d, int64_t count,
                     float *out);
    void (*fixed_products)(const int16_t *const *a, const int16_t *const *b, int64_t d,
                           int64_t count, int32_t *out);
    int (*sift)(const int16_t *const *queries, const int32_t *start, const int16_t *points,
                int64_t pairs, int groups, hits *out);
} path;

typedef int32_t four_lanes __attribute__((vector_size(16), aligned(4), may_alias));

static inline uint32_t signs_of_four(four_lanes v) {
    const four_lanes bits = (v < 0) & (four_lanes){1, 2, 4, 8};
    return (uint32_t)(bits[0] | bits[1] | bits[2] | bits[3]);
}

/* Of four rows: sum + the products of two terms each. */
static inline four_lanes add_two_of_four(four_lanes sum, four_lanes query, four_lanes rows) {
#ifdef CONFSIM_X86
    return sum + (four_lanes)_mm_madd_epi16((__m128i)query, (__m128i)rows);
#else
    const four_lanes even = ((query << 16) >> 16) * ((rows << 16) >> 16);
    return sum + even + (query >> 16) * (rows >> 16);
#endif
}

#define PATH(name) portable_##name
#define PATH_TARGET
#define PATH_WIDTH 4
#define PATH_TILE 4
#define PATH_SPLIT 1
#define PATH_FMA(a, b, c) ((a) * (b) + (c))
#define PATH_ADD_TWO(sum, query, rows) add_two_of_four(sum, query, rows)
#define PATH_SUM(v) ((v)[0] + (v)[1] + ((v)[2] + (v)[3]))
#define PATH_SIGNS(v) signs_of_four(v)
#define PATH_ADD_ALL(sum, a, b) add_two_of_four(sum, a, b)
#define PATH_TOTAL(v) ((v)[0] + (v)[1] + ((v)[2] + (v)[3]))
#include "nearest/angular_path.inc"

#ifdef CONFSIM_X86
CONFSIM_TARGET_AVX2 static inline float sum_of_eight(__m256 v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

CONFSIM_TARGET_AVX2 static inline int32_t total_of_eight(__m256i v) {
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
    return _mm_cvtsi128_si32(sum) + _mm_extract_epi32(sum, 1);
}

#define PATH(name) avx2_##name
#define PATH_TARGET CONFSIM_TARGET_AVX2
#define PATH_WIDTH 8
#define PATH_TILE 6
#define PATH_SPLIT 1
#define PATH_FMA(a, b, c) ((VECTOR)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define PATH_ADD_TWO(sum, query, rows)                                                             \
    ((sum) + (LANES)_mm256_madd_epi16((__m256i)(query), (__m256i)(rows)))
#define PATH_SUM(v) sum_of_eight((__m256)(v))
#define PATH_SIGNS(v) ((uint32_t)_mm256_movemask_ps((__m256)(v)))
#define PATH_ADD_ALL(sum, a, b) PATH_ADD_TWO(sum, a, b)
#define PATH_TOTAL(v) total_of_eight((__m256i)(v))
#include "nearest/angular_path.inc"

#define PATH(name) avx512_##name
#define PATH_TARGET CONFSIM_TARGET_AVX512
#define PATH_WIDTH 16
#define PATH_TILE 8
#define PATH_SPLIT 1
#define PATH_FMA(a, b, c) ((VECTOR)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define PATH_ADD_TWO(sum, query, rows)                                                             \
    ((sum) + (LANES)_mm512_madd_epi16((__m512i)(query), (__m512i)(rows)))
#define PATH_SUM(v) _mm512_reduce_add_ps((__m512)(v))
#define PATH_SIGNS(v) ((uint32_t)_mm512_movepi32_mask((__m512i)(v)))
#define PATH_ADD_ALL(sum, a, b) PATH_ADD_TWO(sum, a, b)
#define PATH_TOTAL(v) _mm512_reduce_add_epi32((__m512i)(v))
#include "nearest/angular_path.inc"

/* The same for processors that add two products in one instruction. */
#define PATH(name) vnni_##name
#define PATH_TARGET                                                                                \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma")))
#define PATH_WIDTH 16
#define PATH_TILE 8
#define PATH_SPLIT 1
#define PATH_FMA(a, b, c) ((VECTOR)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define PATH_ADD_TWO(sum, query, rows)                                                             \
    ((LANES)_mm512_dpwssd_epi32((__m512i)(sum), (__m512i)(query), (__m512i)(rows)))
#define PATH_SUM(v) _mm512_reduce_add_ps((__m512)(v))
#define PATH_SIGNS(v) ((uint32_t)_mm512_movepi32_mask((__m512i)(v)))
#define PATH_ADD_ALL(sum, a, b) PATH_ADD_TWO(sum, a, b)
#define PATH_TOTAL(v) _mm512_reduce_add_epi32((__m512i)(v))
#include "nearest/angular_path.inc"
#endif

#ifdef CONFSIM_NEON
static inline uint32_t signs_of_neon(int32x4_t v) {
    const int32x4_t places = {0, 1, 2, 3};
    return vaddvq_u32(vshlq_u32(vshrq_n_u32((uint32x4_t)v, 31), places));
}

/* Of four rows, their first terms before their second ones: sum + the products of two terms each.
 */
static inline int32x4_t add_two_of_neon(int32x4_t sum, int16x8_t query, int16x8_t rows) {
    sum = vmlal_lane_s16(sum, vget_low_s16(rows), vget_low_s16(query), 0);
    return vmlal_high_lane_s16(sum, rows, vget_low_s16(query), 1);
}

static inline int32x4_t add_all_of_neon(int32x4_t sum, int16x8_t a, int16x8_t b) {
    return vmlal_high_s16(vmlal_s16(sum, vget_low_s16(a), vget_low_s16(b)), a, b);
}

#define PATH(name) neon_##name
#define PATH_TARGET
#define PATH_WIDTH 4
#define PATH_TILE 8 /* with 12, compilers run out of registers */
#define PATH_SPLIT 4
#define PATH_FMA(a, b, c) ((VECTOR)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define PATH_ADD_TWO(sum, query, rows)                                                             \
    ((LANES)add_two_of_neon((int32x4_t)(sum), (int16x8_t)(query), (int16x8_t)(rows)))
#define PATH_SUM(v) vaddvq_f32((float32x4_t)(v))
#define PATH_SIGNS(v) signs_of_neon((int32x4_t)(v))
#define PATH_ADD_ALL(sum, a, b)                                                                    \
    ((LANES)add_all_of_neon((int32x4_t)(sum), (int16x8_t)(a), (int16x8_t)(b)))
#define PATH_TOTAL(v) vaddvq_s32((int32x4_t)(v))
#include "nearest/angular_path.inc"
#endif

static const path *path_for(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512 && __builtin_cpu_supports("avx512vnni")) return &vnni_path;
    if (isa == CONFSIM_ISA_AVX512) return &avx512_path;
    if (isa == CONFSIM_ISA_AVX2) return &avx2_path;
#endif
#ifdef CONFSIM_NEON
    if (isa == CONFSIM_ISA_NEON) return &neon_path;
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

/* Some coordinates of a unit row; divisions run side by side where the row is plain memory. */
static void unit_part(const confsim_matrix *matrix, int64_t row, int64_t from, int64_t count,
                      scale s, double *out) {
    const char *data = matrix->data + row * matrix->row_stride;
    if (s.exponent == 0 && matrix->is_float32 && matrix->column_stride == sizeof(float))
        for (int64_t k = 0; k < count; k++) out[k] = ((const float *)data)[from + k] / s.norm;
    else if (s.exponent == 0 && !matrix->is_float32 && matrix->column_stride == sizeof(double))
        for (int64_t k = 0; k < count; k++) out[k] = ((const double *)data)[from + k] / s.norm;
    else
        for (int64_t k = 0; k < count; k++) out[k] = unit_at(matrix, row, from + k, s);
}

/* theta / pi between a query's unit row and a training row. */
static double angular_distance(const double *query, int query_is_zero,
                               const confsim_matrix *training, int64_t row, scale s) {
    if (s.norm == 0 || query_is_zero) return s.norm == 0 && query_is_zero ? 0 : 0.5;
    double apart = 0, together = 0;
    for (int64_t from = 0; from < training->columns; from += PART) {
        const int64_t count = training->columns - from < PART ? training->columns - from : PART;
        double part[PART];
        unit_part(training, row, from, count, s, part);
        for (int64_t k = 0; k < count; k++) {
            const double difference = query[from + k] - part[k], sum = query[from + k] + part[k];
            apart += difference * difference;
            together += sum * sum;
        }
    }
    return 2 * atan2(sqrt(apart), sqrt(together)) / 3.14159265358979323846;
}

/* ---- The training set, prepared ------------------------------------------------------------- */

/* A node of the tree that puts near rows into one cell: to the left where the term is below the
 * cut. */
typedef struct {
    float cut;
    int32_t term, left, right; /* children: a split of the class, or ~ a cell of the class */
} split;

/* Distinct training rows as float64 unit rows; see angular_crowd.inc. */
typedef struct {
    int64_t *rows;  /* the first of equal rows, class by class, padded with -1 to whole chunks */
    int64_t *next;  /* by row: the next one that equals it, -1 for none */
    int64_t *first; /* a class's first place in `rows`; count + 1 entries */
    double *units;  /* groups of eight, coordinate by coordinate */
} crowd;

typedef struct {
    const confsim_matrix *queries, *training;
    const confsim_pairing *pairing;
    const confsim_nearest *answer;
    const path *path;
    crowd crowd; /* in use where it has `units` */
    int threads;
    confsim_classes classes;       /* of training rows; "rank" below: a place in its order */
    confsim_classes query_classes; /* the same for queries */
    int64_t length;                /* columns, padded with zeros to whole vectors */
    float *units;                  /* unit rows, `length` apart */
    scale *scales;                 /* of rows */
    int16_t *fixed_units;          /* unit rows in fixed point, where there are axes */
    int64_t axes;                  /* principal axes in use; 0: whole products */
    float *directions;             /* MAX_AXES rows of `length` */
    double skew;                   /* Frobenius norm of V'V - 1 */
    int64_t terms;                 /* of a bound */
    int64_t padded;                /* the same in whole pairs */
    int64_t step;                  /* and with one more pair for cells */
    int64_t identity[MAX_AXES];    /* 0, 1, 2, ... */
    int64_t *first_group;          /* a class's first group of packed rows; count + 1 entries */
    int16_t *packed;               /* groups of 2 * width rows, pair of terms by pair of terms */
    float *row_terms;              /* of rows, `terms` apart, where there are axes */
    int64_t *first_cell;   /* a class's first cell, count + 1 entries; cells split it evenly */
    int64_t *first_centre; /* a class's first group of cells */
    int64_t *lowest;       /* of a cell: its lowest training row */
    int16_t *centres;      /* groups of 2 * width cells, packed like rows, and one more pair */
    split *splits;         /* of a class from first_cell[class] on, the root first */
    int16_t *query_terms;  /* by query, `step` apart, where there are axes */
    scale *query_scales;
    int32_t *leaves;
    uint8_t *repeats; /* by query: whether its own row has the same bytes; NULL without */
    double inflation; /* |terms|^2 may be that much over 1 */
    float product_error, bound_error, cell_error, window;
    int32_t fixed_slack; /* what fixed point may take from the product of two unit rows */
} search;

static void *floats(int64_t count) {
    return aligned_alloc(64, (size_t)((count * 4 + 63) / 64 * 64));
}

static inline int64_t group_rows(const search *s) { return 2 * s->path->width; }

/* Where the term k of a row of a group is among the group's packed terms. */
static inline int64_t packed_place(const search *s, int64_t row, int64_t k) {
    const int64_t split = s->path->split;
    return k / 2 * 2 * group_rows(s) + (row / split * 2 + k % 2) * split + row % split;
}

static inline int16_t fixed(float x) { return (int16_t)(x * ONE + (x < 0 ? -0.5f : 0.5f)); }

/* Where a sum starts that is not negative if the product is at least -x. */
static inline int32_t fixed_start(float x) { return (int32_t)((double)x * ONE * ONE) + 2; }

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

/* Scales of `count` rows; eight sums run side by side because each is a chain of dependent
 * additions. */
static void scale_rows(const confsim_matrix *matrix, const int64_t *rows, int64_t count,
                       scale *out) {
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
                const double x =
                    matrix->is_float32 ? (double)*(const float *)entry : *(const double *)entry;
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

static int same_bytes(const confsim_matrix *a, int64_t row, const confsim_matrix *b,
                      int64_t other) {
    const int64_t size = a->is_float32 ? sizeof(float) : sizeof(double);
    return a->is_float32 == b->is_float32 && a->column_stride == size && b->column_stride == size &&
           !memcmp(a->data + row * a->row_stride, b->data + other * b->row_stride,
                   (size_t)(a->columns * size));
}

/* The query's own training row, if all that was prepared for it serves the query as well; or -1. */
static inline int64_t repeated_row(const search *s, int64_t query) {
    return s->repeats && s->repeats[query] ? s->pairing->self_index[query] : -1;
}

static void find_repeats(void *context, int64_t item, int thread) {
    const search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->queries->rows;
    (void)thread;
    for (int64_t query = begin; query < n && query < begin + PREPARE_ROWS; query++) {
        const int64_t own = s->pairing->self_index[query];
        s->repeats[query] = own >= 0 && same_bytes(s->queries, query, s->training, own);
    }
}

/* The terms of a bound for one unit row. */
static void write_terms(const search *s, const float *unit, float *out) {
    double left = 1 + s->inflation;
    s->path->dots(unit, s->directions, s->length, s->identity, s->axes, out);
    for (int64_t j = 0; j < s->axes; j++) left -= (double)out[j] * out[j];
    out[s->axes] = left > 0 ? (float)sqrt(left) * (1 + 4 * UNIT_ROUNDOFF) : 0;
}

static void prepare_rows(void *context, int64_t item, int thread) {
    const search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->training->rows;
    const int64_t end = begin + PREPARE_ROWS < n ? begin + PREPARE_ROWS : n;
    (void)thread;
    int64_t rows[PREPARE_ROWS];
    for (int64_t i = 0; i < PREPARE_ROWS; i++) rows[i] = begin + i;
    scale_rows(s->training, rows, end - begin, s->scales + begin);
    for (int64_t row = begin; row < end; row++)
        unit_row(s, s->training, row, s->scales[row], s->units + row * s->length);
}

/* A unit row in fixed point. */
static void fix_row(const search *s, const float *row, int16_t *out) {
    for (int64_t k = 0; k < s->length; k++) out[k] = fixed(row[k]);
}

static void pack_rows(void *context, int64_t item, int thread) {
    const search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->training->rows, width = group_rows(s);
    const int64_t end = begin + PREPARE_ROWS < n ? begin + PREPARE_ROWS : n;
    int64_t class = class_of_rank(s, begin);
    (void)thread;
    for (int64_t rank = begin; rank < end; rank++) {
        while (rank >= s->classes.start[class + 1]) class++;
        const int64_t within = rank - s->classes.start[class], row = s->classes.order[rank];
        const int64_t group = s->first_group[class] + within / width;
        const float *terms = s->axes ? s->row_terms + row * s->terms : s->units + row * s->length;
        int16_t *out = s->packed + group * width * s->padded;
        for (int64_t k = 0; k < s->padded; k++)
            out[packed_place(s, within % width, k)] = k < s->terms ? fixed(terms[k]) : 0;
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

/* Leading principal axes by orthogonal iteration on evenly spaced training rows. Any directions
 * give right bounds; better ones give tighter bounds. */
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

/* What rounding to fixed point may change in a product of vectors of that many terms and that
 * length. */
static double fixed_error(double terms, double length) {
    const double each = 0.51 * sqrt(terms) / ONE;
    return each * (2 * length + each);
}

static void set_axes(search *s, int64_t axes) {
    s->axes = axes;
    s->terms = axes ? axes + 1 : s->training->columns;
    s->padded = (s->terms + 1) / 2 * 2;
    s->step = s->padded + 2;
    for (int64_t j = 0; j < MAX_AXES; j++) s->identity[j] = j;
    const double k = (double)s->terms;
    s->inflation = 2.5 * s->product_error * sqrt((double)axes) + 1.01 * s->skew;
    double error = fixed_error(k, 1 + s->inflation) + 40 * UNIT_ROUNDOFF;
    if (axes) error += 3 * sqrt(k) * s->product_error + 3 * s->skew;
    s->bound_error = (float)(error * 1.01);
    s->fixed_slack = fixed_start((float)fixed_error((double)s->length, 1.001));
    s->cell_error = (float)(fixed_error(k + 2, 1.5 + s->inflation) * 1.01);
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
            best = fmaxf(best, s->path->dot(unit, s->units + s->classes.order[rank] * d, d));
    for (int64_t j = 0; j < MAX_AXES; j++) terms[j] = s->path->dot(s->directions + j * d, unit, d);
    const int64_t step = (end - begin) / 256 + 1;
    for (int64_t rank = begin; rank < end; rank += step) {
        const float *row = s->units + s->classes.order[rank] * d;
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

/* Chooses the number of axes that makes the search cheapest; 0, whole products, where none helps.
 */
static void choose_axes(search *s) {
    static const int64_t choices[] = {4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32};
    const double per_term = 0.6 / group_rows(s); /* cycles a pair */
    const double per_survivor = 20 + (double)s->length / (2 * s->path->width);
    probing probing = {.s = s};
    double cheapest = per_term * (double)s->training->columns;
    set_axes(s, 0);
    confsim_parallel_for(PROBES, s->threads, probe, &probing);
    for (int i = 0; i < PROBES; i++)
        for (int64_t j = 0; j <= MAX_AXES; j++)
            probing.survivors[j] += probing.probes[i][j] / PROBES;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        const int64_t axes = choices[i];
        if (axes >= s->training->columns || s->product_error + s->skew > 0.005) break;
        const double cost = per_term * (double)(axes + 1) + per_survivor * probing.survivors[axes];
        if (cost >= cheapest) continue;
        cheapest = cost;
        set_axes(s, axes);
    }
}

/* ---- Cells of near rows ---------------------------------------------------------------------- */

/* Terms of rows and queries are nearly unit vectors whose product is the bound, so a cell's rows
 * within the angle r of its centre c all have bounds below t for a query q if q.c < cos(acos(t) +
 * r). */

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

static int64_t widest_term(const search *s, const keyed *rows, int64_t n) {
    double sums[MAX_AXES + 1] = {0}, squares[MAX_AXES + 1] = {0}, widest = -1;
    int64_t term = 0;
    const int64_t step = n / 512 + 1;
    for (int64_t i = 0; i < n; i += step)
        for (int64_t k = 0; k < s->terms; k++) {
            const double x = s->row_terms[rows[i].row * s->terms + k];
            sums[k] += x;
            squares[k] += x * x;
        }
    const double count = (double)((n + step - 1) / step);
    for (int64_t k = 0; k < s->terms; k++) {
        const double spread = squares[k] - sums[k] * sums[k] / count;
        if (spread <= widest) continue;
        widest = spread;
        term = k;
    }
    return term;
}

/* Orders `n` rows so that every CELL of them are near; returns the node. */
static int32_t grow(const search *s, keyed *rows, int64_t n, int64_t cell, split *splits,
                    int32_t *used) {
    if (n <= CELL) return ~(int32_t)cell;
    const int32_t node = (*used)++;
    const int64_t left = ((n + CELL - 1) / CELL + 1) / 2, term = widest_term(s, rows, n);
    for (int64_t i = 0; i < n; i++) rows[i].key = s->row_terms[rows[i].row * s->terms + term];
    select_first(rows, n, left * CELL);
    splits[node].term = (int32_t)term;
    splits[node].cut = rows[left * CELL].key;
    for (int64_t i = left * CELL; i < n; i++)
        splits[node].cut = fminf(splits[node].cut, rows[i].key);
    splits[node].left = grow(s, rows, left * CELL, cell, splits, used);
    splits[node].right = grow(s, rows + left * CELL, n - left * CELL, cell + left, splits, used);
    return node;
}

static int64_t leaf_of(const search *s, int64_t class, const float *terms) {
    if (s->first_cell[class + 1] - s->first_cell[class] == 1) return 0;
    int32_t node = 0;
    while (node >= 0) {
        const split *here = s->splits + s->first_cell[class] + node;
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
static void write_centre(const search *s, int64_t rank, int64_t count, int16_t *out,
                         int64_t place) {
    enum { STEPS = 24 };
    float rows[MAX_AXES + 1][CELL], centre[MAX_AXES + 1] = {0}, best[MAX_AXES + 1] = {0},
                                                      narrowest = -2;
    const int64_t terms = s->terms;
    for (int64_t i = 0; i < CELL; i++) {
        const float *row = s->row_terms + s->classes.order[rank + (i < count ? i : 0)] * s->terms;
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
    out[packed_place(s, place, s->padded)] = fixed(useful ? (float)cosine : 0);
    out[packed_place(s, place, s->padded + 1)] =
        fixed(useful ? (float)sqrt(1 - cosine * cosine) : 1);
}

static void list_terms(void *context, int64_t item, int thread) {
    const search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->training->rows;
    (void)thread;
    for (int64_t row = begin; row < n && row < begin + PREPARE_ROWS; row++) {
        write_terms(s, s->units + row * s->length, s->row_terms + row * s->terms);
        fix_row(s, s->units + row * s->length, s->fixed_units + row * s->length);
    }
}

static CONFSIM_MUST_CHECK confsim_status build_cells(search *s) {
    const int64_t n = s->training->rows, width = group_rows(s), step = s->step;
    const int64_t cells = s->first_cell[s->classes.count];
    const int64_t centres = s->first_centre[s->classes.count] * width * step;
    s->row_terms = floats(n * s->terms);
    s->centres = calloc((size_t)centres, sizeof *s->centres);
    s->splits = malloc((size_t)cells * sizeof *s->splits);
    keyed *rows = malloc((size_t)n * sizeof *rows);
    s->fixed_units = malloc((size_t)(n * s->length) * sizeof *s->fixed_units);
    if (!s->fixed_units || !s->row_terms || !s->centres || !s->splits || !rows) {
        free(rows);
        return CONFSIM_NO_MEMORY;
    }
    confsim_parallel_for((n + PREPARE_ROWS - 1) / PREPARE_ROWS, s->threads, list_terms, s);
    for (int64_t rank = 0; rank < n; rank++) rows[rank].row = (int32_t)s->classes.order[rank];
    for (int64_t c = 0; c < s->classes.count; c++) {
        int32_t used = 0;
        const int64_t begin = s->classes.start[c], end = s->classes.start[c + 1];
        grow(s, rows + begin, end - begin, 0, s->splits + s->first_cell[c], &used);
        for (int64_t rank = begin; rank < end; rank++) s->classes.order[rank] = rows[rank].row;
        for (int64_t cell = 0; cell < s->first_cell[c + 1] - s->first_cell[c]; cell++) {
            const int64_t rank = begin + cell * CELL, rest = end - rank;
            write_centre(s, rank, rest < CELL ? rest : CELL,
                         s->centres + (s->first_centre[c] + cell / width) * width * step,
                         cell % width);
        }
    }
    free(rows);
    return CONFSIM_OK;
}

/* ---- The search ----------------------------------------------------------------------------- */

/* One query of a block on its way to its nearest other training row. */
typedef struct {
    int64_t query, own; /* own: its training row, -1 for none */
    scale scale;
    const float *row;         /* unit row */
    const int16_t *fixed_row; /* the same in fixed point, where there are axes */
    int16_t *terms;           /* of bounds; with axes, two more for cells */
    double *unit;             /* float64 unit row, made when it is first needed */
    int unit_ready;
    float best, keep; /* largest product so far, and how large one must be to matter */
    int32_t start;    /* of a bound's sum that reaches what matters where it is not negative */
    double distance;  /* nearest so far by the answer's arithmetic; infinite for none */
    int64_t index;
    int kept;
    int64_t rows[KEPT];
    float products[KEPT];
} candidate_list;

/* The training rows of a cell. */
typedef struct {
    const int64_t *rows;
    int64_t count, lowest;
    int groups;
    const int16_t *packed;
} cell_rows;

/* One thread's memory: a block of queries. */
typedef struct {
    candidate_list lists[BLOCK];
    double *units64;
    float *units;
    int16_t *terms, *fixed_rows;
    int64_t pairs; /* that wait for their whole products */
    candidate_list *pair_lists[PAIRS];
    int64_t pair_rows[PAIRS];
    int64_t
        waiting[MAX_GROUP]; /* for each cell of a group: how many queries cannot do without it */
    uint8_t places[MAX_GROUP][BLOCK]; /* and which */
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
        unit_part(s->queries, list->query, 0, s->queries->columns, list->scale, list->unit);
    list->unit_ready = 1;
    return angular_distance(list->unit, list->scale.norm == 0, s->training, row, scale);
}

/* Compares what was kept by the answer's arithmetic. */
static void resolve(const search *s, candidate_list *list) {
    for (int i = 0; i < list->kept; i++) {
        const int64_t row = list->rows[i];
        if (list->products[i] < list->keep || (list->distance == 0 && row > list->index)) continue;
        const double distance = distance_to(s, list, row, s->scales[row]);
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
            list->rows[kept] = list->rows[i];
            list->products[kept++] = list->products[i];
        }
    list->kept = kept;
    if (kept <= KEPT / 2) return;
    resolve(s, list);
}

static inline float low_of(const search *s, const candidate_list *list) {
    return list->keep - s->product_error - s->bound_error;
}

static inline void raise_best(const search *s, candidate_list *list, float product) {
    if (product <= list->best) return;
    list->best = product;
    if (product - s->window <= list->keep) return;
    list->keep = product - s->window;
    list->start = fixed_start(-low_of(s, list));
}

static void consider(const search *s, candidate_list *list, int64_t row, float product) {
    if (product < list->keep || row == list->own) return;
    raise_best(s, list, product);
    if (list->kept == KEPT) make_room(s, list);
    if (product < list->keep) return;
    list->rows[list->kept] = row;
    list->products[list->kept++] = product;
}

/* Products with the rows of a query's own cell, no larger than what the search will find for them.
 */
static void guess_products(const search *s, const candidate_list *list, const int64_t *rows,
                           int64_t count, float *out) {
    const int16_t *queries[CELL], *fixed_rows[CELL];
    int32_t products[CELL];
    if (!s->axes) {
        s->path->dots(list->row, s->units, s->length, rows, count, out);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        queries[i] = list->fixed_row;
        fixed_rows[i] = s->fixed_units + rows[i] * s->length;
    }
    s->path->fixed_products(queries, fixed_rows, s->length, count, products);
    for (int64_t i = 0; i < count; i++)
        out[i] = (float)(products[i] - s->fixed_slack) / (ONE * ONE) - 2 * s->product_error;
}

static void first_guess(const search *s, candidate_list *list, int64_t class) {
    const int64_t cell = s->axes ? s->leaves[list->query] : 0;
    const int64_t rank = s->classes.start[class] + cell * CELL;
    const int64_t rest = s->classes.start[class + 1] - rank;
    const int64_t count = rest < CELL ? rest : CELL, *rows = s->classes.order + rank;
    float products[CELL];
    guess_products(s, list, rows, count, products);
    for (int64_t i = 0; i < count; i++)
        if (rows[i] != list->own) raise_best(s, list, products[i]);
}

static void start_list(const search *s, block *b, int64_t place, int64_t query, scale scale) {
    const int64_t *self = s->pairing->self_index;
    candidate_list *list = &b->lists[place];
    const int64_t repeated = repeated_row(s, query);
    float *row =
        (repeated < 0 ? b->units : s->units) + (repeated < 0 ? place : repeated) * s->length;
    if (repeated < 0) unit_row(s, s->queries, query, scale, row);
    list->query = query;
    list->own = self ? self[query] : -1;
    list->scale = scale;
    list->row = row;
    list->fixed_row = NULL;
    if (s->axes && repeated >= 0) list->fixed_row = s->fixed_units + repeated * s->length;
    if (s->axes && repeated < 0) {
        fix_row(s, row, b->fixed_rows + place * s->length);
        list->fixed_row = b->fixed_rows + place * s->length;
    }
    list->terms = (s->axes ? s->query_terms : b->terms) + (s->axes ? query : place) * s->step;
    for (int64_t k = 0; k < s->padded && !s->axes; k++)
        list->terms[k] = k < s->terms ? fixed(row[k]) : 0;
    list->unit = b->units64 + place * s->queries->columns;
    list->unit_ready = 0;
    list->best = list->keep = -2;
    list->start = fixed_start(-low_of(s, list));
    list->distance = INFINITY;
    list->index = -1;
    list->kept = 0;
}

static void load_block(const search *s, block *b, const int64_t *queries, int64_t count,
                       int64_t class) {
    scale scales[BLOCK];
    if (s->axes)
        for (int64_t i = 0; i < count; i++) scales[i] = s->query_scales[queries[i]];
    else
        scale_rows(s->queries, queries, count, scales);
    for (int64_t i = 0; i < count; i++) {
        start_list(s, b, i, queries[i], scales[i]);
        first_guess(s, &b->lists[i], class);
    }
}

/* Lists for each cell of a group the queries of a block that cannot do without it. */
static void find_live(const search *s, block *b, int64_t count, const int16_t *centres) {
    const int tile = s->path->tile;
    const int32_t slack =
        fixed_start(s->bound_error + s->cell_error + 2 * (float)s->inflation + 2e-5f);
    hits found[MAX_TILE];
    memset(b->waiting, 0, sizeof b->waiting);
    for (int64_t begin = 0; begin < count; begin += tile) {
        const int some = count - begin < tile ? (int)(count - begin) : tile;
        const int16_t *queries[MAX_TILE];
        int32_t start[MAX_TILE];
        for (int i = 0; i < tile; i++) {
            candidate_list *list = &b->lists[begin + (i < some ? i : 0)];
            const float low = low_of(s, list) - s->bound_error - (float)s->inflation - 1e-6f;
            const double square = low >= 0 ? fmax(0, 1 - (double)low * low) : 0;
            list->terms[s->padded] = fixed(low >= 0 ? -low : 0);
            list->terms[s->padded + 1] = fixed((float)sqrt(square));
            queries[i] = list->terms;
            start[i] = low >= 0 ? slack : ALWAYS;
        }
        const int hit = s->path->sift(queries, start, centres, s->step / 2, 1, found);
        for (int i = 0; i < hit && found[i].query < some; i++)
            for (uint32_t bits = found[i].rows; bits; bits &= bits - 1) {
                const int cell = __builtin_ctz(bits);
                b->places[cell][b->waiting[cell]++] = (uint8_t)(begin + found[i].query);
            }
    }
}

/* Drops pairs whose products cannot matter by the products in fixed point. */
static void thin_pairs(const search *s, block *b) {
    const int16_t *queries[PAIRS], *rows[PAIRS];
    int32_t products[PAIRS];
    int64_t kept = 0;
    for (int64_t i = 0; i < b->pairs; i++) {
        queries[i] = b->pair_lists[i]->fixed_row;
        rows[i] = s->fixed_units + b->pair_rows[i] * s->length;
    }
    s->path->fixed_products(queries, rows, s->length, b->pairs, products);
    for (int64_t i = 0; i < b->pairs; i++) {
        b->pair_lists[kept] = b->pair_lists[i];
        b->pair_rows[kept] = b->pair_rows[i];
        kept += products[i] + b->pair_lists[i]->start + s->fixed_slack >= 0;
    }
    b->pairs = kept;
}

/* Whole products of what the bounds left over. */
static void multiply_pairs(const search *s, block *b) {
    const float *queries[PAIRS], *rows[PAIRS];
    float products[PAIRS];
    if (s->axes) thin_pairs(s, b);
    for (int64_t i = 0; i < b->pairs; i++) {
        queries[i] = b->pair_lists[i]->row;
        rows[i] = s->units + b->pair_rows[i] * s->length;
    }
    s->path->products(queries, rows, s->length, b->pairs, products);
    for (int64_t i = 0; i < b->pairs; i++)
        consider(s, b->pair_lists[i], b->pair_rows[i], products[i]);
    b->pairs = 0;
}

/* Bounds of a tile of queries and the rows of a cell. */
static void search_tile(const search *s, block *b, const uint8_t *places, int64_t count,
                        cell_rows cell) {
    const int64_t width = group_rows(s);
    const int16_t *queries[MAX_TILE];
    int32_t start[MAX_TILE];
    hits found[MAX_TILE * CELL / 8 + 1];
    for (int i = 0; i < s->path->tile; i++) {
        const candidate_list *list = &b->lists[places[i < count ? i : 0]];
        /* Nothing is nearer than 0: only a lower row could still win. */
        const int done = list->distance == 0 && list->index < cell.lowest;
        queries[i] = list->terms;
        start[i] = i >= count || done ? NEVER : list->start;
    }
    const int hit = s->path->sift(queries, start, cell.packed, s->padded / 2, cell.groups, found);
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

static void search_cell(const search *s, block *b, const uint8_t *places, int64_t count,
                        int64_t class, int64_t cell) {
    const int64_t tile = s->path->tile, width = group_rows(s);
    const int64_t rank = s->classes.start[class] + cell * CELL;
    const int64_t rest = s->classes.start[class + 1] - rank;
    const cell_rows here = {
        .rows = s->classes.order + rank,
        .count = rest < CELL ? rest : CELL,
        .groups = (int)((rest < CELL ? rest + width - 1 : CELL) / width),
        .packed = s->packed + (s->first_group[class] * width + cell * CELL) * s->padded,
        .lowest = s->lowest[s->first_cell[class] + cell],
    };
    for (int64_t i = 0; i < count; i += tile)
        search_tile(s, b, places + i, count - i < tile ? count - i : tile, here);
    multiply_pairs(s, b);
}

/* Goes through the groups of cells in a ring, from where the block's queries are at home. */
static void scan(const search *s, block *b, int64_t class, int64_t count) {
    const int64_t width = group_rows(s), cells = s->first_cell[class + 1] - s->first_cell[class];
    const int64_t groups = (cells + width - 1) / width;
    const int64_t home = s->axes ? s->leaves[b->lists[count / 2].query] / width : 0;
    b->pairs = 0;
    for (int64_t i = 0; i < count && !s->axes; i++) b->places[0][i] = (uint8_t)i;
    for (int64_t i = 0; i < groups; i++) {
        const int64_t group = (home + i) % groups, first = group * width;
        if (s->axes)
            find_live(s, b, count, s->centres + (s->first_centre[class] + group) * width * s->step);
        for (int64_t j = 0; j < width && first + j < cells; j++)
            search_cell(s, b, b->places[s->axes ? j : 0], s->axes ? b->waiting[j] : count, class,
                        first + j);
    }
}

static void put(double *distance, int64_t *index, int64_t query, double found, int64_t row) {
    if (distance) distance[query] = row < 0 ? NAN : found;
    if (index) index[query] = row < 0 ? -1 : row;
}

static double distance_to_own(const search *s, candidate_list *list) {
    scale scale;
    if (repeated_row(s, list->query) >= 0) return 0; /* rows of equal bytes are exactly 0 apart */
    scale_rows(s->training, &list->own, 1, &scale);
    return distance_to(s, list, list->own, scale);
}

/* The search left out the query's own row, which now competes with the winner. */
static void answer(const search *s, candidate_list *list, int64_t class) {
    resolve(s, list);
    put(s->answer->distance_other, s->answer->index_other, list->query, list->distance,
        list->index);
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
    put(s->answer->distance, s->answer->index, list->query, distance, index);
}

#include "nearest/angular_crowd.inc"

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
    if (s->crowd.units) {
        crowd_item(s, b, queries, count, class);
    } else {
        load_block(s, b, queries, count, class);
        scan(s, b, class, count);
    }
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
    free(s->row_terms);
    free(s->first_cell);
    free(s->first_centre);
    free(s->lowest);
    free(s->centres);
    free(s->splits);
    free(s->query_terms);
    free(s->query_scales);
    free(s->leaves);
    free(s->repeats);
    free(s->fixed_units);
    crowd_free(&s->crowd);
}

static CONFSIM_MUST_CHECK confsim_status list_cells(search *s) {
    const int64_t count = s->classes.count, width = group_rows(s);
    s->first_cell = malloc(((size_t)count + 1) * sizeof *s->first_cell);
    s->first_centre = malloc(((size_t)count + 1) * sizeof *s->first_centre);
    if (!s->first_cell || !s->first_centre) return CONFSIM_NO_MEMORY;
    s->first_cell[0] = s->first_centre[0] = 0;
    for (int64_t c = 0; c < count; c++) {
        const int64_t cells = (s->classes.start[c + 1] - s->classes.start[c] + CELL - 1) / CELL;
        s->first_cell[c + 1] = s->first_cell[c] + cells;
        s->first_centre[c + 1] = s->first_centre[c] + (cells + width - 1) / width;
    }
    s->lowest = malloc((size_t)s->first_cell[count] * sizeof *s->lowest);
    return s->lowest ? CONFSIM_OK : CONFSIM_NO_MEMORY;
}

static void find_lowest(search *s, int64_t class) {
    for (int64_t rank = s->classes.start[class]; rank < s->classes.start[class + 1]; rank++) {
        const int64_t within = rank - s->classes.start[class], row = s->classes.order[rank];
        int64_t *lowest = &s->lowest[s->first_cell[class] + within / CELL];
        if (within % CELL == 0 || row < *lowest) *lowest = row;
    }
}

static void locate_query(const search *s, int64_t query, const float *terms) {
    const int64_t class = training_class(s, query);
    int16_t *out = s->query_terms + query * s->step;
    for (int64_t k = 0; k < s->padded; k++) out[k] = k < s->terms ? fixed(terms[k]) : 0;
    s->leaves[query] = class < 0 ? 0 : (int32_t)leaf_of(s, class, terms);
}

static void locate_queries(void *context, int64_t item, int thread) {
    const search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->queries->rows;
    const int64_t end = n - begin < PREPARE_ROWS ? n : begin + PREPARE_ROWS;
    int64_t fresh[PREPARE_ROWS], count = 0;
    scale scales[PREPARE_ROWS];
    float *unit = floats(s->length);
    (void)thread;
    for (int64_t query = begin; query < end; query++) {
        const int64_t own = repeated_row(s, query);
        s->leaves[query] = -1; /* no memory */
        if (!unit) continue;
        if (own < 0) {
            fresh[count++] = query;
            continue;
        }
        s->query_scales[query] = s->scales[own];
        locate_query(s, query, s->row_terms + own * s->terms);
    }
    if (count > 0) scale_rows(s->queries, fresh, count, scales);
    for (int64_t i = 0; i < count; i++) {
        float terms[MAX_AXES + 1];
        s->query_scales[fresh[i]] = scales[i];
        unit_row(s, s->queries, fresh[i], scales[i], unit);
        write_terms(s, unit, terms);
        locate_query(s, fresh[i], terms);
    }
    free(unit);
}

/* Brings the queries of a class into the order of their cells. */
static CONFSIM_MUST_CHECK confsim_status order_queries(search *s) {
    const int64_t n = s->queries->rows;
    s->query_terms = malloc((size_t)(n * s->step) * sizeof *s->query_terms);
    s->query_scales = malloc((size_t)n * sizeof *s->query_scales);
    s->leaves = malloc((size_t)n * sizeof *s->leaves);
    int64_t *order = malloc((size_t)n * sizeof *order);
    int64_t *next = malloc((size_t)(s->first_cell[s->classes.count] + 1) * sizeof *next);
    int failed = !s->query_terms || !s->query_scales || !s->leaves || !order || !next;
    if (!failed)
        confsim_parallel_for((n + PREPARE_ROWS - 1) / PREPARE_ROWS, s->threads, locate_queries, s);
    for (int64_t i = 0; i < n && !failed; i++) failed = s->leaves[i] < 0;
    for (int64_t c = 0; c < s->query_classes.count && !failed; c++) {
        const int64_t begin = s->query_classes.start[c], end = s->query_classes.start[c + 1];
        const int64_t *from = s->query_classes.order;
        if (begin == end) continue;
        const int64_t class = training_class(s, from[begin]);
        if (class < 0) {
            memcpy(order + begin, from + begin, (size_t)(end - begin) * sizeof *order);
            continue;
        }
        const int64_t cells = s->first_cell[class + 1] - s->first_cell[class];
        memset(next, 0, ((size_t)cells + 1) * sizeof *next);
        for (int64_t i = begin; i < end; i++) next[s->leaves[from[i]] + 1]++;
        for (int64_t cell = 0; cell < cells; cell++) next[cell + 1] += next[cell];
        for (int64_t i = begin; i < end; i++) order[begin + next[s->leaves[from[i]]]++] = from[i];
    }
    free(next);
    free(failed ? (void *)order : (void *)s->query_classes.order);
    if (failed) return CONFSIM_NO_MEMORY;
    s->query_classes.order = order;
    return CONFSIM_OK;
}

static CONFSIM_MUST_CHECK confsim_status search_build(search *s) {
    const int64_t n = s->training->rows, width = group_rows(s);
    const int64_t items = (n + PREPARE_ROWS - 1) / PREPARE_ROWS;
    s->length = (s->training->columns + width - 1) / width * width;
    s->product_error = ((float)s->length / 4 + 24) * UNIT_ROUNDOFF;
    /* What float32 may misjudge on both sides, and what float64 answers may. */
    s->window = 2 * s->product_error + ((float)s->length + 32) * 0x1p-49f;
    if (confsim_classes_build(&s->classes, s->pairing->training_labels, n))
        return CONFSIM_NO_MEMORY;
    if (confsim_classes_build(&s->query_classes, s->pairing->query_labels, s->queries->rows))
        return CONFSIM_NO_MEMORY;
    s->units = floats(n * s->length);
    s->scales = malloc((size_t)n * sizeof *s->scales);
    s->first_group = malloc(((size_t)s->classes.count + 1) * sizeof *s->first_group);
    s->directions = floats(MAX_AXES * s->length);
    if (!s->units || !s->scales || !s->first_group || !s->directions) return CONFSIM_NO_MEMORY;
    confsim_parallel_for(items, s->threads, prepare_rows, s);
    if (s->pairing->self_index) {
        const int64_t q = s->queries->rows;
        s->repeats = malloc((size_t)q);
        if (!s->repeats) return CONFSIM_NO_MEMORY;
        confsim_parallel_for((q + PREPARE_ROWS - 1) / PREPARE_ROWS, s->threads, find_repeats, s);
    }
    set_axes(s, 0);
    if (s->queries->rows >= PROBES && n >= CROWDED_ONE_IN && is_crowded(s)) return crowd_build(s);
    if (s->queries->rows >= SMALL && n >= SMALL && n <= INT32_MAX && s->training->columns >= 8) {
        if (find_directions(s)) return CONFSIM_NO_MEMORY;
        choose_axes(s);
    }
    if (list_cells(s)) return CONFSIM_NO_MEMORY;
    if (s->axes && (build_cells(s) || order_queries(s))) return CONFSIM_NO_MEMORY;
    for (int64_t c = 0; c < s->classes.count; c++) find_lowest(s, c);
    s->first_group[0] = 0;
    for (int64_t c = 0; c < s->classes.count; c++)
        s->first_group[c + 1] =
            s->first_group[c] + (s->classes.start[c + 1] - s->classes.start[c] + width - 1) / width;
    /* What pads a class's last group is zero. */
    s->packed =
        calloc((size_t)(s->first_group[s->classes.count] * width * s->padded), sizeof *s->packed);
    if (!s->packed) return CONFSIM_NO_MEMORY;
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
        free(blocks[i].terms);
        free(blocks[i].fixed_rows);
    }
    free(blocks);
}

static block *blocks_build(const search *s) {
    block *blocks = calloc((size_t)s->threads, sizeof *blocks);
    for (int i = 0; blocks && i < s->threads; i++) {
        blocks[i].units64 = malloc((size_t)(BLOCK * s->queries->columns) * sizeof(double));
        blocks[i].units = floats(BLOCK * s->length);
        blocks[i].terms = malloc((size_t)(BLOCK * s->step) * sizeof(int16_t));
        blocks[i].fixed_rows = malloc((size_t)(BLOCK * s->length) * sizeof(int16_t));
        if (blocks[i].units64 && blocks[i].units && blocks[i].terms && blocks[i].fixed_rows)
            continue;
        blocks_free(blocks, s->threads);
        return NULL;
    }
    return blocks;
}

confsim_status confsim_angular_nearest(const confsim_matrix *queries,
                                       const confsim_matrix *training,
                                       const confsim_pairing *pairing,
                                       const confsim_nearest *answer, int threads,
                                       confsim_isa isa) {
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
