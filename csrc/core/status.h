/* What a function returns that can fail: CONFSIM_OK is 0, so `if (status)` is a failure.
 *
 * There is no other convention. A status cannot be ignored (CONFSIM_MUST_CHECK), and
 * confsim/_kernels/_common.pxd turns each into the Python exception that is named here. Functions
 * that answer a question (is_..., has_...) return 1 for yes. */
#ifndef CONFSIM_STATUS_H
#define CONFSIM_STATUS_H

typedef enum {
    CONFSIM_OK = 0,
    CONFSIM_NO_MEMORY = 1,           /* MemoryError */
    CONFSIM_NO_SUCH_TRAINING_ROW = 2 /* ValueError: an entry of self_index is out of range */
} confsim_status;

#if defined(__GNUC__)
#define CONFSIM_MUST_CHECK __attribute__((warn_unused_result))
#else
#define CONFSIM_MUST_CHECK
#endif

#endif
