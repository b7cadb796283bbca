#include "nearest/candidate_grid.h"

#include "core/parallel.h"

enum {
    SMALL_LEAF = 8,           /* candidates that no smaller cell would reduce */
    DENSE = 24,               /* candidates that may be worth a grid of their own */
    COMPARISONS_A_CELL = 200, /* as long as they take, an inner cell is made */
    DEEPEST = 12,             /* grids inside grids */
    MOST_IN_LEAF = 128,       /* candidates; for more, a tree is quicker */
    FILTERED_A_QUERY = 32,
    FILTERED_A_POINT = 40, /* candidates, in making all cells */
    MOST_UNREDUCED = 3,    /* halvings that rule nobody out before a cell is left as it is */
    INNER_SIDE = 8,
    MOST_HALVINGS = 9, /* of a part of the outermost grid */
    MOST_LEVELS = MOST_HALVINGS + 1 + (DEEPEST + 1) * 4,
    QUERIES_WORTH_PRUNING = 64
};

typedef struct block {
    struct block *next;
    size_t used, size, total; /* total: of this block and those after it */
    char bytes[] __attribute__((aligned(64)));
} block;

/* The state of a construction on one thread. */
typedef struct builder {
    const struct candidate_grid *v;
    block *blocks;
    size_t most_bytes;      /* cut no further when the blocks have grown to this, */
    double work, most_work; /* or when so many candidates have been filtered */
    candidates level[MOST_LEVELS];
    double *closest;
    confsim_status status; /* the last that was not CONFSIM_OK */
} builder;

static void *block_take(block **chain, size_t bytes) {
    enum { USUAL = 1 << 18 };
    bytes = (bytes + 63) / 64 * 64;
    if (!*chain || (*chain)->size - (*chain)->used < bytes) {
        const size_t size = bytes > USUAL ? bytes : USUAL;
        block *fresh = aligned_alloc(64, (sizeof(block) + size + 63) / 64 * 64);
        if (!fresh) return NULL;
        fresh->next = *chain;
        fresh->used = 0;
        fresh->size = size;
        fresh->total = size + (*chain ? (*chain)->total : 0);
        *chain = fresh;
    }
    void *taken = (*chain)->bytes + (*chain)->used;
    (*chain)->used += bytes;
    return taken;
}

static void blocks_free(block *chain) {
    while (chain) {
        block *next = chain->next;
        free(chain);
        chain = next;
    }
}

/* Make room for `count` candidates; what was there is lost. */
static CONFSIM_MUST_CHECK confsim_status candidates_reserve(candidates *c, int64_t d,
                                                            int64_t count) {
    const int64_t room = (count + LANES - 1) / LANES * LANES + LANES;
    if (c->room >= room) return CONFSIM_OK;
    free(c->axis[0]);
    *c = (candidates){.room = room};
    c->axis[0] = aligned_alloc(64, (size_t)room * ((size_t)d * 8 + 8));
    if (!c->axis[0]) {
        c->room = 0;
        return CONFSIM_NO_MEMORY;
    }
    for (int64_t k = 1; k < d; k++) c->axis[k] = c->axis[0] + k * room;
    c->index = (int32_t *)(c->axis[0] + d * room);
    return CONFSIM_OK;
}

static CONFSIM_MUST_CHECK confsim_status make_leaf(builder *b, const candidates *c, cell *out) {
    const int64_t d = b->v->dimensions, groups = (c->count + LANES - 1) / LANES;
    *out = (cell){0, NULL};
    if (c->count > MOST_IN_LEAF) return CONFSIM_OK;
    double *data = block_take(&b->blocks, (size_t)groups * LANES * ((size_t)d * 8 + 4));
    if (!data) return CONFSIM_NO_MEMORY;
    for (int64_t g = 0; g < groups; g++)
        for (int64_t k = 0; k < d; k++)
            memcpy(data + (g * d + k) * LANES, c->axis[k] + g * LANES, LANES * sizeof *data);
    memcpy(data + groups * d * LANES, c->index, (size_t)(groups * LANES) * sizeof *c->index);
    *out = (cell){groups, data};
    return CONFSIM_OK;
}

static region region_of(int64_t d, const grid *g, const int64_t *corner, int64_t side) {
    region r = {{0}, {0}};
    for (int64_t k = 0; k < d; k++) {
        const int64_t end = g->flat[k] ? g->side : corner[k] + side;
        r.low[k] = g->low[k] + (double)corner[k] * g->width[k] - g->slack;
        r.high[k] = g->low[k] + (double)end * g->width[k] + g->slack;
    }
    return r;
}

