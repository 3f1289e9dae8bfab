"""Reading the clocks of this host, and what its scheduler tells of the measuring thread."""

from __future__ import annotations

import ctypes
import os
import time

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
    """(time on a core, time runnable but waiting for one) of the calling thread since it began, in nanoseconds.

    None for both where the kernel does not tell. Costs about 10 us, so it is for between iterations only.
    """
    try:
        descriptor = os.open(_SCHEDSTAT, os.O_RDONLY)
    except OSError:
        return None, None
    try:
        run, wait, *_ = os.read(descriptor, _SCHEDSTAT_BYTES).split()
        return int(run), int(wait)
    except (OSError, ValueError):
        return None, None
    finally:
        os.close(descriptor)
