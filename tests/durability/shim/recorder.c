/* Loaded into a test's child process before the C library (LD_PRELOAD): writes down, in one total order, every change
 * that the process makes to files below SHIM_ROOT, every sync, and what it says on standard output; makes chosen calls
 * fail; and, to test the tests, pretends that chosen syncs were done. It owns no judgement: what a power cut could
 * leave is computed from the record by `disk.rs`.
 *
 * SHIM_ROOT   absolute path of the directory that is watched
 * SHIM_LOG    the record; without it nothing is recorded
 * SHIM_LIE    kinds of files, separated by commas, whose syncs return at once and are not recorded: log, sst, manifest,
 *             current, durable, dir, logdir (the directory of the log);
 *             and logremove: segments of the log are not removed, and nothing is said of it
 * SHIM_FAULT  CALL:FIRST:COUNT:ERRNO makes calls FIRST to FIRST + COUNT - 1 of a kind fail (write, sync, open, name, any,
 *             or of logs or sorted files alone: logsync, logwrite, tablewrite) with that error number; removing the file
 *             "SHIM_ROOT/heal" ends it, and what it counted is written to SHIM_COUNT when the process ends
 *
 * The record is a row of entries: type (u8), fd (u32), two numbers (u64), length (u32), bytes; in the machine's order.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
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

#define FDS 4096

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static size_t root_len;
static int record = -1;
static const char *lies = "";
static char fault_kind[16];
static long fault_first, fault_count, counted;
static int fault_errno;
static uint64_t syncs;
/* What each descriptor below the root is: 0 none, 1 file, 2 directory, 3 file whose syncs are lies, 4 such directory. */
static unsigned char kinds[FDS];
static unsigned char is_log[FDS], is_table[FDS];

__attribute__((constructor)) static void begin(void) {
  root = getenv("SHIM_ROOT");
  if (root == NULL) return;
  root_len = strlen(root);
  const char *path = getenv("SHIM_LOG");
  if (path != NULL) {
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    /* Out of the way of the numbers that the process sees. */
    record = fcntl(fd, F_DUPFD_CLOEXEC, FDS + 100);
    if (record < 0) record = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    syscall(SYS_close, fd);
  }
  if (getenv("SHIM_LIE") != NULL) lies = getenv("SHIM_LIE");
  const char *fault = getenv("SHIM_FAULT");
  if (fault != NULL && sscanf(fault, "%15[a-z]:%ld:%ld:%d", fault_kind, &fault_first, &fault_count, &fault_errno) != 4) _exit(99);
}

__attribute__((destructor)) static void end(void) {
  const char *path = getenv("SHIM_COUNT");
  if (root == NULL || path == NULL) return;
  char text[32];
  int len = snprintf(text, sizeof text, "%ld\n", counted);
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  syscall(SYS_write, fd, text, len);
  syscall(SYS_close, fd);
}

static void say(char type, uint32_t fd, uint64_t a, uint64_t b, const void *bytes, uint32_t len) {
  if (record < 0) return;
  unsigned char head[25];
  head[0] = type;
  memcpy(head + 1, &fd, 4);
  memcpy(head + 5, &a, 8);
  memcpy(head + 13, &b, 8);
  memcpy(head + 21, &len, 4);
  struct iovec parts[2] = {{head, sizeof head}, {(void *)bytes, len}};
  ssize_t wrote = syscall(SYS_writev, record, parts, 2);
  if (wrote != (ssize_t)(sizeof head + len)) _exit(98);
}

static int inside(const char *path) {
  return root != NULL && strncmp(path, root, root_len) == 0 && (path[root_len] == '/' || path[root_len] == 0);
}

/* The absolute path of `path` as seen from `dir`; 1 if it is below the root. */
static int resolve(int dir, const char *path, char *out) {
  if (root == NULL || path == NULL) return 0;
  if (path[0] == '/') {
    snprintf(out, PATH_MAX, "%s", path);
  } else {
    char base[PATH_MAX / 2];
    if (dir == AT_FDCWD) {
      if (getcwd(base, sizeof base) == NULL) return 0;
    } else {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
      ssize_t len = readlink(link, base, sizeof base - 1);
      if (len < 0) return 0;
      base[len] = 0;
    }
    snprintf(out, PATH_MAX, "%s/%s", base, path);
  }
  return inside(out);
}

/* Whether this call is one of those that are to fail. Called in order. */
static int fails(const char *kind) {
  int some = strncmp(kind, "log", 3) == 0 || strncmp(kind, "table", 5) == 0, any = strcmp(fault_kind, "any") == 0 && !some;
  if (fault_kind[0] == 0 || (!any && strcmp(fault_kind, kind) != 0)) return 0;
  counted++;
  if (counted < fault_first || counted - fault_first >= fault_count) return 0;
  errno = fault_errno;
  return 1;
}

