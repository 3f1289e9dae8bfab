/* Stands in for libcuda.so.1, with some of libcudart in it (each of its calls makes one of the driver's, as there).
 *
 * A kernel's name says how long it runs: cuModuleGetFunction(&f, m, "decode_150us"). Streams run beside each other;
 * with STANDIN_GPU=FILE all kernels of all processes that name the file run one after another. STANDIN_DEVICES: how
 * many there are. STANDIN_CALL_NS: what each call costs the host. STANDIN_COPY_NS_PER_KB: 50. A kernel with "fault" in
 * its name takes its process's contexts with it, and with STANDIN_FAULTS=FILE those of all processes that name the file
 * and are there. Where the daemon of MPS has left its number, the process is its client, and falls with it.
 * STANDIN_MEMORY: bytes of each process; CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=BYTES limits it, too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "standin.h"

#define API __attribute__((visibility("default")))
enum { SUCCESS, INVALID = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_CONTEXT = 201, NOT_READY = 600, ILLEGAL_ADDRESS = 700, MPS_CONNECTION_FAILED = 805 };
typedef struct context { uint32_t id, device; struct stream *null; } *CUcontext;
typedef struct kernel { int64_t ns; char name[64]; } *CUfunction;
typedef struct graph { int count; int64_t ns[4096]; } *CUgraph;
typedef struct stream { CUcontext context; uint32_t id; _Atomic int64_t free_at; CUgraph graph; } *CUstream;
typedef struct event { _Atomic int64_t at; CUgraph graph; } *CUevent;
typedef uint64_t CUdeviceptr;

API standin_callback standin_on_call;
API standin_ran standin_on_ran;

static bool initialised;
static pid_t initialised_by;
static atomic_uint correlations, contexts, streams;
static int64_t call_ns, copy_ns_per_kb = 50;
static struct context primary[16];
static __thread CUcontext current;
static _Atomic int64_t *whole_gpu; /* when it is free, for all processes */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

API int64_t standin_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void sleep_until(int64_t at)
{
    static __thread bool exact;
    if (!exact)
        exact = prctl(PR_SET_TIMERSLACK, 1) == 0;
    const struct timespec until = {at / 1000000000, at % 1000000000};
    if (at > standin_now())
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
            ;
}

/* ---- faults: one of a process is told by each of its later calls that waits or takes memory */
static _Atomic int64_t own_fault, *all_fault = &own_fault;
static int64_t begun_at;

static pid_t mps_daemon; /* whose client this process is; 0: nobody's */

static int fallen(void)
{
    if (mps_daemon && kill(mps_daemon, 0) != 0)
        return MPS_CONNECTION_FAILED;
    return atomic_load(all_fault) > begun_at ? ILLEGAL_ADDRESS : SUCCESS;
}

static void join_mps(void) /* where a daemon has left its number, as the real one does */
{
    const char *pipe = getenv("CUDA_MPS_PIPE_DIRECTORY");
    char path[512];
    snprintf(path, sizeof path, "%s/nvidia-cuda-mps-control.pid", pipe ? pipe : "/tmp/nvidia-mps");
    FILE *number = fopen(path, "re");
    if (!number)
        return;
    mps_daemon = fscanf(number, "%d", &mps_daemon) == 1 ? mps_daemon : 0;
    fclose(number);
    snprintf(path, sizeof path, "%s/clients", pipe ? pipe : "/tmp/nvidia-mps");
    FILE *clients = mps_daemon ? fopen(path, "ae") : NULL;
    if (clients) {
        fprintf(clients, "%d\n", getpid());
        fclose(clients);
    }
}

/* ---- memory: what was allocated is the GPU's or pinned; all else is pageable */
static struct { uint64_t begin, end; bool host; } areas[4096];
static int area_count;
static uint64_t memory_used, memory_limit = UINT64_MAX;

static int area_of(uint64_t pointer) /* 0 pageable, 1 pinned, 2 the GPU's */
{
    for (int i = 0; i < area_count; i++)
        if (pointer >= areas[i].begin && pointer < areas[i].end)
            return areas[i].host ? 1 : 2;
    return 0;
}

