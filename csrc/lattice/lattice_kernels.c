/* The inner loops of the lattice search, compiled once for each instruction set. */
#include "lattice/lattice_internal.h"

#ifdef CONFSIM_X86
#include <immintrin.h>
#endif
#ifdef CONFSIM_NEON
#include <arm_neon.h>
#endif

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

/* On odd turns the upper eight roots use VSQRTPD, whose unit runs beside the FMA ports. */
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
#define SHIFT(a, n) _mm512_slli_epi32(a, (unsigned)(n))
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

const kernels *confsim_lattice_kernels(confsim_isa isa) {
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
