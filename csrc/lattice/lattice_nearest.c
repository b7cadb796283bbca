/* ---------------------------------------------------------------- nearest training points
 *
 * The lattice is cut into planes of the last two axes, planes into bands of rows (the items that
 * threads share), bands into chunks of columns, chunks into tiles. Each box of this hierarchy keeps
 * the training points that could be nearest to one of its points; a tile compares the few that
 * remain with all of its points at once, in integers. A finished band is stored in the order of the
 * queries; points without a query are computed and dropped. */
#include "lattice/lattice_internal.h"

#include "core/arena.h"
#include "core/parallel.h"

/* The first position in begin..end whose id is not below `id`. */
static int64_t position_of(const confsim_ids *ids, int64_t id, int64_t begin, int64_t end) {
    if (!ids->ids) {
        const int64_t position = id - ids->start;
        return position < begin ? begin : position < end ? position : end;
    }
    while (begin < end) {
        const int64_t middle = begin + (end - begin) / 2;
        if (ids->ids[middle] < id)
            begin = middle + 1;
        else
            end = middle;
    }
    return begin;
}

/* The first column of a tile; the last tile reaches into the one before. */
static int32_t column_of(const lattice_search *s, int64_t tile) {
    const int64_t last = s->lattice->per_axis - SIDE;
    return last < 0 ? 0 : least(tile * SIDE, last);
}

/* Write down the class of each point of a band. */
static void encode(const lattice_search *s, const query_band *b, workspace *w) {
    for (int64_t i = 0; i < BAND_ROWS * s->shape.stride; i++) w->codes[i] = NO_QUERY;
    for (int64_t i = b->begin; i < b->end; i++) {
        const int32_t code = code_of(s, i);
        w->codes[place_of(s, b, i)] = code;
        w->nobody |= code == NO_CLASS;
    }
}

/* Start a plane: the squared distance that its leading axes add to each training point. */
static void enter_plane(const lattice_search *s, workspace *w, int64_t plane) {
    const int64_t d = s->lattice->dimensions;
    int32_t *leading = w->at.leading;
    if (w->plane_number == plane) return;
    w->plane_number = plane;
    for (int64_t k = d - 3; k >= 0; k--) {
        leading[k] = (int32_t)(plane % s->lattice->per_axis) * s->training->step;
        plane /= s->lattice->per_axis;
    }
    for (int64_t c = 0; c < s->classes.count; c++) {
        candidates *list = &w->plane.by_class[c];
        list->count = s->classes.start[c + 1] - s->classes.start[c];
        for (int64_t i = 0; i < list->count; i++) {
            const int64_t index = s->classes.order[s->classes.start[c] + i];
            const int32_t *point = s->training->points + index * d;
            int32_t base = 0;
            for (int64_t k = 0; k < d - 2; k++)
                base += (leading[k] - point[k]) * (leading[k] - point[k]);
            list->index[i] = (int32_t)index;
            list->base[i] = base;
            list->row[i] = d > 1 ? point[d - 2] : 0;
            list->column[i] = point[d - 1];
        }
        pad_candidates(list);
        w->plane.made[c] = 1;
    }
}

static void enter_box(const lattice_search *s, lists *l, const box *where) {
    l->where = *where;
    memset(l->made, 0, (size_t)s->classes.count);
}

/* The class of all queries of a tile, NO_QUERY when there are none, or SEVERAL. */
static int32_t common_code(const int32_t *codes, int64_t stride) {
    int32_t most = NO_QUERY, least = INT32_MAX;
    for (int r = 0; r < SIDE; r++)
        for (int i = 0; i < SIDE; i++) {
            const int32_t code = codes[r * stride + i];
            const int32_t asked = code == NO_QUERY ? INT32_MAX : code;
            most = code > most ? code : most;
            least = asked < least ? asked : least;
        }
    return most == NO_QUERY || most == least ? most : SEVERAL;
}

/* The same in a dense band, from the labels themselves; where they differ, the classes are written
 * down. */
