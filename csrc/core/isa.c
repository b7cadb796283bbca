#include "core/isa.h"

int confsim_isa_available(confsim_isa isa) {
    switch (isa) {
    case CONFSIM_ISA_PORTABLE:
        return 1;
#ifdef CONFSIM_X86
    case CONFSIM_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case CONFSIM_ISA_AVX512:
        return confsim_isa_available(CONFSIM_ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl");
#endif
#ifdef CONFSIM_NEON
    case CONFSIM_ISA_NEON:
        return 1;
#endif
    default:
        return 0;
    }
}

confsim_isa confsim_isa_best(void) {
    static const confsim_isa preference[] = {CONFSIM_ISA_AVX512, CONFSIM_ISA_AVX2,
                                             CONFSIM_ISA_NEON};
    for (int i = 0; i < 3; i++)
        if (confsim_isa_available(preference[i])) return preference[i];
    return CONFSIM_ISA_PORTABLE;
}
