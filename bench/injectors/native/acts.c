/* What acts upon a tenant from outside of it, or beside it: acts WHAT NAME=VALUE ..., each with beat=FILE.
 *
 * neighbour  writes the beat; work_us=0 of computing every period_us=2000, on cores=1,2
 * paused     stops itself whenever it is told to go on
 * thief      computes burst_us=3000 and sleeps gap_us=6000 while the beat is fresh, in step with all other thieves
 * hog        copies through mb=256 of memory while the beat is fresh
 * disk       reads and writes file= in pieces of kb=512, past the page cache, while the beat is fresh
 * switch     writes on=TEXT into file= when the beat begins, off=TEXT when it ends
 *
 * core=-1: where it runs. The last line that it prints, on SIGTERM, is JSON: `fresh_ms` (how long the beat was), `cpu_ms`
 * (its own computing), `turns` (bursts, copies, pieces, or switches).
 */
#define _GNU_SOURCE
#include "beat.h"
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

static char **arguments;
static volatile sig_atomic_t over;
static int64_t fresh_ns, turns;
static uint64_t seed = 88172645463325252u;

static const char *text(const char *name, const char *otherwise)
{
    const size_t length = strlen(name);
    for (char **argument = arguments + 2; *argument; argument++)
        if (!strncmp(*argument, name, length) && (*argument)[length] == '=')
            return *argument + length + 1;
    return otherwise;
}

static long number(const char *name, long otherwise)
{
    const char *value = text(name, NULL);
    return value ? atol(value) : otherwise;
}

static void end(int signal) { (void)signal, over = 1; }

static void nap(int64_t us)
{
    const struct timespec length = {us / 1000000, us % 1000000 * 1000};
    if (us > 0)
        nanosleep(&length, NULL);
}

static int64_t jittered(int64_t us) /* uniform within half of it */
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return us / 2 + (int64_t)(seed % (uint64_t)(us + 1));
}

static void compute_us(int64_t us) /* of CPU time: what others take of the core makes it no shorter */
{
    for (const int64_t until = clock_ns(CLOCK_THREAD_CPUTIME_ID) + us * 1000;
         !over && clock_ns(CLOCK_THREAD_CPUTIME_ID) < until;)
        ;
}

static void pin(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (number("core", -1) >= 0)
        CPU_SET((int)number("core", -1), &set);
    char cores[1024];
    snprintf(cores, sizeof cores, "%s", text("cores", ""));
    for (char *core = strtok(cores, ","); core; core = strtok(NULL, ","))
        CPU_SET(atoi(core), &set);
    if (CPU_COUNT(&set))
        sched_setaffinity(0, sizeof set, &set);
}

static void neighbour(void)
{
    for (const long period = number("period_us", 2000), work = number("work_us", 0); !over; nap(period)) {
        atomic_store(&beat->at, now_ns());
        compute_us(work);
        turns++;
    }
}

static void paused(void)
{
    for (; !over; turns++)
        raise(SIGSTOP);
}

static uint64_t mixed(uint64_t number) /* splitmix64: Steele, Lea & Flood 2014 */
{
    number += 0x9e3779b97f4a7c15u;
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9u, number = (number ^ number >> 27) * 0x94d049bb133111ebu;
    return number ^ number >> 31;
}

static void nap_until(int64_t at_ns) { nap((at_ns - now_ns()) / 1000); }

static void thief(void) /* in step: a tenant of several cores would run on one that no thief is on */
{
    const int64_t burst = number("burst_us", 3000), gap = number("gap_us", 6000), slot_ns = (burst + gap) * 1000;
    const int64_t slot = now_ns() / slot_ns;
    nap_until(slot * slot_ns + (int64_t)(mixed((uint64_t)slot) % (uint64_t)(gap + 1)) * 1000);
    if (beat_fresh())
        compute_us(burst);
    nap_until((slot + 1) * slot_ns);
}

static void hog(void)
{
    static char *from, *to;
    const size_t bytes = (size_t)number("mb", 256) << 19;
    if (!from)
        memset(from = malloc(bytes), 1, bytes), memset(to = malloc(bytes), 2, bytes);
    for (size_t at = 0; !over && beat_fresh() && at < bytes; at += 1 << 20)
        memcpy(to + at, from + at, 1 << 20);
}

static void disk(void)
{
    static int file = -1;
    static char *piece;
    const size_t bytes = (size_t)number("kb", 512) << 10;
    if (file < 0) {
        file = open(text("file", ""), O_RDWR | O_DIRECT | O_CLOEXEC);
        if (file < 0 || posix_memalign((void **)&piece, 4096, bytes))
            perror("disk"), _exit(1);
    }
    const off_t pieces = lseek(file, 0, SEEK_END) / (off_t)bytes, at = (off_t)(jittered(1 << 30) % pieces) * (off_t)bytes;
    const ssize_t done = turns % 2 ? pread(file, piece, bytes, at) : pwrite(file, piece, bytes, at);
    if (done < 0)
        perror("disk"), _exit(1);
}

static void put(const char *what)
{
    const int file = open(text("file", ""), O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, what, strlen(what)) < 0)
        perror(text("file", "")), _exit(1);
    close(file);
    turns++;
}

static void switches(void)
{
    bool on = false;
    for (int64_t last = now_ns(); !over; nap(1000)) {
        const bool fresh = beat_fresh();
        const int64_t now = now_ns();
        fresh_ns += fresh ? now - last : 0, last = now;
        if (fresh != on)
            put(text((on = fresh) ? "on" : "off", ""));
    }
    put(text("off", ""));
}

int main(int count, char **given)
{
    arguments = given;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1);
    signal(SIGTERM, end);
    const char *what = count > 1 ? given[1] : "";
    if (!beat_open(text("beat", NULL)))
        return fprintf(stderr, "no beat\n"), 2;
    seed ^= (uint64_t)now_ns();
    pin();
    void (*turn)(void) = !strcmp(what, "thief") ? thief : !strcmp(what, "hog") ? hog : !strcmp(what, "disk") ? disk : NULL;
    if (!strcmp(what, "neighbour"))
        neighbour();
    else if (!strcmp(what, "paused"))
        paused();
    else if (!strcmp(what, "switch"))
        switches();
    else if (!turn)
        return 2;
    while (!over)
        if (!beat_fresh()) {
            nap(1000);
        } else {
            const int64_t began = now_ns();
            turn();
            turns++, fresh_ns += now_ns() - began;
        }
    printf("{\"fresh_ms\": %.1f, \"cpu_ms\": %.1f, \"turns\": %lld}\n", (double)fresh_ns / 1e6,
           (double)clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e6, (long long)turns);
    return 0;
}