static int32_t common_label(const lattice_search *s, workspace *w, const query_band *b, int32_t row,
                            int32_t column) {
    const int bytes = s->pairing->query_label_bytes;
    const int64_t m = s->lattice->per_axis, begin = b->begin + (row - b->row) * m + column;
    const int32_t rows = least(SIDE, b->row + b->rows - row), columns = least(SIDE, m - column);
    const char *labels = (const char *)s->pairing->query_labels + begin * bytes;
    if (s->kernels->uniform(labels, bytes, m, rows, columns)) {
        const int32_t code = code_of(s, begin);
        w->nobody |= code == NO_CLASS;
        return code;
    }
    int32_t *codes = w->codes + (row - b->row) * s->shape.stride + column;
    int nobody = 0;
    for (int32_t r = 0; r < SIDE; r++, codes += s->shape.stride) {
        for (int32_t i = 0; i < SIDE; i++) codes[i] = NO_QUERY;
        if (r >= rows) continue;
        if (s->classes.count <= FEW_CLASSES)
            s->kernels->encode(labels + r * m * bytes, bytes, columns, &s->classes, codes);
        else
            for (int32_t i = 0; i < columns; i++) codes[i] = code_of(s, begin + r * m + i);
        for (int32_t i = 0; i < columns; i++) nobody |= codes[i] == NO_CLASS;
    }
    w->nobody |= nobody;
    return SEVERAL;
}

/* The class of each tile of a band. */
static void classify(const lattice_search *s, const query_band *b, workspace *w) {
    if (b->dense && s->pairing->query_labels) {
        const int bytes = s->pairing->query_label_bytes;
        const char *labels = (const char *)s->pairing->query_labels + b->begin * bytes;
        for (int64_t i = 0; i < (b->end - b->begin) * bytes; i += 64)
            __builtin_prefetch(labels + i);
    }
    for (int32_t row = 0; row < b->rows; row += SIDE)
        for (int64_t tile = 0; tile < s->shape.tiles_across; tile++) {
            const int32_t column = column_of(s, tile);
            w->tile_codes[row / SIDE * s->shape.tiles_across + tile] =
                !s->pairing->query_labels ? 0
                : b->dense
                    ? common_label(s, w, b, b->row + row, column)
                    : common_code(w->codes + row * s->shape.stride + column, s->shape.stride);
        }
}

/* A sixteenth of the numbers, by a sample, are at most this. */
static int32_t low_sixteenth(const int32_t *numbers, int64_t count) {
    enum { SAMPLE = 64, LOW = SAMPLE / 16 };
    int32_t lowest[LOW];
    for (int i = 0; i < LOW; i++) lowest[i] = INT32_MAX;
    for (int64_t k = 0; k < SAMPLE; k++) {
        int32_t number = numbers[k * count / SAMPLE];
        for (int i = 0; i < LOW; i++) {
            const int32_t larger = number > lowest[i] ? number : lowest[i];
            lowest[i] = number < lowest[i] ? number : lowest[i];
            number = larger;
        }
    }
    return lowest[LOW - 1];
}

/* Whether a chunk of the band has queries of a class. */
static int chunk_asks(const lattice_search *s, const workspace *w, int64_t tile, int32_t code) {
    for (int64_t row = 0; row < BAND_ROWS / SIDE && row * SIDE < w->rows; row++)
        for (int64_t i = tile; i < tile + CHUNK_TILES && i < s->shape.tiles_across; i++) {
            const int32_t found = w->tile_codes[row * s->shape.tiles_across + i];
            if (found == code || found == SEVERAL) return 1;
        }
    return 0;
}

/* The part of a box that lies in the columns of `count` tiles, or of as many as there are. */
static box columns_of(const lattice_search *s, const box *rows, int64_t tile, int64_t count) {
    const int64_t last = least(tile + count, s->shape.tiles_across) - 1;
    const int32_t end = least(column_of(s, last) + SIDE, s->lattice->per_axis);
    const int32_t step = s->training->step;
    return (box){rows->row_low, rows->row_high, column_of(s, tile) * step, (end - 1) * step};
}

/* A band is so wide that its own bound leaves out hardly anything. No query of it is farther from
 * its nearest candidate than the largest bound of a chunk; and as bounds may be loose, those of the
 * chunks take into account only some candidates close to the band, written to `close`. */
