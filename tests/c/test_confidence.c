/* Softmax columns: identities that hold for any logits, and values known by hand. */
#include <assert.h>
#include <math.h>

#include "stats/confidence.h"
#include "testing.h"

enum { ROWS = 5000, CLASSES = 4 };

static double logits[ROWS * CLASSES], softmax[ROWS], odds[ROWS], odds_true[ROWS], loss[ROWS],
    modified[ROWS], entropy[ROWS];
static int64_t labels[ROWS], predicted[ROWS];

static void softmax_columns_obey_their_identities(void) {
    for (int i = 0; i < ROWS * CLASSES; i++) logits[i] = 40 * sin(i * 1.618);
    for (int i = 0; i < ROWS; i++) labels[i] = i % CLASSES;
    for (int k = 0; k < CLASSES; k++) logits[k] = 3.0; /* all equal */
    confsim_matrix m = {(const char *)logits,     ROWS,           CLASSES,
                        CLASSES * sizeof(double), sizeof(double), 0};
    confsim_softmax_columns out = {softmax, odds, odds_true, loss, modified, entropy, predicted};
    confsim_softmax(&m, labels, &out, 3);
    assert(predicted[0] == 0 && fabs(softmax[0] - 0.25) < 1e-15 &&
           fabs(entropy[0] - log(4)) < 1e-14);
    for (int i = 0; i < ROWS; i++) {
        assert(softmax[i] >= 0.25 - 1e-15 && softmax[i] <= 1.0);
        assert(entropy[i] >= 0 && entropy[i] <= log(4) + 1e-12);
        assert(odds_true[i] <= odds[i] && loss[i] >= 0 && modified[i] >= 0);
        for (int k = 0; k < CLASSES; k++)
            assert(logits[i * CLASSES + k] <= logits[i * CLASSES + predicted[i]]);
        if (labels[i] == predicted[i]) assert(odds_true[i] == odds[i]);
    }
    confsim_softmax_columns bare = {softmax, odds, 0, 0, 0, entropy, predicted};
    confsim_softmax(&m, NULL, &bare, 1); /* without labels nothing else is written */
}

static void sigmoid_and_complement_add_to_one(void) {
    const double scores[] = {0.0, -1.0, 1000.0};
    double confidence[3], complement[3];
    confsim_sigmoid_confidence(scores, 3, confidence, 1);
    confsim_sigmoid_complement(scores, 3, complement, 2);
    assert(confidence[0] == 0.0 && confidence[1] == tanh(0.5) && confidence[2] == 1.0);
    assert(complement[0] == 1.0 && fabs(complement[1] + confidence[1] - 1.0) < 1e-15 &&
           complement[2] == 0.0);
}

int main(int argc, char **argv) {
    static const test_case cases[] = {
        CASE(softmax_columns_obey_their_identities),
        CASE(sigmoid_and_complement_add_to_one),
    };
    return RUN_CASES(cases, argc, argv);
}
