/* A CUDA program of any shape, for the stand-in. Arguments NAME=VALUE, of which each has a default:
 *
 * iterations=100 (0: for ever)   trips=1,22   launches of each round trip of an iteration, each ended by a wait
 * kernel_us=100   host_us=0 (computing before each trip; host_work=0: so many thousand additions, which take longer
 * where others take the core)   think_us=0 (sleeping after each iteration)
 * slow_first=0 slow_factor=4: so many iterations take so many times longer
 * api=runtime|driver   wait=stream|event|query|device|copy   graph=0   copy_bytes=0 (from pinned memory, before each trip)
 * pageable=0 (copies from pageable memory)   streams=1   threads=1 (each runs all iterations)   processes=1 (forked)
 * contexts=1 (threads take turns)   lines=0 (KTS_APP lines)   nvtx= (name of a range around each iteration)
 * crash_at=-1 (an iteration)   crash_when= (once a file of that name is there)   crash=segv|exit|exec|abort
 * spawn=0 (so many forked children that end at once)
 * start_ms=0 (sleeping before it begins to use CUDA)
 * ready= (a file that is made when the first iteration begins)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "standin.h"

typedef void *handle;
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(handle *, int);
int cuDeviceGetCount(int *);
int cuCtxCreate_v2(handle *, unsigned, int);
int cuCtxSetCurrent(handle);
int cuModuleGetFunction(handle *, handle, const char *);
int cuLaunchKernel(handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **);
int cuStreamCreateWithPriority(handle *, unsigned, int);
int cuStreamSynchronize(handle);
int cuCtxSynchronize(void);
int cuEventCreate(handle *, unsigned);
int cuEventRecord(handle, handle);
int cuEventSynchronize(handle);
int cuStreamQuery(handle);
int cuStreamWaitEvent(handle, handle, unsigned);
int cuStreamBeginCapture_v2(handle, int);
int cuStreamEndCapture(handle, handle *);
int cuGraphInstantiateWithFlags(handle *, handle, uint64_t);
int cuGraphLaunch(handle, handle);
int cuMemAlloc_v2(uint64_t *, size_t);
int cuMemHostAlloc(void **, size_t, unsigned);
int cuMemcpyHtoDAsync_v2(uint64_t, const void *, size_t, handle);
int cuMemcpyDtoH_v2(void *, uint64_t, size_t);
struct dim3 { unsigned x, y, z; };
int cudaLaunchKernel(const void *, struct dim3, struct dim3, void **, size_t, handle);
int cudaStreamSynchronize(handle);
int cudaDeviceSynchronize(void);
int cudaMemcpyAsync(void *, const void *, size_t, int, handle);
int cudaMemcpy(void *, const void *, size_t, int);

static char **arguments;

static const char *text(const char *name, const char *otherwise)
{
    for (char **argument = arguments + 1; *argument; argument++)
        if (!strncmp(*argument, name, strlen(name)) && (*argument)[strlen(name)] == '=')
            return *argument + strlen(name) + 1;
    return otherwise;
}

static long number(const char *name, long otherwise)
{
    const char *value = text(name, NULL);
    return value ? atol(value) : otherwise;
}

static bool is(const char *name, const char *value, const char *otherwise)
{
    return !strcmp(text(name, otherwise), value);
}

/* ---- NVTX as its headers do it: load what the variable names, let it fill in the tables */
static int (*push)(const char *);
static int (*pop)(void);
static void *no_function;

static int functions(int module, void ****table, unsigned *count)
{
    static void **core[16];
    for (int id = 0; id < 16; id++)
        core[id] = &no_function;
    core[NVTX_PUSH_A] = (void **)&push;
    core[NVTX_POP] = (void **)&pop;
    *table = core;
    *count = 16;
    return module == NVTX_CORE;
}

static const void *exports(uint32_t id)
{
    static const struct nvtx_exports callbacks = {sizeof callbacks, functions};
    return id == NVTX_CALLBACKS ? &callbacks : NULL;
}

static void begin_nvtx(void)
{
    const char *path = getenv("NVTX_INJECTION64_PATH");
    void *injection = path ? dlopen(path, RTLD_NOW) : NULL;
    int (*begin)(const void *(*)(uint32_t)) = injection ? dlsym(injection, "InitializeInjectionNvtx2") : NULL;
    if (begin)
        begin(exports);
}

/* ---- one thread's iterations */
static void compute(int64_t us)
{
    for (const int64_t until = standin_now() + us * 1000; us > 0 && standin_now() < until;)
        ;
}

static void add_up(long thousands)
{
    for (volatile long left = thousands * 1000; left > 0; left--)
        ;
}

static int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

struct work {
    int trips, launches[64], streams;
    handle kernel, slow_kernel, stream[16], event, join, graph[2][64];
    void *host;
    uint64_t device;
};

static void launch(handle kernel, handle stream)
{
    if (is("api", "driver", "runtime"))
        cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
    else
        cudaLaunchKernel(kernel, (struct dim3){1, 1, 1}, (struct dim3){1, 1, 1}, NULL, 0, stream);
}