static int32_t bound_by_chunks(const lattice_search *s, workspace *w, const candidates *all,
                               candidates *close, int32_t code) {
    const box *band = &w->band.where;
    int32_t largest = 0;
    s->kernels->bound(all, band, w->smallest);
    s->kernels->keep(all, close, low_sixteenth(w->smallest, all->count), w->smallest);
    for (int64_t tile = 0; tile < s->shape.tiles_across; tile += CHUNK_TILES) {
        if (!chunk_asks(s, w, tile, code)) continue;
        const box chunk = columns_of(s, band, tile, CHUNK_TILES);
        const int32_t bound = s->kernels->bound(close, &chunk, w->smallest);
        largest = bound > largest ? bound : largest;
    }
    return largest;
}

static const candidates *list_of(const lattice_search *s, workspace *w, lists *l, int32_t code) {
    candidates *list = &l->by_class[code];
    if (l->made[code]) return list;
    const candidates *wider = list_of(s, w, l->parent, code);
    if (l == &w->tile && wider->count <= FEW) return wider;
    const int32_t limit =
        l == &w->band && wider->count > MANY ? bound_by_chunks(s, w, wider, list, code) : INT32_MAX;
    const int32_t bound = s->kernels->bound(wider, &l->where, w->smallest);
    s->kernels->keep(wider, list, least(bound, limit), w->smallest);
    l->made[code] = 1;
    return list;
}

static void compare_mixed(const lattice_search *s, workspace *w, int64_t corner,
                          const tile_points *t) {
    uint32_t sums[SIDE * SIDE];
    int32_t index[SIDE * SIDE];
    const int32_t *codes = w->codes + corner;
    int32_t code = s->kernels->next_code(codes, s->shape.stride, NO_CLASS);
    if (code == INT32_MAX) return; /* several labels, and no training point has any */
    s->kernels->compare(list_of(s, w, &w->tile, code), t, w->sums + corner, w->index + corner,
                        s->shape.stride);
    while (code < s->classes.count - 1) {
        code = s->kernels->next_code(codes, s->shape.stride, code);
        if (code == INT32_MAX) return;
        s->kernels->compare(list_of(s, w, &w->tile, code), t, sums, index, SIDE);
        s->kernels->merge(codes, s->shape.stride, code, sums, index, w->sums + corner,
                          w->index + corner);
    }
}

/* Queries whose class no training point has. */
static void put_nothing(const lattice_search *s, const query_band *b) {
    for (int64_t i = b->begin; i < b->end; i++)
        if (code_of(s, i) == NO_CLASS) {
            put(s->answer, 0, i, NAN, -1);
            put(s->answer, 1, i, NAN, -1);
        }
}

/* Store the answers of up to SIDE queries, whose points may lie anywhere in the band. */
static void emit_few(const lattice_search *s, workspace *w, const query_band *b, int64_t begin,
                     int64_t end) {
    uint32_t sums[SIDE] = {0};
    int32_t index[SIDE] = {0};
    double distances[SIDE];
    for (int64_t i = begin; i < end; i++) {
        const int64_t place = place_of(s, b, i);
        sums[i - begin] = w->sums[place];
        index[i - begin] = w->index[place];
    }
    s->kernels->emit(sums, index, SIDE, s->training->unit,
                     &(confsim_nearest){.distance = distances}, 0);
    for (int64_t i = begin; i < end; i++)
        for (int other = 0; other < 2; other++)
            put(s->answer, other, i, distances[i - begin], index[i - begin]);
}

/* Store the answers of a band, many at once where they follow each other in the buffers too, from
 * the start of a cache line on. Those of members are repaired while their lines are near. */
static void emit_band(const lattice_search *s, workspace *w, const query_band *b) {
    const int64_t *self = s->pairing->self_index;
    for (int64_t i = b->begin, stop; i < b->end; i = stop) {
        const int64_t line = i + SIDE - (i - s->shape.phase + SIDE) % SIDE,
                      place = place_of(s, b, i);
        stop = b->dense ? line + WINDOW - SIDE : line;
        const int64_t count = ((stop < b->end ? stop : b->end) - i) / SIDE * SIDE;
        if (count > 0 && line == i + SIDE && place_of(s, b, i + count - 1) == place + count - 1) {
            stop = i + count;
            s->kernels->emit(w->sums + place, w->index + place, count, s->training->unit, s->answer,
                             i);
        } else {
            stop = line < b->end ? line : b->end;
            emit_few(s, w, b, i, stop);
        }
        if (!s->grids) continue;
        int64_t member = s->kernels->next_member(self, i, stop);
        for (; member < stop; member = s->kernels->next_member(self, member + 1, stop))
            confsim_lattice_store_other(s, w, b, member);
    }
}

