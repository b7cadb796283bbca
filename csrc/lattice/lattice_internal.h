/* What the files of the lattice search share; see lattice_nearest.c for how it works. */
#ifndef CONFSIM_LATTICE_INTERNAL_H
#define CONFSIM_LATTICE_INTERNAL_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/classes.h"
#include "lattice/lattice.h"

enum {
    SIDE = 16, /* rows and columns of a tile */
    BAND_ROWS = 32,
    CHUNK_TILES = 4,   /* side by side */
    WINDOW = 256,      /* queries that are stored at once, when nobody among them is a member */
    MOST_AT_ONCE = 64, /* candidates that one pass over a tile compares */
    FEW = 6,           /* candidates that are not worth filtering again */
    MANY = 128,        /* candidates of a band that are worth bounding by chunks */
    FAR_AWAY = 1 << 30,
    PADDING = 16,
    FEW_CLASSES = 4,  /* so few that a label is compared with each of them */
    BEYOND = 1 << 15, /* a coordinate farther from all points than any two of them are apart */
    NO_CLASS = -1,    /* of a query whose label no training point has */
    NO_QUERY = -2,    /* of a point that nobody asked for */
    SEVERAL = -3      /* of a tile's queries: they are of several classes */
};

/* For a squared distance: there is no such point. */
#define NO_SUM UINT32_MAX

/* Training points, or some of them: row, column, and the squared distance that their other axes
 * add; padded by PADDING entries that are too far away to count. */
typedef struct {
    int32_t *row, *column, *base, *index;
    int64_t count;
} candidates;

typedef struct {
    int32_t row_low, row_high, column_low, column_high;
} box;

static inline void pad_candidates(candidates *list) {
    for (int i = 0; i < PADDING; i++) {
        list->row[list->count + i] = list->column[list->count + i] = 0;
        list->base[list->count + i] = FAR_AWAY;
    }
}

/* A member's point, in units. */
typedef struct {
    int32_t row, column;
    int32_t leading[62]; /* its other axes: those of its plane */
} grid_point;

/* Training points of one class in square cells of their last two axes: where members look for their
 * nearest other point. Cells follow each other row by row; a point whose place is past the last one
 * is too far away to count. */
typedef struct {
    int64_t count, leading; /* points, and axes before the last two */
    int32_t *column, *row;  /* of the point at place i */
    int32_t *axes;          /* its leading coordinate k is axes[k * (count + PADDING) + i] */
    int32_t *index;         /* ascending within a cell */
    int32_t *start;         /* the place of each cell's first point, and the end */
    int32_t row_low, column_low;
    int32_t rows, columns; /* of cells */
    int shift;             /* a cell's side is 1 << shift units */
} member_grid;

typedef struct {
    int32_t rows[SIDE] __attribute__((aligned(64)));
    int32_t columns[SIDE] __attribute__((aligned(64)));
    int bits; /* of a key that number a candidate */
} tile_points;

/* The inner loops, for one instruction set; lattice_simd.inc says what each does. */
typedef struct {
    int32_t (*bound)(const candidates *in, const box *b, int32_t *smallest);
    void (*keep)(const candidates *in, candidates *out, int32_t bound, const int32_t *smallest);
    void (*compare)(const candidates *list, const tile_points *t, uint32_t *sums, int32_t *index,
                    int64_t stride);
    void (*emit)(const uint32_t *sums, const int32_t *index, int64_t count, double unit,
                 const confsim_nearest *out, int64_t at);
    int64_t (*next_member)(const int64_t *self, int64_t begin, int64_t end);
    uint32_t (*other)(const member_grid *grid, const box *span, const grid_point *at, int32_t self,
                      int32_t *nearest);
    void (*encode)(const void *labels, int bytes, int32_t count, const confsim_classes *classes,
                   int32_t *codes);
    int32_t (*next_code)(const int32_t *codes, int64_t stride, int32_t code);
    void (*merge)(const int32_t *codes, int64_t stride, int32_t code, const uint32_t *from_sums,
                  const int32_t *from_index, uint32_t *sums, int32_t *index);
    int (*uniform)(const void *labels, int bytes, int64_t stride, int32_t rows, int32_t columns);
} kernels;

const kernels *confsim_lattice_kernels(confsim_isa isa);

/* The lists of one box, one a class, made when the first query of that class is met. */
typedef struct lists {
    struct lists *parent; /* the box around this one; NULL for a plane */
    candidates *by_class;
    char *made; /* a flag for each class */
    box where;
} lists;

/* What one thread owns. */
typedef struct {
    lists plane, band, chunk, tile;
    int64_t plane_number; /* the plane that the lists are for, -1 for none yet */
    grid_point at;        /* in that plane, and anywhere in it */
    int32_t *smallest;
    uint32_t *sums; /* a band's answers: squared distances and indices, `stride` a row */
    int32_t *index;
    int32_t *codes;      /* the class of each point of a band, of a dense one only where they are
                            needed: in tiles of several classes */
    int32_t *tile_codes; /* of each tile of a band: the class of its queries, or SEVERAL */
    int32_t rows;        /* of the band */
    int nobody;          /* the band has queries whose class no training point has */
} workspace;

typedef struct {
    int64_t rows, tiles_across, stride, bands_of_plane, first_band;
    int64_t phase; /* positions a multiple of SIDE away from it start a line of the cache */
} lattice_shape;

typedef struct {
    const confsim_lattice *lattice;
    const confsim_ids *ids;
    const confsim_lattice_training *training;
    const confsim_lattice_pairing *pairing;
    const confsim_nearest *answer;
    const kernels *kernels;
    confsim_classes classes;
    member_grid *grids; /* of each class; NULL where nobody asks for nearest other points */
    workspace *spaces;
    lattice_shape shape;
    int bits, *invalid;
} lattice_search;

/* The band that a thread works on: queries begin..end, whose ids start at first_id. */
typedef struct {
    int64_t first_id, begin, end;
    int32_t row, rows;
    int dense; /* every point is asked for */
} query_band;

static inline int32_t least(int64_t a, int64_t b) { return (int32_t)(a < b ? a : b); }

static inline int32_t code_of(const lattice_search *s, int64_t position) {
    const void *labels = s->pairing->query_labels;
    const int64_t label = s->pairing->query_label_bytes == 1 ? ((const int8_t *)labels)[position]
                                                             : ((const int64_t *)labels)[position];
    if (s->classes.count > FEW_CLASSES) return (int32_t)confsim_classes_find(&s->classes, label);
    for (int32_t c = 0; c < s->classes.count; c++)
        if (s->classes.labels[c] == label) return c;
    return NO_CLASS;
}

/* Where the answer of a query is in a band's buffers. */
static inline int64_t place_of(const lattice_search *s, const query_band *b, int64_t position) {
    const int64_t offset = confsim_id_at(s->ids, position) - b->first_id, m = s->lattice->per_axis;
    return s->shape.stride == m ? offset : offset / m * s->shape.stride + offset % m;
}

static inline void put(const confsim_nearest *out, int other, int64_t position, double distance,
                       int64_t index) {
    double *distances = other ? out->distance_other : out->distance;
    int64_t *indices = other ? out->index_other : out->index;
    if (distances) distances[position] = distance;
    if (indices) indices[position] = index;
}

/* The grids in which members look for their nearest other point, one a class. */
CONFSIM_MUST_CHECK confsim_status confsim_member_grids_build(lattice_search *s);
void confsim_member_grids_free(const lattice_search *s);

/* Store a member's nearest other training point. */
void confsim_lattice_store_other(const lattice_search *s, workspace *w, const query_band *b,
                                 int64_t position);

#endif
