/* What we use of CUPTI, CUDA and NVTX, declared by ourselves: none of their headers is needed to compile.
 * tests/unit/test_tracing_abi.py proves this file against them. */
#ifndef KTS_ABI_H
#define KTS_ABI_H
#include <stddef.h>
#include <stdint.h>

enum { CUPTI_ENTER, CUPTI_LEAVE };
enum { CUPTI_DRIVER = 1, CUPTI_RUNTIME = 2, CUPTI_STATE = 6 };
enum { CUPTI_FATAL = 1 };
enum { CUPTI_OK = 0, CUPTI_TAKEN = 39, CUPTI_QUEUE_EMPTY = 18 };
enum { CUPTI_MEMCPY = 1, CUPTI_MEMSET = 2, CUPTI_KERNEL = 10 };
enum { CUPTI_FLUSH_FORCED = 1, CUPTI_TO_DEVICE = 1, CUPTI_TO_HOST = 2, CUPTI_MEMORY_PAGEABLE = 1 };
enum { CUDA_HOST_TO_DEVICE = 1, CUDA_DEVICE_TO_HOST = 2, CUDA_BY_POINTERS = 4 };
enum { CUDA_INVALID_VALUE = 1, CUDA_ATTRIBUTE_MEMORY_TYPE = 2, CUDA_MEMORY_HOST = 1 };
enum { CUDA_STREAM_LEGACY = 1, CUDA_STREAM_OWN = 2, CUDA_CONFIG_STREAM_AT = 32 };

struct cupti_call {
    int32_t site;
    const char *function;
    const void *params;
    void *result;
    const char *symbol;
    void *context;
    uint32_t context_id;
    uint64_t *shared;
    uint32_t correlation;
};

struct cupti_state {
    int32_t result;
    const char *message;
};

/* Activity records begin alike in all versions since CUDA 11; only these fields are read. */
struct __attribute__((packed, aligned(8))) cupti_kernel {
    uint32_t kind, skipped[3];
    uint64_t begin, end, completed;
    uint32_t device, context, stream;
    int32_t shape[6], shared_memory[2];
    uint32_t local_memory[2], correlation;
    int64_t grid;
    const char *name;
    void *reserved;
    uint64_t queued, submitted;
    uint8_t launch[4];
    uint32_t shared_executed;
    uint64_t graph_node;
};

struct __attribute__((packed, aligned(8))) cupti_copy {
    uint32_t kind;
    uint8_t way, from, to, flags;
    uint64_t bytes, begin, end;
    uint32_t device, context, stream, correlation;
};

struct __attribute__((packed, aligned(8))) cupti_set {
    uint32_t kind, value;
    uint64_t bytes, begin, end;
    uint32_t device, context, stream, correlation;
};

typedef void (*cupti_callback)(void *, uint32_t domain, uint32_t id, const void *);
typedef void (*cupti_buffer_wanted)(uint8_t **, size_t *bytes, size_t *most_records);
typedef void (*cupti_buffer_full)(void *context, uint32_t stream, uint8_t *, size_t bytes, size_t valid);

/* NVTX: what the program hands to an injection, and what it may be told instead of a name. */
struct nvtx_exports {
    size_t bytes;
    int (*functions)(int module, void ****table, unsigned *count);
};
enum { NVTX_CALLBACKS = 1, NVTX_CORE = 1, NVTX_CORE2 = 5 };
enum { NVTX_START = 4, NVTX_START_A, NVTX_START_W, NVTX_END, NVTX_PUSH, NVTX_PUSH_A, NVTX_PUSH_W, NVTX_POP };
enum {
    NVTX_DOMAIN_START = 2, NVTX_DOMAIN_END, NVTX_DOMAIN_PUSH, NVTX_DOMAIN_POP,
    NVTX_REGISTER_A = 10, NVTX_REGISTER_W, NVTX_CREATE_A, NVTX_CREATE_W
};
enum { NVTX_ASCII = 1, NVTX_UNICODE, NVTX_REGISTERED };

struct nvtx_attributes {
    uint16_t version, bytes;
    uint32_t category;
    int32_t color_type;
    uint32_t color;
    int32_t payload_type, reserved;
    uint64_t payload;
    int32_t message_type;
    const void *message;
};
#endif
