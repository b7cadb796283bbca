/* Nearest training points in more dimensions, in float32, as a matrix product.
 *
 * |q - t|^2 orders training points like |t|^2 / 2 - q.t. A register tile computes this score for a
 * block of queries and a few training points. What comes within the rounding error of the best
 * score is compared again by the exact arithmetic.
 *
 * Many queries are taken in an order in which those of a block lie close together. Then a block's
 * box tells most training points to be too far away, and only the others are listed and scored.
 * Where the box tells nothing, a bound by few principal axes may tell (block_axes.c): chunks of
 * training points whose smallest bound reaches the nearest that is known are compared. Where that
 * tells nothing either (no structure), every training point is scored, and only the smallest score
 * of each chunk of them is kept. */
#include "core/arena.h"
#include "core/parallel.h"
#include "core/util.h"
#include "nearest/block_plan.h"

enum {
    LISTED = 40 * POINTS, /* points that are scored before their scores are looked at */
    ROUNDS = 8,           /* of widening a block's radius */
    MOST_FAILURES = 4,
    BLOCKS_SKIPPED = 252, /* blocks in vain before the lists are left for some blocks */
    MOST_EXACT = 32,      /* exact comparisons a query, if float32 tells points apart */
    TRIED = 8,            /* blocks that tell whether a tree is quicker */
    TILES_PER_TREE = 8,   /* points that tiles score while a tree compares one */
    EXACT_COST = 6        /* coordinates that tiles score while the exact arithmetic takes one */
};

#define FIRST_RADIUS 0x1p-6 /* squared, where the coordinates are between -1 and 1 */

/* How far two scores of a query may be apart in float32 while the exact sums of squares are in the
 * other order, or round to the same distance. Every float32 operation errs by 2^-24 of at most
 * |q||t| + |t|^2/2; the exact ones, with the root, by 2^-50 or so of (|q| + |t|)^2. */
static float margin(double query, double longest, int64_t d) {
    const double terms = query * longest + longest * longest / 2;
    const double largest = (query + longest) * (query + longest);
    const double error = (double)(d + 8) * (0x1.1p-24 * terms + 0x1p-46 * largest) + 1e-35;
    return (float)(2.1 * error);
}

/* A thread's memory for one block. */
typedef struct {
    float *block, *scores; /* coordinate by coordinate; chunk by chunk, or listed point by point */
    double *queries;       /* row by row */
    float *low, *high;     /* of the box around the block */
    float *box_bound;      /* how far away each training point at least is, squared */
    int32_t *list;
    float *column;     /* one query's scores */
    f64x8 *placed;     /* coordinates of the queries, LANES of them after LANES, then their terms */
    float *terms;      /* term by term */
    double *distances; /* of the k nearest, query by query */
    int64_t *indices;
} block_space;

static size_t lay_out_space(const block_plan *t, block_space *space, char *memory) {
    const size_t d = (size_t)t->s->queries->columns, listed = (size_t)t->most_listed;
    _Static_assert((int)LISTED <= (int)MOST_CHUNKS, "the scores of listed points need more room");
    size_t used = 0;
    space->block = confsim_take(memory, &used, BLOCK * d * sizeof(float));
    space->scores = confsim_take(memory, &used, BLOCK * (size_t)t->most_chunks * sizeof(float));
    space->column = confsim_take(memory, &used, (size_t)t->most_chunks * sizeof(float));
    space->distances = confsim_take(memory, &used, BLOCK * (size_t)t->s->k * sizeof(double));
    space->indices = confsim_take(memory, &used, BLOCK * (size_t)t->s->k * sizeof(int64_t));
    space->queries = confsim_take(memory, &used, BLOCK * d * sizeof(double));
    const size_t terms = t->axes.count ? (size_t)t->axes.count + 1 : 0;
    space->placed = confsim_take(memory, &used, terms ? (d + terms) * sizeof(f64x8) : 0);
    space->terms = confsim_take(memory, &used, BLOCK * terms * sizeof(float));
    space->low = confsim_take(memory, &used, d * sizeof(float));
    space->high = confsim_take(memory, &used, d * sizeof(float));
    space->box_bound = confsim_take(memory, &used, listed * sizeof(float));
    space->list = confsim_take(memory, &used, (listed + POINTS) * sizeof(int32_t));
    return used;
}

