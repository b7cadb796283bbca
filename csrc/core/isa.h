/* Which instruction sets this processor and this build can run.
 *
 * Every kernel has a portable path and may have faster ones, compiled with function-level targets.
 * The caller chooses the path and passes it down; kernels never look at the environment. All paths
 * of a kernel give the same bits. */
#ifndef CONFSIM_ISA_H
#define CONFSIM_ISA_H

typedef enum {
    CONFSIM_ISA_PORTABLE = 0,
    CONFSIM_ISA_AVX2 = 1,   /* with FMA */
    CONFSIM_ISA_AVX512 = 2, /* F, DQ, BW and VL; implies AVX2 and FMA */
    CONFSIM_ISA_NEON = 3
} confsim_isa;

#if defined(__x86_64__) && defined(__GNUC__)
#define CONFSIM_X86 1
#define CONFSIM_TARGET_AVX2 __attribute__((target("avx2,fma")))
#define CONFSIM_TARGET_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")))
#endif
#if defined(__aarch64__) && defined(__ARM_NEON)
#define CONFSIM_NEON 1
#endif

/* 1 when code for `isa` can run here, else 0. */
int confsim_isa_available(confsim_isa isa);

/* The best one that is available. */
confsim_isa confsim_isa_best(void);

#endif
