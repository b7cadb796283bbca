#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/parallel.h"
#include "core/util.h"
#include "lattice/lattice.h"

enum { BLOCK = 1 << 14 };

typedef struct {
    const confsim_lattice *lattice;
    const confsim_ids *ids;
    const confsim_hyperplane *learned, *ideal;
    double *margin;
    int8_t *label;
    confsim_margin_summary *summaries; /* one a block */
    confsim_isa isa;
} margins_job;

/* Points that share all coordinates but the last: their scores differ in one term. */
typedef struct {
    const int64_t *ids; /* or null: first, first + 1, ... */
    int64_t first, count;
    int64_t row_start; /* id of the point whose last coordinate is 0 */
    double granularity;
    double prefix, weight, bias; /* learned */
    double ideal_prefix, ideal_weight, ideal_bias;
    double *margin;
    int8_t *label;
} lattice_row;

static inline __attribute__((always_inline)) int64_t score_points_of_row(const lattice_row *row,
                                                                         int with_ids,
                                                                         int with_labels) {
    const lattice_row r = *row;
    double *restrict margin = r.margin;
    int8_t *restrict label = r.label;
    int64_t right = 0;
    for (int64_t i = 0; i < r.count; i++) {
        int64_t id = with_ids ? r.ids[i] : r.first + i;
        double x = (double)(id - r.row_start) * r.granularity;
        double score = (r.prefix + r.weight * x) + r.bias;
        double ideal = (r.ideal_prefix + r.ideal_weight * x) + r.ideal_bias;
        margin[i] = fabs(score);
        if (with_labels) label[i] = ideal > 0.0 ? 1 : -1;
        right += (score >= 0.0 ? 1 : 0) ^ (ideal > 0.0 ? 0 : 1);
    }
    return right;
}

