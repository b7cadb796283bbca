#include "nearest/block_kernels.h"

#ifdef CONFSIM_X86
#include <immintrin.h>
#endif
#ifdef CONFSIM_NEON
#include <arm_neon.h>
#endif

#define NAME(x) x##_portable
#define TARGET
#define WIDTH 4
#define VECS 1
#define VEC f32x4
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
static inline f32x4 lower_f32x4(f32x4 a, f32x4 b) {
    const i32x4 less = a < b;
    return (f32x4)(((i32x4)a & less) | ((i32x4)b & ~less));
}
static inline unsigned at_most_f32x4(f32x4 a, f32x4 b) {
    unsigned bits = 0;
    for (int lane = 0; lane < 4; lane++) bits |= (unsigned)(a[lane] <= b[lane]) << lane;
    return bits;
}
#define LOADF(p) (*(const f32x4 *)(p))
#define STOREF(p, v) (*(f32x4 *)(p) = (v))
#define SETF(x) ((f32x4){x, x, x, x})
#define MINF(a, b) lower_f32x4(a, b)
#define MAXF(a, b) (-lower_f32x4(-(a), -(b)))
#define AT_MOSTF(a, b) at_most_f32x4(a, b)
#define LESS_PRODUCT(a, b, c) ((c) - (a) * (b))
#include "nearest/simd/block_simd.inc"
#include "nearest/simd/undef.inc"

#ifdef CONFSIM_X86
#define NAME(x) x##_avx2
#define TARGET CONFSIM_TARGET_AVX2
#define WIDTH 8
#define VECS 2
#define VEC __m256
#define LOADF(p) _mm256_load_ps(p)
#define STOREF(p, v) _mm256_store_ps(p, v)
#define SETF(x) _mm256_set1_ps(x)
#define MINF _mm256_min_ps
#define MAXF _mm256_max_ps
#define AT_MOSTF(a, b) (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ))
#define LESS_PRODUCT _mm256_fnmadd_ps
#include "nearest/simd/block_simd.inc"
#include "nearest/simd/undef.inc"

#define NAME(x) x##_avx512
#define TARGET CONFSIM_TARGET_AVX512
#define WIDTH 16
#define VECS 4
#define VEC __m512
#define LOADF(p) _mm512_load_ps(p)
#define STOREF(p, v) _mm512_store_ps(p, v)
#define SETF(x) _mm512_set1_ps(x)
#define MINF _mm512_min_ps
#define MAXF _mm512_max_ps
#define AT_MOSTF(a, b) _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ)
#define LESS_PRODUCT _mm512_fnmadd_ps
#include "nearest/simd/block_simd.inc"
#include "nearest/simd/undef.inc"
#endif

#ifdef CONFSIM_NEON
#define NAME(x) x##_neon
#define TARGET
#define WIDTH 4
#define VECS 4
#define VEC float32x4_t
#define LOADF(p) vld1q_f32(p)
#define STOREF(p, v) vst1q_f32(p, v)
#define SETF(x) vdupq_n_f32(x)
#define MINF vminq_f32
#define MAXF vmaxq_f32
#define LESS_PRODUCT(a, b, c) vfmsq_f32(c, a, b)
static inline unsigned at_most_neon(float32x4_t a, float32x4_t b) {
    static const uint32_t bit[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcleq_f32(a, b), vld1q_u32(bit)));
}
#define AT_MOSTF(a, b) at_most_neon(a, b)
#include "nearest/simd/block_simd.inc"
#include "nearest/simd/undef.inc"
#endif

const block_kernels *confsim_block_kernels(confsim_isa isa) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) return &block_kernels_avx512;
    if (isa == CONFSIM_ISA_AVX2) return &block_kernels_avx2;
#endif
#ifdef CONFSIM_NEON
    if (isa == CONFSIM_ISA_NEON) return &block_kernels_neon;
#endif
    (void)isa;
    return &block_kernels_portable;
}
