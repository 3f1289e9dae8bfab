/* What acts upon a program from inside of it (LD_PRELOAD): it does what the file in INJECT_BEAT asks for, delays only while
 * the beat is fresh. With INJECT_TENANT only in that tenant's processes.
 */
#define _GNU_SOURCE
#include "beat.h"
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __thread int depth; /* a runtime's launch makes a driver's */

__attribute__((constructor)) static void begin(void)
{
    const char *only = getenv("INJECT_TENANT"), *tenant = getenv("KTS_TENANT");
    if ((only && (!tenant || strcmp(only, tenant))) || !beat_open(getenv("INJECT_BEAT")))
        return;
    char list[sizeof beat->groups], pid[32];
    snprintf(list, sizeof list, "%s", beat->groups);
    for (char *path = strtok(list, ":"); path; path = strtok(NULL, ":")) {
        const int file = open(path, O_WRONLY | O_CLOEXEC);
        if (file < 0 || write(file, pid, (size_t)snprintf(pid, sizeof pid, "%d", (int)getpid())) < 0)
            perror(path), _exit(3);
        close(file);
    }
}

static void hold(void) /* computes: a longer way through libraries does */
{
    if (beat && beat->launch_us && depth == 1 && beat_fresh())
        for (const int64_t until = clock_ns(CLOCK_THREAD_CPUTIME_ID) + beat->launch_us * 1000;
             clock_ns(CLOCK_THREAD_CPUTIME_ID) < until;)
            ;
}

struct dim3 { unsigned x, y, z; };
typedef void *handle;

#define LATER(name, parameters, given)                        \
    int name parameters;                                      \
    int name parameters                                       \
    {                                                         \
        static int (*real) parameters;                        \
        if (!real)                                            \
            *(void **)&real = dlsym(RTLD_NEXT, #name);        \
        depth++;                                              \
        hold();                                               \
        const int result = real given;                        \
        depth--;                                              \
        return result;                                        \
    }

LATER(cuLaunchKernel, (handle f, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e, unsigned g, unsigned shared,
                       handle stream, void **arguments, void **extra),
      (f, a, b, c, d, e, g, shared, stream, arguments, extra))
LATER(cuLaunchKernelEx, (const void *config, handle f, void **arguments, void **extra), (config, f, arguments, extra))
LATER(cuGraphLaunch, (handle graph, handle stream), (graph, stream))
LATER(cudaLaunchKernel, (const void *f, struct dim3 grid, struct dim3 block, void **arguments, size_t shared, handle stream),
      (f, grid, block, arguments, shared, stream))
LATER(__cudaLaunchKernel, (handle f, struct dim3 grid, struct dim3 block, void **arguments, size_t shared, handle stream),
      (f, grid, block, arguments, shared, stream)) /* what <<<>>> becomes since CUDA 12.9 */
LATER(cudaLaunchKernelExC, (const void *config, const void *f, void **arguments), (config, f, arguments))
LATER(cudaGraphLaunch, (handle graph, handle stream), (graph, stream))

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *remain)
{
    static int (*real)(clockid_t, int, const struct timespec *, struct timespec *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_nanosleep");
    const int result = real(clock, flags, request, remain);
    if (beat && beat->sleep_us && result == 0 && beat_fresh()) {
        const struct timespec more = {beat->sleep_us / 1000000, beat->sleep_us % 1000000 * 1000};
        real(CLOCK_MONOTONIC, 0, &more, NULL);
    }
    return result;
}
