/* A disk that can hang, fail, and forget what was not synced, put between a process and the system.
 *
 * Preloaded, it watches the files of the database, in a folder "data/db". What it is to do is said
 * by a control file, which it maps: so it can change while the process runs. Before each write it
 * notes in an undo file what the write replaces; names that come, go and change are noted there,
 * and syncs of files and folders. Whoever reads the undo file after the process was killed knows
 * what a power cut at that moment could have taken back. Files that lose their name stay in a
 * folder beside the undo file, named by their inode, until then.
 */
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PASS, HANG, FAIL };                               /* syncs */
enum { WRITES_PASS, NO_SPACE, IO_ERROR, IN_PIECES, NO_NAMES }; /* writes */
enum { NONE, LOG, MANIFEST, CURRENT, TABLE, OTHER, FOLDER }; /* kinds of files */
enum { NO_STEP, WRITTEN, SYNCING, SYNCED, NAMED };       /* steps at which a process can die */

/* disk.rs writes the same bytes. */
struct control {
    unsigned char syncs, writes;
    unsigned char faulty; /* the only kind whose syncs and writes fail; NONE: all of them */
    unsigned char reads;  /* the kind whose reads fail */
    unsigned char step, kind; /* where the process dies */
    unsigned char is_small; /* whether the disk has `space` left, and no more */
    unsigned char unused;
    int32_t countdown; /* and when */
    int32_t unused_too;
    int64_t shift_ms; /* how far the clock is off */
    int64_t space;    /* bytes */
};
static volatile struct control *control;
static int undo = -1;
static char undo_path[PATH_MAX - 32];
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

#define REAL(result, name, ...) static result (*real_##name)(__VA_ARGS__);
REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, pwrite64, int, const void *, size_t, off_t)
REAL(ssize_t, read, int, void *, size_t)
REAL(ssize_t, pread64, int, void *, size_t, off_t)
REAL(size_t, fread_unlocked, void *, size_t, size_t, FILE *)
REAL(int, open64, const char *, int, ...)
REAL(int, openat64, int, const char *, int, ...)
REAL(int, fdatasync, int)
REAL(int, fsync, int)
REAL(int, ftruncate64, int, off_t)
REAL(int, rename, const char *, const char *)
REAL(int, unlink, const char *)
REAL(int, link, const char *, const char *)
REAL(int, mkdir, const char *, mode_t)

__attribute__((constructor)) static void begin(void) {
#define FIND(name) real_##name = dlsym(RTLD_NEXT, #name)
    FIND(write), FIND(pwrite64), FIND(read), FIND(pread64), FIND(fread_unlocked), FIND(open64);
    FIND(openat64), FIND(fdatasync), FIND(fsync), FIND(ftruncate64), FIND(rename), FIND(unlink);
    FIND(link), FIND(mkdir);
    const char *control_path = getenv("FAULTY_DISK_CONTROL"), *undo_to = getenv("FAULTY_DISK_UNDO");
    if (!control_path || !undo_to) return;
    snprintf(undo_path, sizeof undo_path, "%s", undo_to);
    undo = real_open64(undo_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int fd = real_open64(control_path, O_RDWR | O_CLOEXEC);
    if (undo < 0 || fd < 0) abort();
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) abort();
    control = page;
    close(fd);
}

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && !strcmp(text + length - wanted, end);
}

/* What kind of file of the database a path names; NONE for every other file. */
static int kind_of(const char *path) {
    const char *folder = control ? strstr(path, "/data/db/") : NULL;
    if (!folder) return NONE;
    const char *name = folder + strlen("/data/db/");
    if (!*name || strchr(name, '/') || !strncmp(name, "LOG", 3) || !strcmp(name, "LOCK")) return NONE;
    if (!strncmp(name, "MANIFEST-", 9)) return MANIFEST;
    if (!strncmp(name, "OPTIONS-", 8)) return OTHER;
    if (!strncmp(name, "CURRENT", 7) || ends_with(name, ".dbtmp")) return CURRENT;
    if (ends_with(name, ".log")) return LOG;
    return ends_with(name, ".sst") ? TABLE : OTHER;
}

