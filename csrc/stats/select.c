#include "stats/select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Keep the values in the buckets that hold the k lowest and the k highest, and sort them by buckets
 * of their own, about one a value. Buckets are found by a linear map, which is monotone, so they
 * never change the order; a bad distribution costs only time. */
enum {
    BUCKETS = CONFSIM_SELECT_BUCKETS,
    MOST_SORT_BUCKETS = 1 << 15,
    MEDIAN_BUCKETS = 1 << 12,
    SMALL = 24,
    LANES = 8,
    GROUP = 16,
    AHEAD = 64
};

typedef struct {
    double key;    /* value, or -value among the highest: the lowest key comes first */
    int64_t place; /* among all candidates, in the order of rows */
} candidate;

/* `ids` are those of the candidates, by place; null: in the order of places. */
static inline int precedes(const candidate *a, const candidate *b, const int64_t *ids) {
    if (a->key != b->key) return a->key < b->key;
    return ids ? ids[a->place] < ids[b->place] : a->place < b->place;
}

static void insertion_sort(candidate *a, int64_t n, const int64_t *ids) {
    for (int64_t i = 1; i < n; i++) {
        candidate moving = a[i];
        int64_t j = i;
        for (; j > 0 && precedes(&moving, &a[j - 1], ids); j--) a[j] = a[j - 1];
        a[j] = moving;
    }
}

static void merge_sort(candidate *a, candidate *spare, int64_t n, const int64_t *ids) {
    if (n <= SMALL) {
        insertion_sort(a, n, ids);
        return;
    }
    int64_t half = n / 2, i = 0, j = half, k = 0;
    merge_sort(a, spare, half, ids);
    merge_sort(a + half, spare, n - half, ids);
    if (!precedes(&a[half], &a[half - 1], ids)) return; /* already in order */
    memcpy(spare, a, (size_t)half * sizeof *a);
    while (i < half && j < n) a[k++] = precedes(&a[j], &spare[i], ids) ? a[j++] : spare[i++];
    memcpy(a + k, spare + i, (size_t)(half - i) * sizeof *a);
}

typedef struct {
    double low, high, scale;
} bucket_map;

static inline int bucket_of(double value, bucket_map map, int buckets) {
    double position = (value - map.low) * map.scale;
    return position < buckets - 1 ? (int)position : buckets - 1;
}

/* A single bucket where the width is no number to divide by. */
static bucket_map map_between(double low, double high, int buckets) {
    double scale = buckets / (high - low); /* infinite where the width is 0, 0 where it overflows */
    return (bucket_map){low, high, scale <= 1e300 ? scale : 0.0};
}

/* Buckets between the smallest and the largest value. */
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
    return map_between(low[0], high[0], buckets);
}

/* One side's candidates. */
typedef struct {
    candidate *found; /* by place, with room for one more than will be kept */
    int64_t *rows;    /* of them, by place; likewise */
    int64_t kept, count;
    int buckets; /* of the histogram */
} side;

/* What one side after the other is put in order with. */
typedef struct {
    candidate *sorted;
    int64_t *column; /* one of the columns, by place */
    int64_t *end;    /* of each bucket of the sort, then of each within one of those */
} sort_room;

/* Take buckets until they hold k values; bucket i of the side is i, or counted from the top. */
static CONFSIM_MUST_CHECK confsim_status plan_side(side *s, const int64_t *histogram, int64_t k,
                                                   int from_top) {
    while (s->kept < k) {
        s->kept += histogram[from_top ? BUCKETS - 1 - s->buckets : s->buckets];
        s->buckets++;
    }
    s->found = malloc((size_t)(s->kept + 1) * sizeof *s->found);
    s->rows = malloc((size_t)(s->kept + 1) * sizeof *s->rows);
    return s->found && s->rows ? CONFSIM_OK : CONFSIM_NO_MEMORY;
}

static CONFSIM_MUST_CHECK confsim_status make_room(sort_room *room, int64_t most) {
    room->sorted = malloc((size_t)most * sizeof *room->sorted);
    room->column = malloc((size_t)most * sizeof *room->column);
    room->end = malloc(2 * MOST_SORT_BUCKETS * sizeof *room->end);
    return room->sorted && room->column && room->end ? CONFSIM_OK : CONFSIM_NO_MEMORY;
}

