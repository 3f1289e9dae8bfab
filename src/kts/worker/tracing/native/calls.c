/* CUPTI's callbacks to events: the outermost of nested calls of each thread, where the host stood while it ran. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

#include "tracer.h"

enum { NONE, CAPTURE = 200, CAPTURED };                                   /* kinds that are no events */
enum { CONFIG = 1, VIA = 2, SYNC = 4, UP = 8, DOWN = 16, OWN = 32, ALL = 64 };
#define LAUNCH KTS_LAUNCH
#define GRAPH KTS_GRAPH
#define COPY KTS_COPY
#define SET KTS_SET
#define WAIT KTS_WAIT
#define RECORD KTS_RECORD
#define QUERY KTS_QUERY
#define STREAM_WAIT KTS_STREAM_WAIT
#define HOST KTS_HOST

enum { MOST = 1024 };
static const struct row {
    uint8_t kind, flags;
    int16_t stream, detail;
    uint8_t factors, unit;
    int16_t to, from, way;
} rows[2][MOST] = {
#define CALL(domain, id, name, ...) [CUPTI_##domain - 1][id] = {__VA_ARGS__},
#include "calls.def"
#undef CALL
};

static __thread struct {
    bool open, kept;
    uint32_t domain;
    struct kts_event event;
} call;

static atomic_uint capturing; /* streams that record a graph now */
static int (*is_capturing)(uint64_t stream, int *status);
static int (*pointer_attribute)(void *value, int attribute, uint64_t pointer);

static uint64_t word(const void *base, int at)
{
    uint64_t value;
    memcpy(&value, (const char *)base + at, sizeof value);
    return value;
}

static void find_driver(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (driver) {
        is_capturing = dlsym(driver, "cuStreamIsCapturing");
        pointer_attribute = dlsym(driver, "cuPointerGetAttribute");
    }
}

/* What such a call is told launches nothing now. */
static bool is_captured(uint64_t stream)
{
    int status = 0;
    if (!atomic_load_explicit(&capturing, memory_order_relaxed) || stream <= CUDA_STREAM_LEGACY || !is_capturing)
        return false;
    return is_capturing(stream, &status) == 0 && status != 0;
}

enum { ELSEWHERE, PINNED, PAGEABLE };

static int memory_of(uint64_t pointer)
{
    uint32_t type = 0;
    if (!pointer_attribute)
        return ELSEWHERE;
    const int result = pointer_attribute(&type, CUDA_ATTRIBUTE_MEMORY_TYPE, pointer);
    return result == CUDA_INVALID_VALUE ? PAGEABLE : result == 0 && type == CUDA_MEMORY_HOST ? PINNED : ELSEWHERE;
}

/* Which way a copy goes, and whether the host waits for it: a synchronous one between host and GPU, and any to
 * pageable host memory. */
static uint16_t copy_flags(const struct row *row, const void *params)
{
    const void *base = row->flags & VIA ? (const void *)word(params, 0) : params;
    bool up = row->flags & UP, down = row->flags & DOWN;
    int memory = ELSEWHERE;
    if (row->way >= 0) {
        const uint32_t way = (uint32_t)word(base, row->way);
        up = way == CUDA_DEVICE_TO_HOST;
        down = way == CUDA_HOST_TO_DEVICE;
        if (way == CUDA_BY_POINTERS && row->to >= 0 && row->from >= 0)
            goto by_pointers;
    } else if (row->to >= 0 && row->from >= 0) {
        int from;
    by_pointers:
        memory = memory_of(word(params, row->to));
        from = memory_of(word(params, row->from));
        up = memory != ELSEWHERE && from == ELSEWHERE;
        down = memory == ELSEWHERE && from != ELSEWHERE;
        memory = up ? memory : from;
    }
    if (memory == ELSEWHERE && (up || down) && (up ? row->to : row->from) >= 0)
        memory = memory_of(word(params, up ? row->to : row->from));
    const bool between = up || down || (row->flags & VIA && row->way < 0);
    const bool waits = row->flags & SYNC ? between : up && memory == PAGEABLE;
    return (uint16_t)((waits ? KTS_WAITED : 0) | (up ? KTS_TO_HOST : 0) | (down ? KTS_TO_DEVICE : 0) |
                      (memory == PAGEABLE ? KTS_PAGEABLE : 0));
}

