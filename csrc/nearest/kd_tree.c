#include "nearest/kd_tree.h"

enum { TREE_LEAF = 32, MOST_TREE_DEPTH = 64 };

typedef struct {
    double key;
    int64_t rank; /* a point's place in its class, in ascending order of indices */
} tree_key;

void confsim_kd_tree_free(kd_tree *t) {
    free(t->nodes);
    free(t->corners);
    free(t->data);
    free(t->index);
}

static inline int key_before(tree_key a, tree_key b) {
    return a.key < b.key || (a.key == b.key && a.rank < b.rank);
}

/* Bring the `first` lowest keys to the front (Hoare's selection). */
static void keys_select(tree_key *keys, int64_t count, int64_t first) {
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const tree_key pivot = keys[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (key_before(keys[i], pivot)) i++;
            while (key_before(pivot, keys[j])) j--;
            if (i > j) break;
            const tree_key kept = keys[i];
            keys[i++] = keys[j];
            keys[j--] = kept;
        }
        if (first <= j)
            high = j;
        else if (first >= i)
            low = i;
        else
            return;
    }
}

static int by_rank(const void *a, const void *b) {
    const int64_t x = ((const tree_key *)a)->rank, y = ((const tree_key *)b)->rank;
    return (x > y) - (x < y);
}

static inline double ranked(const packed_points *p, int64_t class, int64_t rank, int64_t k) {
    return point_at(p, p->first_group[class] * LANES + rank)[k * LANES];
}

static void tree_make_leaf(kd_tree *t, const packed_points *p, int64_t class, tree_key *keys,
                           int64_t count, tree_node *node) {
    const int64_t d = t->dimensions;
    node->first = t->used_groups;
    node->groups = (int32_t)((count + LANES - 1) / LANES);
    t->used_groups += node->groups;
    qsort(keys, (size_t)count, sizeof *keys, by_rank);
    double *data = t->data + node->first * d * LANES;
    for (int64_t i = 0; i < node->groups * LANES; i++) {
        for (int64_t k = 0; k < d; k++)
            data[(i / LANES * d + k) * LANES + i % LANES] =
                i < count ? ranked(p, class, keys[i].rank, k) : INFINITY;
        t->index[node->first * LANES + i] =
            i < count ? p->index[p->first_group[class] * LANES + keys[i].rank] : -1;
    }
}

static void tree_grow(kd_tree *t, const packed_points *p, int64_t class, tree_key *keys,
                      int64_t count) {
    const int64_t d = t->dimensions, at = t->used_nodes++;
    double *low = t->corners + 2 * d * at, *high = low + d;
    int64_t widest = 0, lowest = keys[0].rank;
    for (int64_t i = 1; i < count; i++) lowest = keys[i].rank < lowest ? keys[i].rank : lowest;
    for (int64_t k = 0; k < d; k++) {
        low[k] = high[k] = ranked(p, class, keys[0].rank, k);
        for (int64_t i = 1; i < count; i++) {
            const double x = ranked(p, class, keys[i].rank, k);
            low[k] = x < low[k] ? x : low[k];
            high[k] = x > high[k] ? x : high[k];
        }
        if (high[k] - low[k] > high[widest] - low[widest]) widest = k;
    }
    t->nodes[at] = (tree_node){p->index[p->first_group[class] * LANES + lowest], 0, 0, 0};
    if (high[widest] == low[widest] && count > t->most_equal) {
        for (int64_t i = 0; i < count; i++) keys[i].key = (double)keys[i].rank;
        keys_select(keys, count, t->most_equal);
        count = t->most_equal;
    }
    if (count <= TREE_LEAF) {
        tree_make_leaf(t, p, class, keys, count, &t->nodes[at]);
        return;
    }
    const int64_t left = (count / 2 + LANES - 1) / LANES * LANES;
    for (int64_t i = 0; i < count; i++) keys[i].key = ranked(p, class, keys[i].rank, widest);
    keys_select(keys, count, left);
    tree_grow(t, p, class, keys, left);
    t->nodes[at].right = t->used_nodes;
    tree_grow(t, p, class, keys + left, count - left);
}