/* The same of an open file, with its path. The database's folder and those above it are FOLDER. */
static int kind_of_open(int fd, char *path, struct stat *status) {
    char link[64];
    if (control == NULL) return NONE;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 16);
    if (length <= 0 || path[0] != '/') return NONE;
    path[length] = 0;
    if (ends_with(path, " (deleted)")) path[length - (ssize_t)strlen(" (deleted)")] = 0;
    if (fstat(fd, status) != 0) return NONE;
    if (!S_ISDIR(status->st_mode)) return kind_of(path);
    if (ends_with(path, "/data/db") || ends_with(path, "/data")) return FOLDER;
    size_t end = strlen(path);
    strcpy(path + end, "/data");
    int is_above = access(path, F_OK) == 0;
    path[end] = 0;
    return is_above ? FOLDER : NONE;
}

/* One entry: its kind, a path, the file, and for a write its place, its length and what was there. */
static void note(char kind, const char *path, uint64_t inode, uint64_t at, uint64_t length,
                 uint64_t size, const void *old, uint64_t old_length) {
    uint64_t numbers[6] = {strlen(path), inode, at, length, size, old_length};
    size_t total = 1 + sizeof numbers + numbers[0] + old_length;
    unsigned char *entry = malloc(total), *to = entry;
    if (!entry) abort();
    *to++ = (unsigned char)kind;
    memcpy(to, numbers, sizeof numbers), to += sizeof numbers;
    memcpy(to, path, numbers[0]), to += numbers[0];
    if (old_length) memcpy(to, old, old_length);
    if (real_write(undo, entry, total) != (ssize_t)total) abort();
    free(entry);
}

/* A step was taken: dies if it is the one. */
static void step(int taken, int kind) {
    if (!control || control->step != taken || control->kind != kind) return;
    if (__atomic_sub_fetch(&control->countdown, 1, __ATOMIC_SEQ_CST) == 0) {
        kill(getpid(), SIGKILL);
        pause();
    }
}

static int is_faulty(int kind) { return control->faulty == NONE || control->faulty == kind; }

/* Whether no byte more fits; else how many of a write do. */
static int is_full(size_t *length) {
    if (!control->is_small || *length == 0) return 0;
    int64_t wanted = (int64_t)*length;
    int64_t left = __atomic_fetch_sub(&control->space, wanted, __ATOMIC_SEQ_CST);
    if (left >= wanted) return 0;
    int64_t done = left > 0 ? left : 0;
    __atomic_fetch_add(&control->space, wanted - done, __ATOMIC_SEQ_CST);
    *length = (size_t)done;
    return done == 0;
}

/* Whether a write is refused; else how much of it is done. */
static int refused(int kind, size_t *length) {
    static int calls;
    if (is_full(length)) return errno = ENOSPC, 1;
    if (control->writes == WRITES_PASS || !is_faulty(kind)) return 0;
    if (control->writes == NO_SPACE) return errno = ENOSPC, 1;
    if (control->writes == IO_ERROR) return errno = EIO, 1;
    if (control->writes != IN_PIECES) return 0;
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) % 2) return errno = EINTR, 1;
    *length = *length > 1 ? *length / 2 : *length;
    return 0;
}

/* Whether a file gets no name. */
static int unnamed(int kind) {
    if (control->writes != NO_NAMES || !is_faulty(kind)) return 0;
    return errno = ENOSPC, 1;
}

