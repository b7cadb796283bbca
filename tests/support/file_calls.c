/* Counts the calls that change files below a directory, in all processes of a command, and from one
 * of them on lets the disk be full, or kills the command.
 *
 * A library for LD_PRELOAD, built by the tests (struck.py). Environment, or arguments of
 * file_calls_aim for a process that is there already:
 *   CALLS_BELOW   the directory
 *   CALLS_COUNT   a file of 8 bytes, shared by all processes: the number of calls so far
 *   CALLS_AT      the call, from 0, that meets its fate
 *   CALLS_FATE    "full": this and all later calls fail with ENOSPC; "kill": SIGKILL to the group
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static atomic_long *count;
static char below[PATH_MAX];
static long at;
static int kills;

void file_calls_aim(const char *directory, const char *file, long call, const char *fate) {
    snprintf(below, sizeof below, "%s", directory);
    at = call;
    kills = strcmp(fate, "kill") == 0;
    int fd = REAL(open)(file, O_RDWR);
    if (fd < 0) return;
    count = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (count == MAP_FAILED) count = NULL;
}

__attribute__((constructor)) static void begin(void) {
    const char *directory = getenv("CALLS_BELOW");
    if (directory == NULL) return;
    file_calls_aim(directory, getenv("CALLS_COUNT"), atol(getenv("CALLS_AT")),
                   getenv("CALLS_FATE"));
}

/* Returns 1, with errno set, if the call is to fail. */
static int strikes(const char *path) {
    if (count == NULL || path == NULL || strncmp(path, below, strlen(below)) != 0) return 0;
    long call = atomic_fetch_add(count, 1);
    if (call < at) return 0;
    if (kills) {
        if (call == at) kill(0, SIGKILL);
        return 0;
    }
    errno = ENOSPC;
    return 1;
}

static int strikes_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (count == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strikes(path);
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...) {                                                   \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                                  \
        va_end(rest);                                                                              \
        if ((flags & O_CREAT) && access(path, F_OK) && strikes(path)) return -1;                   \
        return REAL(name)(path, flags, mode);                                                      \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t size) {
    return strikes_fd(fd) ? -1 : REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t where) {
    return strikes_fd(fd) ? -1 : REAL(pwrite)(fd, data, size, where);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t where) {
    return strikes_fd(fd) ? -1 : REAL(pwrite64)(fd, data, size, where);
}
int fsync(int fd) { return strikes_fd(fd) ? -1 : REAL(fsync)(fd); }
int mkdir(const char *path, mode_t mode) { return strikes(path) ? -1 : REAL(mkdir)(path, mode); }
int symlink(const char *target, const char *path) {
    return strikes(path) ? -1 : REAL(symlink)(target, path);
}
int link(const char *from, const char *to) { return strikes(to) ? -1 : REAL(link)(from, to); }
int rename(const char *from, const char *to) { return strikes(to) ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { /* needs no room: it only counts, as a moment to be killed at */
    if (kills) strikes(path);
    return REAL(unlink)(path);
}
int rmdir(const char *path) {
    if (kills) strikes(path);
    return REAL(rmdir)(path);
}
int unlinkat(int folder, const char *path, int flags) {
    if (kills) strikes_fd(folder);
    return REAL(unlinkat)(folder, path, flags);
}
