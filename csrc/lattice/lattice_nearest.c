#include "lattice/lattice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/classes.h"
#include "core/parallel.h"
#include "core/arena.h"

#ifdef CONFSIM_X86
#include <immintrin.h>
#endif
#ifdef CONFSIM_NEON
#include <arm_neon.h>
#endif

/* ---------------------------------------------------------------- coordinates and labels */

enum { IDS_PER_ITEM = 1 << 14 };

int confsim_lattice_ascending(const int64_t *ids, int64_t count) {
    enum { BLOCK = 1024 };
    for (int64_t begin = 1; begin < count; begin += BLOCK) {
        const int64_t end = begin + BLOCK < count ? begin + BLOCK : count;
        int64_t wrong = 0;
        for (int64_t i = begin; i < end; i++) wrong |= ids[i] <= ids[i - 1];
        if (wrong) return 0;
    }
    return 1;
}

typedef struct {
    const confsim_lattice *lattice;
    const confsim_ids *ids;
    const double *weights;
    double bias;
    double *points;
    int8_t *labels;
} derivation;

/* Where a walk along ids is: neighbours differ in the last axis only and need no division. */
typedef struct {
    int64_t id, last; /* the previous id and its last axis; -1 before the first */
    double point[64];
    double score; /* of all axes but the last */
} walk;

static int64_t id_at(const confsim_ids *ids, int64_t position) {
    return ids->ids ? ids->ids[position] : ids->start + position;
}

static void step_to(const derivation *work, walk *w, int64_t id) {
    const confsim_lattice *lattice = work->lattice;
    const int64_t last = w->last + (id - w->id), end = lattice->dimensions - 1;
    const int stays = w->last >= 0 && last >= 0 && last < lattice->per_axis;
    w->id = id;
    w->last = stays ? last : id % lattice->per_axis;
    if (!stays) {
        int64_t rest = id / lattice->per_axis;
        for (int64_t k = end - 1; k >= 0; k--) {
            w->point[k] = (double)(rest % lattice->per_axis) * lattice->step;
            rest /= lattice->per_axis;
        }
        w->score = 0;
        for (int64_t k = 0; work->weights && k < end; k++)
            w->score += work->weights[k] * w->point[k];
    }
    w->point[end] = (double)w->last * lattice->step;
}

static void derive_item(void *context, int64_t item, int thread) {
    const derivation *work = context;
    const int64_t d = work->lattice->dimensions;
    const int64_t begin = item * IDS_PER_ITEM, rest = work->ids->count - begin;
    const int64_t end = begin + (rest < IDS_PER_ITEM ? rest : IDS_PER_ITEM);
    walk w = {.last = -1};
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        step_to(work, &w, id_at(work->ids, i));
        if (work->points)
            for (int64_t k = 0; k < d; k++) work->points[i * d + k] = w.point[k];
        if (work->labels) {
            const double score = w.score + work->weights[d - 1] * w.point[d - 1];
            work->labels[i] = score + work->bias > 0 ? 1 : -1;
        }
    }
}

static void derive(const derivation *work, int threads) {
    confsim_parallel_for((work->ids->count + IDS_PER_ITEM - 1) / IDS_PER_ITEM, threads, derive_item,
                         (void *)work);
}

void confsim_lattice_points(const confsim_lattice *lattice, const confsim_ids *ids, double *points,
                            int threads) {
    derive(&(derivation){.lattice = lattice, .ids = ids, .points = points}, threads);
}

void confsim_lattice_labels(const confsim_lattice *lattice, const confsim_ids *ids,
                            const double *weights, double bias, int8_t *labels, int threads) {
    derive(
        &(derivation){
            .lattice = lattice, .ids = ids, .weights = weights, .bias = bias, .labels = labels},
        threads);
}

/* ---------------------------------------------------------------- nearest training points
 *
 * The lattice is cut into planes of the last two axes, planes into bands of rows (the items that
 * threads share), bands into chunks of columns, chunks into tiles. Each box of this hierarchy keeps
 * the training points that could be nearest to one of its points; a tile compares the few that
 * remain with all of its points at once, in integers. A finished band is stored in the order of the
 * queries; points that nobody asked for are computed and dropped. */

enum {
    SIDE = 16, /* rows and columns of a tile */
    BAND_ROWS = 32,
    CHUNK_TILES = 4,   /* side by side */
    WINDOW = 256,      /* queries that are stored at once, when nobody among them is a member */
    MOST_AT_ONCE = 64, /* candidates that one pass over a tile compares */
    FEW = 6,           /* candidates that are not worth filtering again */
    MANY = 128,        /* candidates of a band that are worth bounding by chunks */
    FAR_AWAY = 1 << 30,
    PADDING = 16,
    FEW_CLASSES = 4,  /* so few that a label is compared with each of them */
    BEYOND = 1 << 15, /* a coordinate farther from all points than any two of them are apart */
    NO_CLASS = -1,    /* of a query whose label no training point has */
    NO_QUERY = -2,    /* of a point that nobody asked for */
    SEVERAL = -3      /* of a tile's queries: they are of several classes */
};

/* For a squared distance: there is no such point. */
#define NO_SUM UINT32_MAX

/* Training points, or some of them: row, column, and the squared distance that their other axes
 * add; padded by PADDING entries that are too far away to count. */
typedef struct {
    int32_t *row, *column, *base, *index;
    int64_t count;
} candidates;

typedef struct {
    int32_t row_low, row_high, column_low, column_high;
} box;

/* A member's point, in units. */
typedef struct {
    int32_t row, column;
    int32_t leading[62]; /* its other axes: those of its plane */
} spot;

