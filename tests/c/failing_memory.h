/* Allocations that fail on demand: csrc/ is compiled for tests so that it allocates through these.
 */
#ifndef CONFSIM_FAILING_MEMORY_H
#define CONFSIM_FAILING_MEMORY_H

#include <stdint.h>

/* How many allocations succeed before all others fail. */
extern int64_t memory_left;

#endif
