// A file system that loses unsynced writes, as a library for LD_PRELOAD.
//
// Every change below LOSSY_ROOT is appended to the journal LOSSY_JOURNAL: writes, lengths, names, and syncs. The files
// themselves change as usual, so the program under test notices nothing. lossy_files.py replays the journal and leaves
// out what no sync had made durable. The real sync calls are not made; each takes a random time instead.
//
//   LOSSY_ROOT       absolute path of the directory, without symbolic links
//   LOSSY_JOURNAL    path of the journal, outside of it
//   LOSSY_DELAY      maximum duration of a sync, in microseconds
//   LOSSY_KILL_AT    number of the sync within which the program is killed, from 1
//   LOSSY_NO_SYNC    if set, syncs do not count: a disk that lies. It exists to test the checker.
//
// A call that can change files in a way that is not recorded ends the program.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// A record of the journal: this header, the path, the data. Little-endian, as lossy_files.py reads it.
struct record {
    uint32_t magic;
    char kind; // see the calls of `note`
    char is_directory;
    uint16_t path_length;
    uint64_t inode;
    uint64_t number; // offset, length, or number of a sync
    uint32_t data_length;
    uint32_t padding;
};

enum { MAGIC = 0x4c4f5353, JOURNAL_FD = 1000 };

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static size_t root_length;
static int journal = -1, ignores_syncs;
static unsigned delay, syncs, kill_at, dice;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);

static void fail(const char *what) {
    dprintf(2, "lossy_files: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("LOSSY_JOURNAL");
    root = getenv("LOSSY_ROOT");
    if (!root || !path) { root = NULL; return; }
    root_length = strlen(root);
    delay = getenv("LOSSY_DELAY") ? (unsigned)atoi(getenv("LOSSY_DELAY")) : 0;
    kill_at = getenv("LOSSY_KILL_AT") ? (unsigned)atoi(getenv("LOSSY_KILL_AT")) : 0;
    ignores_syncs = getenv("LOSSY_NO_SYNC") != NULL;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) fail(path);
    journal = fcntl(fd, F_DUPFD_CLOEXEC, JOURNAL_FD);
    if (journal < 0) fail(path);
    syscall(SYS_close, fd);
    dice = (unsigned)getpid();
}

static void note(char kind, int is_directory, uint64_t inode, uint64_t number, const char *path, size_t path_length,
                 const void *data, size_t data_length) {
    struct record head = {MAGIC, kind, (char)is_directory, (uint16_t)path_length, inode, number, (uint32_t)data_length, 0};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, path_length}, {(void *)data, data_length}};
    size_t whole = sizeof head + path_length + data_length;
    if (syscall(SYS_writev, journal, parts, 3) != (long)whole) fail("journal");
}

// Writes the absolute path into `out`; returns whether it is below the root.
static int below_root(int directory, const char *path, char out[PATH_MAX]) {
    if (!root || !path) return 0;
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        char base[PATH_MAX] = "";
        if (directory == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            ssize_t length = readlink(link, base, sizeof base - 1);
            if (length < 0) return 0;
            base[length] = 0;
        }
        if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    }
    return !strncmp(out, root, root_length) && (out[root_length] == '/' || !out[root_length]);
}

// Returns whether a descriptor is a file or a directory below the root.
static int is_ours(int fd, struct stat *about, char path[PATH_MAX]) {
    char link[64];
    if (!root || fd == journal) return 0;
    int before = errno;
    int found = !fstat(fd, about) && (S_ISREG(about->st_mode) || S_ISDIR(about->st_mode));
    if (found) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, PATH_MAX - 1);
        path[length < 0 ? 0 : length] = 0;
        found = !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
    }
    errno = before;
    return found;
}

