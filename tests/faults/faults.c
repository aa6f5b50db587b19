/* A library for LD_PRELOAD that lets the n-th change of the files in a folder fail, ends the process in it, or sets
   the clock before it.

   It does nothing until the process calls `faults_arm`. A write that ends the process has written half of its bytes. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { FULL = 1, IO_ERROR = 2, KILL = 3, CLOCK = 4 };  /* see `Action` in injection.py */
enum { GROWS = 1, KEEPS = 0 };  /* whether an operation needs space: a full disk fails only these */

/* What the test reads, in a file that both processes map. */
struct report { long count; char what[PATH_MAX + 32]; };

static struct report *report;
static char folder[PATH_MAX];
static long target;
static int action;
static long clock_offset, later_offset; /* seconds: now, and from the target on */

/* Set the clock of this process, in seconds from the true time. */
void faults_set_clock(long offset) { clock_offset = offset; }

/* Start counting; with a target of 0, do nothing else. The offset is that of the clock from the target on. */
int faults_arm(const char *report_file, const char *watched, int what, long number, long offset)
{
    int file = open(report_file, O_RDWR);
    if (file < 0) return -1;
    void *mapped = mmap(NULL, sizeof(struct report), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) return -1;
    snprintf(folder, sizeof folder, "%s/", watched);
    action = what;
    target = number;
    later_offset = offset;
    report = mapped;
    return 0;
}

/* Count an operation on a path; return whether it is to fail. */
static int hit(const char *operation, int grows, const char *path)
{
    if (report == NULL || path == NULL || strncmp(path, folder, strlen(folder)) != 0) return 0;
    if (action == FULL && !grows) return 0;
    long number = __atomic_add_fetch(&report->count, 1, __ATOMIC_SEQ_CST);
    if (number == target) snprintf(report->what, sizeof report->what, "%s %s", operation, path);
    if (action == CLOCK) {
        if (number == target) clock_offset = later_offset;
        return 0;
    }
    return target != 0 && (number == target || (number > target && action == FULL));
}

static int fail(void)
{
    if (action == KILL) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    errno = action == FULL ? ENOSPC : EIO;
    return -1;
}

static const char *path_of(int file, char *buffer)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return buffer;
}

