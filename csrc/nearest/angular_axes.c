/* The directions of the angular bound: leading principal axes of the training set, and how many of
 * them make the search cheapest. Any directions give right bounds; better ones give tighter ones.
 */
#include "nearest/angular_internal.h"

/* Makes the rows orthonormal, in their order; a row that depends on earlier ones becomes zero. */
static void orthonormalise(const angular_kernels *p, float *rows, int64_t count, int64_t d) {
    for (int64_t i = 0; i < count; i++) {
        float *row = rows + i * d;
        const float before = p->dot(row, row, d);
        for (int pass = 0; pass < 2; pass++)
            for (int64_t j = 0; j < i; j++)
                p->add_multiple(row, -p->dot(row, rows + j * d, d), rows + j * d, d);
        const float after = p->dot(row, row, d);
        const float factor = after > 1e-6f * before && after > 0 ? 1 / sqrtf(after) : 0;
        for (int64_t k = 0; k < d; k++) row[k] *= factor;
    }
    /* Lengths are only right to float32 once more after scaling. */
    for (int64_t i = 0; i < count; i++) {
        float *row = rows + i * d;
        double square = 0;
        for (int64_t k = 0; k < d; k++) square += (double)row[k] * row[k];
        for (int64_t k = 0; square > 0 && k < d; k++) row[k] = (float)(row[k] / sqrt(square));
    }
}

/* Norm of V'V - 1 over the non-zero rows: zero rows add nothing to either side of the bound. */
static double skew_of(const float *rows, int64_t count, int64_t d) {
    double total = 0;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j <= i; j++) {
            double product = 0;
            for (int64_t k = 0; k < d; k++) product += (double)rows[i * d + k] * rows[j * d + k];
            if (i == j && product > 0) product -= 1;
            total += (i == j ? 1 : 2) * product * product;
        }
    return sqrt(total) * (1 + 1e-6);
}

/* Leading principal axes by orthogonal iteration on evenly spaced training rows. Any directions
 * give right bounds; better ones give tighter bounds. */
confsim_status confsim_find_directions(angular_search *s) {
    enum { ITERATIONS = 4 };
    const angular_kernels *p = s->kernels;
    const int64_t d = s->rows.length, n = s->training->rows;
    const int64_t count = s->training->columns < MAX_AXES ? s->training->columns : MAX_AXES;
    const int64_t rows = n < SAMPLE ? n : SAMPLE;
    float *next = malloc((size_t)(count * d) * sizeof *next);
    if (!next) return CONFSIM_NO_MEMORY;
    uint64_t random = 1;
    memset(s->axes.directions, 0, (size_t)(MAX_AXES * d) * sizeof *s->axes.directions);
    for (int64_t j = 0; j < count; j++)
        for (int64_t k = 0; k < s->training->columns; k++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            s->axes.directions[j * d + k] = (float)((double)(random >> 40) * 0x1p-23 - 1);
        }
    for (int iteration = 0; iteration < ITERATIONS; iteration++) {
        memset(next, 0, (size_t)(count * d) * sizeof *next);
        for (int64_t i = 0; i < rows; i++) {
            const float *unit = s->rows.units + i * n / rows * d;
            for (int64_t j = 0; j < count; j++)
                p->add_multiple(next + j * d, p->dot(s->axes.directions + j * d, unit, d), unit, d);
        }
        orthonormalise(p, next, count, d);
        memcpy(s->axes.directions, next, (size_t)(count * d) * sizeof *next);
    }
    free(next);
    s->axes.skew = skew_of(s->axes.directions, count, d);
    return CONFSIM_OK;
}

/* What rounding to fixed point may change in a product of vectors of that many terms and that
 * length. */
static double fixed_error(double terms, double length) {
    const double each = 0.51 * sqrt(terms) / ONE;
    return each * (2 * length + each);
}

void confsim_set_axes(angular_search *s, int64_t axes) {
    s->axes.count = axes;
    s->axes.terms = axes ? axes + 1 : s->training->columns;
    s->axes.padded = (s->axes.terms + 1) / 2 * 2;
    s->axes.step = s->axes.padded + 2;
    for (int64_t j = 0; j < MAX_AXES; j++) s->axes.identity[j] = j;
    const double k = (double)s->axes.terms;
    s->axes.inflation = 2.5 * s->error.product * sqrt((double)axes) + 1.01 * s->axes.skew;
    double error = fixed_error(k, 1 + s->axes.inflation) + 40 * UNIT_ROUNDOFF;
    if (axes) error += 3 * sqrt(k) * s->error.product + 3 * s->axes.skew;
    s->error.bound = (float)(error * 1.01);
    s->error.fixed = fixed_start((float)fixed_error((double)s->rows.length, 1.001));
    s->error.cell = (float)(fixed_error(k + 2, 1.5 + s->axes.inflation) * 1.01);
}

