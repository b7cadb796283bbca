/* What the files of the angular search share; cosine_filter.c tells how it works. */
#ifndef CONFSIM_ANGULAR_INTERNAL_H
#define CONFSIM_ANGULAR_INTERNAL_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/classes.h"
#include "core/parallel.h"
#include "nearest/angular_distance.h"
#include "nearest/angular_kernels.h"
#include "nearest/nearest.h"
#include "nearest/top_list.h"

enum {
    BLOCK = 192,  /* queries of a work item: whole tiles, and places that fit into a byte */
    CELL = 32,    /* training rows that are skipped or searched together: whole groups */
    KEPT = 48,    /* candidates of a query that wait for the exact comparison */
    PAIRS = 1024, /* that get their whole products at a time */
    MAX_AXES = 32,
    SAMPLE = 1024, /* training rows that the principal axes come from */
    PROBES = 16,   /* queries that the number of axes is chosen with */
    PREPARE_ROWS = 128,
    /* Rows within float32's error of the best: where there are more, float64 tells them apart. */
    TOO_CLOSE_ONE_IN = 32,
    SMALL = 512 /* below this many queries or rows the axes do not pay */
};

static const float UNIT_ROUNDOFF = 0x1p-24f;

/* What 1 is in fixed point of 16 bits. Sums are exact in 32 bits: the vectors have lengths of at
 * most 1.2, or 1.6 where a cell is judged, and a sum starts where it stays between -2^31 and 2^31
 * (given CONFSIM_ANGULAR_COLUMNS). */
static const float ONE = 23170;
static const int32_t ALWAYS = 3 << 28, NEVER = -(1 << 30);

/* A node of the tree that puts near rows into one cell: to the left where the term is below the
 * cut. */
typedef struct {
    float cut;
    int32_t term, left, right; /* children: a split of the class, or ~ a cell of the class */
} tree_split;

/* Distinct training rows as float64 unit rows; see angular_exact.c. */
typedef struct {
    int64_t *rows;  /* the first of equal rows, class by class, padded with -1 to whole chunks */
    int64_t *next;  /* by row: the next one that equals it, -1 for none */
    int64_t *first; /* a class's first place in `rows`; count + 1 entries */
    double *units;  /* groups of eight, coordinate by coordinate */
} distinct_rows;

/* Unit rows of the training set, in the forms that the filters read. */
typedef struct {
    int64_t length;       /* columns, padded with zeros to whole vectors */
    float *units;         /* unit rows, `length` apart */
    row_scale *scales;    /* of rows */
    int16_t *fixed;       /* unit rows in fixed point, where there are axes */
    int64_t *first_group; /* a class's first group of packed rows; count + 1 entries */
    int16_t *packed;      /* groups of 2 * width rows, pair of terms by pair of terms */
} prepared_rows;

/* The directions of the bound; see set_axes. */
typedef struct {
    int64_t count;              /* principal axes in use; 0: whole products */
    float *directions;          /* MAX_AXES rows of `length` */
    double skew;                /* Frobenius norm of V'V - 1 */
    double inflation;           /* |terms|^2 may be that much over 1 */
    int64_t terms;              /* of a bound */
    int64_t padded;             /* the same in whole pairs */
    int64_t step;               /* and with one more pair for cells */
    int64_t identity[MAX_AXES]; /* 0, 1, 2, ... */
} bound_axes;

/* Cells of near rows, and the tree that finds a query's; see cone_tree.c. */
typedef struct {
    float *row_terms;      /* of rows, `terms` apart, where there are axes */
    int64_t *first_cell;   /* a class's first cell, count + 1 entries; cells split it evenly */
    int64_t *first_centre; /* a class's first group of cells */
    int64_t *lowest;       /* of a cell: its lowest training row */
    int16_t *centres;      /* groups of 2 * width cells, packed like rows, and one more pair */
    tree_split *splits;    /* of a class from first_cell[class] on, the root first */
} cone_tree;

typedef struct {
    int16_t *terms; /* by query, `step` apart, where there are axes */
    row_scale *scales;
    int32_t *leaves;
    uint8_t *repeats; /* by query: whether its own row has the same bytes; NULL without */
} prepared_queries;

/* What rounding may change; see the head of cosine_filter.c. */
typedef struct {
    float product, bound, cell, window;
    int32_t fixed; /* what fixed point may take from the product of two unit rows */
} error_bounds;

typedef struct {
    const confsim_matrix *queries, *training;
    const confsim_pairing *pairing;
    const confsim_nearest *answer;
    const angular_kernels *kernels;
    int threads;
    confsim_classes classes;       /* of training rows; "rank" below: a place in its order */
    confsim_classes query_classes; /* the same for queries */
    prepared_rows rows;
    bound_axes axes;
    cone_tree tree;
    prepared_queries prepared;
    error_bounds error;
    int64_t k;                /* neighbours a query, in a search for several */
    confsim_classes by_group; /* training rows by duplicate group, where there are groups */
    distinct_rows distinct;   /* in use where it has `units` */
} angular_search;

static inline void *floats(int64_t count) {
    return aligned_alloc(64, (size_t)((count * 4 + 63) / 64 * 64));
}

static inline int64_t group_rows(const angular_search *s) { return 2 * s->kernels->width; }

/* Where the term k of a row of a group is among the group's packed terms. */
static inline int64_t packed_place(const angular_search *s, int64_t row, int64_t k) {
    const int64_t split = s->kernels->split;
    return k / 2 * 2 * group_rows(s) + (row / split * 2 + k % 2) * split + row % split;
}

