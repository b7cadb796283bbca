/* Tallies: every path and thread count gives the same bits; counts equal a loop over queries. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stats/histogram.h"
#include "testing.h"

enum { N = 40007 }; /* several blocks, and a last strip that fills no vector */

typedef struct {
    int64_t grid[CONFSIM_GRID * CONFSIM_GRID], confidence[2 * CONFSIM_FINE], distance[CONFSIM_FINE];
    confsim_moments moments;
    uint32_t codes[N];
    int64_t rank_sums[CONFSIM_FINE], alone[CONFSIM_GRID * CONFSIM_GRID];
} result;

static double c[N], d[N];
static int64_t rank[CONFSIM_FINE];
static const confsim_bins bins = {2.0, 0.0, 128.0, 0.1, 65536 / 1.9, 3.0, 65536.0};

static void run(result *r, int threads, confsim_isa isa) {
    memset(r, 0, sizeof *r);
    assert(confsim_tally(c, d, N, bins, r->grid, r->confidence, r->distance, &r->moments, r->codes,
                         threads, isa) == CONFSIM_OK);
    assert(confsim_rank_sums(r->codes, d, N, rank, r->rank_sums, threads) == CONFSIM_OK);
    confsim_grid_counts(c, d, N, bins, r->alone, isa);
}

static int64_t bin(double position, int64_t count) {
    if (!(position > 0)) return 0;
    return position < (double)(count - 1) ? (int64_t)position : count - 1;
}

/* NaN in every third 3000, from nan_in * 3000 on. */
static void check(int nan_in) {
    static result first, other;
    int64_t pairs = 0;
    for (int i = 0; i < N; i++) {
        c[i] = 0.1 + fmod(i * 0.754877666, 1.95); /* some beyond the last bin */
        /* Strips without NaN, with some, and a last one of either kind. */
        d[i] = i % 13 == 0 && i / 3000 % 3 == nan_in ? NAN : fmod(i * 0.569840290998, 3.2);
    }
    for (int i = 0; i < CONFSIM_FINE; i++) rank[i] = 3 * (int64_t)i - 90000;
    run(&first, 1, CONFSIM_ISA_PORTABLE);
    for (int isa = 0; isa <= CONFSIM_ISA_NEON; isa++)
        for (int threads = 1; threads <= 4; threads++) {
            if (!confsim_isa_available((confsim_isa)isa)) continue;
            run(&other, threads, (confsim_isa)isa);
            assert(!memcmp(&first, &other, sizeof first));
        }
    assert(!memcmp(first.grid, first.alone, sizeof first.grid));
    for (int i = 0; i < N; i++) {
        int64_t fine = bin((c[i] - bins.fine_low) * bins.fine_scale, CONFSIM_FINE);
        int valid = !isnan(d[i]);
        first.confidence[fine + (valid ? 0 : CONFSIM_FINE)]--;
        if (!valid) continue;
        double v = d[i] / bins.distance_divisor;
        int64_t far = bin(v * bins.distance_fine_scale, CONFSIM_FINE);
        first.distance[far]--;
        first.grid[bin((c[i] / bins.confidence_divisor - bins.grid_low) * bins.grid_scale,
                       CONFSIM_GRID) *
                       CONFSIM_GRID +
                   bin(v * CONFSIM_GRID, CONFSIM_GRID)]--;
        pairs++;
        first.rank_sums[far] -= rank[fine];
    }
    for (int i = 0; i < CONFSIM_GRID * CONFSIM_GRID; i++) assert(first.grid[i] == 0);
    for (int i = 0; i < 2 * CONFSIM_FINE; i++) assert(first.confidence[i] == 0);
    for (int i = 0; i < CONFSIM_FINE; i++)
        assert(first.distance[i] == 0 && first.rank_sums[i] == 0);
    assert(first.moments.pairs == pairs);
}

/* Rows of some bins, the first and the last of either axis among them, against the definition. */
static void rows_of_bins_are_found(void) {
    static uint32_t codes[N], rows[N];
    static uint8_t wanted[2 * CONFSIM_FINE];
    int64_t found = 0;
    for (int i = 0; i < N; i++)
        codes[i] = i < 4 ? (i & 1 ? 0xffffffffu : 0) : (uint32_t)i * 2654435761u;
    for (int b = 0; b < 2 * CONFSIM_FINE; b += 97) wanted[b] = 1;
    wanted[CONFSIM_FINE - 1] = 1;
    int64_t count = confsim_rows_in_bins(codes, N, wanted, rows);
    for (int i = 0; i < N; i++) {
        int wanted_here = wanted[codes[i] >> 16] || wanted[CONFSIM_FINE + (codes[i] & 0xffff)];
        if (wanted_here) assert(rows[found++] == (uint32_t)i);
    }
    assert(count == found && found > 4);
}

static void counts_equal_a_loop(void) {
    for (int nan_in = 0; nan_in <= 3; nan_in++) check(nan_in);
}

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(rows_of_bins_are_found),
        CASE(counts_equal_a_loop),
    };
    return RUN_CASES(cases, argc, argv);
}
