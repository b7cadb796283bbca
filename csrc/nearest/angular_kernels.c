#include "nearest/angular_kernels.h"

#ifdef CONFSIM_X86
#include <immintrin.h>
#endif
#ifdef CONFSIM_NEON
#include <arm_neon.h>
#endif

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
#define PATH_KERNELS confsim_angular_portable
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
#include "nearest/simd/angular_simd.inc"

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
#define PATH_KERNELS confsim_angular_avx2
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
#include "nearest/simd/angular_simd.inc"

#define PATH(name) avx512_##name
#define PATH_KERNELS confsim_angular_avx512
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
#include "nearest/simd/angular_simd.inc"

/* The same for processors that add two products in one instruction. */
#define PATH(name) vnni_##name
#define PATH_KERNELS confsim_angular_vnni
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
#include "nearest/simd/angular_simd.inc"
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
#define PATH_KERNELS confsim_angular_neon
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
#include "nearest/simd/angular_simd.inc"
#endif

const angular_kernels *confsim_angular_kernels(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512 && __builtin_cpu_supports("avx512vnni"))
        return &confsim_angular_vnni;
    if (isa == CONFSIM_ISA_AVX512) return &confsim_angular_avx512;
    if (isa == CONFSIM_ISA_AVX2) return &confsim_angular_avx2;
#endif
#ifdef CONFSIM_NEON
    if (isa == CONFSIM_ISA_NEON) return &confsim_angular_neon;
#endif
    (void)isa;
    return &confsim_angular_portable;
}