/* Queries that are searched for together, in one class. */
typedef struct {
    const block_plan *t;
    const block_class *of;
    int64_t class, count;
    const int64_t *queries;
    block_space space;
    int64_t self[BLOCK];
    neighbor best[BLOCK];
    double length[BLOCK]; /* squared, from the centre, scaled */
    float margins[BLOCK] __attribute__((aligned(64)));
    float bound[BLOCK] __attribute__((aligned(64))); /* a score above it cannot be of the nearest */
    int64_t exact; /* pairs of listed points and queries that were compared exactly */
} block_search;

/* Rows of the block beyond its queries repeat the first; their bounds let nothing pass. */
static void block_pack(block_search *p) {
    const block_plan *t = p->t;
    const int64_t d = t->s->queries->columns;
    for (int64_t i = 0; i < BLOCK; i++) {
        const int64_t query = p->queries[i < p->count ? i : 0];
        double *row = p->space.queries + i * d;
        confsim_matrix_row(t->s->queries, query, row, 1);
        p->length[i] = 0;
        for (int64_t k = 0; k < d; k++) {
            const double x = placed(t, row[k], k);
            p->space.block[k * BLOCK + i] = (float)x;
            p->length[i] += x * x;
        }
        p->margins[i] = margin(sqrt(p->length[i]), p->of->longest, d);
        p->self[i] = i < p->count ? own_row(t->s, query) : -1;
        p->best[i] = (neighbor){INFINITY, -1};
        p->bound[i] = i < p->count ? NOWHERE / 2 : -NOWHERE;
    }
}

/* Leaves `patience` where a way has failed several times, for some blocks. */
static int is_worth_trying(patience *with) {
    if (with->skipped == 0) return 1;
    with->skipped--;
    return 0;
}

static void remember(patience *with, int done) {
    with->failures = done ? 0 : with->failures + 1;
    if (with->failures == MOST_FAILURES) *with = (patience){MOST_FAILURES - 1, BLOCKS_SKIPPED};
}

/* ---- every training point */

/* Compare a query with the points of a chunk by the exact arithmetic. */
static neighbor chunk_exactly(const block_plan *t, int64_t class, int64_t chunk,
                              const double *query, int64_t without) {
    const packed_points *p = t->s->packed;
    const block_class *of = &t->classes[class];
    const int64_t per_chunk = of->chunk_points / LANES;
    const int64_t first = p->first_group[class] + chunk * per_chunk;
    const int64_t left = p->first_group[class + 1] - first;
    return t->leaf(p->groups + first * p->dimensions * LANES, p->index + first * LANES,
                   left < per_chunk ? left : per_chunk, p->dimensions, query, without);
}

/* Take a query's own row out: its chunk is compared exactly at once, and no more afterwards. */
static void without_self(block_search *p, int64_t i) {
    const packed_points *all = p->t->s->packed;
    const int64_t place = all->position[p->self[i]] - all->first_group[p->class] * LANES;
    const int64_t chunk = place / p->of->chunk_points;
    const double *query = p->space.queries + i * all->dimensions;
    p->best[i] = chunk_exactly(p->t, p->class, chunk, query, p->self[i]);
    p->space.scores[chunk * BLOCK + i] = NOWHERE;
}

/* The smallest score of each chunk, for each query. */
static void score_chunks(const block_search *p) {
    const int64_t d = p->t->s->queries->columns, tiles = p->of->chunk_points / POINTS;
    for (int64_t c = 0; c < p->of->chunks; c++)
        p->t->kernels->chunk(p->of->points + c * tiles * POINTS * (d + 1), tiles, d, p->space.block,
                             p->space.scores + c * BLOCK);
}

static void search_chunks(block_search *p) {
    const int64_t d = p->t->s->queries->columns;
    const float *scores = p->space.scores;
    score_chunks(p);
    for (int64_t i = 0; i < p->count; i++)
        if (p->self[i] >= 0) without_self(p, i);
    float smallest[BLOCK];
    for (int64_t i = 0; i < BLOCK; i++) smallest[i] = p->bound[i];
    for (int64_t c = 0; c < p->of->chunks; c++)
        for (int64_t i = 0; i < BLOCK; i++) {
            const float score = scores[c * BLOCK + i];
            smallest[i] = score < smallest[i] ? score : smallest[i];
        }
    for (int64_t i = 0; i < p->count; i++) p->bound[i] = smallest[i] + p->margins[i];
    for (int64_t c = 0; c < p->of->chunks; c++) {
        uint64_t hits = p->t->kernels->within(scores + c * BLOCK, p->bound);
        for (; hits; hits &= hits - 1) {
            const int i = __builtin_ctzll(hits);
            const double *query = p->space.queries + i * d;
            p->best[i] = better(p->best[i], chunk_exactly(p->t, p->class, c, query, p->self[i]));
        }
    }
}

