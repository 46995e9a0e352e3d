/* A disk that can hang, fail, and forget what was not synced, put between a process and the system.
 *
 * Preloaded, it watches writes to and syncs of files below a folder named "db". What it is to do
 * is said by two bytes of a control file, which it maps: so it can change while the process runs.
 * Before each write it notes in an undo file what the write replaces; a sync is noted there as
 * well. Whoever reads the undo file after the process was killed knows what a power cut at that
 * moment could have taken back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PASS, HANG, FAIL };                /* control byte 0: syncs */
enum { WRITES_PASS, NO_SPACE, IO_ERROR }; /* control byte 1: writes */

static volatile unsigned char *control;
static int undo = -1;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fdatasync)(int);
static int (*real_fsync)(int);
static int (*real_rename)(const char *, const char *);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_rename = dlsym(RTLD_NEXT, "rename");
    const char *control_path = getenv("FAULTY_DISK_CONTROL"), *undo_path = getenv("FAULTY_DISK_UNDO");
    int fd = control_path ? open(control_path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED) control = page;
        close(fd);
    }
    if (undo_path) undo = open(undo_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The path of an open file of the database; false for every other file. */
static int is_watched(int fd, char *path) {
    char link[64];
    if (control == NULL) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    const char *name = strrchr(path, '/');
    return strstr(path, "/db/") && name && strncmp(name, "/LOG", 4) && strcmp(name, "/LOCK");
}

/* One entry: kind, path, and for a write its place, its length and what was there before. */
static void note(char kind, const char *path, uint64_t at, uint64_t length, uint64_t size,
                 const void *old, uint64_t old_length) {
    if (undo < 0) return;
    uint64_t path_length = strlen(path);
    size_t total = 1 + 5 * 8 + path_length + old_length;
    unsigned char *entry = malloc(total), *to = entry;
    if (!entry) abort();
    uint64_t numbers[5] = {path_length, at, length, size, old_length};
    *to++ = (unsigned char)kind;
    memcpy(to, numbers, sizeof numbers), to += sizeof numbers;
    memcpy(to, path, path_length), to += path_length;
    if (old_length) memcpy(to, old, old_length);
    if (real_write(undo, entry, total) != (ssize_t)total) abort();
    free(entry);
}

static int refused(void) {
    if (control[1] == NO_SPACE) return errno = ENOSPC, 1;
    if (control[1] == IO_ERROR) return errno = EIO, 1;
    return 0;
}

/* Notes what a write of `length` bytes is about to replace. */
static void note_write(int fd, const char *path, uint64_t at, uint64_t length) {
    struct stat status;
    uint64_t size = fstat(fd, &status) == 0 ? (uint64_t)status.st_size : 0;
    char *old = NULL;
    uint64_t old_length = at < size ? (size - at < length ? size - at : length) : 0;
    if (old_length) {
        int reading = open(path, O_RDONLY | O_CLOEXEC);
        old = malloc(old_length);
        if (reading < 0 || !old || pread(reading, old, old_length, (off_t)at) != (ssize_t)old_length)
            abort();
        close(reading);
    }
    note('w', path, at, length, size, old, old_length);
    free(old);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[PATH_MAX];
    if (!is_watched(fd, path)) return real_write(fd, bytes, length);
    if (refused()) return -1;
    pthread_mutex_lock(&turn);
    note_write(fd, path, (uint64_t)lseek(fd, 0, SEEK_CUR), length);
    ssize_t written = real_write(fd, bytes, length);
    pthread_mutex_unlock(&turn);
    return written;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) {
    char path[PATH_MAX];
    if (!is_watched(fd, path)) return real_pwrite(fd, bytes, length, at);
    if (refused()) return -1;
    pthread_mutex_lock(&turn);
    note_write(fd, path, (uint64_t)at, length);
    ssize_t written = real_pwrite(fd, bytes, length, at);
    pthread_mutex_unlock(&turn);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return pwrite64(fd, bytes, length, at);
}

static void note_sync(char kind, const char *path) {
    pthread_mutex_lock(&turn);
    note(kind, path, 0, 0, 0, NULL, 0);
    pthread_mutex_unlock(&turn);
}

/* What a sync makes durable is what was written before it began. It is not asked of the real disk:
 * no power is cut, and what the process may rely on is what the undo file says. */
static int synced(int fd, int (*sync)(int)) {
    char path[PATH_MAX];
    if (!is_watched(fd, path)) return sync(fd);
    note_sync('b', path);
    usleep(2000); /* a slow disk: a process that is killed is killed in the middle of a sync */
    while (control[0] == HANG) usleep(1000);
    if (control[0] == FAIL) return errno = EIO, -1;
    note_sync('s', path);
    return 0;
}

int fdatasync(int fd) { return synced(fd, real_fdatasync); }
int fsync(int fd) { return synced(fd, real_fsync); }

int rename(const char *from, const char *to) {
    char real_from[PATH_MAX], real_to[PATH_MAX];
    pthread_mutex_lock(&turn);
    int had = control && strstr(from, "/db/") && realpath(from, real_from);
    int result = real_rename(from, to);
    if (result == 0 && had && realpath(to, real_to)) {
        note('r', real_from, 0, 0, 0, real_to, strlen(real_to));
    }
    pthread_mutex_unlock(&turn);
    return result;
}
