/* Starts a tenant's program in a container of the user's image, on the word of the worker in the container beside it.
 *
 *     launcher SOCKET -- PROGRAM ARGUMENTS...
 *
 * SOCKET is the worker's, on a volume that both containers have; `remote.py` has the other end, and says the messages.
 * The image need not have anything: no shell, no libc, no loader. So nothing here uses one, and the build needs a
 * compiler alone. The launcher runs as the image's user, as process 1 of the container; it ends, and with it all that
 * the container runs, once the worker is gone.
 */
#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, CLOSE = 3, SOCKET = 41, CONNECT = 42, SENDTO = 44, SENDMSG = 46,
       RECVMSG = 47, EXECVE = 59, EXIT = 231,
       WAIT4 = 61, KILL = 62, CLONE = 56, PPOLL = 271, SIGNALFD4 = 289, SIGPROCMASK = 14, PIPE2 = 293, DUP3 = 292,
       SETSID = 112, AFFINITY = 203, OPENAT = 257, GETDENTS64 = 217 };
static long syscall6(long n, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start: xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n");
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, CLOSE = 57, SOCKET = 198, CONNECT = 203, SENDTO = 206, SENDMSG = 211,
       RECVMSG = 212, EXECVE = 221, EXIT = 94, WAIT4 = 260, KILL = 129, CLONE = 220, PPOLL = 73, SIGNALFD4 = 74, SIGPROCMASK = 135, PIPE2 = 59,
       DUP3 = 24, SETSID = 157, AFFINITY = 122, OPENAT = 56, GETDENTS64 = 61 };