/* ---- by bounds */

/* The terms of the block's queries. */
static void find_terms(const block_search *p) {
    const block_plan *t = p->t;
    const int64_t d = t->s->queries->columns, terms = t->axes.count + 1;
    f64x8 *coordinates = p->space.placed, *found = coordinates + d;
    for (int64_t first = 0; first < BLOCK; first += LANES) {
        f64x8 lengths;
        for (int lane = 0; lane < LANES; lane++) {
            const double *row = p->space.queries + (first + lane) * d;
            lengths[lane] = p->length[first + lane];
            for (int64_t k = 0; k < d; k++) coordinates[k][lane] = placed(t, row[k], k);
        }
        t->axes.find_terms(&t->axes, d, coordinates, &lengths, found);
        for (int64_t j = 0; j < terms; j++)
            for (int lane = 0; lane < LANES; lane++)
                p->space.terms[j * BLOCK + first + lane] = (float)found[j][lane];
    }
}

/* The smallest bound of each chunk, for each query. */
static void bound_chunks(const block_search *p) {
    const int64_t terms = p->t->axes.count + 1, tiles = p->of->chunk_points / POINTS;
    find_terms(p);
    for (int64_t c = 0; c < p->of->chunks; c++)
        p->t->kernels->chunk(p->of->bounds + c * tiles * POINTS * (terms + 1), tiles, terms,
                             p->space.terms, p->space.scores + c * BLOCK);
}

static void compare_chunk(block_search *p, int64_t i, int64_t c) {
    const double *query = p->space.queries + i * p->t->s->queries->columns;
    p->best[i] = better(p->best[i], chunk_exactly(p->t, p->class, c, query, p->self[i]));
    p->space.scores[c * BLOCK + i] = NOWHERE;
    if (p->best[i].index < 0) return;
    const double scale = p->t->scale;
    const double score = (p->best[i].sum * scale * scale - p->length[i]) / 2;
    p->bound[i] = (float)score + p->margins[i];
}

/* The chunk with the smallest bound gives each query its first guess. */
static void guess_nearest(block_search *p) {
    const float *scores = p->space.scores;
    int32_t chunk[BLOCK] = {0};
    for (int64_t c = 1; c < p->of->chunks; c++)
        for (int64_t i = 0; i < BLOCK; i++)
            chunk[i] = scores[c * BLOCK + i] < scores[chunk[i] * BLOCK + i] ? (int32_t)c : chunk[i];
    for (int64_t i = 0; i < p->count; i++)
        if (scores[chunk[i] * BLOCK + i] < NOWHERE) compare_chunk(p, i, chunk[i]);
}

/* Whether the bounds left few enough chunks to be worth it, and they have been searched. */
static int search_bounded(block_search *p) {
    const int64_t d = p->t->s->queries->columns, saved = d - p->t->axes.count - 1;
    const float *scores = p->space.scores;
    int64_t left = 0;
    bound_chunks(p);
    for (int64_t i = 0; i < p->count; i++)
        if (p->self[i] >= 0) without_self(p, i);
    guess_nearest(p);
    for (int64_t c = 0; c < p->of->chunks; c++)
        left += __builtin_popcountll(p->t->kernels->within(scores + c * BLOCK, p->bound));
    if (left * d * EXACT_COST > p->of->chunks * p->count * saved) return 0;
    for (int64_t c = 0; c < p->of->chunks; c++) {
        uint64_t hits = p->t->kernels->within(scores + c * BLOCK, p->bound);
        for (; hits; hits &= hits - 1) compare_chunk(p, __builtin_ctzll(hits), c);
    }
    return 1;
}

/* ---- the k nearest */

/* The entry of rank `rank`, from 0, of `count` of them, which end in another order (Hoare). */
static float entry_of_rank(float *entries, int64_t count, int64_t rank) {
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const float pivot = entries[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (entries[i] < pivot) i++;
            while (entries[j] > pivot) j--;
            if (i > j) break;
            const float kept = entries[i];
            entries[i++] = entries[j];
            entries[j--] = kept;
        }
        if (rank <= j)
            high = j;
        else if (rank >= i)
            low = i;
        else
            break;
    }
    return entries[rank];
}

