/* Where a program that is not to run now waits: at the first work that it would hand to the GPU. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tracer.h"

static bool abandoned;

/* The worker holds a lock on the control file as long as it lives: the kernel gives it up for whoever dies. */
static bool nobody_holds_it(void)
{
    const int control = open(ring_control_path(), O_RDONLY | O_CLOEXEC);
    if (control < 0)
        return errno == ENOENT || errno == ENOTDIR;
    const bool free = flock(control, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    close(control);
    return free;
}

void gate_pass(void)
{
    const uint32_t *gate = &ring_control()->gate;
    struct kts_header *header = ring_header();
    uint32_t closed = __atomic_load_n(gate, __ATOMIC_ACQUIRE);
    if (__builtin_expect(!closed || !header || abandoned, 1))
        return;
    const int64_t began = now_ns();
    const struct timespec look_again = {.tv_sec = 1};
    const int error = errno;
    __atomic_add_fetch(&header->holds, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&header->held, 1, __ATOMIC_RELEASE);
    while ((closed = __atomic_load_n(gate, __ATOMIC_ACQUIRE)) != 0)
        if (syscall(SYS_futex, gate, FUTEX_WAIT, closed, &look_again, NULL, 0) != 0 && errno == ETIMEDOUT)
            if ((abandoned = nobody_holds_it()))
                break;
    __atomic_add_fetch(&header->held_ns, now_ns() - began, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&header->held, 1, __ATOMIC_RELEASE);
    errno = error;
}