/* Notes what a write of `length` bytes, or cutting the file off, is about to replace. */
static void note_write(int fd, const char *path, const struct stat *status, uint64_t at,
                       uint64_t length, int cuts) {
    uint64_t size = (uint64_t)status->st_size, old_length = at < size ? size - at : 0;
    if (!cuts && old_length > length) old_length = length;
    char *old = NULL;
    if (old_length) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int reading = real_open64(link, O_RDONLY | O_CLOEXEC);
        old = malloc(old_length);
        if (reading < 0 || !old) abort();
        if (real_pread64(reading, old, old_length, (off_t)at) != (ssize_t)old_length) abort();
        close(reading);
    }
    note('w', path, status->st_ino, at, length, size, old, old_length);
    free(old);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[PATH_MAX];
    struct stat status;
    int kind = kind_of_open(fd, path, &status);
    if (!kind) return real_write(fd, bytes, length);
    if (refused(kind, &length)) return -1;
    pthread_mutex_lock(&turn);
    note_write(fd, path, &status, (uint64_t)lseek(fd, 0, SEEK_CUR), length, 0);
    ssize_t written = real_write(fd, bytes, length);
    pthread_mutex_unlock(&turn);
    step(WRITTEN, kind);
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) {
    char path[PATH_MAX];
    struct stat status;
    int kind = kind_of_open(fd, path, &status);
    if (!kind) return real_pwrite64(fd, bytes, length, at);
    if (refused(kind, &length)) return -1;
    pthread_mutex_lock(&turn);
    note_write(fd, path, &status, (uint64_t)at, length, 0);
    ssize_t written = real_pwrite64(fd, bytes, length, at);
    pthread_mutex_unlock(&turn);
    step(WRITTEN, kind);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return pwrite64(fd, bytes, length, at);
}

