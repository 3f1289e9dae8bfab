"""What each call of CUDA becomes: its kind, stream, bytes, direction and event."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers_tracer import rings, standin, trace

from kts.worker.tracing.layout import Flag, Kind

EACH_CALL = """
import ctypes
from ctypes import byref, c_char, c_size_t, c_uint, c_uint64, c_void_p
cuda = ctypes.CDLL("libcuda.so.1")
class Config(ctypes.Structure):
    _fields_ = [("shape", c_uint * 7), ("stream", c_void_p), ("attributes", c_void_p), ("count", c_uint)]
gpu, pinned, stream, event, kernel, context = c_uint64(), c_void_p(), c_void_p(), c_void_p(), c_void_p(), c_void_p()
cuda.cuInit(0)
cuda.cuDevicePrimaryCtxRetain(byref(context), 0)
cuda.cuCtxSetCurrent(context)
cuda.cuMemAlloc_v2(byref(gpu), c_size_t(8192))
cuda.cuMemHostAlloc(byref(pinned), c_size_t(8192), 0)
cuda.cuStreamCreate(byref(stream), 1)
cuda.cuEventCreate(byref(event), 0)
cuda.cuModuleGetFunction(byref(kernel), None, b"work_10us")
host, n = (c_char * 8192)(), c_size_t(4096)
config = Config(stream=stream)
up, down, across, by_pointers = 2, 1, 3, 4
zero, legacy, own = c_void_p(0), c_void_p(1), c_void_p(2)
launch = lambda function, where: cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, where, None, None)
print(stream.value, event.value, flush=True)

launch(kernel, stream)
launch(kernel, zero)
launch(kernel, legacy)
launch(kernel, own)
cuda.cuLaunchKernelEx(byref(config), kernel, None, None)
launch(None, stream)
cuda.cuMemcpyHtoD_v2(gpu, host, n)
cuda.cuMemcpyDtoH_v2(pinned, gpu, n)
cuda.cuMemcpyHtoDAsync_v2(gpu, pinned, n, stream)
cuda.cuMemcpyHtoDAsync_v2(gpu, host, n, stream)
cuda.cuMemcpyDtoHAsync_v2(pinned, gpu, n, stream)
cuda.cuMemcpyDtoDAsync_v2(gpu, gpu, n, stream)
cuda.cudaMemcpy(c_void_p(gpu.value), c_void_p(gpu.value), n, across)
cuda.cudaMemcpy(host, c_void_p(gpu.value), n, by_pointers)
cuda.cudaMemcpyAsync(c_void_p(gpu.value), pinned, n, by_pointers, stream)
cuda.cuMemsetD8Async(gpu, 0, n, stream)
cuda.cuEventRecord(event, stream)
cuda.cuStreamWaitEvent(zero, event, 0)
cuda.cuEventSynchronize(event)
cuda.cuEventQuery(event)
cuda.cuStreamSynchronize(own)
cuda.cudaDeviceSynchronize()
called = ctypes.CFUNCTYPE(None, c_void_p)(lambda _: None)
cuda.cuLaunchHostFunc(stream, called, None)
cuda.cuStreamSynchronize(stream)
"""


def test_each_kind_of_call_tells_stream_bytes_direction_and_event(tmp_path: Path) -> None:
    with trace(tmp_path):
        argv = [sys.executable, "-c", EACH_CALL]
        said = subprocess.run(argv, env=standin().traced(tmp_path), check=True, timeout=180, capture_output=True).stdout
        (ring,) = rings(tmp_path)
    stream, event = map(int, said.split())
    own, up, down, waited, pageable = 2, Flag.TO_HOST, Flag.TO_DEVICE, Flag.WAITED, Flag.PAGEABLE
    assert ring.events[["kind", "stream", "detail", "flags"]].tolist() == [
        (Kind.LAUNCH, stream, 0, 0),
        (Kind.LAUNCH, 0, 0, Flag.LEGACY),
        (Kind.LAUNCH, 0, 0, Flag.LEGACY),
        (Kind.LAUNCH, own, 0, 0),
        (Kind.LAUNCH, stream, 0, 0),
        (Kind.LAUNCH, stream, 0, Flag.FAILED),
        (Kind.COPY, 0, 4096, Flag.LEGACY | waited | down | pageable),
        (Kind.COPY, 0, 4096, Flag.LEGACY | waited | up),
        (Kind.COPY, stream, 4096, down),
        (Kind.COPY, stream, 4096, down | pageable),
        (Kind.COPY, stream, 4096, up),
        (Kind.COPY, stream, 4096, 0),
        (Kind.COPY, 0, 4096, Flag.LEGACY),
        (Kind.COPY, 0, 4096, Flag.LEGACY | waited | up | pageable),
        (Kind.COPY, stream, 4096, down),
        (Kind.SET, stream, 4096, 0),
        (Kind.RECORD, stream, event, 0),
        (Kind.STREAM_WAIT, 0, event, Flag.LEGACY),
        (Kind.WAIT, 0, event, 0),
        (Kind.QUERY, 0, event, 0),
        (Kind.WAIT, own, 0, 0),
        (Kind.WAIT, 0, 0, Flag.ALL),
        (Kind.HOST, stream, 0, 0),
        (Kind.WAIT, stream, 0, 0),
    ]
