/* Linear scores: w.x + b in one fixed order of operations, and what a trial needs of them.
 *
 * A score is ((0 + w_0 x_0) + w_1 x_1) + ... + b in float64 without fused multiply-add, so every
 * path and every thread count gives the same bits. */
#ifndef CONFSIM_SCORES_H
#define CONFSIM_SCORES_H

#include <stdint.h>

#include "core/isa.h"
#include "core/matrix.h"
#include "core/status.h"

/* scores[i] = weights . row i + bias. */
void confsim_scores(confsim_matrix points, const double *weights, double bias, double *scores,
                    int threads);

/* Points of a regular lattice: ascending ids, or (ids == 0) the range start, start + 1, ... */
typedef struct {
    const int64_t *ids;
    int64_t start, count;
    int dimensions;
    int64_t points_per_axis;
    double granularity;
} confsim_lattice_points;

typedef struct {
    const double *weights;
    double bias;
} confsim_hyperplane;

typedef struct {
    double low, high; /* of the margins */
    int64_t right;    /* points that the learned hyperplane puts on the ideal one's side */
} confsim_margin_summary;

/* margin[i] = |learned score of point i|; label[i] = +1 when its ideal score is > 0, else -1.
 *
 * A learned score >= 0 predicts +1. `label` may be null. */
CONFSIM_MUST_CHECK confsim_status confsim_lattice_margins(
    confsim_lattice_points points, confsim_hyperplane learned, confsim_hyperplane ideal,
    double *margin, int8_t *label, confsim_margin_summary *summary, int threads, confsim_isa isa);

#endif
