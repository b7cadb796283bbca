/* What a search for nearest training points is asked for, and where its answers go. */
#ifndef CONFSIM_NEAREST_H
#define CONFSIM_NEAREST_H

#include <stdint.h>

/* Who may be paired with whom. Both label arrays are given (same class only) or neither. */
typedef struct {
    const int64_t *query_labels;
    const int64_t *training_labels;
    const int64_t *self_index; /* a query's own training row, -1 for none; NULL: nobody has one */
} confsim_pairing;

/* One entry a query each; no neighbour: NaN and -1. Any array but `distance` may be NULL; those
 * that exclude a query's own training row need `self_index`. */
typedef struct {
    double *distance;
    int64_t *index;
    double *distance_other;
    int64_t *index_other;
} confsim_nearest;

#endif
