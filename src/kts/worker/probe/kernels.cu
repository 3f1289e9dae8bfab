// The GPU side of the probe: `cuda.py` says what each kernel is for. No headers, so that NVRTC needs no include path.
// Every argument is 64 bits wide.

typedef unsigned long long u64;

enum { FIRST, LAST, GAPS, CHUNKS };  // words of `state`
enum { WARP = 32, LIVE = 20 };

static __device__ __forceinline__ u64 timer() {
    u64 ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
}

// Arithmetic on registers that stay live, so that a switch has a full register file to save, as beside real work.
static __device__ __forceinline__ void work(float (&x)[LIVE]) {
    for (int k = 0; k < 16; ++k) {
#pragma unroll
        for (int i = 0; i < LIVE; ++i) x[i] = x[i] * 0.999f + x[(i + 1) % LIVE];
    }
}

static __device__ __forceinline__ void begin_work(float (&x)[LIVE]) {
#pragma unroll
    for (int i = 0; i < LIVE; ++i) x[i] = threadIdx.x + i;
}

// Keeps the compiler from leaving the arithmetic out; the number is never met.
static __device__ __forceinline__ void end_work(float (&x)[LIVE], u64* anywhere) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < LIVE; ++i) sum += x[i];
    if (sum == -12345.678f) *anywhere = 0;
}

// Reads the timer until `length` ns have passed or `enough` gaps were seen, and writes down every step above
// `threshold`: pairs (last reading before, length). `state` goes on from one launch (`chunk`) to the next, so that
// what happens between two of them is seen, too. The first warp watches, as a whole: a diverging lane could starve it.
// All others only fill the GPU, until the first block is done.
extern "C" __global__ void __launch_bounds__(256) kts_watch(u64* state, u64* gaps, u64 capacity, u64 threshold,
                                                            u64 length, u64 enough, u64 chunk) {
    u64 begin = timer();
    if (blockIdx.x != 0 || threadIdx.x >= WARP) {
        volatile u64* done = state + CHUNKS;
        u64 latest = begin + 4 * length + 1000000000ull;
        float x[LIVE];
        begin_work(x);
        while (*done < chunk && timer() < latest) work(x);
        end_work(x, state);
        return;
    }
    u64 end = begin + length;
    u64 last = state[LAST];
    u64 seen = state[GAPS];
    if (last == 0) {
        if (threadIdx.x == 0) state[FIRST] = begin;
        last = begin;
    }
    while (last < end && seen < enough) {
        u64 now = timer();
        if (now > last + threshold) {
            if (seen < capacity && threadIdx.x == 0) {
                gaps[2 * seen] = last;
                gaps[2 * seen + 1] = now - last;
            }
            ++seen;
        }
        last = now;
    }
    if (threadIdx.x == 0) {
        state[LAST] = last;
        state[GAPS] = seen;
        __threadfence();
        state[CHUNKS] = chunk;
    }
}

// Runs for `length` ns and writes down when: pairs (begin, end).
extern "C" __global__ void __launch_bounds__(256) kts_burst(u64* pairs, u64 slot, u64 length) {
    u64 begin = timer();
    u64 now = begin;
    float x[LIVE];
    begin_work(x);
    while (now - begin < length) {
        work(x);
        now = timer();
    }
    end_work(x, pairs);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        pairs[2 * slot] = begin;
        pairs[2 * slot + 1] = now;
    }
}

// `n` readings, one after the other.
extern "C" __global__ void kts_ticks(u64* readings, u64 n) {
    for (u64 i = 0; i < n; ++i) readings[i] = timer();
}
