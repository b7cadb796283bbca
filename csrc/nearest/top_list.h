/* The k nearest so far of one query: by distance, then by index. */
#ifndef CONFSIM_TOP_LIST_H
#define CONFSIM_TOP_LIST_H

#include <math.h>
#include <stdint.h>

#include "core/classes.h"
#include "nearest/nearest.h"

typedef struct {
    int64_t k, count;
    double *distance; /* ascending; room for k */
    int64_t *index;
} top_list;

/* Larger distances cannot be among the k nearest. */
static inline double top_list_limit(const top_list *top) {
    return top->count < top->k ? INFINITY : top->distance[top->k - 1];
}

static inline void top_list_offer(top_list *top, double distance, int64_t index) {
    int64_t at = top->count;
    if (at == top->k) {
        const double last = top->distance[at - 1];
        if (distance > last || (distance == last && index > top->index[at - 1])) return;
        at--;
    } else {
        top->count++;
    }
    for (; at > 0; at--) {
        const double before = top->distance[at - 1];
        if (before < distance || (before == distance && top->index[at - 1] < index)) break;
        top->distance[at] = before;
        top->index[at] = top->index[at - 1];
    }
    top->distance[at] = distance;
    top->index[at] = index;
}

/* What does not count for a query: its own training row, and the rows of its duplicate group. */
typedef struct {
    int64_t self;          /* -1 for none */
    int64_t group;         /* of the query, among `by_group`; -1: no row is in it */
    const int64_t *groups; /* of training rows; NULL without groups */
    int64_t label;         /* the query's group as the caller numbers it */
} exclusion;

static inline exclusion exclusion_of(const confsim_pairing *pairing,
                                     const confsim_classes *by_group, int64_t query) {
    exclusion out = {.self = pairing->self_index ? pairing->self_index[query] : -1, .group = -1};
    if (!pairing->query_groups) return out;
    out.groups = pairing->training_groups;
    out.label = pairing->query_groups[query];
    out.group = confsim_classes_find(by_group, out.label);
    return out;
}

static inline int is_excluded(const exclusion *out, int64_t row) {
    return row == out->self || (out->groups && out->groups[row] == out->label);
}

/* At most how many training rows are excluded. */
static inline int64_t most_excluded(const exclusion *out, const confsim_classes *by_group) {
    int64_t count = out->self >= 0;
    if (out->group >= 0) count += by_group->start[out->group + 1] - by_group->start[out->group];
    return count;
}

/* Write k entries: NaN and -1 where there are fewer neighbours. */
static inline void top_list_store(const top_list *top, int64_t query, double *distance,
                                  int64_t *index) {
    for (int64_t i = 0; i < top->k; i++) {
        if (distance) distance[query * top->k + i] = i < top->count ? top->distance[i] : NAN;
        if (index) index[query * top->k + i] = i < top->count ? top->index[i] : -1;
    }
}

#endif
