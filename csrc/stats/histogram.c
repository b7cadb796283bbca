#include "stats/histogram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"

#ifdef CONFSIM_X86
#include <immintrin.h>
#endif

enum { BLOCK = CONFSIM_TALLY_BLOCK, STRIP = 512, LANES = 8 };

/* One thread's counts; 32 bits suffice for one call (at most 2^31 queries) and halve the cache use.
 */
typedef struct {
    uint32_t grid[CONFSIM_GRID * CONFSIM_GRID];
    uint32_t confidence[2 * CONFSIM_FINE];
    uint32_t distance[CONFSIM_FINE];
} counts;

typedef struct {
    const double *confidence, *distance;
    int64_t count;
    confsim_bins bins;
    counts *counts; /* one a thread; null for a single block, counted where it belongs */
    int64_t *grid, *fine_confidence, *fine_distance;
    confsim_moments *moments; /* one a block */
    uint32_t *codes;
    confsim_isa isa;
} tally_job;

/* What the arithmetic of a strip leaves for the scattered increments. */
typedef struct {
    uint32_t grid[STRIP]; /* row * CONFSIM_GRID + column */
    uint32_t *code;       /* fine bins: distance + 65536 * confidence */
    uint8_t valid[STRIP]; /* whether the distance is a number; written where one is not */
    int64_t missing;      /* pairs of NaN distance */
} strip_bins;

static inline __attribute__((always_inline)) uint32_t clamp_bin(double position, int32_t bins) {
    double top = (double)(bins - 1);
    /* Also NaN, and before the cast, which must not overflow. */
    position = position > 0.0 ? position : 0.0;
    position = position < top ? position : top;
    return (uint32_t)(int32_t)position;
}

/* `count` is a multiple of LANES. Sums run in LANES interleaved partial sums, the same on every
 * instruction set. */
static void strip_portable(const double *confidence, const double *distance, int64_t count,
                           const confsim_bins *at, strip_bins *out, double sums[5][LANES]) {
    const confsim_bins b = *at;
    double s[5][LANES];
    int32_t missing[LANES] = {0};
    memcpy(s, sums, sizeof s);
    for (int64_t i = 0; i < count; i += LANES) {
        for (int64_t j = 0; j < LANES; j++) {
            double c = confidence[i + j], raw = distance[i + j];
            int32_t valid = raw == raw;
            double v = valid ? raw / b.distance_divisor : 0.0;
            double position = (c - b.fine_low) * b.fine_scale;
            double u = valid ? position * (1.0 / CONFSIM_FINE) : 0.0;
            double cell = (c / b.confidence_divisor - b.grid_low) * b.grid_scale;
            uint32_t row = clamp_bin(cell, CONFSIM_GRID);
            out->grid[i + j] = row * CONFSIM_GRID + clamp_bin(v * CONFSIM_GRID, CONFSIM_GRID);
            out->code[i + j] = clamp_bin(position, CONFSIM_FINE) << 16 |
                               clamp_bin(v * b.distance_fine_scale, CONFSIM_FINE);
            out->valid[i + j] = (uint8_t)valid;
            s[0][j] += u;
            s[1][j] += v;
            s[2][j] += u * u;
            s[3][j] += v * v;
            s[4][j] += u * v;
            missing[j] += !valid;
        }
    }
    memcpy(sums, s, sizeof s);
    for (int j = 0; j < LANES; j++) out->missing += missing[j];
}

#ifdef CONFSIM_X86
#define NAME strip_avx2
#define TARGET CONFSIM_TARGET_AVX2
#define WIDTH 4
#define VEC __m256d
#define LOAD _mm256_loadu_pd
#define STORE _mm256_storeu_pd
#define SET1 _mm256_set1_pd
#define ADD _mm256_add_pd
#define SUB _mm256_sub_pd
#define MUL _mm256_mul_pd
#define DIV _mm256_div_pd
#define CLAMP(x, top) _mm256_cvttpd_epi32(_mm256_min_pd(_mm256_max_pd(x, _mm256_setzero_pd()), top))
#define JOIN(high, bits, low) _mm_or_si128(_mm_slli_epi32(high, bits), low)
#define STORE_INTS(p, x) _mm_storeu_si128((__m128i *)(p), x)
#define ANY_NAN(x) _mm256_movemask_pd(_mm256_cmp_pd(x, x, _CMP_UNORD_Q))
#include "stats/histogram_simd.inc"

