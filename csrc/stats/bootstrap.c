#include "stats/bootstrap.h"

#include <string.h>

#include "core/parallel.h"

typedef struct {
    const uint16_t *codes;
    int64_t rows, columns;
    const int32_t *row_weights, *column_weights;
    int64_t bins;
    int64_t *counts;
} job;

static void replicate(void *context, int64_t item, int thread) {
    (void)thread;
    const job *work = context;
    const int32_t *row_weights = work->row_weights + item * work->rows;
    const int32_t *column_weights = work->column_weights + item * work->columns;
    int64_t *counts = work->counts + item * work->bins;
    memset(counts, 0, (size_t)work->bins * sizeof *counts);
    for (int64_t i = 0; i < work->rows; i++) {
        const int64_t weight = row_weights[i];
        if (weight == 0) /* more than a third of the rows of a bootstrap sample */
            continue;
        const uint16_t *codes = work->codes + i * work->columns;
        for (int64_t j = 0; j < work->columns; j++) counts[codes[j]] += weight * column_weights[j];
    }
}

void confsim_resample(const uint16_t *codes, int64_t rows, int64_t columns,
                      const int32_t *row_weights, const int32_t *column_weights, int64_t replicates,
                      int64_t bins, int64_t *counts, int threads) {
    job work = {codes, rows, columns, row_weights, column_weights, bins, counts};
    confsim_parallel_for(replicates, threads, replicate, &work);
}
