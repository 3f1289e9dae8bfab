/* What the GPU did: CUPTI's activity records to events, on CLOCK_MONOTONIC. The library's own thread raises and lowers
 * the level as the control file says, and has CUPTI hand its records over. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tracer.h"

enum { BUFFER_BYTES = 1 << 20, PERIOD_NS = 50 * 1000 * 1000, FLUSH_EVERY = 2 };

static int (*enable)(uint32_t kind), (*disable)(uint32_t kind), (*flush)(uint32_t flag), (*timestamp)(uint64_t *);
static int (*register_buffers)(cupti_buffer_wanted, cupti_buffer_full), (*register_clock)(uint64_t (*)(void));
static int (*next_record)(uint8_t *buffer, size_t valid, void **record);
static int (*dropped_records)(void *context, uint32_t stream, size_t *count), (*words)(int, const char **);
static const uint32_t KINDS[] = {CUPTI_KERNEL, CUPTI_MEMCPY, CUPTI_MEMSET};
static int64_t offset_ns; /* CLOCK_MONOTONIC minus CUPTI's clock, where CUPTI cannot be given ours */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool ended;

static uint64_t our_clock(void)
{
    return (uint64_t)now_ns();
}

/* The closest of a few pairs of readings: whoever is interrupted between them reads a longer pair. */
static void compare_clocks(void)
{
    int64_t closest = INT64_MAX;
    for (int pair = 0; pair < 8; pair++) {
        uint64_t theirs = 0;
        const int64_t before = now_ns();
        if (timestamp(&theirs) != CUPTI_OK)
            return;
        const int64_t after = now_ns();
        if (after - before < closest) {
            closest = after - before;
            offset_ns = before + closest / 2 - (int64_t)theirs;
        }
    }
}

static void buffer_wanted(uint8_t **buffer, size_t *bytes, size_t *most_records)
{
    *most_records = 0;
    *bytes = posix_memalign((void **)buffer, 8, BUFFER_BYTES) == 0 ? BUFFER_BYTES : 0;
    if (!*bytes)
        *buffer = NULL;
}

static void keep(const void *record)
{
    struct kts_event event = {0};
    switch (*(const uint32_t *)record) {
    case CUPTI_KERNEL: {
        const struct cupti_kernel *kernel = record;
        event = (struct kts_event){.kind = KTS_KERNEL, .stream = kernel->stream, .context = kernel->context,
                                   .correlation = kernel->correlation, .device = kernel->device,
                                   .detail = kernel->graph_node ? kernel->correlation : 0};
        event.begin_ns = (int64_t)kernel->begin, event.end_ns = (int64_t)kernel->end;
        break;
    }
    case CUPTI_MEMCPY: {
        const struct cupti_copy *copy = record;
        const bool up = copy->way == CUPTI_TO_HOST, down = copy->way == CUPTI_TO_DEVICE;
        const bool pageable = (up && copy->to == CUPTI_MEMORY_PAGEABLE) || (down && copy->from == CUPTI_MEMORY_PAGEABLE);
        event = (struct kts_event){.kind = KTS_COPIED, .stream = copy->stream, .context = copy->context,
                                   .correlation = copy->correlation, .device = copy->device, .detail = copy->bytes};
        event.flags = (up ? KTS_TO_HOST : 0) | (down ? KTS_TO_DEVICE : 0) | (pageable ? KTS_PAGEABLE : 0);
        event.begin_ns = (int64_t)copy->begin, event.end_ns = (int64_t)copy->end;
        break;
    }
    case CUPTI_MEMSET: {
        const struct cupti_set *set = record;
        event = (struct kts_event){.kind = KTS_SETTLED, .stream = set->stream, .context = set->context,
                                   .correlation = set->correlation, .device = set->device, .detail = set->bytes};
        event.begin_ns = (int64_t)set->begin, event.end_ns = (int64_t)set->end;
        break;
    }
    default:
        return;
    }
    if (!event.begin_ns || event.end_ns < event.begin_ns) { /* CUPTI could not time it */
        ring_lost(1);
        return;
    }
    event.begin_ns += offset_ns;
    event.end_ns += offset_ns;
    ring_put(&event);
}

