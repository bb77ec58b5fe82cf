/* A wall clock that can be put wrong while the process runs. Loaded with LD_PRELOAD into one process of a test.
 *
 * TALLY_CLOCK names a file of two signed 64-bit numbers, which the test changes: by how many nanoseconds the clock is
 * wrong, and, if that is not 0, the nanoseconds since the epoch at which it stands still.
 *
 * What waits until a time by the wall clock is woken when it would be on a machine whose clock is wrong for everybody:
 * the time is translated back. A time below 10^9 seconds is one of the monotonic clock, which is never wrong.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static const int64_t right[2];
static const volatile int64_t *wrong = right;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("TALLY_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, sizeof right, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) wrong = found;
    close(file);
}

static int64_t real_ns(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static int64_t shown_ns(void) { return wrong[1] ? wrong[1] : real_ns() + wrong[0]; }

static int is_wall(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    if (!is_wall(clock)) {
        if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
        return next(clock, now);
    }
    int64_t shown = shown_ns();
    now->tv_sec = shown / SECOND;
    now->tv_nsec = shown % SECOND;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    int64_t shown = shown_ns();
    now->tv_sec = shown / SECOND;
    now->tv_usec = shown % SECOND / 1000;
    return 0;
}

time_t time(time_t *now) {
    time_t shown = shown_ns() / SECOND;
    if (now) *now = shown;
    return shown;
}

static const struct timespec *translated(const struct timespec *until, struct timespec *place) {
    if (!until || until->tv_sec < SECOND) return until;
    int64_t there = real_ns() + (until->tv_sec * SECOND + until->tv_nsec - shown_ns());
    place->tv_sec = there / SECOND;
    place->tv_nsec = there % SECOND;
    return place;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    /* Without its version dlsym would find the one of old glibc, which has other condition variables. */
    if (!next) next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!next) next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec place;
    return next(cond, mutex, translated(until, &place));
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec place;
    return next(cond, mutex, clock, is_wall(clock) ? translated(until, &place) : until);
}