static int allocate(void **pointer, size_t bytes, bool host)
{
    if (fallen())
        return fallen();
    pthread_mutex_lock(&lock);
    const bool room = area_count < 4096 && (host || memory_used + bytes <= memory_limit)
                      && (*pointer = malloc(bytes ? bytes : 1));
    if (room) {
        memory_used += host ? 0 : bytes;
        areas[area_count].begin = (uint64_t)*pointer;
        areas[area_count].end = (uint64_t)*pointer + bytes;
        areas[area_count].host = host;
        area_count++;
    }
    pthread_mutex_unlock(&lock);
    return room ? SUCCESS : OUT_OF_MEMORY;
}

static int give_back(uint64_t pointer)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < area_count; i++)
        if (areas[i].begin == pointer) {
            memory_used -= areas[i].host ? 0 : areas[i].end - areas[i].begin;
            areas[i] = areas[--area_count];
            free((void *)pointer);
            break;
        }
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

/* ---- calls: what CUPTI hears of each */
static __thread int depth;
static __thread uint32_t outermost;

struct called { struct cupti_call data; uint32_t domain, id; int result; };

static void enter(struct called *call, uint32_t domain, uint32_t id, const void *params)
{
    memset(call, 0, sizeof *call);
    call->domain = domain, call->id = id;
    call->data.correlation = atomic_fetch_add(&correlations, 1) + 1;
    if (depth++ == 0)
        outermost = call->data.correlation;
    call->data.params = params;
    call->data.context = current;
    call->data.context_id = current ? current->id : 0;
    call->data.site = CUPTI_ENTER;
    if (standin_on_call)
        standin_on_call(domain, id, &call->data);
    if (call_ns && depth == 1)
        for (const int64_t until = standin_now() + call_ns; standin_now() < until;)
            ;
}

static int leave(struct called *call, int result)
{
    call->result = result;
    call->data.result = &call->result;
    call->data.context = current;
    call->data.context_id = current ? current->id : 0;
    call->data.site = CUPTI_LEAVE;
    depth--;
    if (standin_on_call)
        standin_on_call(call->domain, call->id, &call->data);
    return result;
}

#define PARAMS(...) \
    struct called call_; \
    const struct { __VA_ARGS__; } params
#define ENTER(domain, id) enter(&call_, domain, id, &params)
#define RETURN(result) return leave(&call_, result)

static CUstream here(CUstream stream)
{
    static __thread struct stream own;
    if (stream == (CUstream)2) {
        own.context = current;
        own.id = 100000 + (uint32_t)gettid();
        return &own;
    }
    return stream > (CUstream)2 ? stream : current ? current->null : NULL;
}

/* ---- the GPU */
static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }

static void run(CUstream stream, int64_t ns, uint32_t kind, int way, bool pageable, uint64_t bytes, bool graph)
{
    int64_t begin, free_at = atomic_load(&stream->free_at), whole;
    do {
        begin = later(standin_now(), free_at);
        if (whole_gpu && kind == CUPTI_KERNEL) {
            whole = atomic_load(whole_gpu);
            do
                begin = later(later(standin_now(), free_at), whole);
            while (!atomic_compare_exchange_weak(whole_gpu, &whole, begin + ns));
        }
    } while (!atomic_compare_exchange_strong(&stream->free_at, &free_at, begin + ns));
    if (standin_on_ran)
        standin_on_ran(kind, way, pageable, bytes, begin, begin + ns, stream->context->device, stream->context->id,
                       stream->id, outermost, graph);
}

static int launch(CUfunction function, CUstream stream)
{
    stream = here(stream);
    if (!stream || !function)
        return stream ? INVALID : NO_CONTEXT;
    if (strstr(function->name, "fault"))
        atomic_store(all_fault, standin_now());
    if (stream->graph)
        stream->graph->ns[stream->graph->count++ % 4096] = function->ns;
    else
        run(stream, function->ns, CUPTI_KERNEL, 0, false, 0, false);
    return SUCCESS;
}

