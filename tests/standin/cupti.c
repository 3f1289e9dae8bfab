/* Stands in for libcupti.so. STANDIN_CUPTI_VERSION: what it says it is (28). STANDIN_TAKEN: another profiler was first.
 * STANDIN_REFUSES=N: cuptiSubscribe fails with result N. STANDIN_NO_KERNELS=N: cuptiActivityEnable fails with N.
 * Compiled with OLD it has no cuptiActivityRegisterTimestampCallback, as before CUDA 12. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "standin.h"

#define API __attribute__((visibility("default")))

static cupti_callback subscriber;
static void *subscriber_data;
static bool enabled[8][1024], recorded[64];
static cupti_buffer_wanted wanted;
static cupti_buffer_full full;
static int64_t offset_ns; /* CUPTI's clock minus CLOCK_MONOTONIC: one for all records, whoever is interrupted */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

enum { RECORD_BYTES = 256, MOST = 1 << 16 };
static struct { int64_t end_ns; uint8_t bytes[RECORD_BYTES]; } *pending;
static size_t pending_count, dropped;

static int number(const char *variable, int otherwise)
{
    const char *value = getenv(variable);
    return value ? atoi(value) : otherwise;
}

static uint64_t own_clock(void)
{
    struct timespec real;
    clock_gettime(CLOCK_REALTIME, &real);
    return (uint64_t)real.tv_sec * UINT64_C(1000000000) + (uint64_t)real.tv_nsec;
}

static void run_by(uint64_t (*clock)(void))
{
    int64_t closest = INT64_MAX;
    for (int pair = 0; pair < 100; pair++) {
        const int64_t before = standin_now(), theirs = (int64_t)clock(), took = standin_now() - before;
        if (took < closest) {
            closest = took;
            offset_ns = theirs - before - took / 2;
        }
    }
}

__attribute__((constructor)) static void begin(void) { run_by(own_clock); }

static uint64_t on_cupti_clock(int64_t monotonic_ns) { return (uint64_t)(monotonic_ns + offset_ns); }

static void on_call(uint32_t domain, uint32_t id, const struct cupti_call *call)
{
    if (subscriber && id < 1024 && enabled[domain][id])
        subscriber(subscriber_data, domain, id, call);
}

static void on_ran(uint32_t kind, int way, bool pageable, uint64_t bytes, int64_t begin_ns, int64_t end_ns,
                   uint32_t device, uint32_t context, uint32_t stream, uint32_t correlation, bool graph)
{
    if (!recorded[kind])
        return;
    pthread_mutex_lock(&lock);
    if (pending_count == MOST) {
        dropped++;
    } else {
        uint8_t *record = pending[pending_count].bytes;
        memset(record, 0, RECORD_BYTES);
        pending[pending_count++].end_ns = end_ns;
        const uint64_t begin = on_cupti_clock(begin_ns), end = begin + (uint64_t)(end_ns - begin_ns);
        if (kind == CUPTI_KERNEL)
            *(struct cupti_kernel *)record = (struct cupti_kernel){
                .kind = kind, .begin = begin, .end = end, .device = device, .context = context, .stream = stream,
                .correlation = correlation, .graph_node = graph};
        else if (kind == CUPTI_MEMCPY)
            *(struct cupti_copy *)record = (struct cupti_copy){
                .kind = kind, .way = (uint8_t)(way == 1 ? 1 : way == 2 ? 2 : 8), .from = way == 1 && !pageable ? 2 : way == 1 ? 1 : 3,
                .to = way == 2 && !pageable ? 2 : way == 2 ? 1 : 3, .bytes = bytes, .begin = begin, .end = end,
                .device = device, .context = context, .stream = stream, .correlation = correlation};
        else
            *(struct cupti_set *)record = (struct cupti_set){
                .kind = kind, .bytes = bytes, .begin = begin, .end = end, .device = device, .context = context,
                .stream = stream, .correlation = correlation};
    }
    pthread_mutex_unlock(&lock);
}