static long syscall6(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                  x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
__asm__(".globl _start\n_start: mov x29, #0\n mov x0, sp\n bl begin\n");
#else
#error "the launcher is for x86_64 and aarch64"
#endif

typedef unsigned char byte;
typedef unsigned int u32;
typedef unsigned long u64;
struct vector { const void *base; u64 bytes; };
struct header { void *name; u32 name_bytes; struct vector *parts; u64 count; void *control; u64 control_bytes; int flags; };
struct control { u64 bytes; int level, type, descriptors[2]; };
struct poll { int descriptor; short wanted, got; };
struct wait { long seconds, nanoseconds; };

enum { VERSION = 1, MOST = 65536, VARIABLES = 4096, HERE = -100, CLOEXEC = 02000000, EINTR = 4, ENOENT = 2, EACCES = 13,
       TERM = 15, STOP = 19, CONT = 18, CHLD = 17, KILLED = 9, SIGPIPE = 13, POLL_IN = 1, NO_HANG = 1 };

#define call(n, a, b, c, d) syscall6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

static byte message[MOST];
static char *variables[VARIABLES + 1];

/* Compilers may call these by themselves. */
void *memcpy(void *to, const void *from, u64 n) { for (u64 i = 0; i < n; i++) ((byte *)to)[i] = ((const byte *)from)[i]; return to; }
void *memset(void *to, int value, u64 n) { for (u64 i = 0; i < n; i++) ((volatile byte *)to)[i] = (byte)value; return to; }

static u64 length(const char *text) { u64 n = 0; while (text[n]) n++; return n; }

/* Whether `text` begins with `part`: its length, or 0. */
static u64 begins(const char *text, const char *part) {
    u64 n = 0;
    while (part[n] && text[n] == part[n]) n++;
    return part[n] ? 0 : n;
}

static void die(const char *why) {
    call(WRITE, 2, "kts launcher: ", 14, 0);
    call(WRITE, 2, why, length(why), 0);
    call(WRITE, 2, "\n", 1, 0);
    for (;;) call(EXIT, 70, 0, 0, 0);
}

/* The number that follows `key` in a file, and 0 without one: "max" is no number. */
static u64 number(const char *path, const char *key) {
    static char text[4096];
    long file = call(OPENAT, HERE, path, CLOEXEC, 0), n;
    if (file < 0) return 0;
    n = call(READ, file, text, sizeof text - 1, 0);
    call(CLOSE, file, 0, 0, 0);
    text[n > 0 ? n : 0] = 0;
    for (char *at = text; *at; at++)
        if (at == text || at[-1] == '\n') {
            u64 skipped = begins(at, key), value = 0;
            if (skipped != length(key)) continue;
            for (at += skipped; *at >= '0' && *at <= '9'; at++) value = value * 10 + (u64)(*at - '0');
            return value;
        }
    return 0;
}

/* How often the kernel has killed a process of this container for memory, and how much memory that may use. */
static u64 kills(void) {
    u64 n = number("/sys/fs/cgroup/memory.events", "oom_kill ");
    return n ? n : number("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill ");
}
static u64 limit(void) {
    u64 n = number("/sys/fs/cgroup/memory.max", "");
    return n ? n : number("/sys/fs/cgroup/memory/memory.limit_in_bytes", "");
}

static void send(long worker, const void *data, u64 bytes) {
    if (syscall6(SENDTO, worker, (long)data, (long)bytes, 0x4000 /* no SIGPIPE */, 0, 0) < 0) die("the worker is gone");
}

static long folder(const char *path) { return call(OPENAT, HERE, path, CLOEXEC | 010000000 /* only to pass it on */, 0); }

/* H: version, then what the worker must know of this container: variables of its own that name GPUs or injected
 * libraries, and the names of GPUs in /dev. With it, where the worker looks at this container's processes: /proc, and
 * the folder of its cgroups. */
static void greet(long worker, char **environment) {
    struct { byte kind; char text[4096]; } said;
    struct control passed = {sizeof passed, 1, 1 /* descriptors */, {(int)folder("/proc"), (int)folder("/sys/fs/cgroup")}};
    struct vector part = {&said, 0};
    struct header box = {0, 0, &part, 1, &passed, sizeof passed, 0};
    u64 used = 0;
    long directory;
    said.kind = 'H';
    said.text[used++] = '0' + VERSION;
    said.text[used++] = 0;
    for (char **one = environment; *one; one++)
        if ((begins(*one, "NVIDIA_VISIBLE_DEVICES=") || begins(*one, "CUDA_INJECTION64_PATH=") ||
             begins(*one, "NVTX_INJECTION64_PATH=")) && used + length(*one) < 3000) {
            memcpy(said.text + used, *one, length(*one) + 1);
            used += length(*one) + 1;
        }
    directory = call(OPENAT, HERE, "/dev", CLOEXEC | 0200000, 0);
    for (long n; directory >= 0 && (n = call(GETDENTS64, directory, message, MOST, 0)) > 0;)
        for (long at = 0; at < n; at += *(unsigned short *)(message + at + 16)) {
            char *name = (char *)message + at + 19;
            if (begins(name, "nvidia") && name[6] >= '0' && name[6] <= '9' && used + length(name) < 4000) {
                memcpy(said.text + used, name, length(name) + 1);
                used += length(name) + 1;
            }
        }
    if (directory >= 0) call(CLOSE, directory, 0, 0, 0);
    part.bytes = 1 + used;
    if (passed.descriptors[0] < 0 || passed.descriptors[1] < 0) box.control = 0, box.control_bytes = 0;
    if (call(SENDMSG, worker, &box, 0x4000, 0) < 0) die("the worker is gone");
    for (int i = 0; i < 2; i++) if (passed.descriptors[i] >= 0) call(CLOSE, passed.descriptors[i], 0, 0, 0);
}

/* B, X, F: the program has begun; has ended, `what` as wait() tells it; could not be started, errno. And with each, how
 * many processes of the container were killed for memory, and how much of that it may use. */
static void report(long worker, byte kind, int what) {
    struct { byte kind; byte data[20]; } said;
    u64 count = kills(), bytes = limit();
    said.kind = kind;
    memcpy(said.data, &what, 4);
    memcpy(said.data + 4, &count, 8);
    memcpy(said.data + 12, &bytes, 8);
    send(worker, &said, 21);
}

static const char *value(const char *name) {
    for (char **one = variables; *one; one++) {
        u64 n = begins(*one, name);
        if (n && (*one)[n] == '=') return *one + n + 1;
    }
    return 0;
}

/* `given` on top of the container's own environment. */
static void set_variables(char **environment, char *given, u64 bytes) {
    u64 count = 0;
    for (u64 at = 0; at < bytes; at += length(given + at) + 1)
        if (given[at] && count < VARIABLES) variables[count++] = given + at;
    for (u64 own = count; *environment && count < VARIABLES; environment++) {
        int replaced = 0;
        for (u64 i = 0; i < own; i++) {
            u64 n = 0;
            while (variables[i][n] && variables[i][n] != '=') n++;
            if (length(*environment) > n && (*environment)[n] == '=') {
                u64 same = 0;
                while (same < n && (*environment)[same] == variables[i][same]) same++;
                replaced |= same == n;
            }
        }
        if (!replaced) variables[count++] = *environment;
    }
    variables[count] = 0;
}

/* As a shell finds a program: by PATH, if its name has no slash. Returns why it could not. */
static long execute(char **arguments) {
    static char path[4096 + 256];
    const char *name = arguments[0], *places = value("PATH");
    long why = -ENOENT, denied = 0;
    for (const char *at = name; *at; at++)
        if (*at == '/') return call(EXECVE, name, arguments, variables, 0);
    if (!places) places = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    while (*name) {
        u64 n = 0;
        while (places[n] && places[n] != ':') n++;
        if (n + length(name) + 2 < sizeof path) {
            memcpy(path, n ? places : ".", n ? n : 1);
            path[n ? n : 1] = '/';
            memcpy(path + (n ? n : 1) + 1, name, length(name) + 1);
            why = call(EXECVE, path, arguments, variables, 0);
            if (why == -EACCES) denied = why;
        }
        if (!places[n]) break;
        places += n + 1;
    }
    return denied ? denied : why;
}

/* S: bytes of the CPUs' mask, the mask, then NAME=VALUE with a zero behind each; two descriptors: its output, its
 * errors. The process begun, or 0 if it could not. */
static long start(long worker, u64 bytes, const int *streams, char **arguments, char **environment) {
    long tell[2], child, why = 0;
    int ends[2];
    u32 mask;
    if (bytes < 5) die("the worker's words cannot be read");
    memcpy(&mask, message + 1, 4);
    if (mask > bytes - 5) die("the worker's words cannot be read");
    message[bytes < MOST ? bytes : MOST - 1] = 0;
    set_variables(environment, (char *)message + 5 + mask, bytes - 5 - mask);
    if (call(PIPE2, ends, CLOEXEC, 0, 0) < 0) die("no pipe");
    tell[0] = ends[0], tell[1] = ends[1];
    child = syscall6(CLONE, CHLD, 0, 0, 0, 0, 0);
    if (child == 0) {
        u64 none = 0;
        long nothing = call(OPENAT, HERE, "/dev/null", 0, 0);
        call(SETSID, 0, 0, 0, 0);
        call(SIGPROCMASK, 2 /* set */, &none, 0, 8);
        if (mask) call(AFFINITY, 0, mask, message + 5, 0);
        if (nothing > 0) call(DUP3, nothing, 0, 0, 0), call(CLOSE, nothing, 0, 0, 0);
        call(DUP3, streams[0], 1, 0, 0);
        call(DUP3, streams[1], 2, 0, 0);
        why = execute(arguments);
        call(WRITE, tell[1], &why, sizeof why, 0);
        for (;;) call(EXIT, 127, 0, 0, 0);
    }
    call(CLOSE, tell[1], 0, 0, 0);
    if (child < 0) why = child;
    else while (call(READ, tell[0], &why, sizeof why, 0) == -EINTR) {}
    call(CLOSE, tell[0], 0, 0, 0);
    report(worker, why ? 'F' : 'B', (int)-why);
    return why ? 0 : child;
}

static long reach(const char *path, long signals) {
    struct { unsigned short family; char path[108]; } address = {1, {0}};
    struct wait pause = {0, 20000000};
    struct poll on = {(int)signals, POLL_IN, 0};
    if (length(path) > 107) die("the socket's path is too long");
    memcpy(address.path, path, length(path));
    for (;;) {
        long worker = call(SOCKET, 1, 5 | CLOEXEC /* seqpacket */, 0, 0);
        if (worker < 0) die("no socket");
        if (call(CONNECT, worker, &address, sizeof address, 0) == 0) return worker;
        call(CLOSE, worker, 0, 0, 0);
        for (byte taken[128]; syscall6(PPOLL, (long)&on, 1, (long)&pause, 0, 8, 0) > 0;) {
            call(READ, signals, taken, sizeof taken, 0);
            if (*(u32 *)taken == TERM) for (;;) call(EXIT, 128 + TERM, 0, 0, 0);
        }
    }
}

/* One word of the worker. The process group of the program that was begun last, which may outlive it. */
static long hear(long worker, long group, char **arguments, char **environment) {
    struct control passed;
    struct vector part = {message, MOST};
    struct header box = {0, 0, &part, 1, &passed, sizeof passed, 0};
    long bytes = call(RECVMSG, worker, &box, CLOEXEC, 0);
    if (bytes == -EINTR) return group;
    if (bytes <= 0) for (;;) call(EXIT, 0, 0, 0, 0); /* the worker is gone, and the run over */
    if (message[0] == 'S') {
        if (box.control_bytes < sizeof passed) die("the worker passed no pipes");
        group = start(worker, (u64)bytes, passed.descriptors, arguments, environment);
        call(CLOSE, passed.descriptors[0], 0, 0, 0);
        call(CLOSE, passed.descriptors[1], 0, 0, 0);
    } else if (group) {
        if (message[0] == 'P') call(KILL, -group, STOP, 0, 0);
        if (message[0] == 'R') call(KILL, -group, CONT, 0, 0);
        if (message[0] == 'T') call(KILL, -group, TERM, 0, 0), call(KILL, -group, CONT, 0, 0);
        if (message[0] == 'K') call(KILL, -group, KILLED, 0, 0);
    }
    return group;
}

__attribute__((used)) void begin(long *stack) {
    char **arguments = (char **)(stack + 1), **environment = arguments + stack[0] + 1;
    u64 mask = 1UL << (CHLD - 1) | 1UL << (TERM - 1) | 1UL << (SIGPIPE - 1);
    long signals, worker, group = 0;
    if (stack[0] < 4 || !begins(arguments[2], "--")) die("use: launcher SOCKET -- PROGRAM ARGUMENTS...");
    call(SIGPROCMASK, 0 /* block */, &mask, 0, 8);
    mask = 1UL << (CHLD - 1) | 1UL << (TERM - 1);
    signals = call(SIGNALFD4, -1, &mask, 8, CLOEXEC);
    if (signals < 0) die("no signals");
    worker = reach(arguments[1], signals);
    greet(worker, environment);
    for (;;) {
        struct poll on[2] = {{(int)worker, POLL_IN, 0}, {(int)signals, POLL_IN, 0}};
        syscall6(PPOLL, (long)on, 2, 0, 0, 8, 0);
        if (on[1].got) {
            byte taken[128];
            int status;
            call(READ, signals, taken, sizeof taken, 0); /* TERM is for the worker, too, which ends the program */
            for (long ended; (ended = call(WAIT4, -1, &status, NO_HANG, 0)) > 0;)
                if (ended == group) {
                    call(KILL, -group, KILLED, 0, 0); /* what it started would go on, and print, into its next life */
                    report(worker, 'X', status);
                }
        }
        if (on[0].got) group = hear(worker, group, arguments + 3, environment);
    }
}
