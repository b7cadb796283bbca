#include "stats/columns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/util.h"

#ifdef CONFSIM_X86
#include <immintrin.h>
#endif

/* Columns that are worked on at once: a few vectors of each instruction set. */
enum { LANES = 32 };

/* What a row holds of an example: the score of a non-member, of a member, or none. */
enum { OTHER = 0, MEMBER = 1, NOTHING = 2 };

typedef struct {
    double value[LANES];
} value_line;

typedef struct {
    double score[LANES], kind[LANES]; /* kinds as numbers, to move as scores do */
} kind_line;

/* ---- the network --------------------------------------------------------------------------------
 *
 * Merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M): which rows are
 * compared depends on their number alone, so that all columns take the same steps. */

typedef void exchange(void *lines, int64_t low, int64_t high);

static inline __attribute__((always_inline)) void merge_exchange(void *lines, int64_t rows,
                                                                 exchange *compare) {
    int64_t top = 1;
    while (2 * top < rows) top *= 2;
    for (int64_t p = rows > 1 ? top : 0; p > 0; p /= 2) {
        int64_t remainder = 0, distance = p;
        for (int64_t q = top;; q /= 2) {
            for (int64_t run = remainder; run < rows - distance; run += 2 * p) {
                const int64_t end = confsim_least(run + p, rows - distance);
                for (int64_t i = run; i < end; i++) compare(lines, i, i + distance);
            }
            if (q == p) break;
            distance = q - p;
            remainder = p;
        }
    }
}

/* Compilers do not make minima of these comparisons by themselves. */
#ifdef CONFSIM_X86
#define EXCHANGE_VALUES(name, target, VEC, LOAD, STORE, MIN, MAX)                                  \
    target static inline __attribute__((always_inline)) void exchange_values_##name(               \
        void *lines, int64_t low, int64_t high) {                                                  \
        double *first = ((value_line *)lines)[low].value;                                          \
        double *second = ((value_line *)lines)[high].value;                                        \
        for (size_t j = 0; j < LANES; j += sizeof(VEC) / sizeof(double)) {                         \
            VEC a = LOAD(first + j), b = LOAD(second + j);                                         \
            STORE(first + j, MIN(b, a)); /* of equal zeros, each stays where it is */              \
            STORE(second + j, MAX(a, b));                                                          \
        }                                                                                          \
    }

EXCHANGE_VALUES(portable, , __m128d, _mm_load_pd, _mm_store_pd, _mm_min_pd, _mm_max_pd)
EXCHANGE_VALUES(avx2, CONFSIM_TARGET_AVX2, __m256d, _mm256_load_pd, _mm256_store_pd, _mm256_min_pd,
                _mm256_max_pd)
EXCHANGE_VALUES(avx512, CONFSIM_TARGET_AVX512, __m512d, _mm512_load_pd, _mm512_store_pd,
                _mm512_min_pd, _mm512_max_pd)
#else
static inline __attribute__((always_inline)) void exchange_values_portable(void *lines, int64_t low,
                                                                           int64_t high) {
    double *first = ((value_line *)lines)[low].value, *second = ((value_line *)lines)[high].value;
    for (int j = 0; j < LANES; j++) {
        double a = first[j], b = second[j];
        first[j] = b < a ? b : a;
        second[j] = b < a ? a : b;
    }
}
#endif

static inline
    __attribute__((always_inline)) void exchange_kinds(void *lines, int64_t low, int64_t high) {
    kind_line *first = (kind_line *)lines + low, *second = (kind_line *)lines + high;
#pragma GCC ivdep
    for (int j = 0; j < LANES; j++) {
        double a = first->score[j], b = second->score[j];
        double c = first->kind[j], d = second->kind[j];
        first->score[j] = b < a ? b : a;
        second->score[j] = b < a ? a : b;
        first->kind[j] = b < a ? d : c;
        second->kind[j] = b < a ? c : d;
    }
}

/* ---- areas --------------------------------------------------------------------------------------
 */

/* Of each column: twice the pairs in which the member is higher, equal ones counted once; others
 * below the scores that are equal to the present one, and up to it; members that are equal to it.
 */
typedef struct {
    double twice[LANES], below[LANES], up_to[LANES], equal[LANES], members[LANES];
} pairs;