/* Without a branch: whether a value is wanted is hard to predict. */
static inline void offer(side *s, int wanted, double key, int64_t row) {
    s->found[s->count] = (candidate){key, s->count};
    s->rows[s->count] = row;
    s->count += wanted;
}

/* Whether a group of codes has one outside [first, first + span). */
static inline int any_outside(const uint32_t *codes, uint32_t first, uint32_t span) {
    int any = 0;
    for (int j = 0; j < GROUP; j++) any |= codes[j] - first >= span;
    return any;
}

/* Offer the values of every group of codes that has one in a bucket of either side. */
static void offer_all(side sides[2], const double *values, const uint32_t *codes, int64_t count) {
    const int low_end = sides[0].buckets, high_begin = BUCKETS - sides[1].buckets;
    const uint32_t first = (uint32_t)low_end << 16;
    const uint32_t span = high_begin > low_end ? (uint32_t)(high_begin - low_end) << 16 : 0;
    for (int64_t i = 0; i < count;) {
        int64_t end = i + GROUP < count ? i + GROUP : count;
        if (end - i == GROUP && !any_outside(codes + i, first, span)) {
            i = end;
            continue;
        }
        for (; i < end; i++) {
            int bucket = (int)(codes[i] >> 16);
            offer(&sides[0], bucket < low_end, values[i], i);
            offer(&sides[1], bucket >= high_begin, -values[i], i);
        }
    }
}

static bucket_map map_of_keys(const candidate *found, int64_t count, int buckets) {
    double low = found[0].key, high = low;
    for (int64_t i = 1; i < count; i++) {
        low = found[i].key < low ? found[i].key : low;
        high = found[i].key > high ? found[i].key : high;
    }
    return map_between(low, high, buckets);
}

/* Move candidates to `to`, bucket by bucket; within one their order stays. Return how many buckets.
 */
static int spread(const candidate *from, candidate *to, int64_t count, int64_t *end) {
    int buckets = 1;
    while (buckets < count && buckets < MOST_SORT_BUCKETS) buckets *= 2;
    bucket_map map = map_of_keys(from, count, buckets);
    memset(end, 0, (size_t)buckets * sizeof *end);
    for (int64_t i = 0; i < count; i++) end[bucket_of(from[i].key, map, buckets)]++;
    int64_t begin = 0;
    for (int b = 0; b < buckets; b++) {
        int64_t size = end[b];
        end[b] = begin;
        begin += size;
    }
    for (int64_t i = 0; i < count; i++) to[end[bucket_of(from[i].key, map, buckets)]++] = from[i];
    return buckets;
}

/* Sort a crowded bucket by buckets of its own: scores of a lattice lie in bands. */
static void sort_bucket(candidate *a, candidate *spare, int64_t n, int64_t *end,
                        const int64_t *ids) {
    int buckets = spread(a, spare, n, end);
    memcpy(a, spare, (size_t)n * sizeof *a);
    int64_t begin = 0;
    for (int b = 0; b < buckets; begin = end[b++])
        if (end[b] - begin > SMALL) merge_sort(a + begin, spare, end[b] - begin, ids);
}

static void sort_side(side *s, const sort_room *room, const int64_t *ids) {
    int buckets = spread(s->found, room->sorted, s->count, room->end);
    int64_t begin = 0;
    for (int b = 0; b < buckets; begin = room->end[b++])
        if (room->end[b] - begin > SMALL)
            sort_bucket(room->sorted + begin, s->found, room->end[b] - begin,
                        room->end + MOST_SORT_BUCKETS, ids);
    insertion_sort(room->sorted, s->count, ids); /* what is left to do is within buckets of a few */
}

/* Fill the room's column with a candidate's entry at each place. */
static void gather(const side *s, const sort_room *room, const void *from) {
    const char *source = from;
    for (int64_t i = 0; i < s->count; i++) {
        int64_t soon = i + AHEAD < s->count ? i + AHEAD : i;
        __builtin_prefetch(source + 8 * s->rows[soon]);
        memcpy(room->column + i, source + 8 * s->rows[i], 8);
    }
}

static void finish_side(side *s, const sort_room *room, const int64_t *ids, int64_t k, double sign,
                        confsim_extreme out) {
    if (ids) gather(s, room, ids);
    sort_side(s, room, ids ? room->column : 0);
    for (int64_t i = 0; i < k; i++) {
        out.rows[i] = s->rows[room->sorted[i].place];
        out.values[i] = sign * room->sorted[i].key;
    }
}

