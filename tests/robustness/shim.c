/* A library for LD_PRELOAD in which one call to the system fails, once.
 *
 * shim_arm(kind, n, prefix) lets call number n of a kind fail, counted from 1; with n = 0 none does.
 * Calls on files count if the path of the file starts with `prefix`; memory, if it is as much as
 * LARGE. shim_disarm() returns how many calls there were.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define LARGE (64 << 10)
#define EVEN_LARGER (1 << 20) /* what Python maps for small objects is not more */

enum kind { NONE, READ, SHORT, WRITE, OPEN, RENAME, MMAP, MALLOC, THREAD, FSYNC, TRUNCATE, KINDS };

static _Atomic int armed;
static _Atomic long calls, wanted;
static char prefix[PATH_MAX];

void shim_arm(int kind, long n, const char *path) {
    armed = NONE;
    strncpy(prefix, path, sizeof prefix - 1);
    calls = 0;
    wanted = n;
    armed = kind;
}

long shim_disarm(void) {
    armed = NONE;
    return calls;
}

static int fails(enum kind kind) {
    return armed == kind && ++calls == wanted;
}

static int is_ours(const char *path) {
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

static int is_our_file(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_ours(path);
}

static int fails_on(enum kind kind, int fd) {
    return armed == kind && is_our_file(fd) && fails(kind);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL(code) return errno = (code), -1

/* Reading: an error, or fewer bytes than were asked for. */

static size_t at_most(int fd, size_t count) {
    return count > 1 && fails_on(SHORT, fd) ? count / 2 : count;
}

ssize_t read(int fd, void *to, size_t count) {
    REAL(read);
    if (fails_on(READ, fd)) FAIL(EIO);
    return real(fd, to, at_most(fd, count));
}

#define PREAD(name, offset_type) \
    ssize_t name(int fd, void *to, size_t count, offset_type at) { \
        REAL(name); \
        if (fails_on(READ, fd)) FAIL(EIO); \
        return real(fd, to, at_most(fd, count), at); \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define PREADV(name, offset_type) \
    ssize_t name(int fd, const struct iovec *to, int count, offset_type at) { \
        REAL(name); \
        if (fails_on(READ, fd)) FAIL(EIO); \
        struct iovec first = to[0]; \
        if ((first.iov_len = at_most(fd, first.iov_len)) != to[0].iov_len) { \
            return real(fd, &first, 1, at); \
        } \
        return real(fd, to, count, at); \
    }
PREADV(preadv, off_t)
PREADV(preadv64, off64_t)

/* Writing. */

ssize_t write(int fd, const void *from, size_t count) {
    REAL(write);
    if (fails_on(WRITE, fd)) FAIL(ENOSPC);
    return real(fd, from, count);
}

int fsync(int fd) {
    REAL(fsync);
    if (fails_on(FSYNC, fd)) FAIL(EIO);
    return real(fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    if (fails_on(FSYNC, fd)) FAIL(EIO);
    return real(fd);
}

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    if (fails_on(TRUNCATE, fd)) FAIL(EIO);
    return real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    if (fails_on(TRUNCATE, fd)) FAIL(EIO);
    return real(fd, size);
}

/* Names. */

#define OPEN_MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    } \
    if (armed == OPEN && is_ours(path) && fails(OPEN)) FAIL(EMFILE)

int open(const char *path, int flags, ...) {
    REAL(open);
    OPEN_MODE;
    return real(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    OPEN_MODE;
    return real(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    REAL(openat);
    OPEN_MODE;
    return real(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    REAL(openat64);
    OPEN_MODE;
    return real(folder, path, flags, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (armed == RENAME && is_ours(from) && fails(RENAME)) FAIL(EIO);
    return real(from, to);
}

int link(const char *from, const char *to) {
    REAL(link);
    if (armed == RENAME && is_ours(from) && fails(RENAME)) FAIL(EIO);
    return real(from, to);
}

/* Memory. */

#define MAP(name, offset_type) \
    void *name(void *where, size_t size, int protect, int flags, int fd, offset_type at) { \
        REAL(name); \
        int ours = fd >= 0 ? armed == MMAP && is_our_file(fd) : size > EVEN_LARGER; \
        if (ours && fails(MMAP)) return errno = ENOMEM, MAP_FAILED; \
        return real(where, size, protect, flags, fd, at); \
    }
MAP(mmap, off_t)
MAP(mmap64, off64_t)

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static int has_none(size_t size) {
    return size >= LARGE && fails(MALLOC);
}

void *malloc(size_t size) {
    if (has_none(size)) return errno = ENOMEM, NULL;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    if (size && has_none(count * size)) return errno = ENOMEM, NULL;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    if (has_none(size)) return errno = ENOMEM, NULL;
    return __libc_realloc(old, size);
}

int posix_memalign(void **to, size_t alignment, size_t size) {
    if (has_none(size) || !(*to = __libc_memalign(alignment, size))) return ENOMEM;
    return 0;
}

void *aligned_alloc(size_t alignment, size_t size) {
    if (has_none(size)) return errno = ENOMEM, NULL;
    return __libc_memalign(alignment, size);
}

/* Threads. */

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*work)(void *), void *arg) {
    REAL(pthread_create);
    if (fails(THREAD)) return EAGAIN;
    return real(thread, how, work, arg);
}
