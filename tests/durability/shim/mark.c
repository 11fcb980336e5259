/* Loaded into a benchmark's process (LD_PRELOAD): says at its end what the durable mark has cost: how often it was
 * written and synced, for how long, and how long the store was at work meanwhile. It changes nothing, unless MARK_SWITCH
 * names a file: while its first byte is not 0, the mark is neither written nor synced (benches/mark.rs).
 *
 *   cc -O2 -shared -fPIC -o mark.so tests/durability/shim/mark.c
 *   LD_PRELOAD=./mark.so THE-BENCHMARK
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FDS 4096
/* A longer time without a mark is none of work. */
#define PAUSE_NS 50000000

enum { UNKNOWN, OTHER, MARK };
static _Atomic unsigned char kinds[FDS];
static _Atomic uint64_t writes, write_ns, syncs, sync_ns, active_ns, last;

static const volatile unsigned char *off;

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("MARK_SWITCH");
  if (path == NULL) return;
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  void *page = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) _exit(99);
  off = page;
  syscall(SYS_close, fd);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* The store opens its mark once and keeps it, so each descriptor is looked up once. */
static int is_mark(int fd) {
  if (fd < 0 || fd >= FDS) return 0;
  if (kinds[fd] == UNKNOWN) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path);
    kinds[fd] = len > 8 && memcmp(path + len - 8, "/DURABLE", 8) == 0 ? MARK : OTHER;
  }
  return kinds[fd] == MARK;
}

int close(int fd) {
  if (fd >= 0 && fd < FDS) kinds[fd] = UNKNOWN;
  return syscall(SYS_close, fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
  if (!is_mark(fd)) return syscall(SYS_pwrite64, fd, bytes, len, at);
  if (off != NULL && *off != 0) return len;
  uint64_t began = now();
  ssize_t wrote = syscall(SYS_pwrite64, fd, bytes, len, at);
  uint64_t ended = now(), before = atomic_exchange(&last, ended);
  writes++;
  write_ns += ended - began;
  if (ended - before < PAUSE_NS) active_ns += ended - before;
  return wrote;
}
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) { return pwrite64(fd, bytes, len, at); }

int fdatasync(int fd) {
  if (!is_mark(fd)) return syscall(SYS_fdatasync, fd);
  if (off != NULL && *off != 0) return 0;
  uint64_t began = now();
  int result = syscall(SYS_fdatasync, fd);
  syncs++;
  sync_ns += now() - began;
  return result;
}

__attribute__((destructor)) static void end(void) {
  if (writes == 0) return;
  fprintf(stderr, "durable mark: %lu writes of %.2f us, %.2f %% of the %.2f s at work; %lu syncs beside it, %.2f ms each\n",
          (unsigned long)writes, write_ns / 1e3 / writes, 100.0 * write_ns / active_ns, active_ns / 1e9,
          (unsigned long)syncs, syncs == 0 ? 0.0 : sync_ns / 1e6 / syncs);
}