/* Training points of one class in square cells of their last two axes: where members look for their
 * nearest other point. Cells follow each other row by row; a point whose place is past the last one
 * is too far away to count. */
typedef struct {
    int64_t count, leading; /* points, and axes before the last two */
    int32_t *column, *row;  /* of the point at place i */
    int32_t *axes;          /* its leading coordinate k is axes[k * (count + PADDING) + i] */
    int32_t *index;         /* ascending within a cell */
    int32_t *start;         /* the place of each cell's first point, and the end */
    int32_t row_low, column_low;
    int32_t rows, columns; /* of cells */
    int shift;             /* a cell's side is 1 << shift units */
} cells;

typedef struct {
    int32_t rows[SIDE] __attribute__((aligned(64)));
    int32_t columns[SIDE] __attribute__((aligned(64)));
    int bits; /* of a key that number a candidate */
} tile;

typedef struct {
    int32_t (*bound)(const candidates *in, const box *b, int32_t *smallest);
    void (*keep)(const candidates *in, candidates *out, int32_t bound, const int32_t *smallest);
    void (*compare)(const candidates *list, const tile *t, uint32_t *sums, int32_t *index,
                    int64_t stride);
    void (*emit)(const uint32_t *sums, const int32_t *index, int64_t count, double unit,
                 const confsim_nearest *out, int64_t at);
    int64_t (*next_member)(const int64_t *self, int64_t begin, int64_t end);
    uint32_t (*other)(const cells *grid, const box *span, const spot *at, int32_t self,
                      int32_t *nearest);
    void (*encode)(const void *labels, int bytes, int32_t count, const confsim_classes *classes,
                   int32_t *codes);
    int32_t (*next_code)(const int32_t *codes, int64_t stride, int32_t code);
    void (*merge)(const int32_t *codes, int64_t stride, int32_t code, const uint32_t *from_sums,
                  const int32_t *from_index, uint32_t *sums, int32_t *index);
    int (*uniform)(const void *labels, int bytes, int64_t stride, int32_t rows, int32_t columns);
} kernels;

static void pad_candidates(candidates *list) {
    for (int i = 0; i < PADDING; i++) {
        list->row[list->count + i] = list->column[list->count + i] = 0;
        list->base[list->count + i] = FAR_AWAY;
    }
}

#define NAME(x) x##_portable
#define TARGET
#define WIDTH 1
#define VEC uint32_t
#define LOAD(p) ((uint32_t)*(p))
#define STORE(p, v) (*(p) = (int32_t)(v))
#define SET1(x) ((uint32_t)(x))
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define SHIFT(a, n) ((a) << (n))
#define MAX(a, b) ((int32_t)(a) > (int32_t)(b) ? (a) : (b))
#define MIN(a, b) ((int32_t)(a) < (int32_t)(b) ? (a) : (b))
#define OR(a, b) ((a) | (b))
#define UMIN(a, b) ((a) < (b) ? (a) : (b))
#define ROOTS(sums, unit, out, turn)                                                               \
    for (int i = 0; i < SIDE; i++) (out)[i] = sqrt((double)(int32_t)(sums)[i]) * (unit)
#include "lattice/lattice_simd.inc"
#include "lattice/lattice_undef.inc"

#ifdef CONFSIM_X86
#define NAME(x) x##_avx2
#define TARGET CONFSIM_TARGET_AVX2
#define WIDTH 8
#define VEC __m256i
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define SET1(x) _mm256_set1_epi32((int)(x))
#define ADD _mm256_add_epi32
#define SUB _mm256_sub_epi32
#define MUL _mm256_mullo_epi32
#define SHIFT _mm256_slli_epi32
#define MAX _mm256_max_epi32
#define MIN _mm256_min_epi32
#define OR _mm256_or_si256
#define UMIN _mm256_min_epu32
#define ROOTS(sums, unit, out, turn)                                                               \
    for (int i = 0; i < SIDE; i += 4)                                                              \
    _mm256_storeu_pd((out) + i, _mm256_mul_pd(_mm256_set1_pd(unit),                                \
                                              _mm256_sqrt_pd(_mm256_cvtepi32_pd(_mm_loadu_si128(   \
                                                  (const __m128i *)((sums) + i))))))
#include "lattice/lattice_simd.inc"
#include "lattice/lattice_undef.inc"

/* Correctly rounded square roots of integers below 2^28, faster than the divider's: an estimate,
 * Newton's step, and a last correction by the exact remainder (Markstein 1990). That no rounding is
 * ever off is not left to the theorem: the C tests compare every one of the 2^28. */
CONFSIM_TARGET_AVX512 static __m512d root_of_half(__m256i sums, __m256 estimate) {
    const __m512d s = _mm512_cvtepi32_pd(sums), y = _mm512_cvtps_pd(estimate);
    __m512d root = _mm512_mul_pd(s, y), half = _mm512_mul_pd(y, _mm512_set1_pd(0.5));
    const __m512d error = _mm512_fnmadd_pd(root, half, _mm512_set1_pd(0.5));
    root = _mm512_fmadd_pd(root, error, root);
    half = _mm512_fmadd_pd(half, error, half);
    return _mm512_fmadd_pd(_mm512_fnmadd_pd(root, root, s), half, root);
}

