#include "stats/class_threshold.h"

#include "core/parallel.h"

typedef struct {
    const confsim_pool *pool;
    const int64_t *partner;
    int64_t *places;
} job;

static void best_place(void *context, int64_t target, int thread) {
    (void)thread;
    const job *work = context;
    const confsim_pool *pool = work->pool;
    const int64_t partner = work->partner ? work->partner[target] : target;
    int64_t members = 0, non_members = 0;
    for (int64_t i = 0; i < pool->row_count; i++) {
        if (i == target || i == partner) continue;
        members += pool->members[i];
        non_members += pool->non_members[i];
    }
    work->places[target] = -1;
    if (members == 0 || non_members == 0) return;
    const int64_t steps[2] = {-members, non_members};
    int64_t gain = 0, best = INT64_MIN, place = -1;
    int seen = 0;
    for (int64_t i = 0; i < pool->count; i++) {
        const int votes = (pool->rows[i] != target) & (pool->rows[i] != partner);
        gain += steps[pool->kinds[i] & CONFSIM_IS_MEMBER] & -(int64_t)votes;
        seen |= votes;
        if ((pool->kinds[i] & CONFSIM_LAST_OF_EQUALS) && gain > best && seen) {
            best = gain;
            place = i;
        }
    }
    work->places[target] = place;
}

void confsim_best_places(const confsim_pool *pool, const int64_t *partner, int64_t *places,
                         int threads) {
    job work = {pool, partner, places};
    confsim_parallel_for(pool->row_count, threads, best_place, &work);
}