static int64_t inside(int64_t d, const region *r, const candidates *c) {
    int64_t found = 0;
    for (int64_t i = 0; i < c->count; i++) {
        int in = 1;
        for (int64_t k = 0; k < d; k++)
            in &= c->axis[k][i] >= r->low[k] && c->axis[k][i] <= r->high[k];
        found += in;
    }
    return found;
}

void confsim_grid_place(grid *g, int64_t d, const double *low, const double *high, int64_t side,
                        double slack) {
    double largest = 0, widest = 0;
    g->side = side;
    for (int64_t k = 0; k < d; k++) {
        g->low[k] = low[k];
        g->width[k] = (high[k] - low[k]) / (double)side;
        widest = fmax(widest, g->width[k]);
        largest = fmax(largest, fmax(fabs(low[k]), fabs(high[k])));
    }
    /* Which cell a query falls into, and where the cell begins, are both rounded. */
    g->slack = slack + 1e-9 * widest + 1e-14 * largest + 1e-280;
    for (int64_t k = 0; k < d; k++) {
        g->flat[k] = g->width[k] < 4 * g->slack;
        g->per_width[k] = g->flat[k] ? 0 : 1 / g->width[k];
    }
}

/* Whether a query is expected in `side` cells an axis of the outermost grid, from `corner` on. */
static int is_expected(const candidate_grid *v, const int64_t *corner, int64_t side) {
    const occupancy *e = &v->occupancy;
    int64_t at[MOST_AXES], from[MOST_AXES] = {0}, end[MOST_AXES] = {1, 1, 1};
    if (!e->occupied) return 1;
    for (int64_t k = 0; k < v->dimensions; k++) {
        end[k] = e->side;
        if (e->flat[k] || v->root->flat[k]) continue; /* one may be cut where the other is not */
        from[k] = corner[k] * e->side / v->root->side;
        end[k] = ((corner[k] + side) * e->side + v->root->side - 1) / v->root->side;
    }
    for (at[0] = from[0]; at[0] < end[0]; at[0]++)
        for (at[1] = from[1]; at[1] < end[1]; at[1]++)
            for (at[2] = from[2]; at[2] < end[2]; at[2]++)
                if (e->occupied[number_of(at, e->side, v->dimensions)]) return 1;
    return 0;
}

/* Drop those candidates to whom some other one is nearer wherever in the region the query is.
 *
 * |x - s|^2 - |x - t|^2 is linear in x, so its maximum over the region is at a corner. A few points
 * nearest to the middle are tried as s. The margin is far above the rounding errors of the sums
 * here and of those that will be compared. */
static void prune_dominated(int64_t d, const region *r, candidates *c) {
    enum { RIVALS = 6, MOST = 256 };
    double middle[MOST_AXES], half[MOST_AXES], from[MOST][MOST_AXES], length[MOST], diagonal = 0;
    int rivals[RIVALS], tried = 0;
    if (c->count < 2 || c->count > MOST) return;
    for (int64_t k = 0; k < d; k++) {
        middle[k] = r->low[k] + (r->high[k] - r->low[k]) / 2;
        half[k] = fmax(r->high[k] - middle[k], middle[k] - r->low[k]);
        diagonal += half[k] * half[k];
    }
    for (int i = 0; i < c->count; i++) {
        length[i] = 0;
        for (int64_t k = 0; k < d; k++) {
            from[i][k] = c->axis[k][i] - middle[k];
            length[i] += from[i][k] * from[i][k];
        }
        int at = tried < RIVALS ? tried++ : RIVALS;
        for (; at > 0 && length[rivals[at - 1]] > length[i]; at--)
            if (at < RIVALS) rivals[at] = rivals[at - 1];
        if (at < RIVALS) rivals[at] = i;
    }
    int64_t kept = 0;
    for (int i = 0; i < c->count; i++) {
        int nearer = 0;
        for (int j = 0; j < tried && !nearer; j++) {
            const int rival = rivals[j];
            double most = length[rival] - length[i];
            for (int64_t k = 0; k < d; k++) most += 2 * half[k] * fabs(from[i][k] - from[rival][k]);
            nearer = most < -1e-12 * (length[rival] + length[i] + diagonal) - 1e-300;
        }
        for (int64_t k = 0; k < d; k++) c->axis[k][kept] = c->axis[k][i];
        c->index[kept] = c->index[i];
        kept += !nearer;
    }
    c->count = kept;
    candidates_pad(c, d);
}

static void fill_cells(int64_t d, grid *g, const int64_t *corner, int64_t side, const cell *value) {
    const int64_t cells = whole_power(side, d);
    for (int64_t i = 0; i < cells; i++) {
        int64_t at[MOST_AXES], rest = i;
        for (int64_t k = 0; k < d; k++) {
            at[k] = corner[k] + rest % side;
            rest /= side;
        }
        g->cells[number_of(at, g->side, d)] = *value;
    }
}