/* Every second turn the divider, which works on its own, takes half of them. */
CONFSIM_TARGET_AVX512 static void roots_avx512(const uint32_t *sums, double unit, double *out,
                                               int64_t turn) {
    const __m512i all = _mm512_loadu_si512(sums);
    /* Zero gets the estimate of one, and its root stays zero. */
    const __m512 s = _mm512_cvtepi32_ps(_mm512_max_epi32(all, _mm512_set1_epi32(1)));
    const __m512 y = _mm512_rsqrt14_ps(s);
    const __m512 error = _mm512_fnmadd_ps(
        _mm512_mul_ps(s, y), _mm512_mul_ps(y, _mm512_set1_ps(0.5F)), _mm512_set1_ps(0.5F));
    const __m512 estimate = _mm512_fmadd_ps(y, error, y);
    const __m512d scale = _mm512_set1_pd(unit);
    const __m512d low = root_of_half(_mm512_castsi512_si256(all), _mm512_castps512_ps256(estimate));
    const __m256i rest = _mm512_extracti64x4_epi64(all, 1);
    const __m512d high = turn % 2 ? _mm512_sqrt_pd(_mm512_cvtepi32_pd(rest))
                                  : root_of_half(rest, _mm512_extractf32x8_ps(estimate, 1));
    _mm512_storeu_pd(out, _mm512_mul_pd(low, scale));
    _mm512_storeu_pd(out + 8, _mm512_mul_pd(high, scale));
}

#define NAME(x) x##_avx512
#define TARGET CONFSIM_TARGET_AVX512
#define WIDTH 16
#define VEC __m512i
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define SET1(x) _mm512_set1_epi32((int)(x))
#define ADD _mm512_add_epi32
#define SUB _mm512_sub_epi32
#define MUL _mm512_mullo_epi32
#define SHIFT _mm512_slli_epi32
#define MAX _mm512_max_epi32
#define MIN _mm512_min_epi32
#define OR _mm512_or_si512
#define UMIN _mm512_min_epu32
#define ROOTS roots_avx512
#define LOOK_UP(table, numbers, out)                                                               \
    STORE(out, _mm512_permutexvar_epi32(LOAD(numbers), LOAD(table)))
/* Compressed in a register, then stored whole: a compressing store is microcode on AMD Zen 4, a
 * hundred cycles and more. What a store writes beyond the kept entries fits into the padding. */
#define KEEP_COLUMN(keep, from, to)                                                                \
    STORE(to, _mm512_maskz_compress_epi32(keep, _mm512_loadu_si512(from)))
#define KEEP_WHERE(smallest, bound, in, out, i, kept)                                              \
    {                                                                                              \
        const __mmask16 keep =                                                                     \
            _mm512_cmple_epi32_mask(LOAD((smallest) + (i)), _mm512_set1_epi32(bound));             \
        if (!keep) continue;                                                                       \
        KEEP_COLUMN(keep, (in)->row + (i), (out)->row + (kept));                                   \
        KEEP_COLUMN(keep, (in)->column + (i), (out)->column + (kept));                             \
        KEEP_COLUMN(keep, (in)->base + (i), (out)->base + (kept));                                 \
        KEEP_COLUMN(keep, (in)->index + (i), (out)->index + (kept));                               \
        (kept) += __builtin_popcount(keep);                                                        \
    }
#include "lattice/lattice_simd.inc"
#include "lattice/lattice_undef.inc"
#endif

#ifdef CONFSIM_NEON
#define NAME(x) x##_neon
#define TARGET
#define WIDTH 4
#define VEC int32x4_t
#define LOAD(p) vld1q_s32(p)
#define STORE(p, v) vst1q_s32(p, v)
#define SET1(x) vdupq_n_s32((int32_t)(x))
#define ADD vaddq_s32
#define SUB vsubq_s32
#define MUL vmulq_s32
#define SHIFT(a, n) vshlq_s32(a, vdupq_n_s32(n))
#define MAX vmaxq_s32
#define MIN vminq_s32
#define OR vorrq_s32
#define UMIN(a, b)                                                                                 \
    vreinterpretq_s32_u32(vminq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b)))
#define ROOTS(sums, unit, out, turn)                                                               \
    for (int i = 0; i < SIDE; i++) (out)[i] = sqrt((double)(int32_t)(sums)[i]) * (unit)
#include "lattice/lattice_simd.inc"
#include "lattice/lattice_undef.inc"
#endif

static const kernels *choose(confsim_isa isa) {
    switch (isa) {
#ifdef CONFSIM_X86
    case CONFSIM_ISA_AVX512:
        return &kernels_avx512;
    case CONFSIM_ISA_AVX2:
        return &kernels_avx2;
#endif
#ifdef CONFSIM_NEON
    case CONFSIM_ISA_NEON:
        return &kernels_neon;
#endif
    default:
        return &kernels_portable;
    }
}

/* The lists of one box, one a class, made when the first query of that class is met. */
typedef struct lists {
    struct lists *parent; /* the box around this one; NULL for a plane */
    candidates *by_class;
    char *made; /* a flag for each class */
    box where;
} lists;

/* What one thread owns. */
typedef struct {
    lists plane, band, chunk, tile;
    int64_t plane_number; /* the plane that the lists are for, -1 for none yet */
    spot at;              /* in that plane, and anywhere in it */
    int32_t *smallest;
    uint32_t *sums; /* a band's answers: squared distances and indices, `stride` a row */
    int32_t *index;
    int32_t *codes;      /* the class of each point of a band, of a dense one only where they are
                            needed: in tiles of several classes */
    int32_t *tile_codes; /* of each tile of a band: the class of its queries, or SEVERAL */
    int32_t rows;        /* of the band */
    int nobody;          /* the band has queries whose class no training point has */
} workspace;