#define NAME strip_avx512
#define TARGET CONFSIM_TARGET_AVX512
#define WIDTH 8
#define VEC __m512d
#define LOAD _mm512_loadu_pd
#define STORE _mm512_storeu_pd
#define SET1 _mm512_set1_pd
#define ADD _mm512_add_pd
#define SUB _mm512_sub_pd
#define MUL _mm512_mul_pd
#define DIV _mm512_div_pd
#define CLAMP(x, top) _mm512_cvttpd_epi32(_mm512_min_pd(_mm512_max_pd(x, _mm512_setzero_pd()), top))
#define JOIN(high, bits, low) _mm256_or_si256(_mm256_slli_epi32(high, bits), low)
#define STORE_INTS(p, x) _mm256_storeu_si256((__m256i *)(p), x)
#define ANY_NAN(x) _mm512_cmp_pd_mask(x, x, _CMP_UNORD_Q)
#include "stats/histogram_simd.inc"
#endif

static void strip_with(confsim_isa isa, const double *c, const double *d, int64_t n,
                       const confsim_bins *at, strip_bins *out, double sums[5][LANES]) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512 && strip_avx512(c, d, n, at, out, sums)) return;
    if (isa == CONFSIM_ISA_AVX2 && strip_avx2(c, d, n, at, out, sums)) return;
#else
    (void)isa;
#endif
    strip_portable(c, d, n, at, out, sums);
}

