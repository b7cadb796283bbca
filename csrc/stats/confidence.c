#include "stats/confidence.h"

#include <math.h>

#include "core/parallel.h"

enum { BLOCK = 1 << 12 };

static int64_t blocks_of(int64_t count) { return (count + BLOCK - 1) / BLOCK; }

typedef struct {
    const double *scores;
    int64_t count;
    double *out;
} column_job;

static int64_t block_end(int64_t block, int64_t count) {
    int64_t end = (block + 1) * BLOCK;
    return end < count ? end : count;
}

static void sigmoid_block(void *context, int64_t block, int thread) {
    const column_job *job = context;
    (void)thread;
    for (int64_t i = block * BLOCK; i < block_end(block, job->count); i++)
        job->out[i] = tanh(fabs(job->scores[i]) / 2);
}

static void complement_block(void *context, int64_t block, int thread) {
    const column_job *job = context;
    (void)thread;
    for (int64_t i = block * BLOCK; i < block_end(block, job->count); i++) {
        double e = exp(-fabs(job->scores[i]));
        job->out[i] = 2.0 * e / (1.0 + e);
    }
}

void confsim_sigmoid_confidence(const double *scores, int64_t count, double *out, int threads) {
    column_job job = {scores, count, out};
    confsim_parallel_for(blocks_of(count), threads, sigmoid_block, &job);
}

void confsim_sigmoid_complement(const double *scores, int64_t count, double *out, int threads) {
    column_job job = {scores, count, out};
    confsim_parallel_for(blocks_of(count), threads, complement_block, &job);
}

/* ---- softmax ----------------------------------------------------------------------------------
 */

static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

static double expit(double x) {
    double e = exp(-fabs(x));
    return (x >= 0 ? 1.0 : e) / (1.0 + e);
}

typedef struct {
    confsim_matrix logits;
    const int64_t *labels;
    confsim_softmax_columns out;
} softmax_job;

/* log p_k - log(1 - p_k) = z_k - log sum_{j != k} exp(z_j), shifted by the largest of the others.
 */
static double log_odds(const confsim_matrix *m, int64_t row, int64_t k) {
    double others = -INFINITY, sum = 0.0;
    for (int64_t j = 0; j < m->columns; j++)
        if (j != k && confsim_matrix_at(m, row, j) > others) others = confsim_matrix_at(m, row, j);
    for (int64_t j = 0; j < m->columns; j++)
        if (j != k) sum += exp(confsim_matrix_at(m, row, j) - others);
    return (confsim_matrix_at(m, row, k) - others) - log(sum);
}

static int64_t predicted_class(const confsim_matrix *m, int64_t row) {
    int64_t best = 0;
    for (int64_t k = 1; k < m->columns; k++)
        if (confsim_matrix_at(m, row, k) > confsim_matrix_at(m, row, best)) best = k;
    return best;
}

static void softmax_row(const softmax_job *job, int64_t row) {
    const confsim_matrix *m = &job->logits;
    int64_t best = predicted_class(m, row), label = job->labels ? job->labels[row] : -1;
    double odds_max = log_odds(m, row, best);
    double odds_true = job->labels ? (label == best ? odds_max : log_odds(m, row, label)) : 0.0;
    double log_best = -softplus(-odds_max);
    double entropy = 0.0, others = 0.0;
    for (int64_t k = 0; k < m->columns; k++) {
        double log_p =
            k == best ? log_best
                      : log_best + (confsim_matrix_at(m, row, k) - confsim_matrix_at(m, row, best));
        double p = exp(log_p);
        /* 1 - p loses digits only where p > 1/2, that is for the predicted class. */
        double log_not_p = k == best ? -softplus(odds_max) : log1p(-p);
        if (p > 0) entropy -= p * log_p;
        if (k != label && p > 0) others -= p * log_not_p;
    }
    job->out.softmax[row] = expit(odds_max);
    job->out.log_odds_max[row] = odds_max;
    job->out.entropy[row] = entropy;
    job->out.predicted[row] = best;
    if (!job->labels) return;
    job->out.log_odds_true[row] = odds_true;
    job->out.loss[row] = softplus(-odds_true);
    job->out.modified_entropy[row] = expit(-odds_true) * softplus(-odds_true) + others;
}

static void softmax_block(void *context, int64_t block, int thread) {
    const softmax_job *job = context;
    (void)thread;
    for (int64_t row = block * BLOCK; row < block_end(block, job->logits.rows); row++)
        softmax_row(job, row);
}

void confsim_softmax(const confsim_matrix *logits, const int64_t *labels,
                     const confsim_softmax_columns *out, int threads) {
    softmax_job job = {*logits, labels, *out};
    confsim_parallel_for(blocks_of(logits->rows), threads, softmax_block, &job);
}
