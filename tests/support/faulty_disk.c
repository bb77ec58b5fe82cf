/* A disk that is slow, fails once, or says what is durable: preloaded into a shard by tests/support/faulty_disk.py.
 *
 * FAULTY_DISK is a directory. What is in it is asked anew at each fsync and fdatasync:
 *   slow   a number: so many milliseconds later it goes on
 *   fail   is renamed to "failed", and this one fsync of a write-ahead log (*.log) gets EIO, without flushing
 *   ledger one line for each file that became durable, "+ device inode size", and one for each that is removed or
 *          written over, "- device inode"; written if the file is there
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *in_control(char *path, const char *name) {
  const char *directory = getenv("FAULTY_DISK");
  if (directory == NULL) return NULL;
  snprintf(path, PATH_MAX, "%s/%s", directory, name);
  return path;
}

static void wait_if_slow(void) {
  char path[PATH_MAX], text[32] = "";
  if (in_control(path, "slow") == NULL) return;
  int control = open(path, O_RDONLY | O_CLOEXEC);
  if (control < 0) return;
  ssize_t got = read(control, text, sizeof text - 1);
  close(control);
  long ms = got > 0 ? atol(text) : 0;
  struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

static int is_log(int file) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  return length > 4 && strncmp(path + length - 4, ".log", 4) == 0;
}

static int fails_now(int file) {
  char path[PATH_MAX], done[PATH_MAX];
  if (in_control(path, "fail") == NULL || access(path, F_OK) != 0 || !is_log(file)) return 0;
  in_control(done, "failed");
  /* Only one of those that come at once succeeds. */
  int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
  return real(path, done) == 0;
}

static void note(const char *line) {
  char path[PATH_MAX];
  if (in_control(path, "ledger") == NULL) return;
  int ledger = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (ledger < 0) return;
  if (write(ledger, line, strlen(line)) < 0) abort();
  close(ledger);
}

static int flushed_by(const char *name, int file) {
  int (*real)(int) = dlsym(RTLD_NEXT, name);
  struct stat before;
  char line[96];
  wait_if_slow();
  if (fails_now(file)) {
    errno = EIO;
    return -1;
  }
  int known = fstat(file, &before); /* What is written while it flushes may not be durable. */
  int result = real(file);
  int error = errno;
  if (result == 0 && known == 0 && S_ISREG(before.st_mode)) {
    snprintf(line, sizeof line, "+ %lu %lu %ld\n", (unsigned long)before.st_dev, (unsigned long)before.st_ino,
             (long)before.st_size);
    note(line);
  }
  errno = error;
  return result;
}

int fsync(int file) { return flushed_by("fsync", file); }

int fdatasync(int file) { return flushed_by("fdatasync", file); }

static void note_removal(const char *path) {
  struct stat there;
  char line[96];
  int error = errno;
  if (stat(path, &there) == 0 && S_ISREG(there.st_mode)) {
    snprintf(line, sizeof line, "- %lu %lu\n", (unsigned long)there.st_dev, (unsigned long)there.st_ino);
    note(line);
  }
  errno = error;
}

int unlink(const char *path) {
  int (*real)(const char *) = dlsym(RTLD_NEXT, "unlink");
  note_removal(path);
  return real(path);
}

int rename(const char *from, const char *to) {
  int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
  note_removal(to);
  return real(from, to);
}
