/* Power: a process whose files forget, when its power goes, what it did not sync.
 *
 * Loaded before the C library. It watches one folder (POWER_ROOT). Before a page of a file changes for the first time
 * since that file was synced, its old content is kept in memory; fsync and fdatasync of the file forget the old content.
 * Creating, renaming, removing and linking names are kept per folder until that folder is synced. After POWER_AFTER
 * operations the power goes: of every file that was not synced a share of its changed pages stays (POWER_KEEP percent),
 * some are torn at a sector (POWER_TORN percent), the others are as they were; of every folder a random first part of
 * its changes stays. Then the process ends with 86. The same POWER_SEED makes the same choices.
 *
 * With POWER_FAILS set, the power stays, and that many syncs from the beginning one fails with EIO. As on Linux each
 * descriptor of that file is told once: later syncs say that all is well, and nothing written to the file since reaches
 * the disk. What was not synced goes when the process ends by itself.
 *
 * Not modelled, because no engine here uses it: mmap that writes, O_SYNC, O_DIRECT. sync_file_range makes nothing
 * durable, as on Linux. Real syncs are not done: nothing outlives the process but what the model says. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096
#define SECTOR 512
#define LOST 86
#define FAILED 3

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], trash[PATH_MAX];
static size_t root_len;
static long fuel = -1, fails = -1;
static int failed;
static unsigned keep_percent = 30, torn_percent = 0;
static uint64_t state;

static uint64_t chance(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("POWER_ROOT"), *bin = getenv("POWER_TRASH"), *after = getenv("POWER_AFTER");
    if (!folder || !bin || !after) return;
    snprintf(root, sizeof root, "%s/", folder);
    root_len = strlen(root);
    snprintf(trash, sizeof trash, "%s", bin);
    fuel = atol(after);
    if (getenv("POWER_SEED")) state = strtoull(getenv("POWER_SEED"), NULL, 10);
    if (getenv("POWER_FAILS")) fails = atol(getenv("POWER_FAILS"));
    if (getenv("POWER_KEEP")) keep_percent = (unsigned)atoi(getenv("POWER_KEEP"));
    if (getenv("POWER_TORN")) torn_percent = (unsigned)atoi(getenv("POWER_TORN"));
}

static void die(const char *what) {
    dprintf(2, "power: %s: %s\n", what, strerror(errno));
    syscall(SYS_exit_group, 87);
}

static void *must(void *p) {
    if (!p) die("no memory");
    return p;
}

static int raw_open(const char *path, int flags, mode_t mode) { return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode); }
static int raw_stat(int fd, struct stat *st) { return fstat(fd, st); }

/* ---- pages ---- */

struct page { uint64_t number_plus_one; unsigned char *before; };
/* Descriptors that were told of a failed sync: each is told once, as on Linux. */
#define TOLD_MAX 32
struct file { dev_t dev; ino_t ino; int fd; int dirty; off_t synced_size; struct page *pages; size_t used, cap; int broken, told[TOLD_MAX], told_count; };
static struct file *files;
static size_t file_count, file_cap;

static struct page *slot(struct file *f, uint64_t n) {
    size_t i = (size_t)((n * 0x9e3779b97f4a7c15ULL) >> 20) & (f->cap - 1);
    while (f->pages[i].number_plus_one && f->pages[i].number_plus_one != n + 1) i = (i + 1) & (f->cap - 1);
    return &f->pages[i];
}

static void grow(struct file *f) {
    struct page *old = f->pages;
    size_t old_cap = f->cap;
    f->cap = old_cap ? old_cap * 2 : 64;
    f->pages = must(calloc(f->cap, sizeof *f->pages));
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].number_plus_one) *slot(f, old[i].number_plus_one - 1) = old[i];
    free(old);
}

static void capture(struct file *f, uint64_t n) {
    if ((f->used + 1) * 2 > f->cap) grow(f);
    struct page *p = slot(f, n);
    if (p->number_plus_one) return;
    unsigned char now[PAGE] = {0};
    if (pread(f->fd, now, PAGE, (off_t)(n * PAGE)) < 0) die("read a page");
    p->number_plus_one = n + 1;
    f->used++;
    for (size_t i = 0; i < PAGE; i++)
        if (now[i]) {
            p->before = must(malloc(PAGE));
            memcpy(p->before, now, PAGE);
            break;
        }
}