static int copy(void *to, const void *from, size_t bytes, int way, CUstream stream, bool sync)
{
    if (!(stream = here(stream)))
        return NO_CONTEXT;
    if (way == 4)
        way = area_of((uint64_t)to) != 2 ? 2 : area_of((uint64_t)from) != 2 ? 1 : 3;
    const bool pageable = area_of((uint64_t)(way == 2 ? to : from)) == 0;
    if (stream->graph)
        return SUCCESS;
    if (to && from)
        memcpy(to, from, bytes);
    run(stream, 1000 + (int64_t)(bytes / 1024) * copy_ns_per_kb, CUPTI_MEMCPY, way, pageable, bytes, false);
    if ((sync && way != 3) || (way == 2 && pageable))
        sleep_until(atomic_load(&stream->free_at));
    return SUCCESS;
}

/* ---- driver */
API int cuInit(unsigned flags)
{
    (void)flags;
    pthread_mutex_lock(&lock);
    const bool first = !initialised;
    initialised = true;
    pthread_mutex_unlock(&lock);
    if (!first)
        return getpid() == initialised_by ? SUCCESS : NOT_INITIALIZED; /* a child of an initialised process */
    initialised_by = getpid();
    const char *ns = getenv("STANDIN_CALL_NS"), *copies = getenv("STANDIN_COPY_NS_PER_KB"), *gpu = getenv("STANDIN_GPU");
    call_ns = ns ? atoll(ns) : 0;
    copy_ns_per_kb = copies ? atoll(copies) : 50;
    if (gpu) {
        const int file = open(gpu, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (file >= 0 && ftruncate(file, 4096) == 0)
            whole_gpu = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    const char *faults = getenv("STANDIN_FAULTS"), *memory = getenv("STANDIN_MEMORY");
    const int shared = faults ? open(faults, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (shared >= 0 && ftruncate(shared, 4096) == 0)
        all_fault = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
    begun_at = standin_now();
    join_mps();
    memory_limit = memory ? strtoull(memory, NULL, 10) : UINT64_MAX;
    const char *pinned = getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT");
    if (pinned && strchr(pinned, '='))
        memory_limit = strtoull(strchr(pinned, '=') + 1, NULL, 10) << (strchr(pinned, 'M') ? 20 : 0);
    const char *path = getenv("CUDA_INJECTION64_PATH");
    void *injection = path ? dlopen(path, RTLD_NOW) : NULL;
    int (*begin)(void) = injection ? dlsym(injection, "InitializeInjection") : NULL;
    if (begin)
        begin();
    return SUCCESS;
}

API int cuDriverGetVersion(int *version) { *version = 12090; return SUCCESS; }
API int cuDeviceGetCount(int *count)
{
    const char *devices = getenv("STANDIN_DEVICES");
    *count = devices ? atoi(devices) : 1;
    return initialised ? SUCCESS : NOT_INITIALIZED;
}
API int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal >= 0 && ordinal < 16 ? SUCCESS : INVALID; }

API int cuDeviceGetName(char *name, int length, int device) { (void)device; strncpy(name, "Stand-in", length); return SUCCESS; }
API int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, device, 16); return SUCCESS; }
API int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = memory_limit < 80ull << 30 ? memory_limit : 80ull << 30; return SUCCESS; }
API int cuGetErrorName(int code, const char **name)
{
    *name = code == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY"
            : code == MPS_CONNECTION_FAILED ? "CUDA_ERROR_MPS_CONNECTION_FAILED" : "CUDA_ERROR_OF_STANDIN";
    return SUCCESS;
}

static void set_up(CUcontext context, int device)
{
    context->device = (uint32_t)device;
    context->id = atomic_fetch_add(&contexts, 1) + 1;
    context->null = calloc(1, sizeof *context->null);
    context->null->context = context;
    context->null->id = atomic_fetch_add(&streams, 1) + 7;
}

API int cuCtxCreate_v2(CUcontext *context, unsigned flags, int device)
{
    (void)flags;
    if (!initialised || getpid() != initialised_by)
        return NOT_INITIALIZED;
    *context = calloc(1, sizeof **context);
    set_up(*context, device);
    current = *context;
    return SUCCESS;
}

