/* Points of a regular lattice: coordinates and labels from ids, and exact nearest training points.
 *
 * A point's id is its row-major index, the last axis runs fastest; its coordinates are c * step. */
#ifndef CONFSIM_LATTICE_H
#define CONFSIM_LATTICE_H

#include <stdint.h>

#include "core/isa.h"
#include "nearest/nearest.h"
#include "core/status.h"

/* At least two points an axis and fewer than 2^63 in all, so at most 62 dimensions. */
typedef struct {
    double step;
    int64_t per_axis;
    int64_t dimensions;
} confsim_lattice;

/* ids[0..count), or start, start + 1, ... when `ids` is NULL. */
typedef struct {
    const int64_t *ids;
    int64_t start, count;
} confsim_ids;

static inline int64_t confsim_id_at(const confsim_ids *ids, int64_t position) {
    return ids->ids ? ids->ids[position] : ids->start + position;
}

/* 1 when every id is greater than the one before it. */
int confsim_lattice_ascending(const int64_t *ids, int64_t count);

/* (count, dimensions) coordinates. */
void confsim_lattice_points(const confsim_lattice *lattice, const confsim_ids *ids, double *points,
                            int threads);

/* +1 where w.x + b > 0, else -1; summed in the order of the coordinates, then b. */
void confsim_lattice_labels(const confsim_lattice *lattice, const confsim_ids *ids,
                            const double *weights, double bias, int8_t *labels, int threads);

typedef struct {
    const double *weights;
    double bias;
} confsim_hyperplane;

typedef struct {
    double low, high; /* of the margins */
    int64_t right;    /* points that the learned hyperplane puts on the ideal one's side */
} confsim_margin_summary;

/* margin[i] = |learned score of point i|; label[i] = +1 when its ideal score is > 0, else -1. Ids
 * ascend. A learned score >= 0 predicts +1. `label` may be NULL. A score is
 * ((0 + w_0 x_0) + w_1 x_1) + ... + b, without fused multiply-add. */
CONFSIM_MUST_CHECK confsim_status confsim_lattice_margins(
    const confsim_lattice *lattice, const confsim_ids *ids, const confsim_hyperplane *learned,
    const confsim_hyperplane *ideal, double *margin, int8_t *label, confsim_margin_summary *summary,
    int threads, confsim_isa isa);

/* Training points whose coordinates, like those of the lattice, are small multiples of one power of
 * two: every squared distance is then an exact integer. */
typedef struct {
    const int32_t *points; /* (count, dimensions), in units */
    int64_t count;
    int32_t step; /* the lattice's step, in units */
    double unit;
} confsim_lattice_training;

/* Squared distances in units that are below this can be searched. */
#define CONFSIM_LATTICE_SUM_LIMIT (INT64_C(1) << 28)

/* Query labels of one byte or eight each; the others as in confsim_pairing. */
typedef struct {
    const void *query_labels;
    int query_label_bytes;
    const int64_t *training_labels;
    const int64_t *self_index;
} confsim_lattice_pairing;

/* Nearest training points of lattice points with strictly ascending ids. The work is proportional
 * to the ids between the first and the last, so they should be dense among them.
 * CONFSIM_NO_SUCH_TRAINING_ROW: an entry of self_index is neither -1 nor a training point (seen
 * only where its answer is wanted).
 */
CONFSIM_MUST_CHECK confsim_status confsim_lattice_nearest(const confsim_lattice *lattice,
                                                          const confsim_ids *ids,
                                                          const confsim_lattice_training *training,
                                                          const confsim_lattice_pairing *pairing,
                                                          const confsim_nearest *answer,
                                                          int threads, confsim_isa isa);

#endif