int ftruncate64(int fd, off_t length) {
    char path[PATH_MAX];
    struct stat status;
    int kind = kind_of_open(fd, path, &status);
    if (!kind || status.st_size <= length) return real_ftruncate64(fd, length);
    pthread_mutex_lock(&turn);
    note_write(fd, path, &status, (uint64_t)length, 0, 1);
    int result = real_ftruncate64(fd, length);
    pthread_mutex_unlock(&turn);
    return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* Whether a read fails, or how much of it is done. */
static int unreadable(int fd, size_t *length) {
    char path[PATH_MAX];
    struct stat status;
    if (!control || (control->reads == NONE && control->writes != IN_PIECES)) return 0;
    int kind = kind_of_open(fd, path, &status);
    if (!kind) return 0;
    if (control->reads == kind) return errno = EIO, 1;
    if (control->writes == IN_PIECES && *length > 1) *length /= 2;
    return 0;
}

ssize_t read(int fd, void *bytes, size_t length) {
    return unreadable(fd, &length) ? -1 : real_read(fd, bytes, length);
}

ssize_t pread64(int fd, void *bytes, size_t length, off_t at) {
    return unreadable(fd, &length) ? -1 : real_pread64(fd, bytes, length, at);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t at) {
    return pread64(fd, bytes, length, at);
}

#undef fread_unlocked /* a macro, too */
size_t fread_unlocked(void *bytes, size_t size, size_t count, FILE *stream) {
    size_t whole = 1; /* what stdio reads is never in pieces */
    return unreadable(fileno(stream), &whole) ? 0 : real_fread_unlocked(bytes, size, count, stream);
}

/* What a sync makes durable is what was written before it began. It is not asked of the real disk:
 * no power is cut, and what the process may rely on is what the undo file says. */
static int synced(int fd, int (*sync)(int)) {
    char path[PATH_MAX] = "";
    struct stat status;
    int kind = kind_of_open(fd, path, &status);
    if (!kind) {
        /* What is none of the database's is synced, and that is noted. */
        int result = sync(fd);
        if (result == 0 && path[0] == '/') {
            pthread_mutex_lock(&turn);
            note('o', path, 0, 0, 0, 0, NULL, 0);
            pthread_mutex_unlock(&turn);
        }
        return result;
    }
    int folder = kind == FOLDER;
    pthread_mutex_lock(&turn);
    note(folder ? 'B' : 'b', path, status.st_ino, 0, 0, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    usleep(1000); /* a slow disk: a process that is killed is killed in the middle of a sync */
    step(SYNCING, kind);
    usleep(1000);
    while (control->syncs == HANG && is_faulty(kind)) usleep(1000);
    if (control->syncs == FAIL && is_faulty(kind)) return errno = EIO, -1;
    pthread_mutex_lock(&turn);
    note(folder ? 'S' : 's', path, status.st_ino, 0, 0, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    step(SYNCED, kind);
    return 0;
}

int fdatasync(int fd) { return synced(fd, real_fdatasync); }
int fsync(int fd) { return synced(fd, real_fsync); }

/* Keeps a file, whatever becomes of its name; returns its inode, 0 if there is none. */
static uint64_t keep(const char *path) {
    struct stat status;
    char kept[PATH_MAX];
    if (stat(path, &status) != 0) return 0;
    snprintf(kept, sizeof kept, "%s.kept/%llu", undo_path, (unsigned long long)status.st_ino);
    if (real_link(path, kept) != 0 && errno != EEXIST) abort();
    return status.st_ino;
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    int kind = flags & (O_CREAT | O_WRONLY | O_RDWR) ? kind_of(path) : NONE;
    if (!kind) return real_openat64(folder, path, flags, mode);
    int was_there = access(path, F_OK) == 0;
    if (!was_there && unnamed(kind)) return -1;
    pthread_mutex_lock(&turn);
    int fd = real_openat64(folder, path, flags & ~O_TRUNC, mode);
    int failed = errno;
    if (fd >= 0) {
        uint64_t inode = keep(path);
        if (!was_there) note('c', path, inode, 0, 0, 0, NULL, 0);
    }
    pthread_mutex_unlock(&turn);
    if (fd >= 0 && flags & O_TRUNC && ftruncate64(fd, 0) != 0) abort();
    if (fd >= 0 && !was_there) step(NAMED, kind);
    errno = failed;
    return fd;
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, last); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return opened(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags)
    return opened(AT_FDCWD, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return opened(folder, path, flags, mode);
}

int rename(const char *from, const char *to) {
    int kind = kind_of(to);
    if (!kind) return real_rename(from, to);
    if (unnamed(kind)) return -1;
    pthread_mutex_lock(&turn);
    uint64_t inode = keep(from);
    keep(to);
    int result = real_rename(from, to), failed = errno;
    if (result == 0) note('r', from, inode, 0, 0, 0, to, strlen(to));
    pthread_mutex_unlock(&turn);
    if (result == 0) step(NAMED, kind);
    errno = failed;
    return result;
}

int unlink(const char *path) {
    int kind = kind_of(path);
    if (!kind) return real_unlink(path);
    pthread_mutex_lock(&turn);
    keep(path);
    int result = real_unlink(path), failed = errno;
    if (result == 0) note('d', path, 0, 0, 0, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    if (result == 0) step(NAMED, kind);
    errno = failed;
    return result;
}

int link(const char *from, const char *to) {
    int kind = kind_of(to);
    if (!kind) return real_link(from, to);
    if (unnamed(kind)) return -1;
    pthread_mutex_lock(&turn);
    uint64_t inode = keep(from);
    int result = real_link(from, to), failed = errno;
    if (result == 0) note('c', to, inode, 0, 0, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
    if (result == 0) step(NAMED, kind);
    errno = failed;
    return result;
}

int mkdir(const char *path, mode_t mode) {
    int watched = control && (ends_with(path, "/data/db") || ends_with(path, "/data"));
    int result = real_mkdir(path, mode);
    if (watched && result == 0) {
        pthread_mutex_lock(&turn);
        note('m', path, 0, 0, 0, 0, NULL, 0);
        pthread_mutex_unlock(&turn);
    }
    return result;
}

/* The time of day, off by what the control file says. Time that only elapses is left alone. */
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    int is_of_day = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (result == 0 && control && is_of_day && control->shift_ms) {
        int64_t ms = (int64_t)time->tv_sec * 1000 + time->tv_nsec / 1000000 + control->shift_ms;
        time->tv_sec = (time_t)(ms / 1000);
        time->tv_nsec = (long)(ms % 1000 * 1000000 + time->tv_nsec % 1000000);
    }
    return result;
}
