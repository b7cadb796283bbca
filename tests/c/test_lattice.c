/* Properties of the lattice kernels that cannot be seen from Python. */
#include "../../csrc/lattice.c"

#include <assert.h>
#include <stdio.h>

/* Every root that a kernel can be asked for is the one that sqrt() gives. A step that is no power of
 * two leaves the full check to builds without sanitizers. */
static void roots_are_correctly_rounded(const kernels *k, uint32_t step) {
    uint32_t sums[SIDE];
    double distances[SIDE];
    const int32_t index[SIDE] = {0};
    for (uint64_t first = 0; first < CONFSIM_LATTICE_SUM_LIMIT; first += (uint64_t)SIDE * step) {
        for (uint32_t i = 0; i < SIDE; i++)
            sums[i] = (uint32_t)((first + (uint64_t)i * step) % CONFSIM_LATTICE_SUM_LIMIT);
        k->emit(sums, index, 0.25, distances, NULL);
        for (int i = 0; i < SIDE; i++) assert(distances[i] == sqrt((double)sums[i]) * 0.25);
    }
}

int main(void) {
#if defined(__SANITIZE_ADDRESS__)
    const uint32_t step = 61;
#else
    const uint32_t step = 1;
#endif
    for (int isa = CONFSIM_ISA_PORTABLE; isa <= CONFSIM_ISA_NEON; isa++)
        if (confsim_isa_available((confsim_isa)isa))
            roots_are_correctly_rounded(choose((confsim_isa)isa), step);
    puts("lattice: ok");
    return 0;
}
