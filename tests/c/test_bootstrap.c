/* Resampled histograms by hand, with weights of both ways and without memory. */
#include <assert.h>

#include "failing_memory.h"
#include "stats/bootstrap.h"
#include "testing.h"

enum { ROWS = 2, COLUMNS = 3, REPLICATES = 2, BINS = 4 };

static const uint16_t codes[ROWS * COLUMNS] = {0, 3, 0, 1, 0, 3};
static const uint16_t of_rows[REPLICATES * ROWS] = {1, 0, 2, 3};
static const uint16_t of_columns[REPLICATES * COLUMNS] = {1, 2, 0, 255, 1, 4};

static confsim_status count(const uint16_t *columns, int64_t *counts, confsim_isa isa) {
    return confsim_resample(codes, ROWS, COLUMNS, of_rows, columns, REPLICATES, BINS, counts, 2,
                            isa);
}

static void counts_by_hand(confsim_isa isa) {
    static const int64_t expected[REPLICATES * BINS] = {1, 0, 0, 2, 521, 765, 0, 14};
    int64_t counts[REPLICATES * BINS];
    assert(count(of_columns, counts, isa) == CONFSIM_OK);
    for (int i = 0; i < REPLICATES * BINS; i++) assert(counts[i] == expected[i]);
}

static void counts_are_those_by_hand(void) { on_every_isa(counts_by_hand); }

static void weights_may_be_large(void) {
    static const uint16_t large[REPLICATES * COLUMNS] = {1, 2, 0, 65535, 1, 4};
    int64_t counts[REPLICATES * BINS];
    assert(count(large, counts, CONFSIM_ISA_PORTABLE) == CONFSIM_OK);
    assert(counts[BINS] == 2 * (65535 + 4) + 3);
    assert(counts[BINS + 1] == 3 * 65535 && counts[BINS + 3] == 14);
}

static void failures_are_told(void) {
    int64_t counts[REPLICATES * BINS], needed = 0;
    for (;; needed++) {
        memory_left = needed;
        const confsim_status status = count(of_columns, counts, CONFSIM_ISA_PORTABLE);
        memory_left = INT64_MAX;
        if (status == CONFSIM_OK) break;
        assert(status == CONFSIM_NO_MEMORY);
    }
    assert(needed == 5);
}

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(counts_are_those_by_hand),
        CASE(weights_may_be_large),
        CASE(failures_are_told),
    };
    return RUN_CASES(cases, argc, argv);
}