API int cuDevicePrimaryCtxRetain(CUcontext *context, int device)
{
    if (!initialised || getpid() != initialised_by)
        return NOT_INITIALIZED;
    pthread_mutex_lock(&lock);
    if (!primary[device].null)
        set_up(&primary[device], device);
    pthread_mutex_unlock(&lock);
    *context = &primary[device];
    return SUCCESS;
}
API int cuCtxSetCurrent(CUcontext context) { current = context; return SUCCESS; }
API int cuCtxGetCurrent(CUcontext *context) { *context = current; return SUCCESS; }
API int cuCtxDestroy_v2(CUcontext context) { (void)context; return SUCCESS; }

API int cuModuleLoadData(void **module, const void *image) { (void)image; *module = (void *)1; return SUCCESS; }

API int cuModuleGetFunction(CUfunction *function, void *module, const char *name)
{
    (void)module;
    const char *digits = name + strlen(name);
    while (digits > name && (digits[-1] < '0' || digits[-1] > '9'))
        digits--;
    const int64_t unit = !strcmp(digits, "us") ? 1000 : !strcmp(digits, "ms") ? 1000000 : 1;
    while (digits > name && digits[-1] >= '0' && digits[-1] <= '9')
        digits--;
    *function = calloc(1, sizeof **function);
    (*function)->ns = atoll(digits) * unit;
    strncpy((*function)->name, name, sizeof (*function)->name - 1);
    return SUCCESS;
}

API int cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) { return allocate((void **)pointer, bytes, false); }
API int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) { (void)flags; return allocate(pointer, bytes, true); }
API int cuMemFree_v2(CUdeviceptr pointer) { return give_back(pointer); }
API int cuPointerGetAttribute(void *value, int attribute, CUdeviceptr pointer)
{
    const int area = area_of(pointer);
    if (attribute != 2 || area == 0)
        return INVALID;
    *(uint32_t *)value = (uint32_t)area;
    return SUCCESS;
}

API int cuStreamCreate(CUstream *stream, unsigned flags)
{
    (void)flags;
    if (!current)
        return NO_CONTEXT;
    *stream = calloc(1, sizeof **stream);
    (*stream)->context = current;
    (*stream)->id = atomic_fetch_add(&streams, 1) + 7;
    return SUCCESS;
}

API int cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, CUstream stream, void **arguments, void **extra)
{
    PARAMS(CUfunction f; unsigned n[7]; CUstream stream; void **a, **e) =
        {f, {gx, gy, gz, bx, by, bz, shared}, stream, arguments, extra};
    ENTER(1, 307);
    RETURN(launch(f, stream));
}

struct config { unsigned n[7]; CUstream stream; void *attributes; unsigned count; };

API int cuLaunchKernelEx(const struct config *config, CUfunction f, void **arguments, void **extra)
{
    PARAMS(const struct config *config; CUfunction f; void **a, **e) = {config, f, arguments, extra};
    ENTER(1, 652);
    RETURN(launch(f, config->stream));
}

API int cuStreamSynchronize(CUstream stream)
{
    PARAMS(CUstream stream) = {stream};
    ENTER(1, 126);
    CUstream the = here(stream);
    if (the)
        sleep_until(atomic_load(&the->free_at));
    RETURN(the ? fallen() : NO_CONTEXT);
}

static CUstream all[1024];
static atomic_int all_count;
API int cuCtxSynchronize(void)
{
    PARAMS(int unused) = {0};
    ENTER(1, 17);
    int64_t until = current ? atomic_load(&current->null->free_at) : 0;
    for (int i = 0; i < atomic_load(&all_count); i++)
        until = later(until, atomic_load(&all[i]->free_at));
    sleep_until(until);
    RETURN(current ? SUCCESS : NO_CONTEXT);
}

API int cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority)
{
    (void)priority;
    const int result = cuStreamCreate(stream, flags);
    const int place = result == SUCCESS ? atomic_fetch_add(&all_count, 1) : 0;
    if (result == SUCCESS && place < 1024)
        all[place] = *stream;
    return result;
}

API int cuStreamQuery(CUstream stream)
{
    PARAMS(CUstream stream) = {stream};
    ENTER(1, 125);
    CUstream the = here(stream);
    RETURN(!the ? NO_CONTEXT : atomic_load(&the->free_at) <= standin_now() ? SUCCESS : NOT_READY);
}