static const char *absolute(int directory, const char *path, char *buffer)
{
    if (report == NULL || path == NULL || path[0] == '/') return path;
    if (directory == AT_FDCWD ? getcwd(buffer, PATH_MAX) == NULL : path_of(directory, buffer) == NULL) return NULL;
    size_t length = strlen(buffer);
    snprintf(buffer + length, PATH_MAX - length, "/%s", path);
    return buffer;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Operations on open files. */
#define WRITE(name, parameters, whole, half)                                             \
    ssize_t name parameters                                                              \
    {                                                                                    \
        REAL(name);                                                                      \
        char buffer[PATH_MAX];                                                           \
        if (report != NULL && hit(#name, GROWS, path_of(file, buffer))) {                \
            if (action == KILL) half;                                                    \
            return fail();                                                               \
        }                                                                                \
        return whole;                                                                    \
    }
WRITE(write, (int file, const void *data, size_t size), real(file, data, size), real(file, data, size / 2))
WRITE(pwrite, (int file, const void *data, size_t size, off_t at), real(file, data, size, at), real(file, data, size / 2, at))
WRITE(pwrite64, (int file, const void *data, size_t size, off64_t at), real(file, data, size, at), real(file, data, size / 2, at))
WRITE(sendfile, (int file, int from, off_t *at, size_t size), real(file, from, at, size), real(file, from, at, size / 2))
WRITE(sendfile64, (int file, int from, off64_t *at, size_t size), real(file, from, at, size), real(file, from, at, size / 2))

#define ON_FILE(name, grows, parameters, arguments)                                      \
    int name parameters                                                                  \
    {                                                                                    \
        REAL(name);                                                                      \
        char buffer[PATH_MAX];                                                           \
        if (report != NULL && hit(#name, grows, path_of(file, buffer))) return fail();   \
        return real arguments;                                                           \
    }
ON_FILE(fsync, KEEPS, (int file), (file))
ON_FILE(fdatasync, KEEPS, (int file), (file))
ON_FILE(ftruncate, KEEPS, (int file, off_t size), (file, size))
ON_FILE(ftruncate64, KEEPS, (int file, off64_t size), (file, size))

/* Operations on paths; those on two count by the one that they create. */
#define ON_PATH(name, grows, parameters, arguments, directory, path)                     \
    int name parameters                                                                  \
    {                                                                                    \
        REAL(name);                                                                      \
        char buffer[PATH_MAX];                                                           \
        if (hit(#name, grows, absolute(directory, path, buffer))) return fail();         \
        return real arguments;                                                           \
    }
ON_PATH(rename, KEEPS, (const char *old, const char *new), (old, new), AT_FDCWD, new)
ON_PATH(renameat, KEEPS, (int from, const char *old, int to, const char *new), (from, old, to, new), to, new)
ON_PATH(link, GROWS, (const char *old, const char *new), (old, new), AT_FDCWD, new)
ON_PATH(linkat, GROWS, (int from, const char *old, int to, const char *new, int flags), (from, old, to, new, flags), to, new)
ON_PATH(symlink, GROWS, (const char *target_, const char *path), (target_, path), AT_FDCWD, path)
ON_PATH(symlinkat, GROWS, (const char *target_, int in, const char *path), (target_, in, path), in, path)
ON_PATH(unlink, KEEPS, (const char *path), (path), AT_FDCWD, path)
ON_PATH(unlinkat, KEEPS, (int in, const char *path, int flags), (in, path, flags), in, path)
ON_PATH(rmdir, KEEPS, (const char *path), (path), AT_FDCWD, path)
#define ON_NEW(name, parameters, arguments, directory)                                   \
    int name parameters                                                                  \
    {                                                                                    \
        REAL(name);                                                                      \
        char buffer[PATH_MAX];                                                           \
        if (report != NULL && faccessat(directory, path, F_OK, 0) != 0                   \
            && hit(#name, GROWS, absolute(directory, path, buffer))) return fail();      \
        return real arguments;                                                           \
    }
ON_NEW(mkdir, (const char *path, mode_t mode), (path, mode), AT_FDCWD)
ON_NEW(mkdirat, (int in, const char *path, mode_t mode), (in, path, mode), in)

/* Opening counts where it creates a file. */
static int open_stat(void);

#define OPEN(name, parameters, arguments, directory)                                     \
    int name parameters                                                                  \
    {                                                                                    \
        REAL(name);                                                                      \
        if (clock_offset != 0 && strcmp(path, "/proc/stat") == 0) return open_stat();    \
        mode_t mode = 0;                                                                 \
        if (flags & (O_CREAT | __O_TMPFILE)) {                                           \
            va_list more;                                                                \
            va_start(more, flags);                                                       \
            mode = va_arg(more, mode_t);                                                 \
            va_end(more);                                                                \
        }                                                                                \
        char buffer[PATH_MAX];                                                           \
        if (report != NULL && (flags & O_CREAT) && faccessat(directory, path, F_OK, 0) != 0  \
            && hit(#name, GROWS, absolute(directory, path, buffer))) return fail();      \
        return real arguments;                                                           \
    }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(openat, (int in, const char *path, int flags, ...), (in, path, flags, mode), in)
OPEN(openat64, (int in, const char *path, int flags, ...), (in, path, flags, mode), in)

/* The clock, and the time of the last boot, which the system derives from it. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    REAL(clock_gettime);
    int result = real(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += clock_offset;
    return result;
}

int gettimeofday(struct timeval *time, void *zone)
{
    REAL(gettimeofday);
    int result = real(time, zone);
    if (result == 0) time->tv_sec += clock_offset;
    return result;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result != NULL) *result = now.tv_sec;
    return now.tv_sec;
}

/* Open a copy of /proc/stat with the time of the last boot that fits the clock. */
static int open_stat(void)
{
    static char text[1 << 20];
    char name[64];
    long offset = clock_offset;
    clock_offset = 0;
    int from = open("/proc/stat", O_RDONLY), copy = memfd_create("stat", 0);
    clock_offset = offset;
    size_t size = 0;
    for (ssize_t got; (got = read(from, text + size, sizeof text - 1 - size)) > 0;) size += got;
    text[size] = 0;
    close(from);
    char *boot = strstr(text, "btime ");
    if (boot != NULL) {
        char *rest = NULL;
        long time = strtol(boot + 6, &rest, 10);
        dprintf(copy, "%.*sbtime %ld%s", (int)(boot - text), text, time + clock_offset, rest);
    }
    snprintf(name, sizeof name, "/proc/self/fd/%d", copy);
    int file = open(name, O_RDONLY);
    close(copy);
    return file;
}