static int lied(const char *kind) {
  size_t len = strlen(kind);
  for (const char *at = lies; (at = strstr(at, kind)) != NULL; at += len)
    if ((at == lies || at[-1] == ',') && (at[len] == 0 || at[len] == ',')) return 1;
  return 0;
}

static unsigned char kind_of(const char *path) {
  struct stat found;
  const char *name = strrchr(path, '/') + 1;
  if (stat(path, &found) == 0 && S_ISDIR(found.st_mode))
    return lied("dir") || (lied("logdir") && strcmp(name, "log") == 0) ? 4 : 2;
  const char *dot = strrchr(name, '.');
  const char *kind = "";
  if (dot != NULL && strcmp(dot, ".log") == 0) kind = "log";
  else if (dot != NULL && strcmp(dot, ".sst") == 0) kind = "sst";
  else if (strncmp(name, "MANIFEST", 8) == 0) kind = "manifest";
  else if (strncmp(name, "CURRENT", 7) == 0 || (dot != NULL && strcmp(dot, ".dbtmp") == 0)) kind = "current";
  else if (strcmp(name, "DURABLE") == 0) kind = "durable";
  return kind[0] != 0 && lied(kind) ? 3 : 1;
}

static int watched(int fd) { return root != NULL && fd >= 0 && fd < FDS && kinds[fd] != 0; }

static int do_open(int dir, const char *path, int flags, mode_t mode) {
  char full[PATH_MAX];
  if (!resolve(dir, path, full)) return syscall(SYS_openat, dir, path, flags, mode);
  pthread_mutex_lock(&order);
  int fd = -1;
  if (!((flags & O_CREAT) && fails("open"))) fd = syscall(SYS_openat, dir, path, flags, mode);
  if (fd >= FDS) _exit(97);
  if (fd >= 0) {
    kinds[fd] = kind_of(full);
    const char *dot = strrchr(full, '.');
    is_log[fd] = dot != NULL && strcmp(dot, ".log") == 0;
    is_table[fd] = dot != NULL && strcmp(dot, ".sst") == 0;
    say('O', fd, flags & O_CREAT ? 1 : 0, flags & O_TRUNC ? 1 : 0, full, strlen(full));
  }
  int error = errno;
  pthread_mutex_unlock(&order);
  errno = error;
  return fd;
}

#define MODE                            \
  mode_t mode = 0;                      \
  if (flags & (O_CREAT | O_TMPFILE)) {  \
    va_list more;                       \
    va_start(more, flags);              \
    mode = va_arg(more, mode_t);        \
    va_end(more);                       \
  }
int open(const char *path, int flags, ...) { MODE return do_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return do_open(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE return do_open(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE return do_open(dir, path, flags | O_LARGEFILE, mode); }
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
  if (!watched(fd)) return syscall(SYS_close, fd);
  pthread_mutex_lock(&order);
  kinds[fd] = 0;
  say('X', fd, 0, 0, NULL, 0);
  int result = syscall(SYS_close, fd);
  pthread_mutex_unlock(&order);
  return result;
}

/* `offset` < 0: where the descriptor stands. */
static ssize_t do_write(int fd, const void *bytes, size_t len, off_t offset) {
  pthread_mutex_lock(&order);
  ssize_t wrote = -1;
  if (!fails("write") && !(is_log[fd] && fails("logwrite")) && !(is_table[fd] && fails("tablewrite")))
    wrote = offset < 0 ? syscall(SYS_write, fd, bytes, len) : syscall(SYS_pwrite64, fd, bytes, len, offset);
  int error = errno;
  if (wrote > 0) {
    off_t start = offset < 0 ? lseek(fd, 0, SEEK_CUR) - wrote : offset;
    say('W', fd, start, 0, bytes, wrote);
  }
  pthread_mutex_unlock(&order);
  errno = error;
  return wrote;
}

ssize_t write(int fd, const void *bytes, size_t len) {
  if (fd == 1 && record >= 0) {
    pthread_mutex_lock(&order);
    ssize_t wrote = syscall(SYS_write, fd, bytes, len);
    say('A', fd, 0, 0, bytes, len);
    pthread_mutex_unlock(&order);
    return wrote;
  }
  return watched(fd) ? do_write(fd, bytes, len, -1) : syscall(SYS_write, fd, bytes, len);
}
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) {
  return watched(fd) ? do_write(fd, bytes, len, offset) : syscall(SYS_pwrite64, fd, bytes, len, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset) {
  return watched(fd) ? do_write(fd, bytes, len, offset) : syscall(SYS_pwrite64, fd, bytes, len, offset);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (!watched(fd)) return syscall(SYS_writev, fd, parts, count);
  ssize_t total = 0;
  for (int part = 0; part < count; part++) {
    ssize_t wrote = do_write(fd, parts[part].iov_base, parts[part].iov_len, -1);
    if (wrote < 0) return total > 0 ? total : wrote;
    total += wrote;
    if ((size_t)wrote < parts[part].iov_len) break;
  }
  return total;
}

/* Callers fall back to reading and writing. */
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags) {
  if (!watched(out)) return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
  errno = ENOSYS;
  return -1;
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t len) {
  if (!watched(out)) return syscall(SYS_sendfile, out, in, at, len);
  errno = ENOSYS;
  return -1;
}
ssize_t sendfile(int out, int in, off_t *at, size_t len) { return sendfile64(out, in, at, len); }