API int cuEventCreate(CUevent *event, unsigned flags)
{
    (void)flags;
    *event = calloc(1, sizeof **event);
    return SUCCESS;
}

API int cuEventRecord(CUevent event, CUstream stream)
{
    PARAMS(CUevent event; CUstream stream) = {event, stream};
    ENTER(1, 119);
    CUstream the = here(stream);
    if (the) {
        event->graph = the->graph;
        atomic_store(&event->at, atomic_load(&the->free_at));
    }
    RETURN(the ? SUCCESS : NO_CONTEXT);
}

API int cuEventSynchronize(CUevent event)
{
    PARAMS(CUevent event) = {event};
    ENTER(1, 121);
    sleep_until(atomic_load(&event->at));
    RETURN(SUCCESS);
}

API int cuEventQuery(CUevent event)
{
    PARAMS(CUevent event) = {event};
    ENTER(1, 120);
    RETURN(atomic_load(&event->at) <= standin_now() ? SUCCESS : NOT_READY);
}

API int cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
    PARAMS(CUstream stream; CUevent event; unsigned flags) = {stream, event, flags};
    ENTER(1, 295);
    CUstream the = here(stream);
    if (the && event->graph)
        the->graph = event->graph;
    else if (the)
        atomic_store(&the->free_at, later(atomic_load(&the->free_at), atomic_load(&event->at)));
    RETURN(the ? SUCCESS : NO_CONTEXT);
}

API int cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
    PARAMS(CUdeviceptr to; const void *from; size_t bytes) = {to, from, bytes};
    ENTER(1, 276);
    RETURN(copy((void *)to, from, bytes, 1, NULL, true));
}

API int cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
    PARAMS(void *to; CUdeviceptr from; size_t bytes) = {to, from, bytes};
    ENTER(1, 278);
    RETURN(copy(to, (void *)from, bytes, 2, NULL, true));
}

API int cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
    PARAMS(CUdeviceptr to; const void *from; size_t bytes; CUstream stream) = {to, from, bytes, stream};
    ENTER(1, 277);
    RETURN(copy((void *)to, from, bytes, 1, stream, false));
}

API int cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    PARAMS(void *to; CUdeviceptr from; size_t bytes; CUstream stream) = {to, from, bytes, stream};
    ENTER(1, 279);
    RETURN(copy(to, (void *)from, bytes, 2, stream, false));
}

API int cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    PARAMS(CUdeviceptr to, from; size_t bytes; CUstream stream) = {to, from, bytes, stream};
    ENTER(1, 281);
    RETURN(copy((void *)to, (void *)from, bytes, 3, stream, false));
}

API int cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream)
{
    PARAMS(CUdeviceptr to; unsigned char value; size_t count; CUstream stream) = {to, value, count, stream};
    ENTER(1, 216);
    CUstream the = here(stream);
    if (the && !the->graph)
        run(the, 1000, CUPTI_MEMSET, 0, false, count, false);
    RETURN(the ? SUCCESS : NO_CONTEXT);
}

struct host_call { void (*function)(void *); void *data; int64_t at; };
static void *call_host(void *data)
{
    struct host_call *host = data;
    sleep_until(host->at);
    host->function(host->data);
    free(host);
    return NULL;
}

API int cuLaunchHostFunc(CUstream stream, void (*function)(void *), void *data)
{
    PARAMS(CUstream stream; void (*function)(void *); void *data) = {stream, function, data};
    ENTER(1, 527);
    CUstream the = here(stream);
    if (the) {
        struct host_call *host = malloc(sizeof *host);
        *host = (struct host_call){function, data, atomic_load(&the->free_at)};
        pthread_t thread;
        if (pthread_create(&thread, NULL, call_host, host) == 0)
            pthread_detach(thread);
    }
    RETURN(the ? SUCCESS : NO_CONTEXT);
}

