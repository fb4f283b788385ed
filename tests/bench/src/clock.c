/* Lets a program live faster: its clocks run RATE times as fast, from when it is loaded, and it sleeps accordingly.
 * Loaded with LD_PRELOAD by `bench w5`, so that the real daemon lives a day in minutes. Processor time stays real. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <time.h>

static __int128 rate;
/* When it began, by either clock, and how far the machine's clock is ahead; nanoseconds. */
static __int128 began_wall, began_steady, ahead;
static int (*true_gettime)(clockid_t, struct timespec *);
static int (*true_epoll_wait)(int, struct epoll_event *, int, int);

static __int128 nanoseconds(const struct timespec *t) { return (__int128)t->tv_sec * 1000000000 + t->tv_nsec; }

static __int128 number(const char *name) {
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : 0;
}

static void begin(void) {
    struct timespec t;
    true_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    true_epoll_wait = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
    began_wall = number("BENCH_CLOCK_BEGAN");
    ahead = number("BENCH_CLOCK_AHEAD");
    true_gettime(CLOCK_MONOTONIC, &t);
    began_steady = nanoseconds(&t);
    rate = number("BENCH_CLOCK_RATE");
    if (rate < 1) rate = 1;
}

__attribute__((constructor)) static void loaded(void) {
    if (!rate) begin();
}

int clock_gettime(clockid_t id, struct timespec *t) {
    if (!rate) begin();
    int result = true_gettime(id, t);
    if (result) return result;
    __int128 from, plus = 0;
    switch (id) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE: from = began_wall; plus = ahead; break;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_BOOTTIME: from = began_steady; break;
    default: return result;
    }
    __int128 now = from + (nanoseconds(t) - from) * rate + plus;
    t->tv_sec = (time_t)(now / 1000000000);
    t->tv_nsec = (long)(now % 1000000000);
    return 0;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}

int epoll_wait(int poll, struct epoll_event *events, int most, int timeout) {
    if (!rate) begin();
    if (timeout > 0) timeout = (int)((timeout + rate - 1) / rate);
    return true_epoll_wait(poll, events, most, timeout);
}