static box rows_of(const lattice_search *s, int32_t row, int32_t rows) {
    const int32_t step = s->training->step, end = least(row + rows, s->shape.rows);
    return (box){.row_low = row * step, .row_high = (end - 1) * step};
}

static void search_tile(const lattice_search *s, workspace *w, const query_band *b, int32_t row,
                        int64_t number) {
    const int64_t corner = (row - b->row) * s->shape.stride + column_of(s, number);
    const int32_t code = w->tile_codes[(row - b->row) / SIDE * s->shape.tiles_across + number];
    if (code == NO_CLASS || code == NO_QUERY) return;
    const box rows = rows_of(s, row, SIDE), where = columns_of(s, &rows, number, 1);
    tile_points t = {.bits = s->bits};
    enter_box(s, &w->tile, &where);
    for (int i = 0; i < SIDE; i++) { /* points beyond the edge: copies of the last one inside */
        t.rows[i] = least(where.row_low + (int64_t)i * s->training->step, where.row_high);
        t.columns[i] = least(where.column_low + (int64_t)i * s->training->step, where.column_high);
    }
    if (code >= 0)
        s->kernels->compare(list_of(s, w, &w->tile, code), &t, w->sums + corner, w->index + corner,
                            s->shape.stride);
    else
        compare_mixed(s, w, corner, &t);
}

static void search_chunk(const lattice_search *s, workspace *w, const query_band *b,
                         int64_t first) {
    const box where = columns_of(s, &w->band.where, first, CHUNK_TILES);
    enter_box(s, &w->chunk, &where);
    for (int64_t tile = first; tile < first + CHUNK_TILES && tile < s->shape.tiles_across; tile++)
        for (int32_t row = b->row; row < b->row + b->rows; row += SIDE)
            search_tile(s, w, b, row, tile);
}

static void search_band(void *context, int64_t item, int thread) {
    const lattice_search *s = context;
    workspace *w = &s->spaces[thread];
    const int64_t m = s->lattice->per_axis, number = s->shape.first_band + item;
    const int64_t plane = number / s->shape.bands_of_plane;
    query_band b = {.row = (int32_t)(number % s->shape.bands_of_plane) * BAND_ROWS};
    b.rows = least(BAND_ROWS, s->shape.rows - b.row);
    b.first_id = (plane * s->shape.rows + b.row) * m;
    b.begin = position_of(s->ids, b.first_id, 0, s->ids->count);
    b.end = position_of(s->ids, b.first_id + b.rows * m, b.begin, s->ids->count);
    if (b.begin == b.end) return;
    b.dense = b.end - b.begin == b.rows * m;
    w->nobody = 0;
    w->rows = b.rows;
    if (s->pairing->query_labels && !b.dense) encode(s, &b, w);
    classify(s, &b, w);
    enter_plane(s, w, plane);
    const box rows = rows_of(s, b.row, b.rows),
              where = columns_of(s, &rows, 0, s->shape.tiles_across);
    enter_box(s, &w->band, &where);
    for (int64_t tile = 0; tile < s->shape.tiles_across; tile += CHUNK_TILES)
        search_chunk(s, w, &b, tile);
    emit_band(s, w, &b);
    if (w->nobody) put_nothing(s, &b);
}