confsim_status confsim_kd_tree_build(kd_tree *t, const packed_points *p, int64_t class,
                                     int64_t count, int64_t most_equal) {
    const int64_t d = p->dimensions, nodes = 2 * (count / (TREE_LEAF / 4) + 1);
    const int64_t groups = count / LANES + nodes; /* only a leaf's last group is not full */
    *t = (kd_tree){.dimensions = d, .most_equal = most_equal};
    tree_key *keys = malloc((size_t)count * sizeof *keys);
    t->nodes = malloc((size_t)nodes * sizeof *t->nodes);
    t->corners = malloc((size_t)(nodes * 2 * d) * sizeof(double));
    t->data = aligned_alloc(64, (size_t)(groups * d * LANES) * sizeof(double));
    t->index = malloc((size_t)(groups * LANES) * sizeof *t->index);
    if (!keys || !t->nodes || !t->corners || !t->data || !t->index) {
        free(keys);
        confsim_kd_tree_free(t);
        *t = (kd_tree){0}; /* may be freed once more */
        return CONFSIM_NO_MEMORY;
    }
    for (int64_t i = 0; i < count; i++) keys[i].rank = i;
    tree_grow(t, p, class, keys, count);
    free(keys);
    return CONFSIM_OK;
}

/* At most the computed sum of squares of every point of a node. */
static inline double tree_bound(const kd_tree *t, int64_t node, const double *query) {
    const int64_t d = t->dimensions;
    const double *low = t->corners + 2 * d * node, *high = low + d;
    double sum = 0;
    for (int64_t k = 0; k < d; k++) {
        const double below = low[k] - query[k], above = query[k] - high[k];
        const double outside = below > above ? below : above;
        sum += outside > 0 ? outside * outside : 0;
    }
    return sum;
}

/* The nearest point but `without`, a training row, or -1 for none. `compared` counts groups. */
neighbor confsim_kd_tree_nearest(const kd_tree *t, leaf_kernel leaf, const double *query,
                                 int64_t without, int64_t *compared) {
    struct {
        double bound;
        int64_t node;
    } stack[MOST_TREE_DEPTH];
    const int64_t d = t->dimensions;
    int pending = 1;
    neighbor best = {INFINITY, -1};
    stack[0].bound = tree_bound(t, 0, query);
    stack[0].node = 0;
    while (pending > 0) {
        int64_t at = stack[--pending].node;
        double bound = stack[pending].bound;
        for (;;) {
            const tree_node *node = &t->nodes[at];
            if (best.index >= 0 && (closer(best.sum, bound) ||
                                    (node->lowest > best.index && !closer(bound, best.sum))))
                break;
            if (!node->right) {
                *compared += node->groups;
                best = better(best, leaf(t->data + node->first * d * LANES,
                                         t->index + node->first * LANES, node->groups, d, query,
                                         without));
                break;
            }
            const int64_t left = at + 1, right = node->right;
            const double to_left = tree_bound(t, left, query),
                         to_right = tree_bound(t, right, query);
            /* Of two that are as near, first the one with the lowest index. */
            const int first_left =
                to_left < to_right ||
                (to_left == to_right && t->nodes[left].lowest < t->nodes[right].lowest);
            stack[pending].node = first_left ? right : left;
            stack[pending++].bound = first_left ? to_right : to_left;
            at = first_left ? left : right;
            bound = first_left ? to_left : to_right;
        }
    }
    return best;
}

void confsim_kd_tree_offer(const kd_tree *t, offer_kernel offer, const double *query,
                           const exclusion *out, top_list *top) {
    struct {
        double bound;
        int64_t node;
    } stack[MOST_TREE_DEPTH];
    const int64_t d = t->dimensions;
    int pending = 1;
    stack[0].bound = tree_bound(t, 0, query);
    stack[0].node = 0;
    while (pending > 0) {
        int64_t at = stack[--pending].node;
        double bound = stack[pending].bound;
        for (;;) {
            const tree_node *node = &t->nodes[at];
            /* Roots of sums are monotone; of equal ones a lower index could still enter. */
            const double least = sqrt(bound), last = top_list_limit(top);
            if (least > last ||
                (top->count == top->k && least == last && node->lowest > top->index[top->k - 1]))
                break;
            if (!node->right) {
                offer(t->data + node->first * d * LANES, t->index + node->first * LANES,
                      node->groups, d, query, out, top);
                break;
            }
            const int64_t left = at + 1, right = node->right;
            const double to_left = tree_bound(t, left, query),
                         to_right = tree_bound(t, right, query);
            const int first_left =
                to_left < to_right ||
                (to_left == to_right && t->nodes[left].lowest < t->nodes[right].lowest);
            stack[pending].node = first_left ? right : left;
            stack[pending++].bound = first_left ? to_right : to_left;
            at = first_left ? left : right;
            bound = first_left ? to_left : to_right;
        }
    }
}
