/* What lies in shared memory between a traced program and the worker; ../layout.py says the same in Python. */
#ifndef KTS_LAYOUT_H
#define KTS_LAYOUT_H
#include <stdint.h>

#define KTS_VERSION 1
#define KTS_CONTROL_MAGIC "KTSCTRL"
#define KTS_CONTROL_BYTES 4096
#define KTS_RING_MAGIC "KTSRING"
#define KTS_NAMES_OFFSET 4096
#define KTS_NAMES_BYTES 65536
#define KTS_NO_NAME UINT64_MAX
#define KTS_EVENTS_OFFSET (KTS_NAMES_OFFSET + KTS_NAMES_BYTES)

struct kts_control {
    char magic[8];
    uint32_t version, gate, level, reserved;
    uint64_t capacity;
};

struct kts_header {
    char magic[8];
    uint32_t version, event_bytes;
    uint64_t capacity;
    uint32_t pid, state, reason, cupti, level, names_used;
    int64_t began_ns;
    char reserved[8];
    char program[256], why[256];
    char pad0[1024 - 576];
    uint64_t head; char pad1[56];
    uint64_t lost; char pad2[56];
    uint64_t tail; char pad3[56];
    uint32_t held, holds;
    int64_t held_ns; char pad4[48];
    uint64_t calls;
    char pad5[4096 - 1288];
};

struct kts_event {
    uint64_t seq;
    int64_t begin_ns, end_ns;
    uint16_t kind, flags;
    uint32_t thread;
    uint64_t stream;
    uint32_t context, correlation, inner, device;
    uint64_t detail;
};

_Static_assert(sizeof(struct kts_header) == 4096, "header");
_Static_assert(sizeof(struct kts_event) == 64, "event");

enum kts_kind {
    KTS_LAUNCH = 1, KTS_GRAPH, KTS_COPY, KTS_SET, KTS_WAIT, KTS_RECORD, KTS_QUERY, KTS_STREAM_WAIT, KTS_RANGE, KTS_HOST,
    KTS_KERNEL = 16, KTS_COPIED, KTS_SETTLED
};
enum kts_flag {
    KTS_WAITED = 1, KTS_FAILED = 2, KTS_ALL = 4, KTS_TO_DEVICE = 8, KTS_TO_HOST = 16, KTS_PAGEABLE = 32, KTS_LEGACY = 64
};
enum kts_level { KTS_LEVEL_CALLS = 1, KTS_LEVEL_KERNELS };
enum kts_state { KTS_BEGUN, KTS_RECORDING, KTS_REFUSED, KTS_ENDED };
enum kts_reason { KTS_NONE, KTS_NO_CUPTI, KTS_OTHER_PROFILER, KTS_CUPTI_VERSION, KTS_CUPTI_ERROR, KTS_NO_MEMORY };
#endif
