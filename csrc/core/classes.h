/* Training points grouped by class, so that a same-class search scans one group and no other. */
#ifndef CONFSIM_CLASSES_H
#define CONFSIM_CLASSES_H

#include <stdint.h>
#include <stdlib.h>

#include "core/status.h"

typedef struct {
    int64_t count;   /* classes; 1 without labels */
    int64_t *labels; /* ascending; NULL without labels */
    int64_t *start;  /* count + 1 offsets into order */
    int64_t *order;  /* training indices: by class, ascending within a class */
} confsim_classes;

static inline void confsim_classes_free(confsim_classes *classes) {
    free(classes->labels);
    free(classes->start);
    free(classes->order);
}

/* The class with this label, or -1. */
static inline int64_t confsim_classes_find(const confsim_classes *classes, int64_t label) {
    int64_t low = 0, high = classes->count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (classes->labels[middle] < label)
            low = middle + 1;
        else
            high = middle;
    }
    return low < classes->count && classes->labels[low] == label ? low : -1;
}

static inline int confsim_compare_labels(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Sorting is only needed until the distinct labels are known, and most label sets are tiny. */
static inline void confsim_classes_collect(confsim_classes *classes, const int64_t *labels,
                                           int64_t n) {
    enum { FEW = 64 };
    int64_t *distinct = classes->labels;
    int64_t count = 0;
    for (int64_t i = 0; i < n && count <= FEW; i++) {
        int64_t at = count;
        while (at > 0 && distinct[at - 1] >= labels[i]) at--;
        if (at < count && distinct[at] == labels[i]) continue;
        for (int64_t j = count; j > at; j--) distinct[j] = distinct[j - 1];
        distinct[at] = labels[i];
        count++;
    }
    if (count > FEW) {
        for (int64_t i = 0; i < n; i++) distinct[i] = labels[i];
        qsort(distinct, (size_t)n, sizeof *distinct, confsim_compare_labels);
        count = 0;
        for (int64_t i = 0; i < n; i++)
            if (count == 0 || distinct[count - 1] != distinct[i]) distinct[count++] = distinct[i];
    }
    classes->count = count;
}

/* `labels` may be NULL: then all `n` points are one class. */
static inline CONFSIM_MUST_CHECK confsim_status confsim_classes_build(confsim_classes *classes,
                                                                      const int64_t *labels,
                                                                      int64_t n) {
    *classes = (confsim_classes){.count = 1};
    classes->order = malloc((size_t)n * sizeof *classes->order);
    if (labels) classes->labels = malloc(((size_t)n + 1) * sizeof *classes->labels);
    if (!classes->order || (labels && !classes->labels)) goto no_memory;
    if (labels) confsim_classes_collect(classes, labels, n);
    classes->start = calloc((size_t)classes->count + 2, sizeof *classes->start);
    if (!classes->start) goto no_memory;
    if (!labels) {
        for (int64_t i = 0; i < n; i++) classes->order[i] = i;
        classes->start[1] = n;
        return CONFSIM_OK;
    }
    /* Counting sort; start[c + 1] runs from where class c begins to where it ends. */
    for (int64_t i = 0; i < n; i++) classes->start[confsim_classes_find(classes, labels[i]) + 2]++;
    for (int64_t c = 2; c <= classes->count; c++) classes->start[c] += classes->start[c - 1];
    for (int64_t i = 0; i < n; i++)
        classes->order[classes->start[confsim_classes_find(classes, labels[i]) + 1]++] = i;
    return CONFSIM_OK;

no_memory:
    confsim_classes_free(classes);
    *classes = (confsim_classes){.count = 0}; /* may be freed once more */
    return CONFSIM_NO_MEMORY;
}

#endif
