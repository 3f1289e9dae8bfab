/* A stand-in for a GPU: what the fake driver and the fake CUPTI share. Time on it is a matter of arithmetic: a stream is
 * the moment when its last work will be done, and who waits sleeps until then. */
#ifndef STANDIN_H
#define STANDIN_H
#include <stdint.h>
#include <stdbool.h>

#include "abi.h"

typedef void (*standin_callback)(uint32_t domain, uint32_t id, const struct cupti_call *);
typedef void (*standin_ran)(uint32_t kind, int way, bool pageable, uint64_t bytes, int64_t begin_ns, int64_t end_ns,
                            uint32_t device, uint32_t context, uint32_t stream, uint32_t correlation, bool graph);

/* Set by the fake CUPTI. */
extern standin_callback standin_on_call;
extern standin_ran standin_on_ran;
int64_t standin_now(void);
#endif
