/* The one place that knows threads: a parallel loop over independent items.
 *
 * Items must write to places of their own, so that the answer never depends on the number of
 * threads or on the order in which items run. */
#ifndef CONFSIM_PARALLEL_H
#define CONFSIM_PARALLEL_H

#include <stdint.h>

/* `thread` is in [0, threads): an index for scratch memory that one thread owns. */
typedef void (*confsim_task)(void *context, int64_t item, int thread);

/* Run `task` for every item in [0, count), on at most `threads` threads, in any order.
 *
 * Without OpenMP, and in a child that was forked (the threads of its parent do not exist there, and
 * OpenMP would wait for them for ever), everything runs on the calling thread. */
void confsim_parallel_for(int64_t count, int threads, confsim_task task, void *context);

/* 1 when the build has OpenMP. */
int confsim_parallel_has_openmp(void);

#endif
