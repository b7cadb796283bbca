/* Rows in the forms that the filters read: unit rows, terms of bounds, groups in fixed point. */
#include "core/util.h"
#include "nearest/angular_internal.h"

/* Scales of `count` rows; eight sums run side by side because each is a chain of dependent
 * additions. */
void confsim_scale_rows(const confsim_matrix *matrix, const int64_t *rows, int64_t count,
                        row_scale *out) {
    enum { LANES = 8 };
    for (int64_t begin = 0; begin < count; begin += LANES) {
        double sums[LANES] = {0};
        const char *data[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            const int64_t i = begin + lane < count ? begin + lane : count - 1;
            data[lane] = matrix->data + rows[i] * matrix->row_stride;
        }
        for (int64_t k = 0; k < matrix->columns; k++)
            for (int lane = 0; lane < LANES; lane++) {
                const char *entry = data[lane] + k * matrix->column_stride;
                const double x =
                    matrix->is_float32 ? (double)*(const float *)entry : *(const double *)entry;
                sums[lane] += x * x;
            }
        for (int lane = 0; lane < LANES && begin + lane < count; lane++)
            out[begin + lane] = scale_of(matrix, rows[begin + lane], sums[lane]);
    }
}

/* A unit row in float32 for the filter: each coordinate within (1 + 2^-50) u of the exact one. */
void confsim_unit_row(const angular_search *s, const confsim_matrix *matrix, int64_t row,
                      row_scale scale, float *out) {
    const int64_t d = matrix->columns;
    memset(out, 0, (size_t)s->rows.length * sizeof *out);
    if (scale.norm == 0) return;
    const double inverse = 1 / scale.norm;
    const char *data = matrix->data + row * matrix->row_stride;
    if (scale.exponent)
        for (int64_t k = 0; k < d; k++) out[k] = (float)unit_at(matrix, row, k, scale);
    else if (matrix->is_float32 && matrix->column_stride == sizeof(float))
        for (int64_t k = 0; k < d; k++) out[k] = (float)(((const float *)data)[k] * inverse);
    else
        for (int64_t k = 0; k < d; k++)
            out[k] = (float)(confsim_matrix_at(matrix, row, k) * inverse);
}

static int same_bytes(const confsim_matrix *a, int64_t row, const confsim_matrix *b,
                      int64_t other) {
    const int64_t size = a->is_float32 ? sizeof(float) : sizeof(double);
    return a->is_float32 == b->is_float32 && a->column_stride == size && b->column_stride == size &&
           !memcmp(a->data + row * a->row_stride, b->data + other * b->row_stride,
                   (size_t)(a->columns * size));
}

static void find_repeats(void *context, int64_t item, int thread) {
    const angular_search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->queries->rows;
    (void)thread;
    for (int64_t query = begin; query < n && query < begin + PREPARE_ROWS; query++) {
        const int64_t own = s->pairing->self_index[query];
        s->prepared.repeats[query] = own >= 0 && same_bytes(s->queries, query, s->training, own);
    }
}

/* The terms of a bound for one unit row. */
void confsim_write_terms(const angular_search *s, const float *unit, float *out) {
    double left = 1 + s->axes.inflation;
    s->kernels->dots(unit, s->axes.directions, s->rows.length, s->axes.identity, s->axes.count,
                     out);
    for (int64_t j = 0; j < s->axes.count; j++) left -= (double)out[j] * out[j];
    out[s->axes.count] = left > 0 ? (float)sqrt(left) * (1 + 4 * UNIT_ROUNDOFF) : 0;
}

static void prepare_rows(void *context, int64_t item, int thread) {
    const angular_search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->training->rows;
    const int64_t end = begin + PREPARE_ROWS < n ? begin + PREPARE_ROWS : n;
    (void)thread;
    int64_t rows[PREPARE_ROWS];
    for (int64_t i = 0; i < PREPARE_ROWS; i++) rows[i] = begin + i;
    confsim_scale_rows(s->training, rows, end - begin, s->rows.scales + begin);
    for (int64_t row = begin; row < end; row++)
        confsim_unit_row(s, s->training, row, s->rows.scales[row],
                         s->rows.units + row * s->rows.length);
}

/* A unit row in fixed point. */
void confsim_fix_row(const angular_search *s, const float *row, int16_t *out) {
    for (int64_t k = 0; k < s->rows.length; k++) out[k] = fixed(row[k]);
}

static void pack_rows(void *context, int64_t item, int thread) {
    const angular_search *s = context;
    const int64_t begin = item * PREPARE_ROWS, n = s->training->rows, width = group_rows(s);
    const int64_t end = begin + PREPARE_ROWS < n ? begin + PREPARE_ROWS : n;
    int64_t class = class_of_rank(s, begin);
    (void)thread;
    for (int64_t rank = begin; rank < end; rank++) {
        while (rank >= s->classes.start[class + 1]) class++;
        const int64_t within = rank - s->classes.start[class], row = s->classes.order[rank];
        const int64_t group = s->rows.first_group[class] + within / width;
        const float *terms = s->axes.count ? s->tree.row_terms + row * s->axes.terms
                                           : s->rows.units + row * s->rows.length;
        int16_t *out = s->rows.packed + group * width * s->axes.padded;
        for (int64_t k = 0; k < s->axes.padded; k++)
            out[packed_place(s, within % width, k)] = k < s->axes.terms ? fixed(terms[k]) : 0;
    }
}

confsim_status confsim_angular_prepare(angular_search *s) {
    const int64_t n = s->training->rows, width = group_rows(s);
    s->rows.length = (s->training->columns + width - 1) / width * width;
    s->error.product = ((float)s->rows.length / 4 + 24) * UNIT_ROUNDOFF;
    /* What float32 may misjudge on both sides, and what float64 answers may. */
    s->error.window = 2 * s->error.product + ((float)s->rows.length + 32) * 0x1p-49f;
    s->rows.units = floats(n * s->rows.length);
    s->rows.scales = malloc((size_t)n * sizeof *s->rows.scales);
    s->rows.first_group = malloc(((size_t)s->classes.count + 1) * sizeof *s->rows.first_group);
    s->axes.directions = floats(MAX_AXES * s->rows.length);
    if (!s->rows.units || !s->rows.scales || !s->rows.first_group || !s->axes.directions)
        return CONFSIM_NO_MEMORY;
    confsim_parallel_for(confsim_blocks(n, PREPARE_ROWS), s->threads, prepare_rows, s);
    if (!s->pairing->self_index) return CONFSIM_OK;
    const int64_t q = s->queries->rows;
    s->prepared.repeats = malloc((size_t)q);
    if (!s->prepared.repeats) return CONFSIM_NO_MEMORY;
    confsim_parallel_for(confsim_blocks(q, PREPARE_ROWS), s->threads, find_repeats, s);
    return CONFSIM_OK;
}

confsim_status confsim_angular_pack(angular_search *s) {
    const int64_t width = group_rows(s), *start = s->classes.start;
    s->rows.first_group[0] = 0;
    for (int64_t c = 0; c < s->classes.count; c++)
        s->rows.first_group[c + 1] =
            s->rows.first_group[c] + confsim_blocks(start[c + 1] - start[c], width);
    /* What pads a class's last group is zero. */
    s->rows.packed =
        calloc((size_t)(s->rows.first_group[s->classes.count] * width * s->axes.padded),
               sizeof *s->rows.packed);
    if (!s->rows.packed) return CONFSIM_NO_MEMORY;
    confsim_parallel_for(confsim_blocks(s->training->rows, PREPARE_ROWS), s->threads, pack_rows, s);
    return CONFSIM_OK;
}