static inline __attribute__((always_inline)) void count_pairs(const kind_line *lines, int64_t rows,
                                                              pairs *found) {
    memset(found, 0, sizeof *found);
    for (int64_t i = 0; i < rows; i++) {
        const kind_line *now = lines + i, *before = lines + (i ? i - 1 : 0);
        for (int j = 0; j < LANES; j++) {
            int fresh = now->score[j] != before->score[j];
            double done = found->equal[j] * (found->below[j] + found->up_to[j]);
            double is_member = now->kind[j] == MEMBER ? 1.0 : 0.0;
            found->twice[j] += fresh ? done : 0.0;
            found->below[j] = fresh ? found->up_to[j] : found->below[j];
            found->equal[j] = (fresh ? 0.0 : found->equal[j]) + is_member;
            found->up_to[j] += now->kind[j] == OTHER ? 1.0 : 0.0;
            found->members[j] += is_member;
        }
    }
    for (int j = 0; j < LANES; j++)
        found->twice[j] += found->equal[j] * (found->below[j] + found->up_to[j]);
}

/* ---- instruction sets --------------------------------------------------------------------------
 */

typedef struct {
    void (*sort_values)(value_line *lines, int64_t rows);
    void (*find_pairs)(kind_line *lines, int64_t rows, pairs *found);
} paths;

#define WITH(name, target)                                                                         \
    target static void sort_values_##name(value_line *lines, int64_t rows) {                       \
        merge_exchange(lines, rows, exchange_values_##name);                                       \
    }                                                                                              \
    target static void find_pairs_##name(kind_line *lines, int64_t rows, pairs *found) {           \
        merge_exchange(lines, rows, exchange_kinds);                                               \
        count_pairs(lines, rows, found);                                                           \
    }

WITH(portable, )
#ifdef CONFSIM_X86
WITH(avx2, CONFSIM_TARGET_AVX2)
WITH(avx512, CONFSIM_TARGET_AVX512)
#endif

static paths paths_with(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return (paths){sort_values_avx512, find_pairs_avx512};
    if (isa == CONFSIM_ISA_AVX2) return (paths){sort_values_avx2, find_pairs_avx2};
#endif
    (void)isa;
    return (paths){sort_values_portable, find_pairs_portable};
}

/* ---- matrices -----------------------------------------------------------------------------------
 */

static void *lines_of(int64_t rows, size_t size) {
    return aligned_alloc(64, ((size_t)(rows ? rows : 1) * size + 63) / 64 * 64);
}

static int64_t used_lanes(int64_t columns, int64_t start) {
    return columns - start < LANES ? columns - start : LANES;
}

confsim_status confsim_sort_columns(double *values, int64_t rows, int64_t columns,
                                    confsim_isa isa) {
    value_line *lines = lines_of(rows, sizeof *lines);
    if (!lines) return CONFSIM_NO_MEMORY;
    const paths with = paths_with(isa);
    for (int64_t start = 0; start < columns; start += LANES) {
        const int64_t used = used_lanes(columns, start);
        int64_t missing[LANES] = {0};
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < LANES; j++) {
                double value = j < used ? values[i * columns + start + j] : 0.0;
                missing[j] += value != value;
                lines[i].value[j] = value != value ? INFINITY : value;
            }
        with.sort_values(lines, rows);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < used; j++)
                values[i * columns + start + j] = i < rows - missing[j] ? lines[i].value[j] : NAN;
    }
    free(lines);
    return CONFSIM_OK;
}

confsim_status confsim_auc_by_column(const double *scores, const uint8_t *members, int64_t rows,
                                     int64_t columns, double *areas, confsim_isa isa) {
    kind_line *lines = lines_of(rows, sizeof *lines);
    if (!lines) return CONFSIM_NO_MEMORY;
    const paths with = paths_with(isa);
    pairs found;
    for (int64_t start = 0; start < columns; start += LANES) {
        const int64_t used = used_lanes(columns, start);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < LANES; j++) {
                int64_t at = i * columns + start + j;
                double score = j < used ? scores[at] : NAN;
                lines[i].score[j] = score != score ? INFINITY : score;
                lines[i].kind[j] = score != score ? NOTHING : members[at] ? MEMBER : OTHER;
            }
        with.find_pairs(lines, rows, &found);
        for (int64_t j = 0; j < used; j++) {
            double count = found.members[j] * found.up_to[j];
            areas[start + j] = count > 0 ? found.twice[j] / 2 / count : NAN;
        }
    }
    free(lines);
    return CONFSIM_OK;
}
