#include "select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bucket by value, keep the buckets that hold the k lowest and the k highest, sort inside each. Buckets
 * are found by a linear map, which is monotone, so they never change the order; a bad distribution
 * costs only time. */
enum { BUCKETS = CONFSIM_SELECT_BUCKETS, MEDIAN_BUCKETS = 1 << 12, SMALL = 24, LANES = 8, GROUP = 16 };

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

static inline int bucket_of(double value, bucket_map map, int buckets) {
    double position = (value - map.low) * map.scale;
    return position < buckets - 1 ? (int)position : buckets - 1;
}

/* Buckets between the smallest and the largest value; a single one where that range is no number. */
static bucket_map map_of(const double *values, int64_t count, int buckets) {
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
    double scale = buckets / (high[0] - low[0]); /* infinite where the width is 0, 0 where it overflows */
    return (bucket_map){low[0], scale <= 1e300 ? scale : 0.0};
}

/* One side's candidates, bucket after bucket, the most extreme bucket first. */
typedef struct {
    candidate *found; /* twice as long as `kept`: the rest is the merge's spare room */
    int64_t *start;   /* of each bucket; after all offers, its end */
    int64_t kept;
    int buckets;
} side;

/* Take buckets until they hold k values; bucket i of the side is i, or counted from the top. */
static int plan_side(side *s, const int64_t *histogram, int64_t k, int from_top) {
    while (s->kept < k) {
        s->kept += histogram[from_top ? BUCKETS - 1 - s->buckets : s->buckets];
        s->buckets++;
    }
    s->found = malloc((size_t)s->kept * 2 * sizeof *s->found);
    s->start = malloc((size_t)s->buckets * sizeof *s->start);
    if (!s->found || !s->start) return 0;
    int64_t start = 0;
    for (int b = 0; b < s->buckets; b++) {
        s->start[b] = start;
        start += histogram[from_top ? BUCKETS - 1 - b : b];
    }
    return 1;
}

static inline void offer(side *s, int bucket, double key, int64_t id, int64_t row) {
    if (bucket < s->buckets) s->found[s->start[bucket]++] = (candidate){key, id, row};
}

/* Offer the values of every group of codes that has one in a bucket of either side. */
static void offer_all(side sides[2], const double *values, const int64_t *ids, const uint32_t *codes, int64_t count) {
    const int low_end = sides[0].buckets, high_begin = BUCKETS - sides[1].buckets;
    for (int64_t i = 0; i < count;) {
        int wanted = i + GROUP > count;
        if (!wanted)
            for (int j = 0; j < GROUP; j++) {
                int bucket = (int)(codes[i + j] >> 16);
                wanted |= (bucket < low_end) | (bucket >= high_begin);
            }
        int64_t end = i + GROUP < count ? i + GROUP : count;
        if (!wanted) i = end;
        for (; i < end; i++) {
            int bucket = (int)(codes[i] >> 16);
            int64_t id = ids ? ids[i] : i;
            offer(&sides[0], bucket, values[i], id, i);
            offer(&sides[1], BUCKETS - 1 - bucket, -values[i], id, i);
        }
    }
}

static void finish_side(side *s, int64_t k, int64_t *rows) {
    for (int b = 0; b < s->buckets; b++) {
        int64_t begin = b ? s->start[b - 1] : 0;
        merge_sort(s->found + begin, s->found + s->kept, s->start[b] - begin);
    }
    for (int64_t i = 0; i < k; i++) rows[i] = s->found[i].row;
}

confsim_status confsim_extremes_by_code(const double *values, const int64_t *ids, const uint32_t *codes,
                                        const int64_t *histogram, int64_t count, int64_t k, int64_t *bottom,
                                        int64_t *top) {
    confsim_status status = CONFSIM_NO_MEMORY;
    side sides[2] = {{0}};
    if (k == 0) return CONFSIM_OK;
    if (!plan_side(&sides[0], histogram, k, 0) || !plan_side(&sides[1], histogram, k, 1)) goto out;
    offer_all(sides, values, ids, codes, count);
    finish_side(&sides[0], k, bottom);
    finish_side(&sides[1], k, top);
    status = CONFSIM_OK;
out:
    for (int i = 0; i < 2; i++) {
        free(sides[i].found);
        free(sides[i].start);
    }
    return status;
}

confsim_status confsim_extremes(const double *values, const int64_t *ids, int64_t count, int64_t k, int64_t *bottom,
                                int64_t *top) {
    confsim_status status = CONFSIM_NO_MEMORY;
    if (k == 0) return CONFSIM_OK;
    bucket_map map = map_of(values, count, BUCKETS);
    int64_t *histogram = calloc(BUCKETS, sizeof *histogram);
    uint32_t *codes = malloc((size_t)count * sizeof *codes);
    if (!histogram || !codes) goto out;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bucket = (uint32_t)bucket_of(values[i], map, BUCKETS);
        codes[i] = bucket << 16;
        histogram[bucket]++;
    }
    status = confsim_extremes_by_code(values, ids, codes, histogram, count, k, bottom, top);
out:
    free(codes);
    free(histogram);
    return status;
}

/* ---- the median -------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value that `rank` others come before. Each round keeps the values of one bucket, never all: the
 * lowest and the highest value are in different ones. */
static double value_of_rank(const double *values, int64_t count, int64_t rank, double *spare) {
    int64_t histogram[MEDIAN_BUCKETS];
    for (;;) {
        bucket_map map = map_of(values, count, MEDIAN_BUCKETS);
        if (count <= SMALL || map.scale == 0) break;
        memset(histogram, 0, sizeof histogram);
        for (int64_t i = 0; i < count; i++) histogram[bucket_of(values[i], map, MEDIAN_BUCKETS)]++;
        int wanted = 0;
        for (; rank >= histogram[wanted]; wanted++) rank -= histogram[wanted];
        int64_t kept = 0;
        for (int64_t i = 0; i < count; i++) {
            double value = values[i]; /* `values` may be `spare` */
            if (bucket_of(value, map, MEDIAN_BUCKETS) == wanted) spare[kept++] = value;
        }
        values = spare;
        count = kept;
    }
    memmove(spare, values, (size_t)count * sizeof *values);
    qsort(spare, (size_t)count, sizeof *spare, by_value);
    return spare[rank];
}

confsim_status confsim_median(const double *values, int64_t count, double *median) {
    double *spare = malloc((size_t)count * sizeof *spare);
    if (!spare) return CONFSIM_NO_MEMORY;
    double lower = value_of_rank(values, count, (count - 1) / 2, spare), upper = lower;
    if (count % 2 == 0) {
        int64_t up_to = 0;
        double next = INFINITY;
        for (int64_t i = 0; i < count; i++) {
            up_to += values[i] <= lower;
            next = values[i] > lower && values[i] < next ? values[i] : next;
        }
        if (up_to <= count / 2) upper = next;
    }
    *median = count % 2 ? lower : (lower + upper) / 2;
    free(spare);
    return CONFSIM_OK;
}
