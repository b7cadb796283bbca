#include "lattice/lattice.h"

#include "core/parallel.h"
#include "core/util.h"

enum { IDS_PER_ITEM = 1 << 14 };

int confsim_lattice_ascending(const int64_t *ids, int64_t count) {
    enum { BLOCK = 1024 };
    for (int64_t begin = 1; begin < count; begin += BLOCK) {
        const int64_t end = begin + BLOCK < count ? begin + BLOCK : count;
        int64_t wrong = 0;
        for (int64_t i = begin; i < end; i++) wrong |= ids[i] <= ids[i - 1];
        if (wrong) return 0;
    }
    return 1;
}

typedef struct {
    const confsim_lattice *lattice;
    const confsim_ids *ids;
    const double *weights;
    double bias;
    double *points;
    int8_t *labels;
} derivation;

/* Where a walk along ids is: neighbours differ in the last axis only and need no division. */
typedef struct {
    int64_t id, last; /* the previous id and its last axis; -1 before the first */
    double point[64];
    double score; /* of all axes but the last */
} walk;

static void step_to(const derivation *work, walk *w, int64_t id) {
    const confsim_lattice *lattice = work->lattice;
    const int64_t last = w->last + (id - w->id), end = lattice->dimensions - 1;
    const int stays = w->last >= 0 && last >= 0 && last < lattice->per_axis;
    w->id = id;
    w->last = stays ? last : id % lattice->per_axis;
    if (!stays) {
        int64_t rest = id / lattice->per_axis;
        for (int64_t k = end - 1; k >= 0; k--) {
            w->point[k] = (double)(rest % lattice->per_axis) * lattice->step;
            rest /= lattice->per_axis;
        }
        w->score = 0;
        for (int64_t k = 0; work->weights && k < end; k++)
            w->score += work->weights[k] * w->point[k];
    }
    w->point[end] = (double)w->last * lattice->step;
}

static void derive_item(void *context, int64_t item, int thread) {
    const derivation *work = context;
    const int64_t d = work->lattice->dimensions;
    const int64_t begin = item * IDS_PER_ITEM, rest = work->ids->count - begin;
    const int64_t end = begin + (rest < IDS_PER_ITEM ? rest : IDS_PER_ITEM);
    walk w = {.last = -1};
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        step_to(work, &w, confsim_id_at(work->ids, i));
        if (work->points)
            for (int64_t k = 0; k < d; k++) work->points[i * d + k] = w.point[k];
        if (work->labels) {
            const double score = w.score + work->weights[d - 1] * w.point[d - 1];
            work->labels[i] = score + work->bias > 0 ? 1 : -1;
        }
    }
}

static void derive(const derivation *work, int threads) {
    confsim_parallel_for((work->ids->count + IDS_PER_ITEM - 1) / IDS_PER_ITEM, threads, derive_item,
                         (void *)work);
}

void confsim_lattice_points(const confsim_lattice *lattice, const confsim_ids *ids, double *points,
                            int threads) {
    derive(&(derivation){.lattice = lattice, .ids = ids, .points = points}, threads);
}

void confsim_lattice_labels(const confsim_lattice *lattice, const confsim_ids *ids,
                            const double *weights, double bias, int8_t *labels, int threads) {
    derive(
        &(derivation){
            .lattice = lattice, .ids = ids, .weights = weights, .bias = bias, .labels = labels},
        threads);
}
