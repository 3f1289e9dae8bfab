/* NVTX ranges to events. NVTX hands this library its tables of functions; CUDA and CUPTI have no part in it. */
#define _GNU_SOURCE
#include <string.h>
#include <wchar.h>

#include "tracer.h"

enum { DEEPEST = 64, OPEN = 4096 };

struct range {
    void *domain;
    uint64_t name;
    int64_t begin_ns;
};

static __thread struct {
    int depth; /* may be deeper than what is kept */
    struct range ranges[DEEPEST];
} stack;

/* Started ranges may end in another thread: the number of one is its place and how often the place was used. */
static struct {
    _Atomic uint64_t number; /* 0: free */
    struct range range;
} started[OPEN];
static _Atomic uint64_t starts;

static void ended(const struct range *range)
{
    struct kts_event event = {.kind = KTS_RANGE, .begin_ns = range->begin_ns, .end_ns = now_ns(),
                              .thread = ring_thread(), .detail = range->name};
    ring_put(&event);
}

static uint64_t narrow(const wchar_t *wide)
{
    char name[1024];
    size_t at = 0;
    for (; wide && *wide && at + 5 < sizeof name; wide++) {
        const uint32_t c = (uint32_t)*wide;
        if (c < 0x80) {
            name[at++] = (char)c;
        } else {
            const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
            name[at++] = (char)((0xF00 >> more & 0xFF) | c >> 6 * more);
            for (int left = more - 1; left >= 0; left--)
                name[at++] = (char)(0x80 | (c >> 6 * left & 0x3F));
        }
    }
    name[at] = 0;
    return ring_name(name);
}

/* A registered string is told by its name's number, plus one: none is NULL. */
static uint64_t name_of(const struct nvtx_attributes *attributes)
{
    if (!attributes || attributes->bytes < offsetof(struct nvtx_attributes, message) + sizeof(void *))
        return KTS_NO_NAME;
    switch (attributes->message_type) {
    case NVTX_ASCII: return ring_name(attributes->message);
    case NVTX_UNICODE: return narrow(attributes->message);
    case NVTX_REGISTERED: return (uint64_t)(uintptr_t)attributes->message - 1;
    default: return KTS_NO_NAME;
    }
}

static int push(void *domain, uint64_t name)
{
    const int depth = stack.depth++;
    if (depth < DEEPEST)
        stack.ranges[depth] = (struct range){domain, name, now_ns()};
    return depth;
}

/* The innermost of the domain: those of several domains need not nest. */
static int pop(void *domain)
{
    if (stack.depth > DEEPEST)
        return --stack.depth;
    for (int at = stack.depth - 1; at >= 0; at--)
        if (stack.ranges[at].domain == domain) {
            ended(&stack.ranges[at]);
            memmove(&stack.ranges[at], &stack.ranges[at + 1], (size_t)(stack.depth - at - 1) * sizeof(struct range));
            return --stack.depth;
        }
    return -1;
}

static uint64_t start(uint64_t name)
{
    for (int tried = 0; tried < 16; tried++) {
        const uint64_t number = atomic_fetch_add(&starts, 1) + 1;
        uint64_t none = 0;
        if (atomic_compare_exchange_strong(&started[number % OPEN].number, &none, UINT64_MAX)) {
            started[number % OPEN].range = (struct range){NULL, name, now_ns()};
            atomic_store(&started[number % OPEN].number, number);
            return number;
        }
    }
    ring_lost(1);
    return 0;
}

static void end(uint64_t number)
{
    const struct range range = started[number % OPEN].range;
    if (number && number != UINT64_MAX && atomic_compare_exchange_strong(&started[number % OPEN].number, &number, 0))
        ended(&range);
}

/* A child of a process whose NVTX is at work already comes here first. */
static bool here(void)
{
    return ring_header() || ring_begin();
}

static int push_ex(const struct nvtx_attributes *a) { return here() ? push(NULL, name_of(a)) : 0; }
static int push_a(const char *name) { return here() ? push(NULL, ring_name(name)) : 0; }
static int push_w(const wchar_t *name) { return here() ? push(NULL, narrow(name)) : 0; }
static int pop_any(void) { return pop(NULL); }
static uint64_t start_ex(const struct nvtx_attributes *a) { return here() ? start(name_of(a)) : 0; }
static uint64_t start_a(const char *name) { return here() ? start(ring_name(name)) : 0; }
static uint64_t start_w(const wchar_t *name) { return here() ? start(narrow(name)) : 0; }
static int domain_push(void *domain, const struct nvtx_attributes *a) { return here() ? push(domain, name_of(a)) : 0; }
static uint64_t domain_start(void *domain, const struct nvtx_attributes *a) { return (void)domain, start_ex(a); }
static void domain_end(void *domain, uint64_t number) { (void)domain, end(number); }
static void *as_handle(uint64_t name) { return (void *)(uintptr_t)(name + 1); }
static void *register_a(void *d, const char *name) { return (void)d, here() ? as_handle(ring_name(name)) : NULL; }
static void *register_w(void *d, const wchar_t *name) { return (void)d, here() ? as_handle(narrow(name)) : NULL; }
static void *create_a(const char *name) { return here() ? as_handle(ring_name(name)) : NULL; }
static void *create_w(const wchar_t *name) { return here() ? as_handle(narrow(name)) : NULL; }

void ranges_forget(void)
{
    stack.depth = 0;
    memset((void *)started, 0, sizeof started);
}

static void set(void ***table, unsigned count, unsigned id, void *function)
{
    if (id < count && table[id])
        *table[id] = function;
}

/* Called once by each library of the program that has NVTX in it. Returns 1, or 0: NVTX then does nothing. */
__attribute__((visibility("default"))) int InitializeInjectionNvtx2(const void *(*export_table)(uint32_t))
{
    const struct nvtx_exports *exports = export_table(NVTX_CALLBACKS);
    void ***core = NULL, ***core2 = NULL;
    unsigned n = 0, n2 = 0;
    if (!exports || !ring_begin() || !exports->functions(NVTX_CORE, &core, &n) || !core)
        return 0;
    set(core, n, NVTX_START, start_ex), set(core, n, NVTX_START_A, start_a), set(core, n, NVTX_START_W, start_w);
    set(core, n, NVTX_END, end), set(core, n, NVTX_POP, pop_any);
    set(core, n, NVTX_PUSH, push_ex), set(core, n, NVTX_PUSH_A, push_a), set(core, n, NVTX_PUSH_W, push_w);
    if (!exports->functions(NVTX_CORE2, &core2, &n2) || !core2)
        return 1;
    set(core2, n2, NVTX_DOMAIN_START, domain_start), set(core2, n2, NVTX_DOMAIN_END, domain_end);
    set(core2, n2, NVTX_DOMAIN_PUSH, domain_push), set(core2, n2, NVTX_DOMAIN_POP, pop);
    set(core2, n2, NVTX_REGISTER_A, register_a), set(core2, n2, NVTX_REGISTER_W, register_w);
    set(core2, n2, NVTX_CREATE_A, create_a), set(core2, n2, NVTX_CREATE_W, create_w);
    return 1;
}
