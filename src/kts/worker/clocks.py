"""Reading the clocks of this host, and what its scheduler tells of the measuring thread."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time

from kts.model.records import NOT_TOLD
from kts.model.run import ClockPair

_PR_SET_TIMERSLACK = 29
_SCHEDSTAT = "/proc/thread-self/schedstat"
_SCHEDSTAT_BYTES = 128


def exact_sleeps() -> None:
    """Lets the calling thread's sleeps end when they should; by default the kernel may add 50 us to save power."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def clock_pair() -> ClockPair:
    """CLOCK_REALTIME and CLOCK_MONOTONIC at one moment: the best of five bracketed readings."""
    best: ClockPair | None = None
    for _ in range(5):
        before = time.monotonic_ns()
        realtime = time.time_ns()
        after = time.monotonic_ns()
        if best is None or after - before < best.error_ns:
            best = ClockPair(realtime_ns=realtime, monotonic_ns=(before + after) // 2, error_ns=after - before)
    assert best is not None
    return best


def epoch_offset_ns() -> int:
    """How far CLOCK_REALTIME is ahead of CLOCK_MONOTONIC now."""
    pair = clock_pair()
    return pair.realtime_ns - pair.monotonic_ns


def scheduled_ns() -> tuple[int | None, int | None]:
    """`CpuTimes.read` of the calling thread; None for both where the kernel does not tell waits. Costs about 10 us."""
    with contextlib.closing(CpuTimes()) as times:
        cpu_ns, wait_ns = times.read()
    return (None, None) if wait_ns == NOT_TOLD else (cpu_ns, wait_ns)


class CpuTimes:
    """What the kernel counts of the calling thread, which must be the one that asks.

    CPU time is exact. So is the time ready but without a core: the kernel adds a wait when it ends. Time in which a
    quota held the thread back is such a wait; what interrupts or a hypervisor took is in neither.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            self._descriptor = os.open(_SCHEDSTAT, os.O_RDONLY)
        self._begin = 0, NOT_TOLD

    def read(self) -> tuple[int, int]:
        """(CPU time, time ready but without a core) since the thread began, in ns; `NOT_TOLD` for what the kernel does
        not tell. Costs about 1 us, so it is for between iterations only."""
        return time.thread_time_ns(), self._wait_ns()

    def begin(self) -> None:
        """What follows is counted."""
        wait_ns = self._wait_ns()  # first: so nothing but the iteration lies between the two readings of CPU time
        self._begin = time.thread_time_ns(), wait_ns

    def spent(self, within_ns: int) -> tuple[int, int]:
        """The same as `read` since `begin`, both together at most ``within_ns``: how long it was by the clock. What is
        over it lies between the readings of the clock and those here."""
        cpu_ns, wait_ns = time.thread_time_ns(), self._wait_ns()
        began_cpu_ns, began_wait_ns = self._begin
        cpu_ns = min(cpu_ns - began_cpu_ns, within_ns)
        if NOT_TOLD in (wait_ns, began_wait_ns):
            return cpu_ns, NOT_TOLD
        return cpu_ns, min(wait_ns - began_wait_ns, within_ns - cpu_ns)

    def close(self) -> None:
        """Idempotent; waits are not told any more."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _wait_ns(self) -> int:
        if self._descriptor is None:
            return NOT_TOLD
        try:
            _, wait, turns = os.pread(self._descriptor, _SCHEDSTAT_BYTES, 0).split()
            return int(wait) if int(turns) else NOT_TOLD  # a kernel that counts nothing says 0 of all
        except (OSError, ValueError):
            return NOT_TOLD
