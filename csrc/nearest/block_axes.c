/* A bound on scores from few numbers a point, where the points lie near a subspace.
 *
 * With nearly orthonormal directions V, and x = |x - V'Vx| what they leave of a vector,
 *
 *     q.t <= (Vq).(Vt) + |q - V'Vq| |t - V'Vt|        (Cauchy-Schwarz),
 *
 * so that |t|^2 / 2 less the right side, which has count + 1 terms instead of d, is at most the
 * score. The directions are leading principal axes of a sample of the training points; any
 * directions give right bounds. Lengths of what is left are made a little longer: that covers the
 * rounding of float64 and how far V is from orthonormal. */
#include "nearest/block_plan.h"

#include "core/parallel.h"
#include "core/util.h"

enum {
    SAMPLE = 128,
    ITERATIONS = 3,
    FEWEST_COLUMNS = 32,
    FEWEST_POINTS = 512 /* of the largest class */
};

#define FEWEST_PAIRS 0x1p22 /* below it, finding directions costs too much */
#define ENOUGH 0.945        /* of the sample's squared lengths */
#define TOO_LITTLE 0.5

static double dot(const double *a, const double *b, int64_t d) {
    double lanes[LANES] = {0}, sum = 0;
    int64_t k = 0;
    for (; k + LANES <= d; k += LANES)
        for (int lane = 0; lane < LANES; lane++) lanes[lane] += a[k + lane] * b[k + lane];
    for (; k < d; k++) sum += a[k] * b[k];
    for (int lane = 0; lane < LANES; lane++) sum += lanes[lane];
    return sum;
}

static void add_multiple(double *to, double factor, const double *from, int64_t d) {
    for (int64_t k = 0; k < d; k++) to[k] += factor * from[k];
}

/* Makes the rows orthonormal, in their order; one that depends on earlier ones becomes zero. */
static void orthonormalise(double *rows, int64_t count, int64_t d) {
    for (int64_t i = 0; i < count; i++) {
        double *row = rows + i * d;
        const double before = dot(row, row, d);
        for (int pass = 0; pass < 2; pass++)
            for (int64_t j = 0; j < i; j++)
                add_multiple(row, -dot(row, rows + j * d, d), rows + j * d, d);
        const double after = dot(row, row, d);
        const double factor = after > 1e-12 * before && after > 0 ? 1 / sqrt(after) : 0;
        for (int64_t k = 0; k < d; k++) row[k] *= factor;
    }
}

/* The norm of VV' - 1, at least; of rows that are zero, which bound nothing, as if they were not
 * there. */
static double skew_of(const double *rows, int64_t count, int64_t d) {
    double total = 0;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j <= i; j++) {
            double product = dot(rows + i * d, rows + j * d, d);
            if (i == j && product > 0) product -= 1;
            total += (i == j ? 1 : 2) * product * product;
        }
    return sqrt(total) + (double)(count * (d + 8)) * 0x1p-52;
}

/* Evenly spaced training points, placed. */
static void take_sample(const block_plan *t, double *sample, int64_t rows) {
    const int64_t d = t->s->training->columns, n = t->s->training->rows;
    for (int64_t i = 0; i < rows; i++) {
        double *row = sample + i * d;
        confsim_matrix_row(t->s->training, i * n / rows, row, 1);
        for (int64_t k = 0; k < d; k++) row[k] = placed(t, row[k], k);
    }
}

/* Orthogonal iteration. */
static void find_directions(double *directions, double *next, const double *sample, int64_t rows,
                            int64_t d) {
    uint64_t random = 1;
    for (int64_t e = 0; e < MOST_BLOCK_AXES * d; e++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        directions[e] = (double)(random >> 40) * 0x1p-23 - 1;
    }
    for (int iteration = 0; iteration < ITERATIONS; iteration++) {
        memset(next, 0, (size_t)(MOST_BLOCK_AXES * d) * sizeof *next);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < MOST_BLOCK_AXES; j++)
                add_multiple(next + j * d, dot(directions + j * d, sample + i * d, d),
                             sample + i * d, d);
        orthonormalise(next, MOST_BLOCK_AXES, d);
        memcpy(directions, next, (size_t)(MOST_BLOCK_AXES * d) * sizeof *next);
    }
}

/* The fewest directions that hold enough of the sample, at most half of `d`; 0 where even the most
 * hold little. */
static int64_t enough_directions(const double *directions, const double *sample, int64_t rows,
                                 int64_t d) {
    const int64_t most = confsim_least(MOST_BLOCK_AXES, d / 16 * 8);
    double held[MOST_BLOCK_AXES] = {0}, total = 0, sum = 0;
    for (int64_t i = 0; i < rows; i++) {
        const double *row = sample + i * d;
        total += dot(row, row, d);
        for (int64_t j = 0; j < MOST_BLOCK_AXES; j++) {
            const double part = dot(directions + j * d, row, d);
            held[j] += part * part;
        }
    }
    for (int64_t j = 0; j < most; j++) {
        sum += held[j];
        if ((j + 1) % 8 == 0 && sum >= ENOUGH * total) return j + 1;
    }
    return sum >= TOO_LITTLE * total ? most : 0;
}

/* The terms of LANES vectors at a time: products with the directions, then what these leave. */
static inline __attribute__((always_inline)) void find_terms(const block_axes *axes, int64_t d,
                                                             const f64x8 *placed_lanes,
                                                             const f64x8 *lengths, f64x8 *terms) {
    f64x8 held = {0};
    for (int64_t j = 0; j < axes->count; j++) {
        const double *direction = axes->directions + j * d;
        f64x8 sum = {0};
        for (int64_t k = 0; k < d; k++) sum += direction[k] * placed_lanes[k];
        terms[j] = sum;
        held += sum * sum;
    }
    const double slack = 4 * axes->skew + 64 * (double)(d + 16) * 0x1p-53;
    for (int lane = 0; lane < LANES; lane++)
        terms[axes->count][lane] =
            sqrt(fmax((*lengths)[lane] - held[lane], 0) + slack * (*lengths)[lane]);
}

