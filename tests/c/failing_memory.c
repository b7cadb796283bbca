#include "failing_memory.h"

#include <stdlib.h>

int64_t memory_left = INT64_MAX;

void *test_malloc(size_t size);
void *test_calloc(size_t count, size_t size);
void *test_aligned_alloc(size_t alignment, size_t size);

static int out_of_memory(void) {
    /* With plenty left nothing is counted: threads allocate side by side. */
    if (memory_left == INT64_MAX) return 0;
    if (memory_left == 0) return 1;
    memory_left--;
    return 0;
}

void *test_malloc(size_t size) { return out_of_memory() ? NULL : malloc(size); }

void *test_calloc(size_t count, size_t size) {
    return out_of_memory() ? NULL : calloc(count, size);
}

void *test_aligned_alloc(size_t alignment, size_t size) {
    return out_of_memory() ? NULL : aligned_alloc(alignment, size);
}