static inline int16_t fixed(float x) { return (int16_t)(x * ONE + (x < 0 ? -0.5f : 0.5f)); }

/* Where a sum starts that is not negative if the product is at least -x. */
static inline int32_t fixed_start(float x) { return (int32_t)((double)x * ONE * ONE) + 2; }

static inline int64_t class_of_rank(const angular_search *s, int64_t rank) {
    int64_t low = 0, high = s->classes.count;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (s->classes.start[middle] <= rank)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The query's own training row, if all that was prepared for it serves the query as well; or -1. */
static inline int64_t repeated_row(const angular_search *s, int64_t query) {
    return s->prepared.repeats && s->prepared.repeats[query] ? s->pairing->self_index[query] : -1;
}

static inline int64_t training_class(const angular_search *s, int64_t query) {
    const int64_t *labels = s->pairing->query_labels;
    return labels ? confsim_classes_find(&s->classes, labels[query]) : 0;
}

/* ---- angular_pack.c */

void confsim_scale_rows(const confsim_matrix *matrix, const int64_t *rows, int64_t count,
                        row_scale *out);
void confsim_unit_row(const angular_search *s, const confsim_matrix *matrix, int64_t row,
                      row_scale scale, float *out);
void confsim_fix_row(const angular_search *s, const float *row, int16_t *out);
void confsim_write_terms(const angular_search *s, const float *unit, float *out);

/* Unit rows of the training set, in float32; and which queries repeat their own. */
CONFSIM_MUST_CHECK confsim_status confsim_angular_prepare(angular_search *s);

/* Groups of rows for the filter, once the axes and the cells are known. */
CONFSIM_MUST_CHECK confsim_status confsim_angular_pack(angular_search *s);

/* ---- angular_axes.c */

void confsim_set_axes(angular_search *s, int64_t axes);
CONFSIM_MUST_CHECK confsim_status confsim_find_directions(angular_search *s);
void confsim_choose_axes(angular_search *s);

/* ---- cone_tree.c */

CONFSIM_MUST_CHECK confsim_status confsim_cone_tree_list_cells(angular_search *s);
CONFSIM_MUST_CHECK confsim_status confsim_cone_tree_build(angular_search *s);
CONFSIM_MUST_CHECK confsim_status confsim_cone_tree_order_queries(angular_search *s);
void confsim_cone_tree_find_lowest(angular_search *s, int64_t class);

/* ---- what a block of queries is searched with */

/* One query of a block on its way to its nearest other training row. */
typedef struct {
    int64_t query, own; /* own: its training row, -1 for none */
    row_scale scale;
    const float *row;         /* unit row */
    const int16_t *fixed_row; /* the same in fixed point, where there are axes */
    int16_t *terms;           /* of bounds; with axes, two more for cells */
    double *unit;             /* float64 unit row, made when it is first needed */
    int unit_ready;
    float best, keep; /* largest product so far, and how large one must be to matter */
    int32_t start;    /* of a bound's sum that reaches what matters where it is not negative */
    double distance;  /* nearest so far by the answer's arithmetic; infinite for none */
    int64_t index;
    int kept;
    int64_t rows[KEPT];
    float products[KEPT];
} candidate_list;

/* The same query in a search for the k nearest. */
typedef struct {
    exclusion out;
    int64_t leading_count;
    float *leading; /* its largest products so far, k at most, descending */
    int64_t kept;
    int64_t *rows; /* that wait for the exact comparison; room for KEPT + 2 k */
    float *products;
    top_list top; /* nearest so far by the answer's arithmetic */
} k_list;

/* The training rows of a cell. */
typedef struct {
    const int64_t *rows;
    int64_t count, lowest;
    int groups;
    const int16_t *packed;
} cell_rows;

/* One thread's memory: a block of queries. */
typedef struct {
    candidate_list lists[BLOCK];
    k_list *k_lists; /* of them, in a search for the k nearest */
    double *units64;
    float *units;
    int16_t *terms, *fixed_rows;
    int64_t pairs; /* that wait for their whole products */
    candidate_list *pair_lists[PAIRS];
    int64_t pair_rows[PAIRS];
    int64_t pending[MAX_GROUP];       /* number of queries whose bound does not exclude cell j */
    uint8_t places[MAX_GROUP][BLOCK]; /* and which */
} query_block;

static inline double distance_to(const angular_search *s, candidate_list *list, int64_t row,
                                 row_scale scale) {
    if (!list->unit_ready && list->scale.norm > 0)
        unit_part(s->queries, list->query, 0, s->queries->columns, list->scale, list->unit);
    list->unit_ready = 1;
    return angular_distance(list->unit, list->scale.norm == 0, s->training, row, scale);
}

/* cosine_filter.c: the rows of a class that could be nearest to the queries of a block. */
void confsim_cosine_filter(const angular_search *s, query_block *b, const int64_t *queries,
                           int64_t count, int64_t class);

/* The end of each list: compares what is left, and stores both answers. */
void confsim_angular_answer(const angular_search *s, candidate_list *list, int64_t class);
void confsim_angular_answer_k(const angular_search *s, query_block *b, int64_t place,
                              int64_t class);
void confsim_angular_put(double *distance, int64_t *index, int64_t query, double found,
                         int64_t row);

/* angular_exact.c: the same where float32 cannot tell rows apart. */
int confsim_float32_is_too_coarse(const angular_search *s);
CONFSIM_MUST_CHECK confsim_status confsim_distinct_rows_build(angular_search *s);
void confsim_distinct_rows_free(distinct_rows *c);
void confsim_exact_search(const angular_search *s, query_block *b, const int64_t *queries,
                          int64_t count, int64_t class);

#endif
