/* The beat: a file in which the neighbour writes the time while it runs. Who injects acts while the last is fresh: in
 * the blocks that the neighbour shares, and in no other. What is done inside of the tenant stands behind it (Beat.asks),
 * so that its environment is the same in every trial. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FRESH_NS INT64_C(25000000)

static struct beat {
    _Atomic int64_t at;
    int64_t launch_us, sleep_us; /* how much later launches are handed over, and sleeps end */
    char groups[2048];           /* cgroup.procs files, separated by ":", that the tenant puts itself into */
} *beat;

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static inline int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

static inline bool beat_open(const char *path)
{
    const int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return false;
    void *there = mmap(NULL, sizeof *beat, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    beat = there == MAP_FAILED ? NULL : there;
    return beat != NULL;
}

static inline bool beat_fresh(void) { return beat && now_ns() - atomic_load(&beat->at) < FRESH_NS; }