/* Scores above it cannot be of a query's k nearest: k chunks have points that score less, besides
 * those that do not count. */
static float bound_of_k(const block_search *p, int64_t i, const exclusion *out) {
    const euclidean_search *s = p->t->s;
    const int64_t chunks = p->of->chunks, rank = s->k - 1 + most_excluded(out, s->by_group);
    if (rank >= chunks) return NOWHERE / 2;
    for (int64_t c = 0; c < chunks; c++) p->space.column[c] = p->space.scores[c * BLOCK + i];
    return fminf(entry_of_rank(p->space.column, chunks, rank) + p->margins[i], NOWHERE / 2);
}

static void search_k(block_search *p) {
    const euclidean_search *s = p->t->s;
    const packed_points *all = s->packed;
    const int64_t d = s->queries->columns, per_chunk = p->of->chunk_points / LANES;
    const int64_t first = all->first_group[p->class], end = all->first_group[p->class + 1];
    exclusion out[BLOCK];
    top_list top[BLOCK];
    score_chunks(p);
    for (int64_t i = 0; i < p->count; i++) {
        out[i] = exclusion_of(s->pairing, s->by_group, p->queries[i]);
        top[i] = (top_list){s->k, 0, p->space.distances + i * s->k, p->space.indices + i * s->k};
        p->bound[i] = bound_of_k(p, i, &out[i]);
    }
    for (int64_t c = 0; c < p->of->chunks; c++) {
        const int64_t from = first + c * per_chunk, groups = confsim_least(per_chunk, end - from);
        uint64_t hits = p->t->kernels->within(p->space.scores + c * BLOCK, p->bound);
        for (; hits; hits &= hits - 1) {
            const int i = __builtin_ctzll(hits);
            p->t->offer(all->groups + from * d * LANES, all->index + from * LANES, groups, d,
                        p->space.queries + i * d, &out[i], &top[i]);
        }
    }
    for (int64_t i = 0; i < p->count; i++)
        confsim_store_top(s, p->queries[i], p->class, p->space.queries + i * d, &out[i], &top[i]);
}

/* ---- those near the block's box */

/* The box around the block, a little too large: queries and points were rounded to float32. */
static void block_box(const block_search *p) {
    for (int64_t k = 0; k < p->t->s->queries->columns; k++) {
        const float *coordinate = p->space.block + k * BLOCK;
        float low = coordinate[0], high = coordinate[0];
        for (int64_t i = 1; i < BLOCK; i++) {
            low = coordinate[i] < low ? coordinate[i] : low;
            high = coordinate[i] > high ? coordinate[i] : high;
        }
        p->space.low[k] = low - 0x1p-22F;
        p->space.high[k] = high + 0x1p-22F;
    }
}

/* List the points further away than `from` and at most `to`, squared; return how many. */
static int64_t list_between(const block_search *p, float from, float to) {
    float above[BLOCK] __attribute__((aligned(64))), most[BLOCK] __attribute__((aligned(64)));
    int64_t count = 0;
    for (int i = 0; i < BLOCK; i++) {
        above[i] = from;
        most[i] = to;
    }
    for (int64_t first = 0; first < p->of->stride; first += BLOCK) {
        const float *box_bound = p->space.box_bound + first;
        uint64_t listed = p->t->kernels->within(box_bound, most);
        if (listed) listed &= ~p->t->kernels->within(box_bound, above);
        for (; listed; listed &= listed - 1)
            p->space.list[count++] = (int32_t)(first + __builtin_ctzll(listed));
    }
    return count;
}

/* Take a query's own row out of the scores of listed points. */
static void unlist_self(const block_search *p, int64_t i, const int32_t *list, int64_t count,
                        float *smallest) {
    const packed_points *all = p->t->s->packed;
    const int64_t place = all->position[p->self[i]] - all->first_group[p->class] * LANES;
    float *scores = p->space.scores + i;
    *smallest = NOWHERE;
    for (int64_t j = 0; j < count; j++) {
        if (list[j] == place) scores[j * BLOCK] = NOWHERE;
        *smallest = scores[j * BLOCK] < *smallest ? scores[j * BLOCK] : *smallest;
    }
}

