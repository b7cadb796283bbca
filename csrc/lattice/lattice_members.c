/* The nearest other training point of a member of the lattice: by a grid of square cells.
 *
 * A square of cells around the member is searched, and as long as something nearer could lie
 * outside of it, the square that reaches as far. */
#include "lattice/lattice_internal.h"

static int32_t cell_at(int32_t at, int shift, int32_t cells) {
    return at < 0 ? 0 : least(at >> shift, cells - 1);
}

/* The cells that a square of `radius` around a point meets, or those nearest to it. */
static box cells_within(const member_grid *grid, const grid_point *at, int32_t radius) {
    const int32_t row = at->row - grid->row_low, column = at->column - grid->column_low;
    return (box){cell_at(row - radius, grid->shift, grid->rows),
                 cell_at(row + radius, grid->shift, grid->rows),
                 cell_at(column - radius, grid->shift, grid->columns),
                 cell_at(column + radius, grid->shift, grid->columns)};
}

static int contains(const box *outer, const box *inner) {
    return outer->row_low <= inner->row_low && outer->row_high >= inner->row_high &&
           outer->column_low <= inner->column_low && outer->column_high >= inner->column_high;
}

/* The squared distance to the nearest training point of a class but `self`, and its index; NO_SUM
 * and -1 for none. A point in cells that were left out is farther away than the radius. */
static uint32_t search_others(const lattice_search *s, const member_grid *grid,
                              const grid_point *at, int32_t self, int32_t *nearest) {
    const box all = {0, grid->rows - 1, 0, grid->columns - 1};
    int32_t radius = 1 << grid->shift;
    box span = cells_within(grid, at, radius);
    for (;;) {
        const uint32_t sum = s->kernels->other(grid, &span, at, self, nearest);
        radius = sum == NO_SUM ? 2 * radius : (int32_t)sqrt(sum);
        const box needed = cells_within(grid, at, radius);
        if (contains(&span, sum == NO_SUM ? &all : &needed)) return sum;
        span = needed;
    }
}

/* Store a member's nearest other training point. */
void confsim_lattice_store_other(const lattice_search *s, workspace *w, const query_band *b,
                                 int64_t position) {
    const int64_t self = s->pairing->self_index[position];
    if (self < 0 || self >= s->training->count) {
#ifdef _OPENMP
#pragma omp atomic write
#endif
        *s->invalid = 1;
        return;
    }
    const int32_t code = s->pairing->query_labels ? code_of(s, position) : 0;
    if (code == NO_CLASS) return;
    const int32_t place = (int32_t)place_of(s, b, position), stride = (int32_t)s->shape.stride;
    w->at.row = (b->row + place / stride) * s->training->step;
    w->at.column = place % stride * s->training->step;
    int32_t nearest;
    const uint32_t sum = search_others(s, &s->grids[code], &w->at, (int32_t)self, &nearest);
    put(s->answer, 1, position, sum == NO_SUM ? NAN : sqrt(sum) * s->training->unit, nearest);
}

/* A coordinate of a training point: the last axis is 0, the one before 1. */
static int32_t from_last(const lattice_search *s, int64_t index, int axis) {
    const int64_t d = s->lattice->dimensions;
    return axis < d ? s->training->points[index * d + d - 1 - axis] : 0;
}

static int32_t cell_of(const lattice_search *s, const member_grid *grid, int64_t index) {
    const int32_t row = (from_last(s, index, 1) - grid->row_low) >> grid->shift;
    return row * grid->columns + ((from_last(s, index, 0) - grid->column_low) >> grid->shift);
}

/* Cells around the points of a class, of one to four points each on average. */
static void measure_cells(const lattice_search *s, int64_t c, member_grid *grid) {
    const int64_t first = s->classes.start[c];
    const int64_t count = s->classes.start[c + 1] - first;
    int32_t low[2] = {INT32_MAX, INT32_MAX}, high[2] = {INT32_MIN, INT32_MIN};
    for (int64_t i = 0; i < count; i++)
        for (int axis = 0; axis < 2; axis++) {
            const int32_t at = from_last(s, s->classes.order[first + i], axis);
            low[axis] = at < low[axis] ? at : low[axis];
            high[axis] = at > high[axis] ? at : high[axis];
        }
    int64_t rows, columns;
    int shift = 0;
    for (;; shift++) {
        columns = ((high[0] - low[0]) >> shift) + 1;
        rows = ((high[1] - low[1]) >> shift) + 1;
        if (rows * columns <= count) break;
    }
    *grid = (member_grid){.count = count,
                          .leading = s->lattice->dimensions - 2,
                          .row_low = low[1],
                          .column_low = low[0],
                          .rows = (int32_t)rows,
                          .columns = (int32_t)columns,
                          .shift = shift};
}

/* Put the points of a class into its cells: a counting sort. start[k + 1] runs from where cell k
 * begins to where it ends. */
static void fill_cells(const lattice_search *s, int64_t c, member_grid *grid) {
    const int64_t count = grid->count, stride = count + PADDING;
    const int64_t *order = s->classes.order + s->classes.start[c];
    memset(grid->start, 0, (size_t)(grid->rows * grid->columns + 2) * sizeof *grid->start);
    for (int64_t i = 0; i < count; i++) grid->start[cell_of(s, grid, order[i]) + 2]++;
    for (int32_t k = 2; k < grid->rows * grid->columns; k++) grid->start[k + 1] += grid->start[k];
    for (int64_t i = 0; i < count; i++) {
        const int32_t place = grid->start[cell_of(s, grid, order[i]) + 1]++;
        grid->index[place] = (int32_t)order[i];
        grid->column[place] = from_last(s, order[i], 0);
        grid->row[place] = from_last(s, order[i], 1);
        for (int64_t k = 0; k < grid->leading; k++)
            grid->axes[k * stride + place] =
                s->training->points[order[i] * s->lattice->dimensions + k];
    }
    for (int64_t i = count; i < stride; i++) {
        grid->column[i] = BEYOND;
        grid->row[i] = grid->index[i] = 0;
        for (int64_t k = 0; k < grid->leading; k++) grid->axes[k * stride + i] = 0;
    }
}

confsim_status confsim_member_grids_build(lattice_search *s) {
    s->grids = calloc((size_t)s->classes.count, sizeof *s->grids);
    if (!s->grids) return CONFSIM_NO_MEMORY;
    for (int64_t c = 0; c < s->classes.count; c++) {
        member_grid *grid = &s->grids[c];
        measure_cells(s, c, grid);
        const int64_t d = s->lattice->dimensions, stride = grid->count + PADDING;
        const int64_t numbers = (d + 2) * stride + grid->rows * grid->columns + 2;
        grid->column = malloc((size_t)numbers * sizeof *grid->column);
        if (!grid->column) return CONFSIM_NO_MEMORY;
        grid->row = grid->column + stride;
        grid->index = grid->row + stride;
        grid->axes = grid->index + stride;
        grid->start = grid->axes + (d - 1) * stride;
        fill_cells(s, c, grid);
    }
    return CONFSIM_OK;
}

void confsim_member_grids_free(const lattice_search *s) {
    for (int64_t c = 0; s->grids && c < s->classes.count; c++) free(s->grids[c].column);
    free(s->grids);
}