/* The file behind a descriptor, when it is a file below the root. */
static struct file *watched(int fd, struct stat *st) {
    char link[64], path[PATH_MAX];
    if (raw_stat(fd, st) != 0 || !S_ISREG(st->st_mode)) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return NULL;
    path[len] = 0;
    if (strncmp(path, root, root_len) != 0) return NULL;
    for (size_t i = 0; i < file_count; i++)
        if (files[i].dev == st->st_dev && files[i].ino == st->st_ino) return &files[i];
    if (file_count == file_cap) {
        file_cap = file_cap ? file_cap * 2 : 64;
        files = must(realloc(files, file_cap * sizeof *files));
    }
    struct file *f = &files[file_count++];
    memset(f, 0, sizeof *f);
    f->dev = st->st_dev;
    f->ino = st->st_ino;
    f->fd = -1;
    return f;
}

static void begin_change(struct file *f, int fd, const struct stat *st) {
    if (f->dirty) return;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    f->fd = raw_open(link, O_RDWR | O_CLOEXEC, 0);
    if (f->fd < 0) die("open a file again");
    f->dirty = 1;
    f->synced_size = st->st_size;
}

static void before_write(struct file *f, int fd, const struct stat *st, off_t at, size_t len) {
    if (!len) return;
    begin_change(f, fd, st);
    for (uint64_t n = (uint64_t)at / PAGE; n <= ((uint64_t)at + len - 1) / PAGE; n++) capture(f, n);
}

static void before_truncate(struct file *f, int fd, const struct stat *st, off_t to) {
    begin_change(f, fd, st);
    if (to < st->st_size)
        for (uint64_t n = (uint64_t)to / PAGE; n <= (uint64_t)(st->st_size - 1) / PAGE; n++) capture(f, n);
}

static void synced(struct file *f) {
    for (size_t i = 0; i < f->cap; i++) free(f->pages[i].before);
    free(f->pages);
    f->pages = NULL;
    f->cap = f->used = 0;
    if (f->dirty) close(f->fd);
    f->fd = -1;
    f->dirty = 0;
}

static void forget_pages(struct file *f) {
    struct stat st;
    if (raw_stat(f->fd, &st) != 0) return;
    off_t size = f->synced_size;
    if (st.st_size < f->synced_size && chance() % 2) size = st.st_size;
    /* The order of the table depends on nothing but the numbers. */
    for (size_t i = 0; i < f->cap; i++) {
        struct page *p = &f->pages[i];
        if (!p->number_plus_one) continue;
        off_t at = (off_t)((p->number_plus_one - 1) * PAGE);
        unsigned dice = (unsigned)(chance() % 100);
        size_t kept = dice < keep_percent ? PAGE : dice < keep_percent + torn_percent ? chance() % (PAGE / SECTOR) * SECTOR : 0;
        off_t end = at + (off_t)kept < st.st_size ? at + (off_t)kept : st.st_size;
        if (kept && end > size) size = end;
        static const unsigned char zeros[PAGE];
        const unsigned char *before = p->before ? p->before : zeros;
        if (kept < PAGE && syscall(SYS_pwrite64, f->fd, before + kept, PAGE - kept, at + (off_t)kept) < 0) die("restore a page");
    }
    if (st.st_size > size && chance() % 4 == 0) size = st.st_size;
    if (syscall(SYS_ftruncate, f->fd, size) != 0) die("restore a size");
}

/* ---- names ---- */

enum kind { CREATED, RENAMED, REMOVED, MADE, UNMADE };
struct change { enum kind kind; char *folder, *from, *to, *saved; int undo; };
static struct change *changes;
static size_t change_count, change_cap;
static unsigned long saved_count;

static int absolute(int dirfd, const char *path, char *out) {
    char base[PATH_MAX];
    if (path[0] == '/') return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
    if (dirfd == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0) return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        ssize_t len = readlink(link, base, sizeof base - 1);
        if (len < 0) return 0;
        base[len] = 0;
    }
    return snprintf(out, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

static int inside(const char *path) { return root_len && fuel >= 0 && strncmp(path, root, root_len) == 0; }

static int exists(const char *path) { struct stat st; return lstat(path, &st) == 0; }

static void note(enum kind kind, const char *place, const char *from, const char *to, const char *saved) {
    if (change_count == change_cap) {
        change_cap = change_cap ? change_cap * 2 : 64;
        changes = must(realloc(changes, change_cap * sizeof *changes));
    }
    struct change *c = &changes[change_count++];
    memset(c, 0, sizeof *c);
    c->kind = kind;
    c->folder = must(strdup(place));
    char *slash = strrchr(c->folder, '/');
    if (slash) *slash = 0;
    c->from = must(strdup(from));
    if (to) c->to = must(strdup(to));
    if (saved) c->saved = must(strdup(saved));
}

static void save_path(char *out) { snprintf(out, PATH_MAX, "%s/%d.%lu", trash, (int)getpid(), saved_count++); }

static void folder_synced(const char *path) {
    size_t left = 0;
    for (size_t i = 0; i < change_count; i++) {
        struct change *c = &changes[i];
        if (strcmp(c->folder, path) != 0) {
            changes[left++] = *c;
            continue;
        }
        if (c->saved) syscall(SYS_unlinkat, AT_FDCWD, c->saved, 0);
        free(c->folder), free(c->from), free(c->to), free(c->saved);
    }
    change_count = left;
}

static void remove_tree(const char *path) {
    char command[PATH_MAX * 2];
    if (syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR) == 0 || errno == ENOENT) return;
    /* What was made inside was lost with the folder. */
    snprintf(command, sizeof command, "%s/lost.%lu", trash, saved_count++);
    syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, command, 0);
}

