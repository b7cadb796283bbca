/* What a kernel returns. The wrapper turns anything but CONFSIM_OK into an exception. */
#ifndef CONFSIM_STATUS_H
#define CONFSIM_STATUS_H

typedef enum {
    CONFSIM_OK = 0,
    CONFSIM_NO_MEMORY = 1,
    CONFSIM_INVALID = 2 /* an entry of an argument is out of range; the caller says which */
} confsim_status;

#if defined(__GNUC__)
#define CONFSIM_MUST_CHECK __attribute__((warn_unused_result))
#else
#define CONFSIM_MUST_CHECK
#endif

#endif