/* Where a construction is: `level` numbers the lists that are in use, `depth` the grids. */
typedef struct {
    int level, depth, unreduced;
} stage;

static CONFSIM_MUST_CHECK confsim_status build(builder *b, grid *g, const int64_t *corner,
                                               int64_t side, const candidates *in, stage at);

/* A grid for one dense cell. */
static CONFSIM_MUST_CHECK confsim_status build_inner(builder *b, const grid *outer,
                                                     const int64_t *corner, const candidates *in,
                                                     stage at, cell *out) {
    const int64_t d = b->v->dimensions, origin[MOST_AXES] = {0};
    double low[MOST_AXES], high[MOST_AXES];
    for (int64_t k = 0; k < d; k++) {
        low[k] = outer->low[k] + (double)corner[k] * outer->width[k];
        high[k] = low[k] + (double)(outer->flat[k] ? outer->side : 1) * outer->width[k];
    }
    grid *g = block_take(&b->blocks, sizeof *g);
    if (!g) return CONFSIM_NO_MEMORY;
    g->cells = block_take(&b->blocks, (size_t)whole_power(INNER_SIDE, d) * sizeof(cell));
    if (!g->cells) return CONFSIM_NO_MEMORY;
    confsim_grid_place(g, d, low, high, INNER_SIDE, outer->slack);
    *out = (cell){-1, g};
    return build(b, g, origin, INNER_SIDE, in, (stage){at.level + 1, at.depth + 1, 0});
}

/* Whether a cell deserves a grid of its own: there are many points to tell apart, room to, and so
 * many queries, if they lie where training points do, that comparing them takes longer than the
 * grid. */
static int worth_a_grid(const candidate_grid *v, const grid *g, const region *here,
                        const candidates *c, int depth) {
    int thick = 0;
    for (int64_t k = 0; k < v->dimensions; k++) thick |= g->width[k] > INNER_SIDE * 16 * g->slack;
    if (!thick || depth >= DEEPEST || c->count <= DENSE) return 0;
    const double per_point = (double)v->occupancy.queries / (double)v->all.count;
    const double queries = per_point * (double)inside(v->dimensions, here, c);
    return queries * (double)c->count >=
           COMPARISONS_A_CELL * (double)whole_power(INNER_SIDE, v->dimensions);
}

/* Fill `side` cells an axis from `corner` on, whose candidates are among `in`. */
static CONFSIM_MUST_CHECK confsim_status build(builder *b, grid *g, const int64_t *corner,
                                               int64_t side, const candidates *in, stage at) {
    const candidate_grid *v = b->v;
    const int64_t d = v->dimensions;
    const region here = region_of(d, g, corner, side);
    b->work += (double)in->count;
    const int expected = at.depth > 0 || is_expected(v, corner, side);
    if (!expected || b->work > b->most_work) {
        fill_cells(d, g, corner, side, expected ? &(cell){0, NULL} : &v->fallback);
        return CONFSIM_OK;
    }
    candidates *kept = &b->level[at.level];
    confsim_status status = candidates_reserve(kept, d, in->count);
    if (status) return status;
    v->filter(in, &here, d, kept, b->closest);
    /* All of them kept, and not because they are all here, where smaller cells will tell them
     * apart. */
    const int unreduced = kept->count == in->count && inside(d, &here, kept) <= DENSE;
    at.unreduced = unreduced ? at.unreduced + 1 : 0;
    const int full = b->blocks && b->blocks->total > b->most_bytes;
    const int futile = full || at.unreduced > MOST_UNREDUCED;
    if (kept->count <= SMALL_LEAF || side == 1 || futile) {
        cell value;
        const int deeper = side == 1 && !futile && worth_a_grid(v, g, &here, kept, at.depth);
        if (v->prune && !deeper) prune_dominated(d, &here, kept);
        status = deeper ? build_inner(b, g, corner, kept, at, &value) : make_leaf(b, kept, &value);
        if (!status) fill_cells(d, g, corner, side, &value);
        return status;
    }
    at.level++;
    for (int child = 0; child < 1 << d && !status; child++) {
        int64_t from[MOST_AXES];
        int reached = 1; /* along a degenerate axis only cell 0 is ever looked up */
        for (int64_t k = 0; k < d; k++) {
            from[k] = corner[k] + (child >> k & 1) * (side / 2);
            reached &= from[k] == 0 || !g->flat[k];
        }
        if (reached) status = build(b, g, from, side / 2, kept, at);
    }
    return status;
}