static void forget_names(void) {
    for (size_t i = 0; i < change_count; i++) {
        size_t same = 0, first = 1;
        for (size_t j = 0; j < i; j++) if (!strcmp(changes[j].folder, changes[i].folder)) first = 0;
        if (!first) continue;
        for (size_t j = i; j < change_count; j++) same += !strcmp(changes[j].folder, changes[i].folder);
        size_t stays = chance() % (same + 1);
        for (size_t j = i; j < change_count; j++)
            if (!strcmp(changes[j].folder, changes[i].folder)) {
                if (stays) stays--;
                else changes[j].undo = 1;
            }
    }
    for (size_t i = change_count; i-- > 0;) {
        struct change *c = &changes[i];
        if (!c->undo) continue;
        switch (c->kind) {
        case CREATED: syscall(SYS_unlinkat, AT_FDCWD, c->from, 0); break;
        case RENAMED:
            syscall(SYS_renameat2, AT_FDCWD, c->to, AT_FDCWD, c->from, 0);
            if (c->saved) syscall(SYS_renameat2, AT_FDCWD, c->saved, AT_FDCWD, c->to, 0);
            break;
        case REMOVED: syscall(SYS_renameat2, AT_FDCWD, c->saved, AT_FDCWD, c->from, 0); break;
        case MADE: remove_tree(c->from); break;
        case UNMADE: syscall(SYS_mkdirat, AT_FDCWD, c->from, 0700); break;
        }
    }
}

static void forget(void) {
    for (size_t i = 0; i < file_count; i++)
        if (files[i].dirty) forget_pages(&files[i]);
    forget_names();
}

/* One operation passes, or the power goes. The lock is held, and never given back when it does. */
static void tick(void) {
    if (fuel-- > 0) return;
    forget();
    syscall(SYS_exit_group, LOST);
}

/* The process ends by itself after a sync that failed. */
__attribute__((destructor)) static void end(void) {
    if (!failed) return;
    pthread_mutex_lock(&lock);
    forget();
    /* At once: nobody writes after this. */
    syscall(SYS_exit_group, FAILED);
}

/* ---- what the C library's callers see ---- */

static int opened(int dirfd, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!(flags & (O_CREAT | O_TRUNC)) || fuel < 0 || !absolute(dirfd, path, full) || !inside(full))
        return (int)syscall(SYS_openat, dirfd, path, flags, mode);
    pthread_mutex_lock(&lock);
    tick();
    int there = exists(full);
    if (there && (flags & O_TRUNC)) {
        struct stat st;
        int fd = raw_open(full, O_RDWR | O_CLOEXEC, 0);
        struct file *f = fd >= 0 ? watched(fd, &st) : NULL;
        if (f && st.st_size) before_truncate(f, fd, &st, 0);
        if (fd >= 0) close(fd);
    }
    int fd = (int)syscall(SYS_openat, dirfd, path, flags, mode);
    int error = errno;
    if (fd >= 0 && !there) note(CREATED, full, full, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int dirfd, const char *path, int flags, ...) { MODE return opened(dirfd, path, flags, mode); }
int openat64(int dirfd, const char *path, int flags, ...) { MODE return opened(dirfd, path, flags, mode); }

/* at < 0: at the file's own position. */
static ssize_t written(int fd, const struct iovec *parts, int count, off_t at) {
    struct stat st;
    struct file *f;
    if (fuel < 0) goto plain;
    pthread_mutex_lock(&lock);
    f = watched(fd, &st);
    if (!f) {
        pthread_mutex_unlock(&lock);
        goto plain;
    }
    tick();
    size_t len = 0;
    for (int i = 0; i < count; i++) len += parts[i].iov_len;
    off_t begin = at;
    if (at < 0) begin = (fcntl(fd, F_GETFL) & O_APPEND) ? st.st_size : lseek(fd, 0, SEEK_CUR);
    before_write(f, fd, &st, begin, len);
    ssize_t done = at < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, at, 0);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
plain:
    return at < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, at, 0);
}