static void wait_for(struct work *work)
{
    for (int s = 1; s < work->streams; s++) {
        cuEventRecord(work->join, work->stream[s]);
        cuStreamWaitEvent(work->stream[0], work->join, 0);
    }
    const bool driver = is("api", "driver", "runtime");
    if (is("wait", "event", "stream")) {
        cuEventRecord(work->event, work->stream[0]);
        cuEventSynchronize(work->event);
    } else if (is("wait", "query", "stream")) {
        while (cuStreamQuery(work->stream[0]) != 0)
            usleep(20);
    } else if (is("wait", "device", "stream")) {
        driver ? cuCtxSynchronize() : cudaDeviceSynchronize();
    } else if (is("wait", "copy", "stream")) { /* as .cpu() does: to pageable memory, in the stream */
        char result[64];
        cudaMemcpyAsync(result, (void *)work->device, sizeof result, 2, work->stream[0]);
    } else {
        const int failed = driver ? cuStreamSynchronize(work->stream[0]) : cudaStreamSynchronize(work->stream[0]);
        if (failed) {
            fprintf(stderr, "error %d\n", failed);
            _exit(1);
        }
    }
}

static void prepare(struct work *work)
{
    char name[64], trips[512];
    snprintf(trips, sizeof trips, "%s", text("trips", "1,22"));
    for (char *trip = strtok(trips, ","); trip && work->trips < 64; trip = strtok(NULL, ","))
        work->launches[work->trips++] = atoi(trip);
    snprintf(name, sizeof name, "work_%ldus", number("kernel_us", 100));
    cuModuleGetFunction(&work->kernel, NULL, name);
    snprintf(name, sizeof name, "work_%ldus", number("kernel_us", 100) * number("slow_factor", 4));
    cuModuleGetFunction(&work->slow_kernel, NULL, name);
    work->streams = (int)number("streams", 1);
    for (int s = 0; s < work->streams; s++)
        cuStreamCreateWithPriority(&work->stream[s], 0, 0);
    cuEventCreate(&work->event, 0);
    cuEventCreate(&work->join, 0);
    const size_t bytes = (size_t)number("copy_bytes", 0) + 64;
    cuMemAlloc_v2(&work->device, bytes);
    if (number("pageable", 0))
        work->host = malloc(bytes);
    else
        cuMemHostAlloc(&work->host, bytes, 0);
    for (int slow = 0; number("graph", 0) && slow < 2; slow++)
        for (int trip = 0; trip < work->trips; trip++) {
            handle graph;
            cuStreamBeginCapture_v2(work->stream[0], 0);
            for (int n = 0; n < work->launches[trip]; n++)
                launch(slow ? work->slow_kernel : work->kernel, work->stream[0]);
            cuStreamEndCapture(work->stream[0], &graph);
            cuGraphInstantiateWithFlags(&work->graph[slow][trip], graph, 0);
        }
}

static void crash(void)
{
    fflush(stdout);
    if (is("crash", "exit", "segv"))
        _exit(3);
    if (is("crash", "exec", "segv"))
        execl("/bin/true", "true", (char *)NULL);
    if (is("crash", "abort", "segv"))
        abort();
    raise(SIGSEGV);
}

static handle context_of(long thread)
{
    static handle contexts[16];
    int devices = 1;
    cuDeviceGetCount(&devices);
    const long which = thread % number("contexts", 1);
    if (!contexts[which] && which == 0)
        cuDevicePrimaryCtxRetain(&contexts[0], 0);
    else if (!contexts[which])
        cuCtxCreate_v2(&contexts[which], 0, (int)(which % devices));
    return contexts[which];
}

static void *iterate(void *context)
{
    struct work work = {0};
    cuCtxSetCurrent(context);
    prepare(&work);
    const long iterations = number("iterations", 100), slow_first = number("slow_first", 0);
    const char *range = text("nvtx", NULL), *told = text("crash_when", NULL);
    for (long i = 0; !iterations || i < iterations; i++) {
        const bool slow = i < slow_first;
        const int64_t began = standin_now(), wall = wall_ns();
        if (range && push)
            push(range);
        if (i == number("crash_at", -1) || (told && !access(told, F_OK)))
            crash();
        for (int trip = 0; trip < work.trips; trip++) {
            compute(number("host_us", 0) * (slow ? number("slow_factor", 4) : 1));
            add_up(number("host_work", 0));
            if (number("copy_bytes", 0))
                cudaMemcpyAsync((void *)work.device, work.host, (size_t)number("copy_bytes", 0), 1, work.stream[0]);
            if (number("graph", 0))
                cuGraphLaunch(work.graph[slow][trip], work.stream[0]);
            else
                for (int n = 0; n < work.launches[trip]; n++)
                    launch(slow ? work.slow_kernel : work.kernel, work.stream[n % work.streams]);
            wait_for(&work);
        }
        if (range && pop)
            pop();
        if (number("lines", 0))
            printf("KTS_APP,v1,STANDIN,%ld,%lld,%lld,%.6f,\n", i, (long long)wall, (long long)wall_ns(),
                   (double)(standin_now() - began) / 1e6);
        if (number("think_us", 0))
            usleep((unsigned)number("think_us", 0));
    }
    return NULL;
}

int main(int count, char **given)
{
    (void)count;
    arguments = given;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (long process = 1; process < number("processes", 1); process++)
        if (fork() == 0)
            break;
    usleep((unsigned)number("start_ms", 0) * 1000);
    begin_nvtx();
    cuInit(0);
    for (long child = 0; child < number("spawn", 0); child++)
        if (fork() == 0)
            _exit(0);
    const char *ready = text("ready", NULL);
    if (ready)
        fclose(fopen(ready, "w"));
    const long threads = number("threads", 1);
    pthread_t others[64];
    for (long t = 1; t < threads && t < 64; t++)
        pthread_create(&others[t], NULL, iterate, context_of(t));
    iterate(context_of(0));
    for (long t = 1; t < threads && t < 64; t++)
        pthread_join(others[t], NULL);
    while (wait(NULL) > 0)
        ;
    return 0;
}
