#define _POSIX_C_SOURCE 200809L
#include "core/parallel.h"

#include <pthread.h>

static int forked = 0;

static void after_fork_in_child(void) { forked = 1; }

static void watch_forks(void) { pthread_atfork(0, 0, after_fork_in_child); }

int confsim_parallel_has_openmp(void) {
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

void confsim_parallel_for(int64_t count, int threads, confsim_task task, void *context) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    if (count < threads) threads = (int)count;
#ifdef _OPENMP
    if (threads > 1 && !forked) {
        /* A dynamic schedule hands out item indices; a counter of our own gives the thread's index
         * without <omp.h>, also when the runtime grants fewer threads than asked for. */
        int next_thread = 0;
#pragma omp parallel num_threads(threads) shared(next_thread)
        {
            int thread;
#pragma omp atomic capture
            thread = next_thread++;
#pragma omp for schedule(dynamic, 1)
            for (int64_t item = 0; item < count; item++) task(context, item, thread);
        }
        return;
    }
#endif
    for (int64_t item = 0; item < count; item++) task(context, item, 0);
}