static int64_t bits_of(double value) {
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Floats without a sign are in the order of their bits, and compilers make vectors of a running
 * minimum only of integers. */
static inline __attribute__((always_inline)) void range_of(const double *margin, int64_t count,
                                                           confsim_margin_summary *summary) {
    int64_t low = bits_of(summary->low), high = bits_of(summary->high);
    for (int64_t i = 0; i < count; i++) {
        int64_t bits = bits_of(margin[i]);
        low = bits < low ? bits : low;
        high = bits > high ? bits : high;
    }
    memcpy(&summary->low, &low, sizeof low);
    memcpy(&summary->high, &high, sizeof high);
}

static inline __attribute__((always_inline)) void
score_lattice_row(const lattice_row *row, confsim_margin_summary *summary) {
    if (row->ids)
        summary->right +=
            row->label ? score_points_of_row(row, 1, 1) : score_points_of_row(row, 1, 0);
    else
        summary->right +=
            row->label ? score_points_of_row(row, 0, 1) : score_points_of_row(row, 0, 0);
    range_of(row->margin, row->count, summary);
}

static void score_row_portable(const lattice_row *row, confsim_margin_summary *summary) {
    score_lattice_row(row, summary);
}
#ifdef CONFSIM_X86
CONFSIM_TARGET_AVX2
static void score_row_avx2(const lattice_row *row, confsim_margin_summary *summary) {
    score_lattice_row(row, summary);
}
CONFSIM_TARGET_AVX512
static void score_row_avx512(const lattice_row *row, confsim_margin_summary *summary) {
    score_lattice_row(row, summary);
}
#endif

static void score_row_with(confsim_isa isa, const lattice_row *row,
                           confsim_margin_summary *summary) {
#ifdef CONFSIM_X86
    if (isa == CONFSIM_ISA_AVX512) {
        score_row_avx512(row, summary);
        return;
    }
    if (isa == CONFSIM_ISA_AVX2) {
        score_row_avx2(row, summary);
        return;
    }
#else
    (void)isa;
#endif
    score_row_portable(row, summary);
}

/* The first position in [from, end) whose id is at least `id`, or `end`; looked for from the end,
 * which is near where few points of the lattice are left out. */
static int64_t first_at_least(const confsim_ids *ids, int64_t from, int64_t end, int64_t id) {
    if (!ids->ids) return confsim_least(end, from + (id - (ids->start + from)));
    int64_t step = 1;
    for (; end - step >= from && ids->ids[end - step] >= id; step *= 2) end -= step;
    if (end - step >= from) from = end - step;
    while (from < end) {
        int64_t middle = from + (end - from) / 2;
        if (ids->ids[middle] < id)
            from = middle + 1;
        else
            end = middle;
    }
    return from;
}

/* The terms of all axes but the last, added in axis order. */
static double prefix_sum(const confsim_lattice *lattice, const double *weights, int64_t row_index) {
    double sum = 0.0;
    int64_t divisor = 1;
    for (int64_t k = 0; k + 2 < lattice->dimensions; k++) divisor *= lattice->per_axis;
    for (int64_t k = 0; k + 1 < lattice->dimensions; k++) {
        int64_t coordinate = row_index / divisor;
        row_index -= coordinate * divisor;
        divisor /= lattice->per_axis;
        sum += weights[k] * ((double)coordinate * lattice->step);
    }
    return sum;
}

static void margins_block(void *context, int64_t block, int thread) {
    const margins_job *job = context;
    const confsim_lattice *lattice = job->lattice;
    const confsim_ids *ids = job->ids;
    const int64_t last = lattice->dimensions - 1;
    int64_t end = confsim_least((block + 1) * BLOCK, ids->count);
    confsim_margin_summary *summary = &job->summaries[block];
    (void)thread;
    *summary = (confsim_margin_summary){INFINITY, 0.0, 0};
    for (int64_t i = block * BLOCK; i < end;) {
        int64_t id = confsim_id_at(ids, i);
        int64_t row_index = id / lattice->per_axis;
        int64_t row_start = row_index * lattice->per_axis;
        int64_t stop = confsim_least(end, i + lattice->per_axis);
        stop = first_at_least(ids, i, stop, row_start + lattice->per_axis);
        lattice_row row = {
            .ids = ids->ids ? ids->ids + i : 0,
            .first = id,
            .count = stop - i,
            .row_start = row_start,
            .granularity = lattice->step,
            .prefix = prefix_sum(lattice, job->learned->weights, row_index),
            .weight = job->learned->weights[last],
            .bias = job->learned->bias,
            .ideal_prefix = prefix_sum(lattice, job->ideal->weights, row_index),
            .ideal_weight = job->ideal->weights[last],
            .ideal_bias = job->ideal->bias,
            .margin = job->margin + i,
            .label = job->label ? job->label + i : 0,
        };
        score_row_with(job->isa, &row, summary);
        i = stop;
    }
}

confsim_status confsim_lattice_margins(const confsim_lattice *lattice, const confsim_ids *ids,
                                       const confsim_hyperplane *learned,
                                       const confsim_hyperplane *ideal, double *margin,
                                       int8_t *label, confsim_margin_summary *summary, int threads,
                                       confsim_isa isa) {
    int64_t blocks = confsim_blocks(ids->count, BLOCK);
    margins_job job = {lattice, ids, learned, ideal, margin, label, 0, isa};
    *summary = (confsim_margin_summary){INFINITY, 0.0, 0};
    if (!blocks) return CONFSIM_OK;
    job.summaries = malloc((size_t)blocks * sizeof *job.summaries);
    if (!job.summaries) return CONFSIM_NO_MEMORY;
    confsim_parallel_for(blocks, threads, margins_block, &job);
    for (int64_t b = 0; b < blocks; b++) {
        summary->low = job.summaries[b].low < summary->low ? job.summaries[b].low : summary->low;
        summary->high =
            job.summaries[b].high > summary->high ? job.summaries[b].high : summary->high;
        summary->right += job.summaries[b].right;
    }
    free(job.summaries);
    return CONFSIM_OK;
}