static int opened(int fd, int flags, int existed, const char *path) {
    struct stat about;
    if (fd < 0 || fstat(fd, &about) || !S_ISREG(about.st_mode)) return fd;
    if (!existed) note('C', 0, about.st_ino, 0, path, strlen(path), NULL, 0);
    else if (flags & O_TRUNC) note('T', 0, about.st_ino, 0, NULL, 0, NULL, 0);
    return fd;
}

#define OPEN(name, parameters, directory, call) \
    int name parameters { \
        REAL(name) \
        mode_t mode = 0; \
        char full[PATH_MAX]; \
        struct stat about; \
        if (flags & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
        if ((flags & O_TMPFILE) == O_TMPFILE && below_root(directory, path, full)) fail("O_TMPFILE"); \
        if (!(flags & (O_CREAT | O_TRUNC)) || !below_root(directory, path, full)) return call; \
        pthread_mutex_lock(&turn); \
        int existed = !lstat(full, &about); \
        int fd = opened(call, flags, existed, full); \
        pthread_mutex_unlock(&turn); \
        return fd; \
    }

OPEN(open, (const char *path, int flags, ...), AT_FDCWD, real(path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, real(path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), at, real(at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), at, real(at, path, flags, mode))

// Records a write that was done. `offset` is negative for a write at the file's position.
static ssize_t written(int fd, const struct stat *about, const struct iovec *parts, int count, int64_t offset, ssize_t done) {
    if (done <= 0) return done;
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - done;
    for (ssize_t left = done, at = 0; left > 0 && count > 0; parts++, count--) {
        size_t length = parts->iov_len < (size_t)left ? parts->iov_len : (size_t)left;
        if (length) note('W', 0, about->st_ino, (uint64_t)(offset + at), NULL, 0, parts->iov_base, length);
        at += (ssize_t)length;
        left -= (ssize_t)length;
    }
    return done;
}

#define WRITE(name, parameters, call, parts, count, offset) \
    ssize_t name parameters { \
        REAL(name) \
        struct stat about; \
        char path[PATH_MAX]; \
        if (!is_ours(fd, &about, path)) return call; \
        pthread_mutex_lock(&turn); \
        ssize_t done = written(fd, &about, parts, count, offset, call); \
        pthread_mutex_unlock(&turn); \
        return done; \
    }

#define ONE (&(struct iovec){(void *)data, length})
WRITE(write, (int fd, const void *data, size_t length), real(fd, data, length), ONE, 1, -1)
WRITE(pwrite, (int fd, const void *data, size_t length, off_t at), real(fd, data, length, at), ONE, 1, at)
WRITE(pwrite64, (int fd, const void *data, size_t length, off64_t at), real(fd, data, length, at), ONE, 1, at)
WRITE(writev, (int fd, const struct iovec *parts, int count), real(fd, parts, count), parts, count, -1)
WRITE(pwritev, (int fd, const struct iovec *parts, int count, off_t at), real(fd, parts, count, at), parts, count, at)
WRITE(pwritev64, (int fd, const struct iovec *parts, int count, off64_t at), real(fd, parts, count, at), parts, count, at)

static int resized(int fd, int failed) {
    struct stat about;
    if (!failed && !fstat(fd, &about)) note('T', 0, about.st_ino, (uint64_t)about.st_size, NULL, 0, NULL, 0);
    return failed;
}

#define RESIZE(name, parameters, call) \
    int name parameters { \
        REAL(name) \
        struct stat about; \
        char path[PATH_MAX]; \
        if (!is_ours(fd, &about, path)) return call; \
        pthread_mutex_lock(&turn); \
        int failed = resized(fd, call); \
        pthread_mutex_unlock(&turn); \
        return failed; \
    }

RESIZE(ftruncate, (int fd, off_t length), real(fd, length))
RESIZE(ftruncate64, (int fd, off64_t length), real(fd, length))
RESIZE(fallocate, (int fd, int mode, off_t at, off_t length), real(fd, mode, at, length))
RESIZE(fallocate64, (int fd, int mode, off64_t at, off64_t length), real(fd, mode, at, length))
RESIZE(posix_fallocate, (int fd, off_t at, off_t length), real(fd, at, length))
RESIZE(posix_fallocate64, (int fd, off64_t at, off64_t length), real(fd, at, length))

// What was written before a sync begins is durable when the sync ends.
static int synced(int fd) {
    struct stat about;
    char path[PATH_MAX];
    if (!is_ours(fd, &about, path)) return 0;
    int is_directory = S_ISDIR(about.st_mode);
    pthread_mutex_lock(&turn);
    uint64_t number = ++syncs;
    unsigned wait = delay ? (unsigned)rand_r(&dice) % delay : 0;
    if (!ignores_syncs) note('B', is_directory, about.st_ino, number, path, strlen(path), NULL, 0);
    if (number == kill_at) kill(getpid(), SIGKILL);
    pthread_mutex_unlock(&turn);
    if (wait) usleep(wait);
    pthread_mutex_lock(&turn);
    if (!ignores_syncs) note('E', is_directory, about.st_ino, number, path, strlen(path), NULL, 0);
    pthread_mutex_unlock(&turn);
    return 1;
}

int fsync(int fd) { REAL(fsync) return synced(fd) ? 0 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync) return synced(fd) ? 0 : real(fd); }

// Runs a call that changes names, and records it if it worked. Two paths are joined by a line feed.
#define NAMES(name, parameters, kind, directory, path, other_directory, other, call) \
    int name parameters { \
        REAL(name) \
        char both[2 * PATH_MAX], second[PATH_MAX]; \
        const char *with = other; \
        int is_known = below_root(directory, path, both); \
        if (with && below_root(other_directory, with, second) != is_known) fail(#name " across the root"); \
        if (!is_known) return call; \
        pthread_mutex_lock(&turn); \
        int failed = call; \
        if (!failed) { \
            struct stat about = {0}; \
            lstat(with ? second : both, &about); \
            size_t length = strlen(both); \
            if (with) length += (size_t)snprintf(both + length, PATH_MAX, "\n%s", second); \
            note(kind, S_ISDIR(about.st_mode), about.st_ino, 0, both, length, NULL, 0); \
        } \
        pthread_mutex_unlock(&turn); \
        return failed; \
    }

#define HERE AT_FDCWD
NAMES(rename, (const char *from, const char *to), 'R', HERE, from, HERE, to, real(from, to))
NAMES(renameat, (int at, const char *from, int there, const char *to), 'R', at, from, there, to, real(at, from, there, to))
NAMES(renameat2, (int at, const char *from, int there, const char *to, unsigned flags), 'R', at, from, there, to,
      real(at, from, there, to, flags))
NAMES(link, (const char *from, const char *to), 'L', HERE, from, HERE, to, real(from, to))
NAMES(linkat, (int at, const char *from, int there, const char *to, int flags), 'L', at, from, there, to,
      real(at, from, there, to, flags))
NAMES(unlink, (const char *path), 'U', HERE, path, HERE, NULL, real(path))
NAMES(unlinkat, (int at, const char *path, int flags), 'U', at, path, HERE, NULL, real(at, path, flags))
NAMES(rmdir, (const char *path), 'U', HERE, path, HERE, NULL, real(path))
NAMES(mkdir, (const char *path, mode_t mode), 'M', HERE, path, HERE, NULL, real(path, mode))
NAMES(mkdirat, (int at, const char *path, mode_t mode), 'M', at, path, HERE, NULL, real(at, path, mode))

// Calls whose changes are not recorded.
#define UNKNOWN_TO(name, parameters, fd, call) \
    ssize_t name parameters { \
        REAL(name) \
        struct stat about; \
        char path[PATH_MAX]; \
        if (is_ours(fd, &about, path)) fail(#name); \
        return call; \
    }

UNKNOWN_TO(copy_file_range, (int from, off64_t *at, int to, off64_t *there, size_t length, unsigned flags), to,
           real(from, at, to, there, length, flags))