static uint64_t detail_of(const struct row *row, const void *params)
{
    if (row->detail < 0)
        return 0;
    if (!row->factors)
        return word(params, row->detail);
    const void *base = row->flags & VIA ? (const void *)word(params, 0) : params;
    uint64_t bytes = row->unit;
    for (int factor = 0; factor < row->factors; factor++)
        bytes *= word(base, row->detail + 8 * factor);
    return bytes;
}

static uint64_t stream_of(const struct row *row, const void *params)
{
    uint64_t stream = 0;
    if (row->stream >= 0)
        stream = word(params, row->stream);
    if (row->flags & CONFIG)
        stream = stream ? word((const void *)stream, CUDA_CONFIG_STREAM_AT) : 0;
    if (stream == CUDA_STREAM_LEGACY)
        return 0;
    return stream == 0 && row->flags & OWN ? CUDA_STREAM_OWN : stream;
}

static bool hands_over(uint8_t kind)
{
    return kind >= KTS_LAUNCH && kind <= KTS_SET;
}

static void enter(const struct row *row, uint32_t domain, const struct cupti_call *data)
{
    struct kts_event *event = &call.event;
    if (call.open) {
        if (!event->inner && domain == CUPTI_DRIVER)
            event->inner = data->correlation;
        return;
    }
    call.open = true;
    call.domain = domain;
    memset(event, 0, sizeof *event);
    event->kind = row->kind;
    event->correlation = data->correlation;
    event->thread = ring_thread();
    if (data->params) {
        event->stream = stream_of(row, data->params);
        event->detail = detail_of(row, data->params);
    }
    if (event->stream == 0 && (row->stream >= 0 || hands_over(row->kind)))
        event->flags |= KTS_LEGACY;
    if (row->flags & ALL)
        event->flags |= KTS_ALL;
    call.kept = row->kind < CAPTURE && !is_captured(event->stream);
    if (call.kept && row->kind == KTS_COPY && data->params)
        event->flags |= copy_flags(row, data->params);
    if (call.kept && hands_over(row->kind))
        gate_pass();
    event->begin_ns = now_ns();
}

static void leave(const struct row *row, uint32_t domain, const struct cupti_call *data)
{
    struct kts_event *event = &call.event;
    if (!call.open || call.domain != domain || event->correlation != data->correlation)
        return;
    event->end_ns = now_ns();
    call.open = false;
    const int32_t result = data->result ? *(const int32_t *)data->result : 0;
    if (row->kind == CAPTURE && result == 0)
        atomic_fetch_add(&capturing, 1);
    unsigned streams = atomic_load(&capturing);
    while (row->kind == CAPTURED && streams && !atomic_compare_exchange_weak(&capturing, &streams, streams - 1))
        ;
    if (!call.kept)
        return;
    __atomic_add_fetch(&ring_header()->calls, 1, __ATOMIC_RELAXED);
    if (row->kind == KTS_QUERY && result != 0)
        return;
    event->context = data->context_id;
    event->flags |= result != 0 ? KTS_FAILED : 0;
    ring_put(event);
}

void calls_seen(void *unused, uint32_t domain, uint32_t id, const void *data)
{
    (void)unused;
    if (domain == CUPTI_STATE && id == CUPTI_FATAL) {
        const struct cupti_state *state = data;
        ring_say(KTS_CUPTI_ERROR, "CUPTI gave up: %s", state->message ? state->message : "no reason given");
        ring_state(KTS_REFUSED);
    }
    if (!ring_header() || (domain != CUPTI_DRIVER && domain != CUPTI_RUNTIME) || id >= MOST)
        return;
    const struct cupti_call *seen = data;
    const struct row *row = &rows[domain - 1][id];
    if (seen->site == CUPTI_ENTER)
        enter(row, domain, seen);
    else
        leave(row, domain, seen);
}

void calls_enable(int (*enable)(uint32_t, void *, uint32_t, uint32_t), void *subscriber)
{
    find_driver();
    for (uint32_t domain = CUPTI_DRIVER; domain <= CUPTI_RUNTIME; domain++)
        for (uint32_t id = 0; id < MOST; id++)
            if (rows[domain - 1][id].kind)
                enable(1, subscriber, domain, id); /* one that this CUPTI does not have is refused, and never called */
    enable(1, subscriber, CUPTI_STATE, CUPTI_FATAL);
}

void calls_forget(void)
{
    memset(&call, 0, sizeof call);
    atomic_store(&capturing, 0);
}
