/* Thresholds that are learned on all rows of a pool but one. */
#ifndef CONFSIM_CLASS_THRESHOLD_H
#define CONFSIM_CLASS_THRESHOLD_H

#include <stdint.h>

enum { CONFSIM_IS_MEMBER = 1, CONFSIM_LAST_OF_EQUALS = 2 };

/* A pool of scores in descending order: of which row each is, and what it is (the flags above). */
typedef struct {
    const int32_t *rows;
    const uint8_t *kinds;
    int64_t count;
    const int64_t *members, *non_members; /* of each row, in the pool */
    int64_t row_count;
} confsim_pool;

/* For each target row, places[target] is the first place in the pool where hits / members - false /
 * non-members is largest among the scores of all other rows, a score that high or higher counting
 * as one or the other; only the last of equal scores is such a place. The row partner[target] is
 * left out too; null: none is. -1 where the others hold no member or no non-member.
 *
 * The difference is compared as a whole number, so that equals are equal. */
void confsim_best_places(const confsim_pool *pool, const int64_t *partner, int64_t *places,
                         int threads);

#endif