/* ---- graphs: a list of kernels, one after another */
API int cuStreamBeginCapture_v2(CUstream stream, int mode)
{
    PARAMS(CUstream stream; int mode) = {stream, mode};
    ENTER(1, 539);
    CUstream the = here(stream);
    if (the)
        the->graph = calloc(1, sizeof *the->graph);
    RETURN(the ? SUCCESS : NO_CONTEXT);
}

API int cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    PARAMS(CUstream stream; CUgraph *graph) = {stream, graph};
    ENTER(1, 497);
    CUstream the = here(stream);
    *graph = the->graph;
    for (int i = 0; i < atomic_load(&all_count); i++)
        if (all[i]->graph == *graph)
            all[i]->graph = NULL;
    the->graph = NULL;
    RETURN(SUCCESS);
}

API int cuStreamIsCapturing(CUstream stream, int *status)
{
    CUstream the = here(stream);
    *status = the && the->graph;
    return SUCCESS;
}
API int cuGraphInstantiateWithFlags(CUgraph *made, CUgraph graph, uint64_t flags) { (void)flags; *made = graph; return SUCCESS; }

API int cuGraphLaunch(CUgraph graph, CUstream stream)
{
    PARAMS(CUgraph graph; CUstream stream) = {graph, stream};
    ENTER(1, 514);
    CUstream the = here(stream);
    for (int i = 0; the && i < graph->count; i++)
        run(the, graph->ns[i], CUPTI_KERNEL, 0, false, 0, true);
    RETURN(the ? SUCCESS : NO_CONTEXT);
}

/* ---- runtime: a call of its own around the driver's */
static void at_hand(void)
{
    if (!current) {
        cuInit(0);
        cuDevicePrimaryCtxRetain(&current, 0);
    }
}

API int cudaSetDevice(int device) { cuInit(0); return cuDevicePrimaryCtxRetain(&current, device); }
API int cudaMalloc(void **pointer, size_t bytes) { at_hand(); return allocate(pointer, bytes, false); }
API int cudaMallocHost(void **pointer, size_t bytes) { at_hand(); return allocate(pointer, bytes, true); }
API int cudaStreamCreate(CUstream *stream) { at_hand(); return cuStreamCreateWithPriority(stream, 0, 0); }

struct dim3 { unsigned x, y, z; };
API int cudaLaunchKernel(const void *f, struct dim3 grid, struct dim3 block, void **arguments, size_t shared, CUstream stream)
{
    at_hand();
    PARAMS(const void *f; struct dim3 grid, block; void **a; size_t shared; CUstream stream) =
        {f, grid, block, arguments, shared, stream};
    ENTER(2, 211);
    RETURN(cuLaunchKernel((CUfunction)f, grid.x, grid.y, grid.z, block.x, block.y, block.z, 0, stream, arguments, NULL));
}

API int cudaStreamSynchronize(CUstream stream)
{
    at_hand();
    PARAMS(CUstream stream) = {stream};
    ENTER(2, 131);
    RETURN(cuStreamSynchronize(stream));
}

API int cudaDeviceSynchronize(void)
{
    at_hand();
    PARAMS(int unused) = {0};
    ENTER(2, 165);
    RETURN(cuCtxSynchronize());
}

API int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int way, CUstream stream)
{
    at_hand();
    PARAMS(void *to; const void *from; size_t bytes; int way; CUstream stream) = {to, from, bytes, way, stream};
    ENTER(2, 41);
    RETURN(way == 1   ? cuMemcpyHtoDAsync_v2((CUdeviceptr)to, from, bytes, stream)
           : way == 2 ? cuMemcpyDtoHAsync_v2(to, (CUdeviceptr)from, bytes, stream)
                      : copy(to, from, bytes, way, stream, false));
}

API int cudaMemcpy(void *to, const void *from, size_t bytes, int way)
{
    at_hand();
    PARAMS(void *to; const void *from; size_t bytes; int way) = {to, from, bytes, way};
    ENTER(2, 31);
    RETURN(way == 1   ? cuMemcpyHtoD_v2((CUdeviceptr)to, from, bytes)
           : way == 2 ? cuMemcpyDtoH_v2(to, (CUdeviceptr)from, bytes)
                      : copy(to, from, bytes, way, NULL, true));
}
