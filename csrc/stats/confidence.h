/* Transcendental columns: one scalar implementation of each formula, whatever the instruction set.
 */
#ifndef CONFSIM_CONFIDENCE_H
#define CONFSIM_CONFIDENCE_H

#include <stdint.h>

#include "core/matrix.h"

/* tanh(|s| / 2) = |2 sigmoid(s) - 1|. */
void confsim_sigmoid_confidence(const double *scores, int64_t count, double *out, int threads);

/* 2 expit(-|s|) = 1 - tanh(|s| / 2), without cancellation. */
void confsim_sigmoid_complement(const double *scores, int64_t count, double *out, int threads);

/* Columns from logits (n, classes >= 2), all in natural logarithms; see confsim.confidence. */
typedef struct {
    double *softmax, *log_odds_max;                  /* of the predicted class */
    double *log_odds_true, *loss, *modified_entropy; /* null without labels */
    double *entropy;
    int64_t *predicted; /* lowest index among equal logits */
} confsim_softmax_columns;

void confsim_softmax(const confsim_matrix *logits, const int64_t *labels,
                     const confsim_softmax_columns *out, int threads);

#endif