/* By place first: that reads the rows in their order, and the cache holds what is then read in any.
 */
static void order_column(const side *s, const sort_room *room, const void *from, int64_t k,
                         void *to) {
    char *target = to;
    gather(s, room, from);
    for (int64_t i = 0; i < k; i++) memcpy(target + 8 * i, room->column + room->sorted[i].place, 8);
}

confsim_status confsim_extremes_by_code(const double *values, const int64_t *ids,
                                        const uint32_t *codes, const int64_t *histogram,
                                        int64_t count, int64_t k, confsim_extreme bottom,
                                        confsim_extreme top, const confsim_select_column *columns,
                                        int column_count) {
    confsim_status status = CONFSIM_NO_MEMORY;
    side sides[2] = {{0}};
    sort_room room = {0};
    if (k == 0) return CONFSIM_OK;
    if (plan_side(&sides[0], histogram, k, 0) || plan_side(&sides[1], histogram, k, 1)) goto out;
    if (make_room(&room, sides[0].kept > sides[1].kept ? sides[0].kept : sides[1].kept)) goto out;
    offer_all(sides, values, codes, count);
    finish_side(&sides[0], &room, ids, k, 1.0, bottom);
    for (int c = 0; c < column_count; c++)
        order_column(&sides[0], &room, columns[c].from, k, columns[c].bottom);
    finish_side(&sides[1], &room, ids, k, -1.0, top);
    for (int c = 0; c < column_count; c++)
        order_column(&sides[1], &room, columns[c].from, k, columns[c].top);
    status = CONFSIM_OK;
out:
    for (int i = 0; i < 2; i++) {
        free(sides[i].found);
        free(sides[i].rows);
    }
    free(room.sorted);
    free(room.column);
    free(room.end);
    return status;
}

confsim_status confsim_extremes(const double *values, const int64_t *ids, int64_t count, int64_t k,
                                confsim_extreme bottom, confsim_extreme top) {
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
    status = confsim_extremes_by_code(values, ids, codes, histogram, count, k, bottom, top, 0, 0);
out:
    free(codes);
    free(histogram);
    return status;
}

/* ---- the median --------------------------------------------------------------------------------
 */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The values of rank `rank` and, where there is one, `rank` + 1, counted from 0. Each round keeps
 * the values of one bucket, never all: the lowest and the highest value are in different ones. */
static void middle_values(const double *values, int64_t count, int64_t rank, double *spare,
                          double found[2]) {
    int64_t histogram[MEDIAN_BUCKETS];
    const double *all = values;
    const int64_t total = count;
    bucket_map map = map_of(values, count, MEDIAN_BUCKETS);
    while (count > SMALL && map.scale > 0) {
        memset(histogram, 0, sizeof histogram);
        for (int64_t i = 0; i < count; i++) histogram[bucket_of(values[i], map, MEDIAN_BUCKETS)]++;
        int wanted = 0;
        for (; rank >= histogram[wanted]; wanted++) rank -= histogram[wanted];
        int64_t kept = 0;
        for (int64_t i = 0; i < count; i++) {
            double value = values[i]; /* `values` may be `spare` */
            spare[kept] = value;
            kept += bucket_of(value, map, MEDIAN_BUCKETS) == wanted;
        }
        values = spare;
        count = kept;
        map = map_of(values, count, MEDIAN_BUCKETS);
    }
    memmove(spare, values, (size_t)count * sizeof *values);
    if (map.low < map.high) qsort(spare, (size_t)count, sizeof *spare, by_value);
    found[0] = found[1] = spare[rank];
    if (rank + 1 < count) {
        found[1] = spare[rank + 1];
    } else {
        double next = INFINITY;
        for (int64_t i = 0; i < total; i++)
            next = all[i] > found[0] && all[i] < next ? all[i] : next;
        if (next < INFINITY) found[1] = next;
    }
}

confsim_status confsim_median(const double *values, int64_t count, double *median) {
    double *spare = malloc((size_t)count * sizeof *spare), middle[2];
    if (!spare) return CONFSIM_NO_MEMORY;
    middle_values(values, count, (count - 1) / 2, spare, middle);
    *median = count % 2 ? middle[0] : (middle[0] + middle[1]) / 2;
    free(spare);
    return CONFSIM_OK;
}