static void build_item(void *context, int64_t item, int thread) {
    candidate_grid *v = context;
    int64_t corner[MOST_AXES], rest = item;
    for (int64_t k = 0; k < v->dimensions; k++) {
        corner[k] = rest % v->parts * v->part_side;
        rest /= v->parts;
        if (corner[k] > 0 && v->root->flat[k]) return;
    }
    builder *b = &v->builders[thread];
    const confsim_status status =
        build(b, v->root, corner, v->part_side, &v->all, (stage){0, 0, 0});
    if (status) b->status = status;
}

/* Parts an axis that are built on their own, each halved `halvings` times. */
typedef struct {
    int64_t parts;
    int halvings;
} cut;

/* About one cell for each training point in the plane, where the leaves then stay in the cache, and
 * more in space, where lists are long; and some queries for each cell. */
static cut cut_for(int64_t d, double points, double queries) {
    const double most = fmin(d < 3 ? points : 3 * points, queries / 8);
    cut best = {1, 0};
    for (int64_t parts = 2; parts <= 3; parts++)
        for (int halvings = 0; halvings < MOST_HALVINGS; halvings++)
            if ((double)whole_power(parts << halvings, d) <= most &&
                parts << halvings > best.parts << best.halvings)
                best = (cut){parts, halvings};
    return best;
}

/* Free what only the construction needs. */
static void builders_tidy(candidate_grid *v, int threads) {
    for (int t = 0; v->builders && t < threads; t++) {
        for (int level = 0; level < MOST_LEVELS; level++) free(v->builders[t].level[level].axis[0]);
        free(v->builders[t].closest);
        v->builders[t].closest = NULL;
        memset(v->builders[t].level, 0, sizeof v->builders[t].level);
    }
    free(v->all.axis[0]);
    v->all = (candidates){0};
}

void confsim_candidate_grid_free(candidate_grid *v, int threads) {
    builders_tidy(v, threads);
    for (int t = 0; v->builders && t < threads; t++) blocks_free(v->builders[t].blocks);
    if (v->root) free(v->root->cells);
    free(v->builders);
    free(v->root);
}

/* The training points of a class. */
static CONFSIM_MUST_CHECK confsim_status candidates_of(candidates *c, const packed_points *p,
                                                       int64_t class, int64_t points) {
    const int64_t first = p->first_group[class] * LANES;
    confsim_status status = candidates_reserve(c, p->dimensions, points);
    if (status) return status;
    for (int64_t i = 0; i < points; i++) {
        for (int64_t k = 0; k < p->dimensions; k++)
            c->axis[k][i] = point_at(p, first + i)[k * LANES];
        c->index[i] = p->index[first + i];
    }
    c->count = points;
    candidates_pad(c, p->dimensions);
    return CONFSIM_OK;
}

confsim_status confsim_candidate_grid_build(candidate_grid *v, const packed_points *p,
                                            int64_t class, int64_t points, const region *box,
                                            const occupancy *expected, filter_kernel filter,
                                            int threads) {
    const int64_t d = p->dimensions;
    const double share = fmax(expected->share, 0.25); /* cells cost memory wherever they are */
    const cut cuts = cut_for(d, (double)points / share, (double)expected->queries);
    const int64_t side = cuts.parts << cuts.halvings, cells = whole_power(side, d);
    *v = (candidate_grid){
        .dimensions = d, .occupancy = *expected, .filter = filter, .parts = cuts.parts};
    v->part_side = side / v->parts;
    v->prune = (double)expected->queries >= QUERIES_WORTH_PRUNING * expected->share * (double)cells;
    v->root = calloc(1, sizeof *v->root);
    v->builders = calloc((size_t)threads, sizeof *v->builders);
    if (!v->root || !v->builders || candidates_of(&v->all, p, class, points)) goto no_memory;
    v->root->cells = malloc((size_t)cells * sizeof(cell));
    if (!v->root->cells) goto no_memory;
    confsim_grid_place(v->root, d, box->low, box->high, side, 0);
    for (int t = 0; t < threads; t++) {
        builder *b = &v->builders[t];
        b->v = v;
        b->most_bytes = ((size_t)1 << 24) + (size_t)points * 2048;
        b->most_work =
            ((double)expected->queries * FILTERED_A_QUERY + (double)points * FILTERED_A_POINT) /
            threads;
        b->closest = aligned_alloc(64, (size_t)v->all.room * sizeof *b->closest);
        if (!b->closest) goto no_memory;
    }
    if (make_leaf(&v->builders[0], &v->all, &v->fallback)) goto no_memory;
    confsim_parallel_for(whole_power(v->parts, d), threads, build_item, v);
    for (int t = 0; t < threads; t++)
        if (v->builders[t].status) goto no_memory;
    builders_tidy(v, threads);
    return CONFSIM_OK;
no_memory:
    confsim_candidate_grid_free(v, threads);
    return CONFSIM_NO_MEMORY;
}
