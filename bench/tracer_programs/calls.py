"""Makes asynchronous memsets and nothing else, through ctypes: an iteration is 200 calls, without the wait for them."""

import ctypes
import sys
import time

CALLS = 200


def check(code: int) -> None:
    """Ends the program where CUDA refuses."""
    if code:
        sys.exit(f"CUDA error {code}")


def main() -> None:
    """Prints a KTS_APP line for each batch of calls."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, pointer, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_void_p()
    check(cuda.cuInit(0))
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    check(cuda.cuCtxSetCurrent(context))
    check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(4096)))
    check(cuda.cuStreamCreate(ctypes.byref(stream), 1))
    call, n, now, i = cuda.cuMemsetD8Async, ctypes.c_size_t(16), time.time_ns, 0
    while True:
        start_ns = now()
        for _ in range(CALLS):
            call(pointer, 0, n, stream)
        end_ns = now()
        check(cuda.cuStreamSynchronize(stream))
        print(f"KTS_APP,v1,CALLS,{i},{start_ns},{end_ns},nan,", flush=True)
        i += 1


if __name__ == "__main__":
    main()