/* Score listed points, whole tiles of them, and compare those exactly that could be the nearest. */
static void compare_listed(block_search *p, const int32_t *list, int64_t count) {
    const packed_points *all = p->t->s->packed;
    const int64_t d = all->dimensions, first = all->first_group[p->class] * LANES;
    float smallest[BLOCK] __attribute__((aligned(64)));
    p->t->kernels->listed(p->of->rows, list, count, d, p->space.block, p->space.scores, smallest);
    for (int64_t i = 0; i < p->count; i++) {
        if (p->self[i] >= 0) unlist_self(p, i, list, count, &smallest[i]);
        const float bound = smallest[i] + p->margins[i];
        p->bound[i] = bound < p->bound[i] ? bound : p->bound[i];
    }
    for (int64_t j = 0; j < count; j++) {
        uint64_t hits = p->t->kernels->within(p->space.scores + j * BLOCK, p->bound);
        for (; hits; hits &= hits - 1) {
            const int i = __builtin_ctzll(hits);
            const int64_t at = first + list[j];
            const neighbor found = {sum_at(all, p->space.queries + i * d, at), all->index[at]};
            p->exact++;
            p->best[i] = better(p->best[i], found);
        }
    }
}

/* How far away, squared, the nearest point of some query of the block could still be; above that
 * only by the rounding of `box_bound`. */
static double radius_needed(const block_search *p) {
    double farthest = 0;
    for (int64_t i = 0; i < p->count; i++)
        farthest = fmax(farthest, p->length[i] + 2 * ((double)p->bound[i] + p->margins[i]));
    return farthest * (1 + (double)(p->t->s->queries->columns + 8) * 0x1p-23);
}

/* Whether the block's box left few enough points to be worth it, and they have been searched. */
static int search_listed(block_search *p, lessons *h) {
    int32_t *list = p->space.list;
    int64_t total = 0;
    float from = -1, to = (float)h->radius;
    block_box(p);
    p->t->kernels->box_bounds(p->of->columns, p->of->stride, p->t->s->queries->columns,
                              p->space.low, p->space.high, p->space.box_bound);
    for (int round = 0; round < ROUNDS; round++) {
        int64_t count = list_between(p, from, to);
        total += count;
        if (2 * total > p->of->count) return 0;
        while (count % POINTS) list[count] = list[count - 1], count++;
        for (int64_t at = 0; at < count; at += LISTED)
            compare_listed(p, list + at, count - at < LISTED ? count - at : LISTED);
        const double needed = radius_needed(p);
        if (needed <= to) {
            h->radius = needed * 0.75;
            return 1;
        }
        from = to;
        to = (float)fmin(needed * (1 + 0x1p-22), 2 * (double)to);
    }
    return 0;
}

/* By the class's tree; return how many groups of points were compared. */
static int64_t search_tree(const block_plan *t, int64_t class, const int64_t *queries,
                           int64_t count) {
    int64_t compared = 0;
    double coordinates[MOST_TREE_AXES];
    for (int64_t i = 0; i < count; i++) {
        const int64_t self = own_row(t->s, queries[i]);
        confsim_matrix_row(t->s->queries, queries[i], coordinates, 1);
        store_both(
            t->s, queries[i], coordinates, self,
            confsim_kd_tree_nearest(&t->trees[class], t->leaf, coordinates, self, &compared));
    }
    return compared;
}

static void start_block(block_search *p, const block_plan *t, int64_t class, const int64_t *queries,
                        int64_t count, int thread) {
    *p = (block_search){
        .t = t, .of = &t->classes[class], .class = class, .count = count, .queries = queries};
    lay_out_space(t, &p->space, t->memory + (size_t)thread * t->bytes_per_thread);
    block_pack(p);
}

static void search_block(const block_plan *t, int64_t class, const int64_t *queries, int64_t count,
                         int thread) {
    if (t->trees[class].nodes) {
        search_tree(t, class, queries, count);
        return;
    }
    block_search p;
    lessons *h = &t->lessons[thread];
    start_block(&p, t, class, queries, count, thread);
    if (t->s->k) {
        search_k(&p);
        return;
    }
    int done = 0;
    if (p.of->rows && is_worth_trying(&h->lists)) {
        done = search_listed(&p, h);
        remember(&h->lists, done);
    }
    if (!done && p.of->bounds && is_worth_trying(&h->bounds)) {
        done = search_bounded(&p);
        remember(&h->bounds, done);
    }
    if (!done) search_chunks(&p);
    const int64_t d = t->s->queries->columns;
    for (int64_t i = 0; i < count; i++)
        store_both(t->s, queries[i], p.space.queries + i * d, p.self[i], p.best[i]);
}

