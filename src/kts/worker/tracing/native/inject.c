/* Where the tracer comes in: CUDA's driver loads what CUDA_INJECTION64_PATH names, and calls InitializeInjection while
 * it initialises itself. Whatever is refused here, the program runs on untouched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tracer.h"

enum { OLDEST = 13 }; /* CUPTI of CUDA 11.0: its activity records begin as the later ones do */

static bool tried;
static int (*result_string)(int, const char **);

static const char *in_words(int result)
{
    const char *words = NULL;
    return result_string && result_string(result, &words) == CUPTI_OK && words ? words : "no reason given";
}

/* A program that has CUPTI in it (PyTorch) uses that one: two in one process would be two of what there may be one. */
static void *load_cupti(void)
{
    static const char *const names[] = {"libcupti.so.13", "libcupti.so.12", "libcupti.so.11.8", "libcupti.so.11.7",
                                        "libcupti.so.11.6", "libcupti.so.11.5", "libcupti.so.11.4", "libcupti.so"};
    for (size_t name = 0; name < sizeof names / sizeof *names; name++) {
        void *there = dlopen(names[name], RTLD_LAZY | RTLD_NOLOAD);
        if (there)
            return there;
    }
    const char *path = getenv("KTS_CUPTI");
    if (!path || !*path) {
        ring_say(KTS_NO_CUPTI, "no libcupti: kts doctor says where it is looked for");
        return NULL;
    }
    void *loaded = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!loaded) {
        const char *error = dlerror();
        ring_say(KTS_NO_CUPTI, "libcupti cannot be loaded: %s", error ? error : path);
    }
    return loaded;
}

static bool subscribe(void *cupti)
{
    int (*get_version)(uint32_t *) = dlsym(cupti, "cuptiGetVersion");
    int (*subscribe_to)(void **, cupti_callback, void *) = dlsym(cupti, "cuptiSubscribe");
    int (*enable)(uint32_t, void *, uint32_t, uint32_t) = dlsym(cupti, "cuptiEnableCallback");
    result_string = dlsym(cupti, "cuptiGetResultString");
    uint32_t version = 0;
    if (!get_version || !subscribe_to || !enable || get_version(&version) != CUPTI_OK) {
        ring_say(KTS_CUPTI_VERSION, "libcupti lacks what a CUPTI must have");
        return false;
    }
    ring_header()->cupti = version;
    if (version < OLDEST) {
        ring_say(KTS_CUPTI_VERSION, "CUPTI's API version is %u; %d (CUDA 11.0) or later is understood", version, OLDEST);
        return false;
    }
    void *subscriber = NULL;
    const int result = subscribe_to(&subscriber, calls_seen, NULL);
    if (result != CUPTI_OK) {
        if (result == CUPTI_TAKEN)
            ring_say(KTS_OTHER_PROFILER, "another profiler uses CUPTI in this process");
        else
            ring_say(KTS_CUPTI_ERROR, "CUPTI refuses: %s (%d)", in_words(result), result);
        return false;
    }
    calls_enable(enable, subscriber);
    return true;
}

void inject_forget(void)
{
    tried = false;
}

__attribute__((visibility("default"))) int InitializeInjection(void)
{
    const int error = errno;
    if (ring_begin() && !tried) {
        tried = true;
        void *cupti = load_cupti();
        if (cupti && subscribe(cupti)) {
            ring_state(KTS_RECORDING);
            activity_begin(cupti);
        } else {
            ring_state(KTS_REFUSED);
        }
    }
    errno = error;
    return 1;
}
