"""A CUDA driver made of Python: enough of libcuda for the probe, with a device that others may share."""

# ruff: noqa: N802 - the driver's names
from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kts.worker.probe import compile as compiling

NOT_READY = 600
START_NS = 1_700_000_000_000_000_000
_STEP_NS = 64
_KERNELS = {"kts_watch": 7, "kts_burst": 3, "kts_ticks": 2}
_ATTRIBUTES = {16: 132, 75: 9, 76: 0}


@contextmanager
def fake_compiler() -> Iterator[None]:
    """What is compiled meanwhile is the source's text, which the driver made of Python loads as well as any code."""
    former = compiling.COMPILERS
    compiling.COMPILERS = (("fake", lambda source, _arch: source.encode()),)
    try:
        yield
    finally:
        compiling.COMPILERS = former


class FakeCuda:
    """Stands in for ``ctypes.CDLL("libcuda.so.1")``. Kernels run when they are waited for, in order.

    ``gaps``: (after so many ns of its own time, length) at which whatever runs is taken off; used up in order.
    ``refuse``: calls that fail, with their error number.
    """

    def __init__(self, gaps: Sequence[tuple[int, int]] = (), refuse: dict[str, int] | None = None) -> None:
        self.now_ns = START_NS
        self.gaps = list(gaps)
        self.refuse = refuse or {}
        self.queue: list[tuple[str, tuple[int, int], tuple[int, ...]]] = []
        self.memory: dict[int, list[int]] = {}
        self.launched: list[tuple[str, tuple[int, int]]] = []
        self.loaded: list[bytes] = []
        self._names: dict[int, str] = {}
        self._ran_ns = 0
        self._events: dict[int, int] = {}
        self._done = 0
        self._queued = 0
        self.released = False

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)
        if name in self.refuse:
            return lambda *_: self.refuse[name]
        method = getattr(type(self), "do_" + name, None)
        return (lambda *a: method(self, *a) or 0) if method else (lambda *_: 0)

    def do_cuGetErrorName(self, code: int, out: Any) -> None:
        out._obj.value = f"CUDA_ERROR_{code}".encode()

    def do_cuDeviceGetAttribute(self, out: Any, number: int, _device: Any) -> None:
        out._obj.value = _ATTRIBUTES[number]

    def do_cuModuleLoadData(self, out: Any, image: bytes) -> None:
        self.loaded.append(image)
        out._obj.value = 1

    def do_cuModuleGetFunction(self, out: Any, _module: Any, name: bytes) -> int:
        if name.decode() not in _KERNELS:
            return 500
        out._obj.value = len(self._names) + 100
        self._names[out._obj.value] = name.decode()
        return 0

    def do_cuOccupancyMaxActiveBlocksPerMultiprocessor(self, out: Any, *_: Any) -> None:
        out._obj.value = 8

    def do_cuMemAlloc_v2(self, out: Any, size: Any) -> None:
        out._obj.value = 0x1000 * (len(self.memory) + 1)
        self.memory[out._obj.value] = [0] * (size.value // 8)

    def do_cuMemsetD8Async(self, address: Any, value: Any, size: Any, _stream: Any) -> None:
        assert value.value == 0
        self._run()
        self.memory[address.value][: size.value // 8] = [0] * (size.value // 8)

    def do_cuMemcpyDtoHAsync_v2(self, host: Any, address: Any, size: Any, _stream: Any) -> None:
        self._run()
        for i in range(size.value // 8):
            host[i] = self.memory[address.value][i]

    def do_cuLaunchKernel(self, function: Any, *rest: Any) -> None:
        grid, _, _, block, _, _, shared, _stream, pointers, extra = rest
        assert shared.value == 0
        assert extra is None
        name = self._names[function.value]
        assert len(pointers) == _KERNELS[name]
        values = tuple(ctypes.cast(p, ctypes.POINTER(ctypes.c_uint64)).contents.value for p in pointers)
        self.queue.append((name, (grid.value, block.value), values))
        self.launched.append((name, (grid.value, block.value)))
        self._queued += 1

    def do_cuStreamSynchronize(self, _stream: Any) -> None:
        self._run()

    def do_cuStreamQuery(self, _stream: Any) -> int:
        if self.queue:
            self._run_one()
            return NOT_READY
        return 0

    def do_cuEventCreate(self, out: Any, flags: int) -> None:
        assert flags == 2
        out._obj.value = len(self._events) + 1
        self._events[out._obj.value] = -1

    def do_cuEventRecord(self, event: Any, _stream: Any) -> None:
        self._events[event.value] = self._queued

    def do_cuEventQuery(self, event: Any) -> int:
        if self._done >= self._events[event.value]:
            return 0
        self._run_one()
        return NOT_READY

    def do_cuDevicePrimaryCtxRelease_v2(self, _device: Any) -> None:
        self.released = True

    def _run(self) -> None:
        while self.queue:
            self._run_one()

    def _run_one(self) -> None:
        name, _, values = self.queue.pop(0)
        getattr(self, name)(*values)
        self._done += 1

    def _tick(self, length_ns: int = _STEP_NS) -> int:
        """The device's clock, a step later on; more if it was taken away in between."""
        self._ran_ns += length_ns
        self.now_ns += length_ns
        if self.gaps and self._ran_ns >= self.gaps[0][0]:
            self._ran_ns = 0
            self.now_ns += self.gaps.pop(0)[1]
        return self.now_ns

    def kts_watch(  # noqa: PLR0917 - the kernel's parameters
        self, state_at: int, gaps_at: int, capacity: int, threshold: int, length: int, enough: int, chunk: int
    ) -> None:
        state, gaps = self.memory[state_at], self.memory[gaps_at]
        begin = self._tick()
        _, last, seen, _ = state
        if last == 0:
            state[0] = last = begin
        while last < begin + length and seen < enough:
            now = self._tick(min(4096, max(length // 64, _STEP_NS)))
            if now > last + threshold:
                if seen < capacity:
                    gaps[2 * seen : 2 * seen + 2] = [last, now - last]
                seen += 1
            last = now
        state[1:] = [last, seen, chunk]

    def kts_burst(self, pairs_at: int, slot: int, length: int) -> None:
        begin = self._tick()
        end = self._tick(length) if length else begin
        self.memory[pairs_at][2 * slot : 2 * slot + 2] = [begin, end]

    def kts_ticks(self, readings_at: int, n: int) -> None:
        self.memory[readings_at][:n] = [self._tick() for _ in range(n)]