/* Queries come in an order that memory does not know: ask for the next block's rows in time. */
static void prefetch_block(const block_plan *t, int64_t begin) {
    enum { LINE = 64, MOST = 512 };
    const confsim_matrix *m = t->s->queries;
    const int64_t bytes = m->columns * m->column_stride,
                  last = t->first_query[t->s->classes->count];
    const int64_t end = begin + BLOCK < last ? begin + BLOCK : last;
    for (int64_t i = begin; i < end; i++)
        for (int64_t byte = 0; byte < bytes && byte < MOST; byte += LINE)
            __builtin_prefetch(m->data + t->order[i] * m->row_stride + byte);
}

static void tiled_item(void *context, int64_t item, int thread) {
    const block_plan *t = context;
    int64_t class = 0;
    while (item >= t->first_block[class + 1]) class++;
    const int64_t begin = t->first_query[class] + (item - t->first_block[class]) * BLOCK;
    const int64_t rest = t->first_query[class + 1] - begin, count = rest < BLOCK ? rest : BLOCK;
    prefetch_block(t, begin + BLOCK);
    search_block(t, class, t->order + begin, count, thread);
}

/* Make a tree for a class whose lists mostly fail, if some of its blocks find that quicker. */
static confsim_status try_tree(block_plan *t, int64_t class) {
    const int64_t first = t->first_query[class],
                  blocks = (t->first_query[class + 1] - first) / BLOCK;
    const int64_t tried = blocks < TRIED ? blocks : TRIED, points = t->classes[class].count;
    int64_t failed = 0, compared = 0;
    lessons h = {.radius = FIRST_RADIUS};
    if (!t->classes[class].rows || blocks < 1) return CONFSIM_OK;
    for (int64_t i = 0; i < tried; i++) {
        block_search p;
        start_block(&p, t, class, t->order + first + i * blocks / tried * BLOCK, BLOCK, 0);
        failed += !search_listed(&p, &h) || p.exact > BLOCK * MOST_EXACT;
    }
    if (4 * failed <= tried) return CONFSIM_OK;
    const confsim_status status =
        confsim_kd_tree_build(&t->trees[class], t->s->packed, class, points, 2);
    if (status) return status;
    for (int64_t i = 0; i < tried; i++)
        compared += search_tree(t, class, t->order + first + i * blocks / tried * BLOCK, BLOCK);
    if (compared * LANES * TILES_PER_TREE <= points * tried * BLOCK) return CONFSIM_OK;
    confsim_kd_tree_free(&t->trees[class]);
    t->trees[class] = (kd_tree){0};
    return CONFSIM_OK;
}

confsim_status confsim_block_search(const euclidean_search *s, const extent_pair *x, int threads) {
    const int64_t classes = s->classes->count;
    block_plan t = {.s = s,
                    .kernels = confsim_block_kernels(s->isa),
                    .leaf = confsim_leaf_kernel(s->isa),
                    .offer = confsim_offer_kernel(s->isa)};
    block_space layout;
    confsim_status status = confsim_block_plan_make(&t, x, threads);
    if (status) goto done;
    status = CONFSIM_NO_MEMORY;
    t.lessons = malloc((size_t)threads * sizeof *t.lessons);
    t.trees = calloc((size_t)classes, sizeof *t.trees);
    t.bytes_per_thread = lay_out_space(&t, &layout, NULL);
    t.memory = aligned_alloc(64, t.bytes_per_thread * (size_t)threads);
    if (!t.memory || !t.lessons || !t.trees) goto done;
    status = CONFSIM_OK;
    for (int i = 0; i < threads; i++) t.lessons[i] = (lessons){.radius = FIRST_RADIUS};
    for (int64_t c = 0; c < classes && s->queries->columns <= MOST_TREE_AXES && !status; c++)
        status = try_tree(&t, c);
    if (!status) confsim_parallel_for(t.first_block[classes], threads, tiled_item, &t);
done:
    for (int64_t c = 0; t.trees && c < classes; c++) confsim_kd_tree_free(&t.trees[c]);
    free(t.trees);
    free(t.lessons);
    free(t.memory);
    confsim_block_plan_free(&t);
    return status;
}