static void terms_portable(const block_axes *axes, int64_t d, const f64x8 *placed_lanes,
                           const f64x8 *lengths, f64x8 *terms) {
    find_terms(axes, d, placed_lanes, lengths, terms);
}

#ifdef CONFSIM_X86
CONFSIM_TARGET_AVX2 static void terms_avx2(const block_axes *axes, int64_t d,
                                           const f64x8 *placed_lanes, const f64x8 *lengths,
                                           f64x8 *terms) {
    find_terms(axes, d, placed_lanes, lengths, terms);
}

CONFSIM_TARGET_AVX512 static void terms_avx512(const block_axes *axes, int64_t d,
                                               const f64x8 *placed_lanes, const f64x8 *lengths,
                                               f64x8 *terms) {
    find_terms(axes, d, placed_lanes, lengths, terms);
}
#endif

static axes_terms *terms_with(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return terms_avx512;
    if (isa == CONFSIM_ISA_AVX2) return terms_avx2;
#endif
    (void)isa;
    return terms_portable;
}

static int worth_directions(const euclidean_search *s) {
    int64_t most = 0;
    for (int64_t c = 0; c < s->classes->count; c++) {
        const int64_t count = s->classes->start[c + 1] - s->classes->start[c];
        most = count > most ? count : most;
    }
    return !s->k && s->queries->columns >= FEWEST_COLUMNS && most >= FEWEST_POINTS &&
           (double)s->queries->rows * (double)most >= FEWEST_PAIRS;
}

confsim_status confsim_block_axes_choose(block_plan *t) {
    const int64_t d = t->s->queries->columns, n = t->s->training->rows;
    const int64_t rows = confsim_least(n, SAMPLE);
    if (!worth_directions(t->s)) return CONFSIM_OK;
    const size_t entries = (size_t)(MOST_BLOCK_AXES * d);
    double *directions = malloc(entries * sizeof(double)), *next = malloc(entries * sizeof(double));
    double *sample = malloc((size_t)(rows * d) * sizeof(double));
    const int there = directions && next && sample;
    if (there) {
        take_sample(t, sample, rows);
        find_directions(directions, next, sample, rows, d);
        t->axes.count = enough_directions(directions, sample, rows, d);
        t->axes.skew = skew_of(directions, MOST_BLOCK_AXES, d);
        if (t->axes.skew > MOST_SKEW) t->axes.count = 0;
    }
    t->axes.directions = directions;
    t->axes.find_terms = terms_with(t->s->isa);
    free(next);
    free(sample);
    return there ? CONFSIM_OK : CONFSIM_NO_MEMORY;
}

/* One group of LANES points of a class. */
typedef struct {
    const block_plan *t;
    block_class *of;
    int64_t first_group;
    f64x8 *scratch; /* d + count + 1 a thread */
} packing;

static void pack_group(void *context, int64_t item, int thread) {
    const packing *p = context;
    const block_plan *t = p->t;
    const packed_points *all = t->s->packed;
    const int64_t d = all->dimensions, count = t->axes.count, tile = POINTS * (count + 2);
    const double *group = all->groups + (p->first_group + item) * d * LANES;
    const int32_t *index = all->index + (p->first_group + item) * LANES;
    f64x8 *coordinates = p->scratch + thread * (d + count + 1), *terms = coordinates + d;
    f64x8 lengths = {0};
    for (int64_t k = 0; k < d; k++) {
        for (int lane = 0; lane < LANES; lane++)
            coordinates[k][lane] = index[lane] >= 0 ? placed(t, group[k * LANES + lane], k) : 0;
        lengths += coordinates[k] * coordinates[k];
    }
    t->axes.find_terms(&t->axes, d, coordinates, &lengths, terms);
    for (int lane = 0; lane < LANES; lane++) {
        const int64_t i = item * LANES + lane;
        float *half = p->of->bounds + i / POINTS * tile + i % POINTS;
        if (index[lane] < 0) continue;
        *half = (float)(lengths[lane] / 2);
        for (int64_t j = 0; j <= count; j++) half[(j + 1) * POINTS] = (float)terms[j][lane];
    }
}

confsim_status confsim_block_axes_pack(const block_plan *t, int64_t class, block_class *out,
                                       int threads) {
    const packed_points *all = t->s->packed;
    const int64_t d = all->dimensions, count = t->axes.count, tile = POINTS * (count + 2);
    const int64_t tiles = out->chunks * out->chunk_points / POINTS;
    if (!count || out->chunks < 2) return CONFSIM_OK;
    const size_t entries = (size_t)(tiles * tile);
    out->bounds = aligned_alloc(64, (entries * sizeof(float) + 63) / 64 * 64);
    packing p = {.t = t, .of = out, .first_group = all->first_group[class]};
    p.scratch = aligned_alloc(64, (size_t)(threads * (d + count + 1)) * sizeof(f64x8));
    if (out->bounds && p.scratch) {
        memset(out->bounds, 0, entries * sizeof(float));
        for (int64_t i = 0; i < tiles; i++)
            for (int64_t j = 0; j < POINTS; j++) out->bounds[i * tile + j] = NOWHERE;
        confsim_parallel_for(all->first_group[class + 1] - p.first_group, threads, pack_group, &p);
    }
    free(p.scratch);
    return out->bounds && p.scratch ? CONFSIM_OK : CONFSIM_NO_MEMORY;
}
