#include "select.h"

#include <stdlib.h>
#include <string.h>

/* Bucket by value, keep the buckets that hold the k lowest, sort inside each. Buckets are found by a
 * linear map, which is monotone, so they never change the order; a bad distribution costs only time. */
enum { BUCKETS = 1 << 14, SMALL = 24 };

typedef struct {
    double key; /* value, or -value when looking for the highest */
    int64_t id, row;
} candidate;

static int precedes(const candidate *a, const candidate *b) {
    return a->key < b->key || (a->key == b->key && a->id < b->id);
}

static void insertion_sort(candidate *a, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        candidate moving = a[i];
        int64_t j = i;
        for (; j > 0 && precedes(&moving, &a[j - 1]); j--) a[j] = a[j - 1];
        a[j] = moving;
    }
}

static void merge_sort(candidate *a, candidate *spare, int64_t n) {
    if (n <= SMALL) {
        insertion_sort(a, n);
        return;
    }
    int64_t half = n / 2, i = 0, j = half, k = 0;
    merge_sort(a, spare, half);
    merge_sort(a + half, spare, n - half);
    if (!precedes(&a[half], &a[half - 1])) return; /* already in order */
    memcpy(spare, a, (size_t)half * sizeof *a);
    while (i < half && j < n) a[k++] = precedes(&a[j], &spare[i]) ? a[j++] : spare[i++];
    memcpy(a + k, spare + i, (size_t)(half - i) * sizeof *a);
}

typedef struct {
    double low, scale; /* of keys */
} bucket_map;

static int bucket_of(double key, bucket_map map) {
    double position = (key - map.low) * map.scale;
    return position < BUCKETS - 1 ? (int)position : BUCKETS - 1;
}

/* Rows of the k lowest of sign * value, in order. `low` and `high` bound sign * value. */
static confsim_status lowest(const double *values, const int64_t *ids, int64_t count, int64_t k, double sign, double low,
                             double high, int64_t *rows) {
    confsim_status status = CONFSIM_NO_MEMORY;
    /* Halves, so that the width of the range cannot overflow. */
    double width = high / 2 - low / 2;
    bucket_map map = {low, width > 0 ? BUCKETS / 2.0 / width : 0.0};
    int64_t *start = calloc(BUCKETS + 1, sizeof *start);
    candidate *found = 0;
    int last = 0;
    int64_t kept = 0;
    if (!(map.scale <= 1e300) || !(high - low <= 1e300)) map.scale = 0.0; /* one bucket: slow, and right */
    if (!start) goto out;
    for (int64_t i = 0; i < count; i++) start[bucket_of(sign * values[i], map) + 1]++;
    while (kept + start[last + 1] < k) kept += start[++last];
    kept += start[last + 1];
    for (int b = 0; b <= last; b++) start[b + 1] += start[b];
    found = malloc((size_t)kept * 2 * sizeof *found); /* the second half is the merge's spare room */
    if (!found) goto out;
    for (int64_t i = 0; i < count; i++) {
        double key = sign * values[i];
        int b = bucket_of(key, map);
        if (b <= last) found[start[b]++] = (candidate){key, ids ? ids[i] : i, i};
    }
    for (int b = 0; b <= last; b++) { /* start[b] is now the end of bucket b */
        int64_t begin = b ? start[b - 1] : 0;
        merge_sort(found + begin, found + kept, start[b] - begin);
    }
    for (int64_t i = 0; i < k; i++) rows[i] = found[i].row;
    status = CONFSIM_OK;
out:
    free(start);
    free(found);
    return status;
}

confsim_status confsim_extremes(const double *values, const int64_t *ids, int64_t count, int64_t k, int64_t *bottom,
                                int64_t *top) {
    if (k == 0) return CONFSIM_OK;
    double low = values[0], high = values[0];
    for (int64_t i = 1; i < count; i++) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    confsim_status status = lowest(values, ids, count, k, 1.0, low, high, bottom);
    if (status != CONFSIM_OK) return status;
    return lowest(values, ids, count, k, -1.0, -high, -low, top);
}