/* Lay a workspace out in `memory` and return how large it is. */
static size_t lay_out(const lattice_search *s, workspace *w, char *memory) {
    const size_t classes = (size_t)s->classes.count;
    const size_t entries = (size_t)s->training->count + classes * PADDING;
    const size_t points = (size_t)(BAND_ROWS * s->shape.stride);
    const size_t tiles = (size_t)(BAND_ROWS / SIDE * s->shape.tiles_across);
    size_t used = 0;
    lists *levels[] = {&w->plane, &w->band, &w->chunk, &w->tile};
    w->plane_number = -1;
    for (int level = 0; level < 4; level++) {
        lists *l = levels[level];
        l->parent = level > 0 ? levels[level - 1] : NULL;
        l->made = confsim_take(memory, &used, classes);
        l->by_class = confsim_take(memory, &used, classes * sizeof *l->by_class);
        int32_t *columns[4];
        for (int i = 0; i < 4; i++)
            columns[i] = confsim_take(memory, &used, entries * sizeof(int32_t));
        for (size_t c = 0; memory && c < classes; c++) {
            const size_t at = (size_t)s->classes.start[c] + c * PADDING;
            l->by_class[c] =
                (candidates){columns[0] + at, columns[1] + at, columns[2] + at, columns[3] + at, 0};
        }
    }
    w->smallest = confsim_take(memory, &used, entries * sizeof *w->smallest);
    w->sums = confsim_take(memory, &used, points * sizeof *w->sums);
    w->index = confsim_take(memory, &used, points * sizeof *w->index);
    w->codes =
        confsim_take(memory, &used, s->pairing->query_labels ? points * sizeof *w->codes : 0);
    w->tile_codes = confsim_take(memory, &used, tiles * sizeof *w->tile_codes);
    return used;
}

static int bits_for(const lattice_search *s) {
    int64_t low = 0, high = (s->lattice->per_axis - 1) * s->training->step;
    const int64_t d = s->lattice->dimensions;
    for (int64_t i = 0; i < s->training->count * d; i++) {
        low = s->training->points[i] < low ? s->training->points[i] : low;
        high = s->training->points[i] > high ? s->training->points[i] : high;
    }
    const int64_t most = d * (high - low) * (high - low);
    int bits = 0;
    while (bits < 6 && most << (bits + 1) <= UINT32_MAX) bits++;
    return bits;
}

confsim_status confsim_lattice_nearest(const confsim_lattice *lattice, const confsim_ids *ids,
                                       const confsim_lattice_training *training,
                                       const confsim_lattice_pairing *pairing,
                                       const confsim_nearest *answer, int threads,
                                       confsim_isa isa) {
    const int64_t m = lattice->per_axis;
    int invalid = 0;
    if (ids->count == 0) return CONFSIM_OK;
    lattice_search s = {.lattice = lattice,
                        .ids = ids,
                        .training = training,
                        .pairing = pairing,
                        .answer = answer,
                        .kernels = confsim_lattice_kernels(isa),
                        .invalid = &invalid};
    confsim_status status =
        confsim_classes_build(&s.classes, pairing->training_labels, training->count);
    if (status) return status;
    workspace layout;
    char *memory = NULL;
    if (answer->distance_other || answer->index_other) status = confsim_member_grids_build(&s);
    if (status) goto done;
    s.shape.rows = lattice->dimensions > 1 ? m : 1;
    s.shape.tiles_across = (m + SIDE - 1) / SIDE;
    s.shape.stride = m > SIDE ? m : SIDE;
    s.shape.phase = -((intptr_t)answer->distance / (intptr_t)sizeof(double)) & (SIDE - 1);
    s.shape.bands_of_plane = (s.shape.rows + BAND_ROWS - 1) / BAND_ROWS;
    s.bits = bits_for(&s);
    const int64_t first = confsim_id_at(ids, 0), last = confsim_id_at(ids, ids->count - 1),
                  plane = s.shape.rows * m;
    s.shape.first_band = first / plane * s.shape.bands_of_plane + first % plane / m / BAND_ROWS;
    const int64_t last_band = last / plane * s.shape.bands_of_plane + last % plane / m / BAND_ROWS;
    const size_t bytes = lay_out(&s, &layout, NULL);
    s.spaces = calloc((size_t)threads, sizeof *s.spaces);
    memory = aligned_alloc(64, bytes * (size_t)threads);
    if (!s.spaces || !memory) {
        status = CONFSIM_NO_MEMORY;
        goto done;
    }
    for (int thread = 0; thread < threads; thread++)
        lay_out(&s, &s.spaces[thread], memory + (size_t)thread * bytes);
    confsim_parallel_for(last_band - s.shape.first_band + 1, threads, search_band, &s);
    if (invalid) status = CONFSIM_NO_SUCH_TRAINING_ROW;
done:
    free(memory);
    free(s.spaces);
    confsim_member_grids_free(&s);
    confsim_classes_free(&s.classes);
    return status;
}
