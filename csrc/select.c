#include "select.h"

#include <stdlib.h>
#include <string.h>

/* Bucket by value, keep the buckets that hold the k lowest and the k highest, sort inside each. Buckets
 * are found by a linear map, which is monotone, so they never change the order; a bad distribution
 * costs only time. */
enum { BUCKETS = 1 << 14, SMALL = 24, LANES = 8 };

typedef struct {
    double key; /* value, or -value among the highest: the lowest key comes first */
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
    double low, scale;
} bucket_map;

static inline int bucket_of(double value, bucket_map map) {
    double position = (value - map.low) * map.scale;
    return position < BUCKETS - 1 ? (int)position : BUCKETS - 1;
}

/* Buckets between the smallest and the largest value; a single one where that range is no number. */
static bucket_map map_of(const double *values, int64_t count) {
    double low[LANES], high[LANES];
    int64_t i = 0;
    for (int j = 0; j < LANES; j++) low[j] = high[j] = values[0];
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++) {
            low[j] = values[i + j] < low[j] ? values[i + j] : low[j];
            high[j] = values[i + j] > high[j] ? values[i + j] : high[j];
        }
    for (; i < count; i++) {
        low[0] = values[i] < low[0] ? values[i] : low[0];
        high[0] = values[i] > high[0] ? values[i] : high[0];
    }
    for (int j = 1; j < LANES; j++) {
        low[0] = low[j] < low[0] ? low[j] : low[0];
        high[0] = high[j] > high[0] ? high[j] : high[0];
    }
    double scale = BUCKETS / (high[0] - low[0]); /* infinite where the width is 0, 0 where it overflows */
    return (bucket_map){low[0], scale <= 1e300 ? scale : 0.0};
}

/* One side's candidates, bucket after bucket, the most extreme bucket first. */
typedef struct {
    candidate *found;         /* twice as long as `kept`: the rest is the merge's spare room */
    int64_t kept;
    int64_t start[BUCKETS + 1];
    int buckets;
} side;

/* Take buckets until they hold k values; bucket i of the side is i, or counted from the top. */
static int plan_side(side *s, const int64_t *counts, int64_t k, int from_top) {
    s->kept = 0;
    s->buckets = 0;
    s->start[0] = 0;
    while (s->kept < k) {
        s->kept += counts[from_top ? BUCKETS - 1 - s->buckets : s->buckets];
        s->start[++s->buckets] = s->kept;
    }
    s->found = malloc((size_t)s->kept * 2 * sizeof *s->found);
    return s->found != 0;
}

static inline void offer(side *s, int bucket, double key, int64_t id, int64_t row) {
    if (bucket < s->buckets) s->found[s->start[bucket]++] = (candidate){key, id, row};
}

/* After all offers start[b] is the end of bucket b. */
static void finish_side(side *s, int64_t k, int64_t *rows) {
    for (int b = 0; b < s->buckets; b++) {
        int64_t begin = b ? s->start[b - 1] : 0;
        merge_sort(s->found + begin, s->found + s->kept, s->start[b] - begin);
    }
    for (int64_t i = 0; i < k; i++) rows[i] = s->found[i].row;
}

confsim_status confsim_extremes(const double *values, const int64_t *ids, int64_t count, int64_t k, int64_t *bottom,
                                int64_t *top) {
    confsim_status status = CONFSIM_NO_MEMORY;
    if (k == 0) return CONFSIM_OK;
    bucket_map map = map_of(values, count);
    int64_t *counts = calloc(BUCKETS, sizeof *counts);
    side *sides = calloc(2, sizeof *sides);
    if (!counts || !sides) goto out;
    for (int64_t i = 0; i < count; i++) counts[bucket_of(values[i], map)]++;
    if (!plan_side(&sides[0], counts, k, 0) || !plan_side(&sides[1], counts, k, 1)) goto out;
    for (int64_t i = 0; i < count; i++) {
        int bucket = bucket_of(values[i], map);
        int from_top = BUCKETS - 1 - bucket;
        if (bucket >= sides[0].buckets && from_top >= sides[1].buckets) continue;
        int64_t id = ids ? ids[i] : i;
        offer(&sides[0], bucket, values[i], id, i);
        offer(&sides[1], from_top, -values[i], id, i);
    }
    finish_side(&sides[0], k, bottom);
    finish_side(&sides[1], k, top);
    status = CONFSIM_OK;
out:
    if (sides) {
        free(sides[0].found);
        free(sides[1].found);
    }
    free(sides);
    free(counts);
    return status;
}
