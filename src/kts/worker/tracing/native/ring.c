/* The ring of this process: many threads write, the worker reads; nobody waits for anybody. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tracer.h"

static struct kts_header *_Atomic ring;
static const struct kts_control *control;
static char control_path[4096];
static bool refused;
static struct kts_header *parents; /* in a child: what it inherits names from */
static struct kts_event *events;
static uint64_t capacity;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct kts_header *ring_header(void)
{
    return atomic_load_explicit(&ring, memory_order_acquire);
}

const struct kts_control *ring_control(void)
{
    return control;
}

const char *ring_control_path(void)
{
    return control_path;
}

static __thread uint32_t thread;

uint32_t ring_thread(void)
{
    if (!thread)
        thread = (uint32_t)syscall(SYS_gettid);
    return thread;
}

/* A bounded queue of many writers (D. Vyukov's): a place is taken by moving head, and told to the reader by its seq. */
void ring_put(struct kts_event *event)
{
    struct kts_header *header = ring_header();
    if (!header)
        return;
    uint64_t head = __atomic_load_n(&header->head, __ATOMIC_RELAXED);
    do {
        if (head - __atomic_load_n(&header->tail, __ATOMIC_ACQUIRE) >= capacity) {
            ring_lost(1);
            return;
        }
    } while (!__atomic_compare_exchange_n(&header->head, &head, head + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    struct kts_event *place = &events[head & (capacity - 1)];
    memcpy(&place->begin_ns, &event->begin_ns, sizeof *event - offsetof(struct kts_event, begin_ns));
    __atomic_store_n(&place->seq, head + 1, __ATOMIC_RELEASE);
}

void ring_lost(uint64_t count)
{
    struct kts_header *header = ring_header();
    if (header)
        __atomic_add_fetch(&header->lost, count, __ATOMIC_RELAXED);
}

void ring_say(uint32_t reason, const char *format, ...)
{
    struct kts_header *header = ring_header();
    if (!header)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(header->why, sizeof header->why, format, arguments);
    va_end(arguments);
    __atomic_store_n(&header->reason, reason, __ATOMIC_RELEASE);
}

void ring_state(uint32_t state)
{
    struct kts_header *header = ring_header();
    if (header)
        __atomic_store_n(&header->state, state, __ATOMIC_RELEASE);
}

/* Names are few and come again: a table of where each begins, by hash; only a new one takes the lock. Of a program that
 * never uses a name twice, no name is looked for long. */
enum { NAMES = 4096, MOST_TRIED = 64 };
static _Atomic uint32_t names[NAMES]; /* 1 + offset; 0: none */

uint64_t ring_name(const char *name)
{
    struct kts_header *header = ring_header();
    if (!header || !name)
        return KTS_NO_NAME;
    char *area = (char *)header + KTS_NAMES_OFFSET;
    uint32_t hash = 2166136261u;
    for (const char *at = name; *at; at++)
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    bool locked = false;
    uint64_t result = KTS_NO_NAME;
    for (uint32_t tried = 0; tried < MOST_TRIED;) {
        _Atomic uint32_t *place = &names[(hash + tried) % NAMES];
        const uint32_t at = atomic_load_explicit(place, memory_order_acquire);
        if (at && strcmp(area + at - 1, name) != 0) {
            tried++;
        } else if (at) {
            result = at - 1;
            break;
        } else if (!locked) {
            pthread_mutex_lock(&lock);
            locked = true;
        } else {
            const uint32_t used = header->names_used;
            const size_t bytes = strlen(name) + 1;
            if (bytes > KTS_NAMES_BYTES - used)
                break;
            memcpy(area + used, name, bytes);
            __atomic_store_n(&header->names_used, used + (uint32_t)bytes, __ATOMIC_RELEASE);
            atomic_store_explicit(place, used + 1, memory_order_release);
            result = used;
            break;
        }
    }
    if (locked)
        pthread_mutex_unlock(&lock);
    return result;
}

static const struct kts_control *read_control(const char *folder)
{
    snprintf(control_path, sizeof control_path, "%s/control", folder);
    const int file = open(control_path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NULL;
    struct stat status;
    struct kts_control *seen = MAP_FAILED;
    if (fstat(file, &status) == 0 && status.st_size >= KTS_CONTROL_BYTES)
        seen = mmap(NULL, KTS_CONTROL_BYTES, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (seen == MAP_FAILED)
        return NULL;
    if (strncmp(seen->magic, KTS_CONTROL_MAGIC, sizeof seen->magic) != 0 ||
        seen->version != KTS_VERSION || seen->capacity == 0 || (seen->capacity & (seen->capacity - 1)) != 0 ||
        seen->capacity > UINT64_C(1) << 32) {
        munmap(seen, KTS_CONTROL_BYTES);
        return NULL;
    }
    return seen;
}

static void tell_program(char *program, size_t bytes)
{
    const int file = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    const ssize_t got = file < 0 ? 0 : read(file, program, bytes - 1);
    if (file >= 0)
        close(file);
    for (ssize_t at = 0; at + 1 < got; at++)
        if (program[at] == 0)
            program[at] = ' ';
}

/* A lock on the ring for as long as this program lives, which its death and exec give up: so the worker sees that it is
 * over, also from another pid namespace. High up: a program may count on low descriptors. */
static void lock_for_life(int file)
{
    const int kept = fcntl(file, F_DUPFD_CLOEXEC, 500);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (kept >= 0) {
        close(file);
        file = kept;
    }
    fcntl(file, F_SETLK, &whole);
}

/* Asking for more than the program's own limit would send it a signal. */
static bool take_room(int file, size_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes)
        return false;
    return posix_fallocate(file, 0, (off_t)bytes) == 0;
}

/* The file appears under its name when its header is whole. Its memory is taken now, so that no write ever fails; where
 * there is no room, the header alone says so. Who may write into the folder may write into it: in a pod the worker is
 * another user. */
static struct kts_header *make(const char *folder)
{
    const int64_t began = now_ns();
    char path[4096], hidden[4096];
    snprintf(path, sizeof path, "%s/%d-%lld.ring", folder, (int)getpid(), (long long)began);
    snprintf(hidden, sizeof hidden, "%s/.%d-%lld", folder, (int)getpid(), (long long)began);
    struct stat of_folder;
    const int file = open(hidden, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0)
        return NULL;
    if (stat(folder, &of_folder) == 0)
        (void)!fchmod(file, of_folder.st_mode & 0666);
    size_t bytes = KTS_EVENTS_OFFSET + control->capacity * sizeof(struct kts_event);
    const bool room = take_room(file, bytes);
    if (!room) {
        bytes = sizeof(struct kts_header);
        if (ftruncate(file, 0) != 0 || !take_room(file, bytes))
            goto failed;
    }
    struct kts_header *header =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    if (header == MAP_FAILED)
        goto failed;
    memcpy(header->magic, KTS_RING_MAGIC, sizeof KTS_RING_MAGIC);
    header->version = KTS_VERSION;
    header->event_bytes = sizeof(struct kts_event);
    header->capacity = control->capacity;
    header->pid = (uint32_t)getpid();
    header->began_ns = began;
    tell_program(header->program, sizeof header->program);
    if (!room) {
        header->state = KTS_REFUSED;
        header->reason = KTS_NO_MEMORY;
        snprintf(header->why, sizeof header->why, "no room for the ring in %s", folder);
    }
    if (parents && room) { /* the child's numbers of names are its parent's */
        header->names_used = __atomic_load_n(&parents->names_used, __ATOMIC_ACQUIRE);
        memcpy((char *)header + KTS_NAMES_OFFSET, (char *)parents + KTS_NAMES_OFFSET, header->names_used);
    }
    lock_for_life(file);
    if (rename(hidden, path) != 0)
        unlink(hidden);
    if (!room) {
        munmap(header, bytes);
        return NULL;
    }
    return header;
failed:
    unlink(hidden);
    close(file);
    return NULL;
}

static void in_child(void)
{
    parents = ring_header() ? ring_header() : parents;
    atomic_store(&ring, NULL);
    refused = false;
    pthread_mutex_init(&lock, NULL);
    thread = 0;
    inject_forget();
    calls_forget();
    activity_forget();
    ranges_forget();
}

static void at_exit(void)
{
    if (!ring_header())
        return;
    activity_end();
    if (ring_header()->state != KTS_REFUSED) /* what was refused stays told */
        ring_state(KTS_ENDED);
}

bool ring_begin(void)
{
    static bool handlers;
    const char *folder = getenv("KTS_TRACE_DIR");
    if (ring_header())
        return true;
    if (!folder || !*folder || refused)
        return false;
    const int error = errno;
    pthread_mutex_lock(&lock);
    if (!handlers) {
        handlers = true;
        pthread_atfork(NULL, NULL, in_child);
        atexit(at_exit);
    }
    if (!ring_header() && !refused) {
        struct kts_header *made = NULL;
        if (control || (control = read_control(folder)))
            made = make(folder);
        if (made) {
            capacity = control->capacity;
            events = (struct kts_event *)((char *)made + KTS_EVENTS_OFFSET);
        }
        refused = !made;
        atomic_store_explicit(&ring, made, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return ring_header() != NULL;
}
