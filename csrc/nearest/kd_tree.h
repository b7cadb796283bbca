/* A k-d tree of a class's training points: what the other searches fall back on.
 *
 * Their speed rests on how points lie; the tree's rests on nothing but the number of dimensions:
 * constant coordinates, repeated points, clusters and outliers make its boxes smaller. A node has
 * the box around its points and their lowest index. The box's least sum of squares, computed in the
 * answer's order, is at most every point's computed sum, because rounding is monotone; so a node is
 * passed over only where no point of it can be the answer. */
#ifndef CONFSIM_KD_TREE_H
#define CONFSIM_KD_TREE_H

#include "nearest/euclidean_internal.h"

enum { MOST_TREE_AXES = 8 };

/* Children are the next node and `right`; a leaf has no right child. */
typedef struct {
    int32_t lowest, right; /* the lowest index of its points */
    int32_t first, groups; /* of a leaf */
} tree_node;

typedef struct {
    int64_t dimensions, most_equal;
    tree_node *nodes;
    double *corners; /* of each node's box: lows, then highs */
    double *data;    /* groups of points, as in a leaf of a diagram */
    int32_t *index;
    int32_t used_nodes, used_groups;
} kd_tree;

/* Build the tree of a class, which has `count` points. Of equal points only the `most_equal` with
 * the lowest indices are put into it: two where one answer is wanted and one row may be left out.
 */
CONFSIM_MUST_CHECK confsim_status confsim_kd_tree_build(kd_tree *t, const packed_points *p,
                                                        int64_t class, int64_t count,
                                                        int64_t most_equal);

void confsim_kd_tree_free(kd_tree *t);

/* The nearest point but `without`, a training row, or -1 for none. `compared` counts groups. */
neighbor confsim_kd_tree_nearest(const kd_tree *t, leaf_kernel leaf, const double *query,
                                 int64_t without, int64_t *compared);

/* Offer to a list every point that could be among the k nearest. */
void confsim_kd_tree_offer(const kd_tree *t, offer_kernel offer, const double *query,
                           const exclusion *out, top_list *top);

#endif