static int do_truncate(int fd, off_t size) {
  if (!watched(fd)) return syscall(SYS_ftruncate, fd, size);
  pthread_mutex_lock(&order);
  int result = fails("write") ? -1 : syscall(SYS_ftruncate, fd, size);
  int error = errno;
  if (result == 0) say('T', fd, size, 0, NULL, 0);
  pthread_mutex_unlock(&order);
  errno = error;
  return result;
}
int ftruncate(int fd, off_t size) { return do_truncate(fd, size); }
int ftruncate64(int fd, off64_t size) { return do_truncate(fd, size); }

/* Space is taken without changing what is read, or it is not taken at all. */
static int do_allocate(int fd, int mode, off_t at, off_t len) {
  if (!watched(fd)) return syscall(SYS_fallocate, fd, mode, at, len);
  if (mode & FALLOC_FL_KEEP_SIZE) return 0;
  errno = EOPNOTSUPP;
  return -1;
}
int fallocate(int fd, int mode, off_t at, off_t len) { return do_allocate(fd, mode, at, len); }
int fallocate64(int fd, int mode, off64_t at, off64_t len) { return do_allocate(fd, mode, at, len); }

/* Other threads go on meanwhile: what a sync covers is what came before its beginning. */
static int do_sync(int fd, long call) {
  if (!watched(fd)) return syscall(call, fd);
  pthread_mutex_lock(&order);
  uint64_t number = ++syncs;
  int lie = kinds[fd] > 2, fail = fails("sync") || (is_log[fd] && fails("logsync")), error = errno;
  if (!lie && !fail) say('S', fd, number, 0, NULL, 0);
  if (fail) say('F', fd, number, 0, NULL, 0);
  pthread_mutex_unlock(&order);
  if (fail) {
    errno = error;
    return -1;
  }
  int result = syscall(call, fd);
  error = errno;
  if (!lie && result == 0) {
    pthread_mutex_lock(&order);
    say('E', fd, number, 0, NULL, 0);
    pthread_mutex_unlock(&order);
  }
  errno = error;
  return result;
}
int fsync(int fd) { return do_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

/* A change of names: from one path, or from one to another. */
static int do_names(char type, int from_dir, const char *from, int to_dir, const char *to, int flags) {
  char first[PATH_MAX], second[PATH_MAX], both[2 * PATH_MAX + 1];
  int has_from = resolve(from_dir, from, first), has_to = to == NULL || resolve(to_dir, to, second);
  pthread_mutex_lock(&order);
  int result = -1, in = has_from || (to != NULL && has_to);
  if (!(in && fails("name"))) {
    switch (type) {
      case 'R': result = syscall(SYS_renameat2, from_dir, from, to_dir, to, flags); break;
      case 'L': result = syscall(SYS_linkat, from_dir, from, to_dir, to, flags); break;
      case 'M': result = syscall(SYS_mkdirat, from_dir, from, flags); break;
      default: result = syscall(SYS_unlinkat, from_dir, from, flags); break;
    }
  }
  int error = errno;
  if (type == 'U' && has_from && strcmp(first + root_len, "/heal") == 0) fault_kind[0] = 0;
  if (result == 0 && in) {
    size_t total = strlen(first);
    memcpy(both, first, total);
    if (to != NULL) {
      both[total] = 0;
      memcpy(both + total + 1, second, strlen(second));
      total += 1 + strlen(second);
    }
    say(type, 0, type == 'U' && (flags & AT_REMOVEDIR) ? 1 : 0, 0, both, total);
  }
  pthread_mutex_unlock(&order);
  errno = error;
  return result;
}
int rename(const char *from, const char *to) { return do_names('R', AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return do_names('R', a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return do_names('R', a, from, b, to, flags); }
int link(const char *from, const char *to) { return do_names('L', AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return do_names('L', a, from, b, to, flags); }
int unlink(const char *path) {
  const char *log = strstr(path, "/log/");
  if (log != NULL && lied("logremove")) return 0;
  return do_names('U', AT_FDCWD, path, 0, NULL, 0);
}
int unlinkat(int dir, const char *path, int flags) { return do_names('U', dir, path, 0, NULL, flags); }
int remove(const char *path) { return unlink(path); }
int rmdir(const char *path) { return do_names('U', AT_FDCWD, path, 0, NULL, AT_REMOVEDIR); }
int mkdir(const char *path, mode_t mode) { return do_names('M', AT_FDCWD, path, 0, NULL, mode); }
int mkdirat(int dir, const char *path, mode_t mode) { return do_names('M', dir, path, 0, NULL, mode); }