typedef struct {
    const angular_search *s;
    double survivors[MAX_AXES + 1]; /* by number of axes: a share of all pairs */
    double probes[PROBES][MAX_AXES + 1];
} axes_probe;

/* The share of training rows whose bound by 1, 2, ... axes reaches a query's nearest, or k-th
 * nearest. */
static void probe(void *context, int64_t item, int thread) {
    axes_probe *probing = context;
    const angular_search *s = probing->s;
    const int64_t d = s->rows.length, query = item * s->queries->rows / PROBES;
    const int64_t class = training_class(s, query);
    const int64_t own = s->pairing->self_index ? s->pairing->self_index[query] : -1;
    double *share = probing->probes[item];
    float terms[MAX_AXES], leading[CONFSIM_MOST_NEIGHBORS];
    const int64_t k = s->k ? s->k : 1;
    for (int64_t i = 0; i < k; i++) leading[i] = -2;
    row_scale scale;
    (void)thread;
    memset(share, 0, sizeof probing->probes[item]);
    float *unit = malloc((size_t)d * sizeof *unit); /* without memory: no opinion */
    if (class < 0 || !unit) {
        free(unit);
        return;
    }
    const int64_t begin = s->classes.start[class], end = s->classes.start[class + 1];
    confsim_scale_rows(s->queries, &query, 1, &scale);
    confsim_unit_row(s, s->queries, query, scale, unit);
    for (int64_t rank = begin; rank < end; rank++)
        if (s->classes.order[rank] != own) {
            const float product =
                s->kernels->dot(unit, s->rows.units + s->classes.order[rank] * d, d);
            int64_t at = k;
            for (; at > 0 && leading[at - 1] < product; at--)
                if (at < k) leading[at] = leading[at - 1];
            if (at < k) leading[at] = product;
        }
    const float best = leading[k - 1];
    for (int64_t j = 0; j < MAX_AXES; j++)
        terms[j] = s->kernels->dot(s->axes.directions + j * d, unit, d);
    const int64_t step = (end - begin) / 256 + 1;
    for (int64_t rank = begin; rank < end; rank += step) {
        const float *row = s->rows.units + s->classes.order[rank] * d;
        double bound = 0, left = 1, row_left = 1;
        for (int64_t j = 0; j < MAX_AXES; j++) {
            const double part = s->kernels->dot(s->axes.directions + j * d, row, d);
            bound += terms[j] * part;
            left -= (double)terms[j] * terms[j];
            row_left -= part * part;
            const double rest = left > 0 && row_left > 0 ? sqrt(left * row_left) : 0;
            share[j + 1] += bound + rest >= best;
        }
    }
    for (int64_t j = 1; j <= MAX_AXES; j++) share[j] *= (double)step / (double)(end - begin);
    free(unit);
}

/* Chooses the number of axes that makes the search cheapest; 0, whole products, where none helps.
 */
void confsim_choose_axes(angular_search *s) {
    static const int64_t choices[] = {4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32};
    const double per_term = 0.6 / (double)group_rows(s); /* cycles a pair */
    const double per_survivor = 20 + (double)s->rows.length / (2 * s->kernels->width);
    axes_probe probing = {.s = s};
    double cheapest = per_term * (double)s->training->columns;
    confsim_set_axes(s, 0);
    confsim_parallel_for(PROBES, s->threads, probe, &probing);
    for (int i = 0; i < PROBES; i++)
        for (int64_t j = 0; j <= MAX_AXES; j++)
            probing.survivors[j] += probing.probes[i][j] / PROBES;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        const int64_t axes = choices[i];
        if (axes >= s->training->columns || s->error.product + s->axes.skew > 0.005) break;
        const double cost = per_term * (double)(axes + 1) + per_survivor * probing.survivors[axes];
        if (cost >= cheapest) continue;
        cheapest = cost;
        confsim_set_axes(s, axes);
    }
}