ssize_t write(int fd, const void *bytes, size_t len) { struct iovec part = {(void *)bytes, len}; return written(fd, &part, 1, -1); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return written(fd, parts, count, -1); }
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { struct iovec part = {(void *)bytes, len}; return written(fd, &part, 1, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) { return pwrite(fd, bytes, len, at); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return written(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return written(fd, parts, count, at); }

/* Callers fall back to reading and writing. */
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t len, unsigned flags) {
    if (fuel < 0) return syscall(SYS_copy_file_range, in, from, out, to, len, flags);
    errno = ENOSYS;
    return -1;
}

int ftruncate(int fd, off_t to) {
    struct stat st;
    if (fuel < 0) return (int)syscall(SYS_ftruncate, fd, to);
    pthread_mutex_lock(&lock);
    struct file *f = watched(fd, &st);
    if (f) {
        tick();
        before_truncate(f, fd, &st, to);
    }
    int done = (int)syscall(SYS_ftruncate, fd, to), error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int ftruncate64(int fd, off64_t to) { return ftruncate(fd, to); }

static int made_durable(int fd, long number) {
    struct stat st;
    if (fuel < 0 || raw_stat(fd, &st) != 0) return (int)syscall(number, fd);
    pthread_mutex_lock(&lock);
    if (S_ISDIR(st.st_mode)) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, path, sizeof path - 1);
        if (len > 0) {
            path[len] = 0;
            if (strncmp(path, root, root_len - 1) == 0) {
                tick();
                folder_synced(path);
            }
        }
    } else {
        struct file *f = watched(fd, &st);
        if (f) {
            tick();
            if (fails >= 0 && fails-- == 0) failed = f->broken = 1;
            int knows = !f->broken;
            for (int i = 0; i < f->told_count; i++) knows |= f->told[i] == fd;
            if (!knows && f->told_count < TOLD_MAX) {
                f->told[f->told_count++] = fd;
                pthread_mutex_unlock(&lock);
                errno = EIO;
                return -1;
            }
            if (!f->broken) synced(f);
        }
    }
    pthread_mutex_unlock(&lock);
    return 0;
}
int fsync(int fd) { return made_durable(fd, SYS_fsync); }
int fdatasync(int fd) { return made_durable(fd, SYS_fdatasync); }
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) { (void)fd, (void)at, (void)len, (void)flags; return 0; }

static int renamed(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char a[PATH_MAX], b[PATH_MAX], saved[PATH_MAX];
    if (fuel < 0 || !absolute(from_dir, from, a) || !absolute(to_dir, to, b) || !inside(b))
        return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    tick();
    int had = exists(b);
    if (had) {
        save_path(saved);
        if (syscall(SYS_linkat, AT_FDCWD, b, AT_FDCWD, saved, 0) != 0) had = 0;
    }
    int done = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags), error = errno;
    if (done == 0) note(RENAMED, b, a, b, had ? saved : NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) { return renamed(from_dir, from, to_dir, to, 0); }
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) { return renamed(from_dir, from, to_dir, to, flags); }

static int removed(int dirfd, const char *path, int flags) {
    char full[PATH_MAX], saved[PATH_MAX];
    if (fuel < 0 || !absolute(dirfd, path, full) || !inside(full)) return (int)syscall(SYS_unlinkat, dirfd, path, flags);
    pthread_mutex_lock(&lock);
    tick();
    int done, error;
    if (flags & AT_REMOVEDIR) {
        done = (int)syscall(SYS_unlinkat, dirfd, path, flags), error = errno;
        if (done == 0) note(UNMADE, full, full, NULL, NULL);
    } else {
        struct stat st;
        if (lstat(full, &st) == 0 && S_ISDIR(st.st_mode)) {
            done = -1, error = EISDIR;
        } else {
            save_path(saved);
            done = (int)syscall(SYS_renameat2, dirfd, path, AT_FDCWD, saved, 0), error = errno;
            if (done == 0) note(REMOVED, full, full, NULL, saved);
        }
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int dirfd, const char *path, int flags) { return removed(dirfd, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

static int made(int dirfd, const char *path, mode_t mode) {
    char full[PATH_MAX];
    if (fuel < 0 || !absolute(dirfd, path, full) || !inside(full)) return (int)syscall(SYS_mkdirat, dirfd, path, mode);
    pthread_mutex_lock(&lock);
    tick();
    int done = (int)syscall(SYS_mkdirat, dirfd, path, mode), error = errno;
    if (done == 0) note(MADE, full, full, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int dirfd, const char *path, mode_t mode) { return made(dirfd, path, mode); }

static int linked(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char full[PATH_MAX];
    if (fuel < 0 || !absolute(to_dir, to, full) || !inside(full)) return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    pthread_mutex_lock(&lock);
    tick();
    int done = (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags), error = errno;
    if (done == 0) note(CREATED, full, full, NULL, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
int link(const char *from, const char *to) { return linked(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) { return linked(from_dir, from, to_dir, to, flags); }
