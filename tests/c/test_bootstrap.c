/* Resampled histograms by hand, with weights of both ways and without memory. */
#include <assert.h>

#include "failing_memory.h"
#include "stats/bootstrap.h"
#include "testing.h"

enum { ROWS = 2, COLUMNS = 3, REPLICATES = 2, BINS = 4 };

static const uint16_t codes[ROWS * COLUMNS] = {0, 3, 0, 1, 0, 3};
static const uint16_t of_rows[REPLICATES * ROWS] = {1, 0, 2, 3};
static const uint16_t of_columns[REPLICATES * COLUMNS] = {1, 2, 0, 255, 1, 4};

static void count(const uint16_t *columns, int64_t *counts, confsim_isa isa) {
    confsim_resample(codes, ROWS, COLUMNS, of_rows, columns, REPLICATES, BINS, counts, 2, isa);
}

static void counts_by_hand(confsim_isa isa) {
    static const int64_t expected[REPLICATES * BINS] = {1, 0, 0, 2, 521, 765, 0, 14};
    int64_t counts[REPLICATES * BINS];
    count(of_columns, counts, isa);
    for (int i = 0; i < REPLICATES * BINS; i++) assert(counts[i] == expected[i]);
}

static void counts_are_those_by_hand(void) { on_every_isa(counts_by_hand); }

static void weights_may_be_large(void) {
    static const uint16_t large[REPLICATES * COLUMNS] = {1, 2, 0, 65535, 1, 4};
    int64_t counts[REPLICATES * BINS];
    count(large, counts, CONFSIM_ISA_PORTABLE);
    assert(counts[BINS] == 2 * (65535 + 4) + 3);
    assert(counts[BINS + 1] == 3 * 65535 && counts[BINS + 3] == 14);
}

static void counts_need_no_memory(void) {
    for (memory_left = 0; memory_left < 6; memory_left += 1) {
        const int64_t left = memory_left;
        counts_by_hand(CONFSIM_ISA_PORTABLE);
        memory_left = left;
    }
    memory_left = INT64_MAX;
}

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(counts_are_those_by_hand),
        CASE(weights_may_be_large),
        CASE(counts_need_no_memory),
    };
    return RUN_CASES(cases, argc, argv);
}