static double add_lanes(const double lanes[LANES]) {
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
           ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

static void count_strip(counts *to, const strip_bins *bins, int64_t n) {
    if (!bins->missing) {
        for (int64_t i = 0; i < n; i++) {
            to->confidence[bins->code[i] >> 16]++;
            to->grid[bins->grid[i]]++;
            to->distance[bins->code[i] & (CONFSIM_FINE - 1)]++;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint32_t valid = bins->valid[i];
        to->confidence[(bins->code[i] >> 16) + (valid ? 0 : CONFSIM_FINE)]++;
        to->grid[bins->grid[i]] += valid;
        to->distance[bins->code[i] & (CONFSIM_FINE - 1)] += valid;
    }
}

static void count_few(const tally_job *job, const strip_bins *bins, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t valid = !bins->missing || bins->valid[i];
        job->fine_confidence[(bins->code[i] >> 16) + (valid ? 0 : CONFSIM_FINE)]++;
        job->grid[bins->grid[i]] += valid;
        job->fine_distance[bins->code[i] & (CONFSIM_FINE - 1)] += valid;
    }
}

/* One strip, from a padded copy where it is the last, short one: pairs of NaN distance add nothing
 * to sums, and are not counted. */
static void tally_strip(const tally_job *job, int64_t i, int64_t n, strip_bins *bins,
                        double sums[5][LANES]) {
    const double *confidence = job->confidence + i, *distance = job->distance + i;
    double padded[2][LANES];
    int64_t whole = n - n % LANES, rest = n - whole;
    bins->missing = 0;
    strip_with(job->isa, confidence, distance, whole, &job->bins, bins, sums);
    if (!rest) return;
    uint32_t codes[LANES];
    strip_bins tail = {.code = codes};
    for (int64_t j = 0; j < LANES; j++) {
        padded[0][j] = j < rest ? confidence[whole + j] : job->bins.fine_low;
        padded[1][j] = j < rest ? distance[whole + j] : NAN;
    }
    strip_portable(padded[0], padded[1], LANES, &job->bins, &tail, sums);
    tail.missing -= LANES - rest;
    if (tail.missing && !bins->missing) memset(bins->valid, 1, (size_t)whole);
    bins->missing += tail.missing;
    memcpy(bins->grid + whole, tail.grid, (size_t)rest * sizeof *tail.grid);
    memcpy(bins->code + whole, codes, (size_t)rest * sizeof *codes);
    memcpy(bins->valid + whole, tail.valid, (size_t)rest * sizeof *tail.valid);
}

static void tally_block(void *context, int64_t block, int thread) {
    const tally_job *job = context;
    int64_t start = block * BLOCK;
    int64_t end = start + BLOCK < job->count ? start + BLOCK : job->count;
    double sums[5][LANES] = {{0}};
    int64_t pairs = 0;
    uint32_t codes[STRIP];
    strip_bins bins = {.code = codes};
    for (int64_t i = start; i < end; i += STRIP) {
        int64_t n = end - i < STRIP ? end - i : STRIP;
        if (job->codes) bins.code = job->codes + i;
        tally_strip(job, i, n, &bins, sums);
        pairs += n - bins.missing;
        if (job->counts)
            count_strip(&job->counts[thread], &bins, n);
        else
            count_few(job, &bins, n);
    }
    job->moments[block] = (confsim_moments){pairs,
                                            add_lanes(sums[0]),
                                            add_lanes(sums[1]),
                                            add_lanes(sums[2]),
                                            add_lanes(sums[3]),
                                            add_lanes(sums[4])};
}

static void add_counts(int64_t *to, const uint32_t *from, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

confsim_status confsim_tally(const double *confidence, const double *distance, int64_t count,
                             confsim_bins bins, int64_t *grid, int64_t *fine_confidence,
                             int64_t *fine_distance, confsim_moments *moments, uint32_t *codes,
                             int threads, confsim_isa isa) {
    confsim_status status = CONFSIM_NO_MEMORY;
    int64_t blocks = (count + BLOCK - 1) / BLOCK;
    tally_job job = {.confidence = confidence,
                     .distance = distance,
                     .count = count,
                     .bins = bins,
                     .grid = grid,
                     .fine_confidence = fine_confidence,
                     .fine_distance = fine_distance,
                     .codes = codes,
                     .isa = isa};
    if (!blocks) return CONFSIM_OK;
    if (threads > blocks) threads = (int)blocks;
    if (blocks > 1) job.counts = calloc((size_t)threads, sizeof *job.counts);
    job.moments = malloc((size_t)blocks * sizeof *job.moments);
    if ((blocks > 1 && !job.counts) || !job.moments) goto out;
    confsim_parallel_for(blocks, threads, tally_block, &job);
    for (int t = 0; job.counts && t < threads; t++) {
        add_counts(grid, job.counts[t].grid, CONFSIM_GRID * CONFSIM_GRID);
        add_counts(fine_confidence, job.counts[t].confidence, 2 * CONFSIM_FINE);
        add_counts(fine_distance, job.counts[t].distance, CONFSIM_FINE);
    }
    for (int64_t b = 0; b < blocks; b++) {
        const confsim_moments *from = &job.moments[b];
        moments->pairs += from->pairs;
        moments->u += from->u;
        moments->v += from->v;
        moments->uu += from->uu;
        moments->vv += from->vv;
        moments->uv += from->uv;
    }
    status = CONFSIM_OK;
out:
    free(job.counts);
    free(job.moments);
    return status;
}

/* ---- ranks -------------------------------------------------------------------------------------
 */

typedef struct {
    const uint32_t *codes;
    const double *distance;
    int64_t count;
    const int64_t *rank;
    int64_t *sums; /* CONFSIM_FINE a thread */
} ranks_job;

static void ranks_block(void *context, int64_t block, int thread) {
    const ranks_job *job = context;
    int64_t start = block * BLOCK;
    int64_t end = start + BLOCK < job->count ? start + BLOCK : job->count;
    int64_t *sums = job->sums + (int64_t)thread * CONFSIM_FINE;
    if (!job->distance) {
        for (int64_t i = start; i < end; i++) {
            uint32_t code = job->codes[i];
            sums[code & (CONFSIM_FINE - 1)] += job->rank[code >> 16];
        }
        return;
    }
    for (int64_t i = start; i < end; i++) {
        uint32_t code = job->codes[i];
        int64_t valid = job->distance[i] == job->distance[i];
        sums[code & (CONFSIM_FINE - 1)] += job->rank[code >> 16] & -valid;
    }
}

confsim_status confsim_rank_sums(const uint32_t *codes, const double *distance, int64_t count,
                                 const int64_t *rank, int64_t *sums, int threads) {
    int64_t blocks = (count + BLOCK - 1) / BLOCK;
    ranks_job job = {codes, distance, count, rank, sums};
    if (!blocks) return CONFSIM_OK;
    if (threads > blocks) threads = (int)blocks;
    if (threads > 1) {
        job.sums = calloc((size_t)threads * CONFSIM_FINE, sizeof *job.sums);
        if (!job.sums) return CONFSIM_NO_MEMORY;
    }
    confsim_parallel_for(blocks, threads, ranks_block, &job);
    if (threads > 1) {
        for (int64_t i = 0; i < (int64_t)threads * CONFSIM_FINE; i++)
            sums[i % CONFSIM_FINE] += job.sums[i];
        free(job.sums);
    }
    return CONFSIM_OK;
}

/* ---- rows of some bins --------------------------------------------------------------------------
 */

int64_t confsim_rows_in_bins(const uint32_t *codes, int64_t count, const uint8_t *wanted,
                             uint32_t *rows) {
    const uint8_t *wanted_distance = wanted + CONFSIM_FINE;
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t code = codes[i];
        rows[found] = (uint32_t)i; /* always, and kept sometimes: no branch to mispredict */
        found += wanted[code >> 16] | wanted_distance[code & (CONFSIM_FINE - 1)];
    }
    return found;
}

/* ---- the grid alone ----------------------------------------------------------------------------
 */

void confsim_grid_counts(const double *confidence, const double *distance, int64_t count,
                         confsim_bins bins, int64_t *grid, confsim_isa isa) {
    tally_job job = {.confidence = confidence, .distance = distance, .bins = bins, .isa = isa};
    double sums[5][LANES] = {{0}};
    uint32_t codes[STRIP];
    strip_bins strip = {.code = codes};
    for (int64_t i = 0; i < count; i += STRIP) {
        int64_t n = count - i < STRIP ? count - i : STRIP;
        tally_strip(&job, i, n, &strip, sums);
        for (int64_t j = 0; j < n; j++) grid[strip.grid[j]] += !strip.missing || strip.valid[j];
    }
}