typedef struct {
    const confsim_lattice *lattice;
    const confsim_ids *ids;
    const confsim_lattice_training *training;
    const confsim_lattice_pairing *pairing;
    const confsim_nearest *answer;
    const kernels *kernels;
    confsim_classes classes;
    cells *cells; /* of each class; NULL where nobody asks for nearest other points */
    workspace *spaces;
    int64_t rows, tiles_across, stride, bands_of_plane, first_band;
    int64_t phase; /* positions a multiple of SIDE away from it start a line of the cache */
    int bits, *invalid;
} search;

/* The band that a thread works on: queries begin..end, whose ids start at first_id. */
typedef struct {
    int64_t first_id, begin, end;
    int32_t row, rows;
    int dense; /* every point is asked for */
} band;

/* The first position in begin..end whose id is not below `id`. */
static int64_t position_of(const confsim_ids *ids, int64_t id, int64_t begin, int64_t end) {
    if (!ids->ids) {
        const int64_t position = id - ids->start;
        return position < begin ? begin : position < end ? position : end;
    }
    while (begin < end) {
        const int64_t middle = begin + (end - begin) / 2;
        if (ids->ids[middle] < id)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

static int32_t least(int64_t a, int64_t b) { return (int32_t)(a < b ? a : b); }

static int32_t code_of(const search *s, int64_t position) {
    const void *labels = s->pairing->query_labels;
    const int64_t label = s->pairing->query_label_bytes == 1 ? ((const int8_t *)labels)[position]
                                                             : ((const int64_t *)labels)[position];
    if (s->classes.count > FEW_CLASSES) return (int32_t)confsim_classes_find(&s->classes, label);
    for (int32_t c = 0; c < s->classes.count; c++)
        if (s->classes.labels[c] == label) return c;
    return NO_CLASS;
}

/* Where the answer of a query is in a band's buffers. */
static int64_t place_of(const search *s, const band *b, int64_t position) {
    const int64_t offset = id_at(s->ids, position) - b->first_id, m = s->lattice->per_axis;
    return s->stride == m ? offset : offset / m * s->stride + offset % m;
}

/* The first column of a tile; the last tile reaches into the one before. */
static int32_t column_of(const search *s, int64_t tile) {
    const int64_t last = s->lattice->per_axis - SIDE;
    return last < 0 ? 0 : least(tile * SIDE, last);
}

/* Write down the class of each point of a band. */
static void encode(const search *s, const band *b, workspace *w) {
    for (int64_t i = 0; i < BAND_ROWS * s->stride; i++) w->codes[i] = NO_QUERY;
    for (int64_t i = b->begin; i < b->end; i++) {
        const int32_t code = code_of(s, i);
        w->codes[place_of(s, b, i)] = code;
        w->nobody |= code == NO_CLASS;
    }
}

/* Start a plane: the squared distance that its leading axes add to each training point. */
static void enter_plane(const search *s, workspace *w, int64_t plane) {
    const int64_t d = s->lattice->dimensions;
    int32_t *leading = w->at.leading;
    if (w->plane_number == plane) return;
    w->plane_number = plane;
    for (int64_t k = d - 3; k >= 0; k--) {
        leading[k] = (int32_t)(plane % s->lattice->per_axis) * s->training->step;
        plane /= s->lattice->per_axis;
    }
    for (int64_t c = 0; c < s->classes.count; c++) {
        candidates *list = &w->plane.by_class[c];
        list->count = s->classes.start[c + 1] - s->classes.start[c];
        for (int64_t i = 0; i < list->count; i++) {
            const int64_t index = s->classes.order[s->classes.start[c] + i];
            const int32_t *point = s->training->points + index * d;
            int32_t base = 0;
            for (int64_t k = 0; k < d - 2; k++)
                base += (leading[k] - point[k]) * (leading[k] - point[k]);
            list->index[i] = (int32_t)index;
            list->base[i] = base;
            list->row[i] = d > 1 ? point[d - 2] : 0;
            list->column[i] = point[d - 1];
        }
        pad_candidates(list);
        w->plane.made[c] = 1;
    }
}

static void enter_box(const search *s, lists *l, const box *where) {
    l->where = *where;
    memset(l->made, 0, (size_t)s->classes.count);
}

/* The class of all queries of a tile, NO_QUERY when there are none, or SEVERAL. */
static int32_t common_code(const int32_t *codes, int64_t stride) {
    int32_t most = NO_QUERY, least = INT32_MAX;
    for (int r = 0; r < SIDE; r++)
        for (int i = 0; i < SIDE; i++) {
            const int32_t code = codes[r * stride + i];
            const int32_t asked = code == NO_QUERY ? INT32_MAX : code;
            most = code > most ? code : most;
            least = asked < least ? asked : least;
        }
    return most == NO_QUERY || most == least ? most : SEVERAL;
}

/* The same in a dense band, from the labels themselves; where they differ, the classes are written
 * down. */
static int32_t common_label(const search *s, workspace *w, const band *b, int32_t row,
                            int32_t column) {
    const int bytes = s->pairing->query_label_bytes;
    const int64_t m = s->lattice->per_axis, begin = b->begin + (row - b->row) * m + column;
    const int32_t rows = least(SIDE, b->row + b->rows - row), columns = least(SIDE, m - column);
    const char *labels = (const char *)s->pairing->query_labels + begin * bytes;
    if (s->kernels->uniform(labels, bytes, m, rows, columns)) {
        const int32_t code = code_of(s, begin);
        w->nobody |= code == NO_CLASS;
        return code;
    }
    int32_t *codes = w->codes + (row - b->row) * s->stride + column;
    int nobody = 0;
    for (int32_t r = 0; r < SIDE; r++, codes += s->stride) {
        for (int32_t i = 0; i < SIDE; i++) codes[i] = NO_QUERY;
        if (r >= rows) continue;
        if (s->classes.count <= FEW_CLASSES)
            s->kernels->encode(labels + r * m * bytes, bytes, columns, &s->classes, codes);
        else
            for (int32_t i = 0; i < columns; i++) codes[i] = code_of(s, begin + r * m + i);
        for (int32_t i = 0; i < columns; i++) nobody |= codes[i] == NO_CLASS;
    }
    w->nobody |= nobody;
    return SEVERAL;
}

/* The class of each tile of a band. */
static void classify(const search *s, const band *b, workspace *w) {
    if (b->dense && s->pairing->query_labels) {
        const int bytes = s->pairing->query_label_bytes;
        const char *labels = (const char *)s->pairing->query_labels + b->begin * bytes;
        for (int64_t i = 0; i < (b->end - b->begin) * bytes; i += 64)
            __builtin_prefetch(labels + i);
    }
    for (int32_t row = 0; row < b->rows; row += SIDE)
        for (int64_t tile = 0; tile < s->tiles_across; tile++) {
            const int32_t column = column_of(s, tile);
            w->tile_codes[row / SIDE * s->tiles_across + tile] =
                !s->pairing->query_labels ? 0
                : b->dense ? common_label(s, w, b, b->row + row, column)
                           : common_code(w->codes + row * s->stride + column, s->stride);
        }
}

/* A sixteenth of the numbers, by a sample, are at most this. */
static int32_t low_sixteenth(const int32_t *numbers, int64_t count) {
    enum { SAMPLE = 64, LOW = SAMPLE / 16 };
    int32_t lowest[LOW];
    for (int i = 0; i < LOW; i++) lowest[i] = INT32_MAX;
    for (int64_t k = 0; k < SAMPLE; k++) {
        int32_t number = numbers[k * count / SAMPLE];
        for (int i = 0; i < LOW; i++) {
            const int32_t larger = number > lowest[i] ? number : lowest[i];
            lowest[i] = number < lowest[i] ? number : lowest[i];
            number = larger;
        }
    }
    return lowest[LOW - 1];
}

/* Whether a chunk of the band has queries of a class. */
static int chunk_asks(const search *s, const workspace *w, int64_t tile, int32_t code) {
    for (int64_t row = 0; row < BAND_ROWS / SIDE && row * SIDE < w->rows; row++)
        for (int64_t i = tile; i < tile + CHUNK_TILES && i < s->tiles_across; i++) {
            const int32_t found = w->tile_codes[row * s->tiles_across + i];
            if (found == code || found == SEVERAL) return 1;
        }
    return 0;
}

/* The part of a box that lies in the columns of `count` tiles, or of as many as there are. */
static box columns_of(const search *s, const box *rows, int64_t tile, int64_t count) {
    const int64_t last = least(tile + count, s->tiles_across) - 1;
    const int32_t end = least(column_of(s, last) + SIDE, s->lattice->per_axis);
    const int32_t step = s->training->step;
    return (box){rows->row_low, rows->row_high, column_of(s, tile) * step, (end - 1) * step};
}

/* A band is so wide that its own bound leaves out hardly anything. No query of it is farther from
 * its nearest candidate than the largest bound of a chunk; and as bounds may be loose, those of the
 * chunks take into account only some candidates close to the band, written to `close`. */
static int32_t bound_by_chunks(const search *s, workspace *w, const candidates *all,
                               candidates *close, int32_t code) {
    const box *band = &w->band.where;
    int32_t largest = 0;
    s->kernels->bound(all, band, w->smallest);
    s->kernels->keep(all, close, low_sixteenth(w->smallest, all->count), w->smallest);
    for (int64_t tile = 0; tile < s->tiles_across; tile += CHUNK_TILES) {
        if (!chunk_asks(s, w, tile, code)) continue;
        const box chunk = columns_of(s, band, tile, CHUNK_TILES);
        const int32_t bound = s->kernels->bound(close, &chunk, w->smallest);
        largest = bound > largest ? bound : largest;
    }
    return largest;
}

static const candidates *list_of(const search *s, workspace *w, lists *l, int32_t code) {
    candidates *list = &l->by_class[code];
    if (l->made[code]) return list;
    const candidates *wider = list_of(s, w, l->parent, code);
    if (l == &w->tile && wider->count <= FEW) return wider;
    const int32_t limit =
        l == &w->band && wider->count > MANY ? bound_by_chunks(s, w, wider, list, code) : INT32_MAX;
    const int32_t bound = s->kernels->bound(wider, &l->where, w->smallest);
    s->kernels->keep(wider, list, least(bound, limit), w->smallest);
    l->made[code] = 1;
    return list;
}

static void compare_mixed(const search *s, workspace *w, int64_t corner, const tile *t) {
    uint32_t sums[SIDE * SIDE];
    int32_t index[SIDE * SIDE];
    const int32_t *codes = w->codes + corner;
    int32_t code = s->kernels->next_code(codes, s->stride, NO_CLASS);
    if (code == INT32_MAX) return; /* several labels, and no training point has any */
    s->kernels->compare(list_of(s, w, &w->tile, code), t, w->sums + corner, w->index + corner,
                        s->stride);
    while (code < s->classes.count - 1) {
        code = s->kernels->next_code(codes, s->stride, code);
        if (code == INT32_MAX) return;
        s->kernels->compare(list_of(s, w, &w->tile, code), t, sums, index, SIDE);
        s->kernels->merge(codes, s->stride, code, sums, index, w->sums + corner, w->index + corner);
    }
}

static void put(const confsim_nearest *out, int other, int64_t position, double distance,
                int64_t index) {
    double *distances = other ? out->distance_other : out->distance;
    int64_t *indices = other ? out->index_other : out->index;
    if (distances) distances[position] = distance;
    if (indices) indices[position] = index;
}

/* Queries whose class no training point has. */
static void put_nothing(const search *s, const band *b) {
    for (int64_t i = b->begin; i < b->end; i++)
        if (code_of(s, i) == NO_CLASS) {
            put(s->answer, 0, i, NAN, -1);
            put(s->answer, 1, i, NAN, -1);
        }
}

static int32_t cell_at(int32_t at, int shift, int32_t cells) {
    return at < 0 ? 0 : least(at >> shift, cells - 1);
}

/* The cells that a square of `reach` around a point meets, or those nearest to it. */
static box cells_within(const cells *grid, const spot *at, int32_t reach) {
    const int32_t row = at->row - grid->row_low, column = at->column - grid->column_low;
    return (box){cell_at(row - reach, grid->shift, grid->rows),
                 cell_at(row + reach, grid->shift, grid->rows),
                 cell_at(column - reach, grid->shift, grid->columns),
                 cell_at(column + reach, grid->shift, grid->columns)};
}

static int contains(const box *outer, const box *inner) {
    return outer->row_low <= inner->row_low && outer->row_high >= inner->row_high &&
           outer->column_low <= inner->column_low && outer->column_high >= inner->column_high;
}

/* The squared distance to the nearest training point of a class but `self`, and its index; NO_SUM
 * and -1 for none. A point in cells that were left out is farther away than the reach. */
static uint32_t search_others(const search *s, const cells *grid, const spot *at, int32_t self,
                              int32_t *nearest) {
    const box all = {0, grid->rows - 1, 0, grid->columns - 1};
    int32_t reach = 1 << grid->shift;
    box span = cells_within(grid, at, reach);
    for (;;) {
        const uint32_t sum = s->kernels->other(grid, &span, at, self, nearest);
        reach = sum == NO_SUM ? 2 * reach : (int32_t)sqrt(sum);
        const box needed = cells_within(grid, at, reach);
        if (contains(&span, sum == NO_SUM ? &all : &needed)) return sum;
        span = needed;
    }
}

/* Store a member's nearest other training point. */
static void emit_other(const search *s, workspace *w, const band *b, int64_t position) {
    const int64_t self = s->pairing->self_index[position];
    if (self < 0 || self >= s->training->count) {
#ifdef _OPENMP
#pragma omp atomic write
#endif
        *s->invalid = 1;
        return;
    }
    const int32_t code = s->pairing->query_labels ? code_of(s, position) : 0;
    if (code == NO_CLASS) return;
    const int32_t place = (int32_t)place_of(s, b, position), stride = (int32_t)s->stride;
    w->at.row = (b->row + place / stride) * s->training->step;
    w->at.column = place % stride * s->training->step;
    int32_t nearest;
    const uint32_t sum = search_others(s, &s->cells[code], &w->at, (int32_t)self, &nearest);
    put(s->answer, 1, position, sum == NO_SUM ? NAN : sqrt(sum) * s->training->unit, nearest);
}

/* Store the answers of up to SIDE queries, whose points may lie anywhere in the band. */
static void emit_few(const search *s, workspace *w, const band *b, int64_t begin, int64_t end) {
    uint32_t sums[SIDE] = {0};
    int32_t index[SIDE] = {0};
    double distances[SIDE];
    for (int64_t i = begin; i < end; i++) {
        const int64_t place = place_of(s, b, i);
        sums[i - begin] = w->sums[place];
        index[i - begin] = w->index[place];
    }
    s->kernels->emit(sums, index, SIDE, s->training->unit,
                     &(confsim_nearest){.distance = distances}, 0);
    for (int64_t i = begin; i < end; i++)
        for (int other = 0; other < 2; other++)
            put(s->answer, other, i, distances[i - begin], index[i - begin]);
}

/* Store the answers of a band, many at once where they follow each other in the buffers too, from
 * the start of a cache line on. Those of members are repaired while their lines are near. */
static void emit_band(const search *s, workspace *w, const band *b) {
    const int64_t *self = s->pairing->self_index;
    for (int64_t i = b->begin, stop; i < b->end; i = stop) {
        const int64_t line = i + SIDE - (i - s->phase + SIDE) % SIDE, place = place_of(s, b, i);
        stop = b->dense ? line + WINDOW - SIDE : line;
        const int64_t count = ((stop < b->end ? stop : b->end) - i) / SIDE * SIDE;
        if (count > 0 && line == i + SIDE && place_of(s, b, i + count - 1) == place + count - 1) {
            stop = i + count;
            s->kernels->emit(w->sums + place, w->index + place, count, s->training->unit, s->answer,
                             i);
        } else {
            stop = line < b->end ? line : b->end;
            emit_few(s, w, b, i, stop);
        }
        if (!s->cells) continue;
        int64_t member = s->kernels->next_member(self, i, stop);
        for (; member < stop; member = s->kernels->next_member(self, member + 1, stop))
            emit_other(s, w, b, member);
    }
}

static box rows_of(const search *s, int32_t row, int32_t rows) {
    const int32_t step = s->training->step, end = least(row + rows, s->rows);
    return (box){.row_low = row * step, .row_high = (end - 1) * step};
}

static void search_tile(const search *s, workspace *w, const band *b, int32_t row, int64_t number) {
    const int64_t corner = (row - b->row) * s->stride + column_of(s, number);
    const int32_t code = w->tile_codes[(row - b->row) / SIDE * s->tiles_across + number];
    if (code == NO_CLASS || code == NO_QUERY) return;
    const box rows = rows_of(s, row, SIDE), where = columns_of(s, &rows, number, 1);
    tile t = {.bits = s->bits};
    enter_box(s, &w->tile, &where);
    for (int i = 0; i < SIDE; i++) { /* points beyond the edge: copies of the last one inside */
        t.rows[i] = least(where.row_low + (int64_t)i * s->training->step, where.row_high);
        t.columns[i] = least(where.column_low + (int64_t)i * s->training->step, where.column_high);
    }
    if (code >= 0)
        s->kernels->compare(list_of(s, w, &w->tile, code), &t, w->sums + corner, w->index + corner,
                            s->stride);
    else
        compare_mixed(s, w, corner, &t);
}

static void search_chunk(const search *s, workspace *w, const band *b, int64_t first) {
    const box where = columns_of(s, &w->band.where, first, CHUNK_TILES);
    enter_box(s, &w->chunk, &where);
    for (int64_t tile = first; tile < first + CHUNK_TILES && tile < s->tiles_across; tile++)
        for (int32_t row = b->row; row < b->row + b->rows; row += SIDE)
            search_tile(s, w, b, row, tile);
}

static void search_band(void *context, int64_t item, int thread) {
    const search *s = context;
    workspace *w = &s->spaces[thread];
    const int64_t m = s->lattice->per_axis, number = s->first_band + item;
    const int64_t plane = number / s->bands_of_plane;
    band b = {.row = (int32_t)(number % s->bands_of_plane) * BAND_ROWS};
    b.rows = least(BAND_ROWS, s->rows - b.row);
    b.first_id = (plane * s->rows + b.row) * m;
    b.begin = position_of(s->ids, b.first_id, 0, s->ids->count);
    b.end = position_of(s->ids, b.first_id + b.rows * m, b.begin, s->ids->count);
    if (b.begin == b.end) return;
    b.dense = b.end - b.begin == b.rows * m;
    w->nobody = 0;
    w->rows = b.rows;
    if (s->pairing->query_labels && !b.dense) encode(s, &b, w);
    classify(s, &b, w);
    enter_plane(s, w, plane);
    const box rows = rows_of(s, b.row, b.rows), where = columns_of(s, &rows, 0, s->tiles_across);
    enter_box(s, &w->band, &where);
    for (int64_t tile = 0; tile < s->tiles_across; tile += CHUNK_TILES)
        search_chunk(s, w, &b, tile);
    emit_band(s, w, &b);
    if (w->nobody) put_nothing(s, &b);
}

/* Lay a workspace out in `memory` and return how large it is. */
static size_t lay_out(const search *s, workspace *w, char *memory) {
    const size_t classes = (size_t)s->classes.count;
    const size_t entries = (size_t)s->training->count + classes * PADDING;
    const size_t points = (size_t)(BAND_ROWS * s->stride);
    const size_t tiles = (size_t)(BAND_ROWS / SIDE * s->tiles_across);
    size_t used = 0;
    lists *levels[] = {&w->plane, &w->band, &w->chunk, &w->tile};
    w->plane_number = -1;
    for (int level = 0; level < 4; level++) {
        lists *l = levels[level];
        l->parent = level > 0 ? levels[level - 1] : NULL;
        l->made = confsim_take(memory, &used, classes);
        l->by_class = confsim_take(memory, &used, classes * sizeof *l->by_class);
        int32_t *columns[4];
        for (int i = 0; i < 4; i++)
            columns[i] = confsim_take(memory, &used, entries * sizeof(int32_t));
        for (size_t c = 0; memory && c < classes; c++) {
            const size_t at = (size_t)s->classes.start[c] + c * PADDING;
            l->by_class[c] =
                (candidates){columns[0] + at, columns[1] + at, columns[2] + at, columns[3] + at, 0};
        }
    }
    w->smallest = confsim_take(memory, &used, entries * sizeof *w->smallest);
    w->sums = confsim_take(memory, &used, points * sizeof *w->sums);
    w->index = confsim_take(memory, &used, points * sizeof *w->index);
    w->codes =
        confsim_take(memory, &used, s->pairing->query_labels ? points * sizeof *w->codes : 0);
    w->tile_codes = confsim_take(memory, &used, tiles * sizeof *w->tile_codes);
    return used;
}

/* A coordinate of a training point: the last axis is 0, the one before 1. */
static int32_t from_last(const search *s, int64_t index, int axis) {
    const int64_t d = s->lattice->dimensions;
    return axis < d ? s->training->points[index * d + d - 1 - axis] : 0;
}

static int32_t cell_of(const search *s, const cells *grid, int64_t index) {
    const int32_t row = (from_last(s, index, 1) - grid->row_low) >> grid->shift;
    return row * grid->columns + ((from_last(s, index, 0) - grid->column_low) >> grid->shift);
}

/* Cells around the points of a class, of one to four points each on average. */
static void measure_cells(const search *s, int64_t c, cells *grid) {
    const int64_t first = s->classes.start[c];
    const int64_t count = s->classes.start[c + 1] - first;
    int32_t low[2] = {INT32_MAX, INT32_MAX}, high[2] = {INT32_MIN, INT32_MIN};
    for (int64_t i = 0; i < count; i++)
        for (int axis = 0; axis < 2; axis++) {
            const int32_t at = from_last(s, s->classes.order[first + i], axis);
            low[axis] = at < low[axis] ? at : low[axis];
            high[axis] = at > high[axis] ? at : high[axis];
        }
    int64_t rows, columns;
    int shift = 0;
    for (;; shift++) {
        columns = ((high[0] - low[0]) >> shift) + 1;
        rows = ((high[1] - low[1]) >> shift) + 1;
        if (rows * columns <= count) break;
    }
    *grid = (cells){.count = count,
                    .leading = s->lattice->dimensions - 2,
                    .row_low = low[1],
                    .column_low = low[0],
                    .rows = (int32_t)rows,
                    .columns = (int32_t)columns,
                    .shift = shift};
}

/* Put the points of a class into its cells: a counting sort. start[k + 1] runs from where cell k
 * begins to where it ends. */
static void fill_cells(const search *s, int64_t c, cells *grid) {
    const int64_t count = grid->count, stride = count + PADDING;
    const int64_t *order = s->classes.order + s->classes.start[c];
    memset(grid->start, 0, (size_t)(grid->rows * grid->columns + 2) * sizeof *grid->start);
    for (int64_t i = 0; i < count; i++) grid->start[cell_of(s, grid, order[i]) + 2]++;
    for (int32_t k = 2; k < grid->rows * grid->columns; k++) grid->start[k + 1] += grid->start[k];
    for (int64_t i = 0; i < count; i++) {
        const int32_t place = grid->start[cell_of(s, grid, order[i]) + 1]++;
        grid->index[place] = (int32_t)order[i];
        grid->column[place] = from_last(s, order[i], 0);
        grid->row[place] = from_last(s, order[i], 1);
        for (int64_t k = 0; k < grid->leading; k++)
            grid->axes[k * stride + place] =
                s->training->points[order[i] * s->lattice->dimensions + k];
    }
    for (int64_t i = count; i < stride; i++) {
        grid->column[i] = BEYOND;
        grid->row[i] = grid->index[i] = 0;
        for (int64_t k = 0; k < grid->leading; k++) grid->axes[k * stride + i] = 0;
    }
}

static confsim_status build_cells(search *s) {
    s->cells = calloc((size_t)s->classes.count, sizeof *s->cells);
    if (!s->cells) return CONFSIM_NO_MEMORY;
    for (int64_t c = 0; c < s->classes.count; c++) {
        cells *grid = &s->cells[c];
        measure_cells(s, c, grid);
        const int64_t d = s->lattice->dimensions, stride = grid->count + PADDING;
        const int64_t numbers = (d + 2) * stride + grid->rows * grid->columns + 2;
        grid->column = malloc((size_t)numbers * sizeof *grid->column);
        if (!grid->column) return CONFSIM_NO_MEMORY;
        grid->row = grid->column + stride;
        grid->index = grid->row + stride;
        grid->axes = grid->index + stride;
        grid->start = grid->axes + (d - 1) * stride;
        fill_cells(s, c, grid);
    }
    return CONFSIM_OK;
}

static void free_cells(const search *s) {
    for (int64_t c = 0; s->cells && c < s->classes.count; c++) free(s->cells[c].column);
    free(s->cells);
}

static int bits_for(const search *s) {
    int64_t low = 0, high = (s->lattice->per_axis - 1) * s->training->step;
    const int64_t d = s->lattice->dimensions;
    for (int64_t i = 0; i < s->training->count * d; i++) {
        low = s->training->points[i] < low ? s->training->points[i] : low;
        high = s->training->points[i] > high ? s->training->points[i] : high;
    }
    const int64_t most = d * (high - low) * (high - low);
    int bits = 0;
    while (bits < 6 && most << (bits + 1) <= UINT32_MAX) bits++;
    return bits;
}

confsim_status confsim_lattice_nearest(const confsim_lattice *lattice, const confsim_ids *ids,
                                       const confsim_lattice_training *training,
                                       const confsim_lattice_pairing *pairing,
                                       const confsim_nearest *answer, int threads,
                                       confsim_isa isa) {
    const int64_t m = lattice->per_axis;
    int invalid = 0;
    if (ids->count == 0) return CONFSIM_OK;
    search s = {.lattice = lattice,
                .ids = ids,
                .training = training,
                .pairing = pairing,
                .answer = answer,
                .kernels = choose(isa),
                .invalid = &invalid};
    confsim_status status =
        confsim_classes_build(&s.classes, pairing->training_labels, training->count);
    if (status) return status;
    workspace layout;
    char *memory = NULL;
    if (answer->distance_other || answer->index_other) status = build_cells(&s);
    if (status) goto done;
    s.rows = lattice->dimensions > 1 ? m : 1;
    s.tiles_across = (m + SIDE - 1) / SIDE;
    s.stride = m > SIDE ? m : SIDE;
    s.phase = -((intptr_t)answer->distance / (intptr_t)sizeof(double)) & (SIDE - 1);
    s.bands_of_plane = (s.rows + BAND_ROWS - 1) / BAND_ROWS;
    s.bits = bits_for(&s);
    const int64_t first = id_at(ids, 0), last = id_at(ids, ids->count - 1), plane = s.rows * m;
    s.first_band = first / plane * s.bands_of_plane + first % plane / m / BAND_ROWS;
    const int64_t last_band = last / plane * s.bands_of_plane + last % plane / m / BAND_ROWS;
    const size_t bytes = lay_out(&s, &layout, NULL);
    s.spaces = calloc((size_t)threads, sizeof *s.spaces);
    memory = aligned_alloc(64, bytes * (size_t)threads);
    if (!s.spaces || !memory) {
        status = CONFSIM_NO_MEMORY;
        goto done;
    }
    for (int thread = 0; thread < threads; thread++)
        lay_out(&s, &s.spaces[thread], memory + (size_t)thread * bytes);
    confsim_parallel_for(last_band - s.first_band + 1, threads, search_band, &s);
    if (invalid) status = CONFSIM_INVALID;
done:
    free(memory);
    free(s.spaces);
    free_cells(&s);
    confsim_classes_free(&s.classes);
    return status;
}