static void buffer_full(void *context, uint32_t stream, uint8_t *buffer, size_t bytes, size_t valid)
{
    (void)bytes;
    if (!register_clock)
        compare_clocks();
    void *record = NULL;
    while (valid && next_record(buffer, valid, &record) == CUPTI_OK)
        keep(record);
    size_t dropped = 0;
    if (dropped_records && dropped_records(context, stream, &dropped) == CUPTI_OK && dropped)
        ring_lost(dropped);
    free(buffer);
}

static void level_is(uint32_t level)
{
    struct kts_header *header = ring_header();
    if (header)
        __atomic_store_n(&header->level, level, __ATOMIC_RELEASE);
}

static int raise_level(void)
{
    static bool registered;
    int error = CUPTI_OK;
    if (!registered) {
        if (register_clock && register_clock(our_clock) != CUPTI_OK)
            register_clock = NULL;
        error = register_buffers(buffer_wanted, buffer_full);
        registered = error == CUPTI_OK;
    }
    for (size_t kind = 0; kind < sizeof KINDS / sizeof *KINDS && error == CUPTI_OK; kind++)
        error = enable(KINDS[kind]);
    return error;
}

static void obey(void)
{
    static uint32_t refused;
    struct kts_header *header = ring_header();
    const uint32_t asked = __atomic_load_n(&ring_control()->level, __ATOMIC_ACQUIRE);
    if (!header || asked == header->level || asked == refused)
        return;
    if (asked == KTS_LEVEL_KERNELS) {
        const int error = raise_level();
        if (error != CUPTI_OK) {
            const char *why = "";
            if (words)
                words(error, &why);
            ring_say(KTS_CUPTI_ERROR, "CUPTI records no kernels: %s (%d)", why, error);
            refused = asked;
            return;
        }
    } else if (header->level == KTS_LEVEL_KERNELS) {
        for (size_t kind = 0; kind < sizeof KINDS / sizeof *KINDS; kind++)
            disable(KINDS[kind]);
        flush(CUPTI_FLUSH_FORCED);
    }
    level_is(asked);
}

static void *watch(void *unused)
{
    const struct timespec period = {.tv_nsec = PERIOD_NS};
    for (unsigned looks = 1;; looks++) {
        nanosleep(&period, NULL);
        pthread_mutex_lock(&lock);
        if (!ended) {
            obey();
            if (ring_header()->level == KTS_LEVEL_KERNELS && looks % FLUSH_EVERY == 0)
                flush(0);
        }
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

void activity_begin(void *cupti)
{
    enable = dlsym(cupti, "cuptiActivityEnable");
    disable = dlsym(cupti, "cuptiActivityDisable");
    flush = dlsym(cupti, "cuptiActivityFlushAll");
    timestamp = dlsym(cupti, "cuptiGetTimestamp");
    register_buffers = dlsym(cupti, "cuptiActivityRegisterCallbacks");
    register_clock = dlsym(cupti, "cuptiActivityRegisterTimestampCallback");
    next_record = dlsym(cupti, "cuptiActivityGetNextRecord");
    dropped_records = dlsym(cupti, "cuptiActivityGetNumDroppedRecords");
    words = dlsym(cupti, "cuptiGetResultString");
    level_is(KTS_LEVEL_CALLS);
    if (!enable || !disable || !flush || !timestamp || !register_buffers || !next_record)
        return;
    obey();
    /* The program's signals are for its own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    if (pthread_create(&thread, NULL, watch, NULL) == 0) {
        pthread_setname_np(thread, "kts-trace");
        pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void activity_forget(void)
{
    pthread_mutex_init(&lock, NULL);
    ended = false;
}

void activity_end(void)
{
    struct kts_header *header = ring_header();
    pthread_mutex_lock(&lock);
    ended = true;
    if (header->level == KTS_LEVEL_KERNELS)
        flush(CUPTI_FLUSH_FORCED);
    pthread_mutex_unlock(&lock);
}
