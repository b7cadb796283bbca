/* Lattice margins: every path, ids or range, threads, against the definition. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lattice/lattice.h"
#include "testing.h"

static double score(int64_t id, int dimensions, int64_t m, double step, const double *w, double b) {
    int64_t divisor = 1;
    double sum = 0.0;
    for (int k = 1; k < dimensions; k++) divisor *= m;
    for (int k = 0; k < dimensions; k++) {
        sum += w[k] * ((double)(id / divisor % m) * step);
        divisor /= m;
    }
    return sum + b;
}

static void check(int dimensions, int64_t m, int64_t start, int64_t count, int64_t stride) {
    const double w[] = {0.7, -0.3, 0.11, 1e-3}, ideal[] = {1, -1, 1, -1};
    int64_t *ids = malloc((size_t)count * sizeof *ids);
    double *margin = malloc((size_t)count * sizeof *margin);
    int8_t *label = malloc((size_t)count);
    for (int64_t i = 0; i < count; i++) ids[i] = start + i * stride;
    for (int isa = 0; isa <= CONFSIM_ISA_NEON; isa++)
        for (int threads = 1; threads <= 3; threads++)
            for (int as_range = 0; as_range <= (stride == 1); as_range++) {
                if (!confsim_isa_available((confsim_isa)isa)) continue;
                const confsim_lattice lattice = {0.25, m, dimensions};
                const confsim_ids points = {as_range ? NULL : ids, start, count};
                const confsim_hyperplane learned = {w, -0.6}, wanted = {ideal, 0.0};
                confsim_margin_summary summary;
                int64_t right = 0;
                double low = INFINITY, high = 0.0;
                assert(confsim_lattice_margins(&lattice, &points, &learned, &wanted, margin, label,
                                               &summary, threads, (confsim_isa)isa) == CONFSIM_OK);
                for (int64_t i = 0; i < count; i++) {
                    double s = score(ids[i], dimensions, m, 0.25, w, -0.6);
                    int positive = score(ids[i], dimensions, m, 0.25, ideal, 0.0) > 0;
                    assert(margin[i] == fabs(s) && label[i] == 2 * positive - 1);
                    right += (s >= 0) == positive;
                    low = fmin(low, fabs(s));
                    high = fmax(high, fabs(s));
                }
                assert(summary.right == right && summary.low == low && summary.high == high);
            }
    free(ids);
    free(margin);
    free(label);
}

static void margins_are_those_of_the_definition(void) {
    check(1, 1000, 3, 900, 1);
    check(2, 301, 50, 40000, 1);
    check(2, 101, 0, 500, 17);
    check(3, 7, 5, 300, 1);
    check(4, 3, 0, 81, 1);
    check(2, 1, 0, 1, 1);
}

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(margins_are_those_of_the_definition),
    };
    return RUN_CASES(cases, argc, argv);
}
