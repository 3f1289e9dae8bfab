"""The probe on a CPU core: the kernel's scheduler takes the core away. Labelled as no GPU, like the CPU device."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from kts.model.run import DeviceInfo
from kts.units import NS_PER_MS, s_to_ns
from kts.worker.devices.cpu import cpu_info
from kts.worker.probe.traces import GapTrace, Pair

MOST_GAPS = 100_000
_ASK_NS = 1 * NS_PER_MS


class CpuProbe:
    """Reads CLOCK_MONOTONIC in a loop, in the calling thread, on the cores that it is pinned to."""

    def info(self) -> DeviceInfo:
        """The pinned core."""
        return replace(cpu_info("numpy", "CLOCK_MONOTONIC"), library="python", library_version="")

    def ticks(self, n: int) -> list[int]:
        """Readings in a loop as tight as that of `watch`."""
        now = time.monotonic_ns
        with _uncollected():
            return [now() for _ in range(n)]

    def watch(self, seconds: float, *, threshold_ns: int, enough: int | None = None) -> GapTrace:
        """See `Probe`."""
        return _loop(s_to_ns(seconds), threshold_ns, MOST_GAPS if enough is None else enough)

    def saturate(self, threshold_ns: int, started: Callable[[], None], stop: Callable[[float], bool]) -> GapTrace:
        """The same loop, in pieces between which ``stop`` is asked."""
        piece = _loop(_ASK_NS, threshold_ns, MOST_GAPS)
        started()
        gaps: list[Pair] = []
        first = last = piece.start_ns
        while True:
            if piece.start_ns - last >= threshold_ns:
                gaps.append((last, piece.start_ns - last))
            gaps += piece.gaps
            last = piece.end_ns
            if stop(0.0):
                break
            piece = _loop(_ASK_NS, threshold_ns, MOST_GAPS)
        return GapTrace(start_ns=first, end_ns=last, gaps=tuple(gaps[:MOST_GAPS]), lost=max(len(gaps) - MOST_GAPS, 0))

    def bursts(self, length_ns: int, go_on: Callable[[], bool]) -> list[Pair]:
        """Spins; whoever is waiting gets the core when `go_on` sleeps."""
        pairs = []
        while go_on():
            pairs.append(_spin(length_ns))
        return pairs

    def chain(self, n: int, length_ns: int) -> list[Pair]:
        """One piece after the other: there is no queue on a CPU."""
        return [_spin(length_ns) for _ in range(n)]

    def pulse(self) -> int:
        """A few readings of the clock, as nothing is queued: never less than one nanosecond."""
        begin = time.monotonic_ns()
        _spin(0)
        return max(time.monotonic_ns() - begin, 1)

    def close(self) -> None:
        """Holds nothing."""


def _loop(length_ns: int, threshold_ns: int, enough: int) -> GapTrace:
    now = time.monotonic_ns
    gaps: list[Pair] = []
    with _uncollected():
        first = last = now()
        end = first + length_ns
        while last < end:
            current = now()
            if current - last >= threshold_ns:
                gaps.append((last, current - last))
                if len(gaps) >= enough:
                    last = current
                    break
            last = current
    return GapTrace(start_ns=first, end_ns=last, gaps=tuple(gaps), lost=0)


def _spin(length_ns: int) -> Pair:
    now = time.monotonic_ns
    begin = current = now()
    while current - begin < length_ns:
        current = now()
    return begin, current


@contextmanager
def _uncollected() -> Iterator[None]:
    """A garbage collection would look like a gap."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
