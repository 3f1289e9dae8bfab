"""The probe on a GPU: one-block kernels that read `globaltimer`, which is one clock for all processes there."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from kts.model.run import DeviceInfo
from kts.units import NS_PER_MS, ms_to_ns, s_to_ns
from kts.worker.devices.cuda import cuda_info
from kts.worker.probe.compile import compile_kernels
from kts.worker.probe.driver_api import COMPUTE_MAJOR, COMPUTE_MINOR, Driver
from kts.worker.probe.traces import GapTrace, Pair

MOST_GAPS = 50_000
CHUNK_S = 0.5
"""Longest kernel. A GPU that drives a display ends kernels that run for seconds."""
_THREADS = 256
_ALL = 2**62
_FIRST, _LAST, _GAPS = range(3)
_STATE_WORDS = 4
_POLL_S = 0.0005
_SATURATING_CHUNK_NS = 20 * NS_PER_MS
_QUEUED = 3
"""Kernels of 20 ms ahead: the host may sleep for two of them before the queue is empty."""
_ASK_S = 0.002
_FIRST_CHUNK_NS = ms_to_ns(0.1)


class CudaProbe:
    """Holds a context on the first visible GPU and a few hundred kilobytes of its memory."""

    def __init__(self, driver: Driver | None = None) -> None:
        self._driver = Driver() if driver is None else driver
        arch = f"{self._driver.attribute(COMPUTE_MAJOR)}{self._driver.attribute(COMPUTE_MINOR)}"
        compiled = compile_kernels(arch, self._driver.load)
        self._compiler = compiled.compiler
        self._watch, self._burst, self._ticks = (
            self._driver.function(compiled.loaded, name) for name in ("kts_watch", "kts_burst", "kts_ticks")
        )
        self._state = self._driver.allocate(_STATE_WORDS)
        self._memory = self._driver.allocate(2 * MOST_GAPS)
        self._watch_blocks = self._driver.resident_blocks(self._watch, _THREADS)
        self._burst_blocks = self._driver.resident_blocks(self._burst, _THREADS)
        self.pulse()
        self._driver.begun = True

    def info(self) -> DeviceInfo:
        """The GPU as the driver names it; ``library`` says what compiled the kernel."""
        return cuda_info(self._compiler, "", "globaltimer")

    def ticks(self, n: int) -> list[int]:
        """Readings by one thread."""
        taken = min(n, 2 * MOST_GAPS)
        self._driver.launch(self._ticks, 1, 1, self._memory, taken)
        return self._driver.read(self._memory, taken)

    def watch(self, seconds: float, *, threshold_ns: int, enough: int | None = None) -> GapTrace:
        """One warp, in kernels of at most `CHUNK_S`, all queued at once."""
        left_ns = s_to_ns(seconds)
        wanted = MOST_GAPS if enough is None else min(enough, MOST_GAPS)
        self._driver.clear(self._state, _STATE_WORDS)
        chunk = 0
        while left_ns > 0:
            chunk += 1
            length_ns = min(left_ns, s_to_ns(CHUNK_S))
            self._queue((1, 32), threshold_ns, length_ns, wanted, chunk)
            left_ns -= length_ns
        while not self._driver.idle():
            time.sleep(_POLL_S)  # a host that spins would take a core from a tenant
        return self._trace()

    def saturate(self, threshold_ns: int, started: Callable[[], None], stop: Callable[[float], bool]) -> GapTrace:
        """As many blocks as the GPU holds, so that each switch has all registers to save; the first one watches."""
        self._driver.clear(self._state, _STATE_WORDS)
        chunk, full = 1, (self._watch_blocks, _THREADS)
        self._queue(full, threshold_ns, _FIRST_CHUNK_NS, _ALL, chunk)
        waiting = deque([self._driver.mark()])
        said = False
        while not stop(_ASK_S):
            while waiting and self._driver.passed(waiting[0]):
                waiting.popleft()
                if not said:
                    started()
                    said = True
            while len(waiting) < _QUEUED:
                chunk += 1
                self._queue(full, threshold_ns, _SATURATING_CHUNK_NS, _ALL, chunk)
                waiting.append(self._driver.mark())
        self._driver.wait()
        return self._trace()

    def bursts(self, length_ns: int, go_on: Callable[[], bool]) -> list[Pair]:
        """One kernel that fills the GPU each time; at most `MOST_GAPS` of them."""
        n = 0
        while n < MOST_GAPS and go_on():
            self._driver.launch(self._burst, self._burst_blocks, _THREADS, self._memory, n, length_ns)
            self._driver.wait()
            n += 1
        return self._pairs(n)

    def chain(self, n: int, length_ns: int) -> list[Pair]:
        """Kernels of one block, back to back in one stream."""
        for slot in range(n):
            self._driver.launch(self._burst, 1, 32, self._memory, slot, length_ns)
        return self._pairs(n)

    def pulse(self) -> int:
        """An empty kernel."""
        begin = time.monotonic_ns()
        self._driver.launch(self._burst, 1, 1, self._memory, 0, 0)
        self._driver.wait()
        return time.monotonic_ns() - begin

    def close(self) -> None:
        """Gives the context back."""
        self._driver.close()

    def _queue(self, shape: tuple[int, int], threshold_ns: int, length_ns: int, enough: int, chunk: int) -> None:
        """One more watching kernel, of ``shape`` (blocks, threads)."""
        self._driver.launch(
            self._watch, *shape, self._state, self._memory, MOST_GAPS, threshold_ns - 1, length_ns, enough, chunk
        )

    def _trace(self) -> GapTrace:
        state = self._driver.read(self._state, _STATE_WORDS)
        kept = min(state[_GAPS], MOST_GAPS)
        return GapTrace(
            start_ns=state[_FIRST],
            end_ns=state[_LAST],
            gaps=tuple(self._pairs(kept)),
            lost=state[_GAPS] - kept,
        )

    def _pairs(self, n: int) -> list[Pair]:
        words = self._driver.read(self._memory, 2 * n)
        return list(zip(words[::2], words[1::2], strict=True))
