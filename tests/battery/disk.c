/* Disk: a process whose disk stalls, or has become read-only, for as long as a mark says so.
 *
 * Loaded before the C library. It watches one folder (DISK_ROOT). While the file DISK_MARKS/stall is there, every write and
 * every sync of a file below the root waits. While DISK_MARKS/readonly is there, whatever would change a file or a name
 * below the root fails with EROFS, files that were opened before included: as when the system has mounted the disk read-only
 * after an error. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX], stall[PATH_MAX + 16], readonly[PATH_MAX + 16];
static size_t root_len;

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("DISK_ROOT"), *marks = getenv("DISK_MARKS");
    if (!folder || !marks) return;
    snprintf(root, sizeof root, "%s/", folder);
    root_len = strlen(root);
    snprintf(stall, sizeof stall, "%s/stall", marks);
    snprintf(readonly, sizeof readonly, "%s/readonly", marks);
}

static int marked(const char *mark) { return syscall(SYS_faccessat, AT_FDCWD, mark, F_OK) == 0; }

static int below(const char *path) { return root_len && (strncmp(path, root, root_len) == 0 || (strlen(path) == root_len - 1 && strncmp(path, root, root_len - 1) == 0)); }

static int open_below(int fd) {
    char link[64], path[PATH_MAX];
    if (!root_len) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return below(path);
}

static int named_below(int dirfd, const char *path) {
    char base[PATH_MAX], full[PATH_MAX * 2];
    if (!root_len) return 0;
    if (path[0] == '/') return below(path);
    if (dirfd == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0) return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        ssize_t len = readlink(link, base, sizeof base - 1);
        if (len < 0) return 0;
        base[len] = 0;
    }
    snprintf(full, sizeof full, "%s/%s", base, path);
    return below(full);
}

static void wait_for_disk(void) {
    while (marked(stall)) usleep(10000);
}

/* A change of a file that is open: waits, or is refused. */
static int refused(int fd) {
    if (!open_below(fd)) return 0;
    wait_for_disk();
    if (!marked(readonly)) return 0;
    errno = EROFS;
    return 1;
}

/* A change of a name. */
static int refused_name(int dirfd, const char *path) {
    if (!named_below(dirfd, path)) return 0;
    wait_for_disk();
    if (!marked(readonly)) return 0;
    errno = EROFS;
    return 1;
}

static int opened(int dirfd, const char *path, int flags, mode_t mode) {
    if ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)))
        if (refused_name(dirfd, path)) return -1;
    return (int)syscall(SYS_openat, dirfd, path, flags, mode);
}

#define MODE mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int dirfd, const char *path, int flags, ...) { MODE return opened(dirfd, path, flags, mode); }
int openat64(int dirfd, const char *path, int flags, ...) { MODE return opened(dirfd, path, flags, mode); }

ssize_t write(int fd, const void *bytes, size_t len) { return refused(fd) ? -1 : syscall(SYS_write, fd, bytes, len); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return refused(fd) ? -1 : syscall(SYS_writev, fd, parts, count); }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return refused(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, len, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) { return pwrite(fd, bytes, len, at); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return refused(fd) ? -1 : syscall(SYS_pwritev, fd, parts, count, at, 0); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return pwritev(fd, parts, count, at); }
int ftruncate(int fd, off_t to) { return refused(fd) ? -1 : (int)syscall(SYS_ftruncate, fd, to); }
int ftruncate64(int fd, off64_t to) { return ftruncate(fd, to); }

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t len, unsigned flags) {
    return refused(out) ? -1 : syscall(SYS_copy_file_range, in, from, out, to, len, flags);
}

/* A read-only disk has nothing left to sync, and says that all is well. */
static int synced(int fd, long number) {
    if (open_below(fd)) wait_for_disk();
    return (int)syscall(number, fd);
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    return refused_name(to_dir, to) ? -1 : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) { return renameat2(from_dir, from, to_dir, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int unlinkat(int dirfd, const char *path, int flags) { return refused_name(dirfd, path) ? -1 : (int)syscall(SYS_unlinkat, dirfd, path, flags); }
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdirat(int dirfd, const char *path, mode_t mode) { return refused_name(dirfd, path) ? -1 : (int)syscall(SYS_mkdirat, dirfd, path, mode); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    return refused_name(to_dir, to) ? -1 : (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