API int cuptiGetVersion(uint32_t *version) { *version = (uint32_t)number("STANDIN_CUPTI_VERSION", 28); return CUPTI_OK; }

API int cuptiGetResultString(int result, const char **words)
{
    *words = result == CUPTI_TAKEN ? "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED"
           : result == 35          ? "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"
                                   : "CUPTI_ERROR_UNKNOWN";
    return CUPTI_OK;
}

API int cuptiSubscribe(void **handle, cupti_callback callback, void *data)
{
    if (subscriber || getenv("STANDIN_TAKEN"))
        return CUPTI_TAKEN;
    if (getenv("STANDIN_REFUSES"))
        return number("STANDIN_REFUSES", 999);
    subscriber = callback;
    subscriber_data = data;
    standin_on_call = on_call;
    standin_on_ran = on_ran;
    *handle = (void *)1;
    return CUPTI_OK;
}

API int cuptiUnsubscribe(void *handle) { (void)handle; subscriber = NULL; return CUPTI_OK; }

API int cuptiEnableCallback(uint32_t enable, void *handle, uint32_t domain, uint32_t id)
{
    (void)handle;
    if (domain >= 8 || id >= 1024)
        return 1;
    enabled[domain][id] = enable;
    return CUPTI_OK;
}

API int cuptiActivityRegisterCallbacks(cupti_buffer_wanted w, cupti_buffer_full f) { wanted = w; full = f; return CUPTI_OK; }

API int cuptiActivityEnable(uint32_t kind)
{
    if (getenv("STANDIN_NO_KERNELS"))
        return number("STANDIN_NO_KERNELS", 35);
    pthread_mutex_lock(&lock);
    if (!pending)
        pending = calloc(MOST, sizeof *pending);
    pthread_mutex_unlock(&lock);
    recorded[kind] = true;
    return CUPTI_OK;
}
API int cuptiActivityDisable(uint32_t kind) { recorded[kind] = false; return CUPTI_OK; }

/* Hands over what is done by now; what is not stays, as CUPTI hands over no buffer with unfinished records in it. */
API int cuptiActivityFlushAll(uint32_t flag)
{
    pthread_mutex_lock(&lock);
    const int64_t now = standin_now();
    size_t left = 0, sent = 0;
    while (sent < pending_count && wanted && full) {
        uint8_t *buffer = NULL;
        size_t bytes = 0, most = 0, valid = 0;
        wanted(&buffer, &bytes, &most);
        if (!buffer)
            break;
        for (; sent < pending_count && valid + RECORD_BYTES <= bytes; sent++)
            if (pending[sent].end_ns <= now || flag) {
                memcpy(buffer + valid, pending[sent].bytes, RECORD_BYTES);
                valid += RECORD_BYTES;
            } else {
                pending[left++] = pending[sent];
            }
        full(NULL, 0, buffer, bytes, valid);
    }
    pending_count = left;
    pthread_mutex_unlock(&lock);
    return CUPTI_OK;
}

API int cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid, void **record)
{
    uint8_t *next = *record ? (uint8_t *)*record + RECORD_BYTES : buffer;
    if (next + RECORD_BYTES > buffer + valid)
        return CUPTI_QUEUE_EMPTY;
    *record = next;
    return CUPTI_OK;
}

API int cuptiActivityGetNumDroppedRecords(void *context, uint32_t stream, size_t *count)
{
    (void)context, (void)stream;
    *count = dropped;
    dropped = 0;
    return CUPTI_OK;
}

API int cuptiGetTimestamp(uint64_t *timestamp) { *timestamp = on_cupti_clock(standin_now()); return CUPTI_OK; }

#ifndef OLD
API int cuptiActivityRegisterTimestampCallback(uint64_t (*clock)(void)) { run_by(clock); return CUPTI_OK; }
#endif
