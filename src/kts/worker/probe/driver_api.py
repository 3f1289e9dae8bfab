"""The few calls of the CUDA driver that we make ourselves, through ctypes: no GPU library is needed for them."""

from __future__ import annotations

import ctypes
from typing import Any

from kts.errors import KtsError, MeasurementError, SetupError

NOT_READY = 600
_EXPLAINED = {
    2: "the GPU has no memory left for a context; end a tenant",
    46: "the GPU is taken exclusively or given to MPS only; nvidia-smi -c DEFAULT (or an MPS daemon) lets several in",
    100: "no GPU is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES",
    222: "the driver is older than the compiler; install cuda-core and NVRTC of the driver's CUDA version",
    719: "look at nvidia-smi and dmesg (Xid); then run again",
    802: "the system is not ready (fabric manager); see nvidia-smi -q",
}

MULTIPROCESSORS = 16
COMPUTE_MAJOR, COMPUTE_MINOR = 75, 76
NON_BLOCKING = 1
_NO_TIMING = 2

u64 = ctypes.c_uint64


class Driver:
    """One context on the first visible GPU, its primary one, and one stream. SetupError if that cannot be had.

    ``failed``: how what went wrong is told.
    """

    failed = "the GPU cannot be probed"

    def __init__(self, library: Any = None) -> None:
        try:
            self._cuda: Any = ctypes.CDLL("libcuda.so.1") if library is None else library
        except OSError as error:
            raise SetupError("no NVIDIA driver (libcuda.so.1) on this machine", "or use --device cpu") from error
        self.begun = False
        self.call("cuInit", 0)
        self._device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(self._device), 0)
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self.call("cuCtxSetCurrent", context)
        self.stream = self.new_stream()

    def call(self, name: str, *arguments: Any) -> None:
        """One call; SetupError (before ``begun``) or MeasurementError with the driver's name for what went wrong."""
        if code := getattr(self._cuda, name)(*arguments):
            raise self._failure(name, code)

    def new_stream(self) -> ctypes.c_void_p:
        """One that waits for no other, made in the context."""
        stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), NON_BLOCKING)
        return stream

    def attribute(self, number: int) -> int:
        """Of the device."""
        value = ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(value), number, self._device)
        return value.value

    def load(self, image: bytes) -> ctypes.c_void_p:
        """A module from a cubin."""
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), image)
        return module

    def function(self, module: ctypes.c_void_p, name: str) -> ctypes.c_void_p:
        """A kernel of the module."""
        found = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(found), module, name.encode())
        return found

    def resident_blocks(self, function: ctypes.c_void_p, threads: int) -> int:
        """How many blocks of the kernel the whole GPU holds at once."""
        each = ctypes.c_int()
        self.call(
            "cuOccupancyMaxActiveBlocksPerMultiprocessor", ctypes.byref(each), function, threads, ctypes.c_size_t(0)
        )
        return max(each.value, 1) * self.attribute(MULTIPROCESSORS)

    def allocate(self, words: int) -> int:
        """Device memory for that many 64-bit words; its address."""
        address = u64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(8 * words))
        return address.value

    def clear(self, address: int, words: int) -> None:
        """Zeroes, in the stream's order."""
        self.call("cuMemsetD8Async", u64(address), ctypes.c_ubyte(0), ctypes.c_size_t(8 * words), self.stream)

    def read(self, address: int, words: int) -> list[int]:
        """The words, once all before in the stream is done."""
        host = (u64 * max(words, 1))()
        if words:
            self.call("cuMemcpyDtoHAsync_v2", host, u64(address), ctypes.c_size_t(8 * words), self.stream)
        self.wait()
        return list(host[:words])

    def launch(self, function: ctypes.c_void_p, blocks: int, threads: int, *arguments: int) -> None:
        """Queues a kernel; every argument is a 64-bit word."""
        values = [u64(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        one, none = ctypes.c_uint(1), ctypes.c_uint(0)
        grid, block = ctypes.c_uint(blocks), ctypes.c_uint(threads)
        self.call("cuLaunchKernel", function, grid, one, one, block, one, one, none, self.stream, pointers, None)

    def wait(self) -> None:
        """Until the stream is empty; spins, for the shortest delay."""
        self.call("cuStreamSynchronize", self.stream)

    def idle(self) -> bool:
        """Whether the stream is empty."""
        return self._ready("cuStreamQuery", self.stream)

    def mark(self) -> ctypes.c_void_p:
        """An event behind all that is queued."""
        event = ctypes.c_void_p()
        self.call("cuEventCreate", ctypes.byref(event), _NO_TIMING)
        self.call("cuEventRecord", event, self.stream)
        return event

    def passed(self, event: ctypes.c_void_p) -> bool:
        """Whether the stream has come to the event; then it is gone."""
        if not self._ready("cuEventQuery", event):
            return False
        self.call("cuEventDestroy_v2", event)
        return True

    def close(self) -> None:
        """Gives the context back, with all that is in it."""
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _ready(self, name: str, handle: ctypes.c_void_p) -> bool:
        code = getattr(self._cuda, name)(handle)
        if code not in (0, NOT_READY):
            raise self._failure(name, code)
        return bool(code == 0)

    def _failure(self, name: str, code: int) -> KtsError:
        text = ctypes.c_char_p()
        self._cuda.cuGetErrorName(code, ctypes.byref(text))
        word = text.value.decode() if text.value else f"error {code}"
        kind = MeasurementError if self.begun else SetupError
        return kind(f"{self.failed}: {name} gives {word}", _EXPLAINED.get(code, "look at nvidia-smi"))
