/* What the files of the tracer offer each other. */
#ifndef KTS_TRACER_H
#define KTS_TRACER_H
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "abi.h"
#include "layout.h"

static inline int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ring.c. None of these waits for anybody but ring_begin and ring_name, which wait for other threads in them. */
bool ring_begin(void);                                      /* this process has a ring from now on; else stays out */
struct kts_header *ring_header(void);                       /* NULL: stays out */
const struct kts_control *ring_control(void);
const char *ring_control_path(void);
void ring_put(struct kts_event *);                          /* counts it as lost where there is no room */
void ring_lost(uint64_t count);
void ring_say(uint32_t reason, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ring_state(uint32_t state);
uint64_t ring_name(const char *name);                       /* where it is in the names' area */
uint32_t ring_thread(void);

/* gate.c */
void gate_pass(void);                                       /* returns when the gate is open */

/* calls.c */
void calls_seen(void *, uint32_t domain, uint32_t id, const void *data); /* a cupti_callback */
void calls_enable(int (*enable)(uint32_t, void *, uint32_t, uint32_t), void *subscriber);

/* activity.c */
void activity_begin(void *cupti);                           /* starts the library's own thread */
void activity_end(void);                                    /* at exit */

/* In a child: what the parent did is no matter of its. */
void inject_forget(void);
void calls_forget(void);
void activity_forget(void);
void ranges_forget(void);
#endif
