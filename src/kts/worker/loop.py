"""The timed loop: one tenant, one block, every iteration on all four clocks.

Inside an iteration nothing happens but the work and the reading of clocks. Sending, heartbeats, listening
and sleeping come between iterations. `bench/observer.py` measures what the loop costs.
"""

from __future__ import annotations

import contextlib
import gc
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from kts.arrivals import Arrivals, Closed
from kts.model.plan import Quota
from kts.model.records import CPU_TIMES, RECORD, Records, record_dtype
from kts.units import NS_PER_MS, NS_PER_S, s_to_ns
from kts.wire.framing import CHUNK_RECORDS
from kts.worker.clocks import CpuTimes
from kts.worker.iteration import Iterate

HEARTBEAT_NS = 250 * NS_PER_MS
FLUSH_NS = NS_PER_S  # a killed run loses at most this much
LISTEN_NS = 10 * NS_PER_MS  # how often back-to-back iterations look for Stop
NAP_NS = 50 * NS_PER_MS  # a think time is slept in pieces of this, looking for Stop between them
SPIN_NS = NS_PER_MS  # a sleep may end this late; the start of a block must not

_PACK = struct.Struct("<Iqqqd")  # RECORD as bytes: half the cost of assigning to a structured array
_PACK_CPU = struct.Struct("<Iqqqdqq")
_WITH_CPU = record_dtype(CPU_TIMES)
_NEVER_NS = 2**63 - 1
_UNBOUNDED = 2**62

assert (_PACK.size, _PACK_CPU.size) == (RECORD.itemsize, _WITH_CPU.itemsize)


class Outlet(Protocol):
    """Where a block's records go, and where the wish to end it comes from."""

    def records(self, records: Records) -> None:
        """Sends consecutive records. They are copied before it returns."""

    def heartbeat(self, now_ns: int, iterations: int) -> None:
        """Sends a sign of life."""

    def quota_reached(self, at_ns: int) -> None:
        """Says that the wanted amount is done, and that this tenant's window may close at ``at_ns``."""

    def stopped(self) -> bool:
        """True once the block is to end. Never blocks."""


class LeftOut(NamedTuple):
    """Iterations of a block that are not among its records: ``outside`` of it, or told in a way that none can read.

    ``events_lost``: calls of a traced program that were seen and not kept. ``notes``: see `BlockDone`.
    """

    outside: int = 0
    unread: int = 0
    events_lost: int = 0
    notes: tuple[str, ...] = ()


class Every:
    """True once per period."""

    def __init__(self, period_ns: int, now_ns: int) -> None:
        self._period_ns = period_ns
        self._next_ns = now_ns + period_ns

    def due(self, now_ns: int) -> bool:
        """True if a period is over; the next begins now."""
        if now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + self._period_ns
        return True


def exempt_from_collection() -> None:
    """Leaves all that is alive now out of every later collection.

    To be called once the libraries are loaded: torch's objects take 100 ms to look through, longer than a block's
    lead, and live as long as the process anyway.
    """
    gc.collect()
    gc.freeze()


class _Blocks:
    """How many blocks of this process run, each in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def begins(self) -> None:
        with self._lock:
            self._count += 1
            gc.disable()

    def ends(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                gc.enable()


_blocks = _Blocks()


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collects once, then not at all until the end of the context: of the last one, where several threads have one."""
    gc.collect()
    _blocks.begins()
    try:
        yield
    finally:
        _blocks.ends()


class Counting:
    """How many of a block's iterations its quota wants, and ``closes_ns``: when the window may close by it.

    Towards the quota of a lingering tenant count the iterations that are submitted in the window, but for its first,
    which follows a pause.
    """

    def __init__(self, quota: Quota, start_ns: int, arrivals: Arrivals) -> None:
        self.closes_ns: int | None = None
        self._quota, self._start_ns, self._arrivals = quota, start_ns, arrivals
        self._first_submit_ns: int | None = None
        self._lead = 0  # iterations that do not count; 0 while that is not known

    def first(self) -> int:
        """How many iterations to do before `next` is asked."""
        wanted = self._quota.iterations
        return _UNBOUNDED if wanted is None else 1 if self._quota.linger else wanted

    def next(self, count: int, submit_ns: int) -> int:
        """How many to do in all before it is asked again, the last of ``count`` submitted then; 0: no more."""
        if not self._quota.linger:
            return 0
        if self._first_submit_ns is None:
            self._first_submit_ns = submit_ns
        if not self._lead:
            if submit_ns < self._start_ns:
                return count + 1
            self._lead = max(1, count - 1)
        wanted = self._lead + (self._quota.iterations or 0)
        if count < wanted:
            return wanted
        self.closes_ns = submit_ns + self._arrivals.closing_ns((submit_ns - self._first_submit_ns) / (count - 1))
        return _UNBOUNDED


class BlockRun:
    """One block of a tenant that computes. ``now`` (monotonic ns) and ``sleep`` (seconds) can be replaced in tests.

    ``iterate``: see `kts.worker.iteration.timed`; ``device_ms`` reads the stopwatch after it. ``cpu``, of this thread,
    is read just before and just after it, and makes `CPU_TIMES` of the records. The outlet gets at most ``chunk``
    records at once: with 1, each after its iteration.

    The window opens at ``start_ns``. A closed loop submits its first iteration at ``first_ns``, also before that; due
    times come from ``start_ns`` on.
    """

    def __init__(
        self,
        *,
        iterate: Iterate,
        device_ms: Callable[[], float],
        arrivals: Arrivals,
        quota: Quota,
        start_ns: int,
        seed: int,
        outlet: Outlet,
        first_ns: int | None = None,
        cpu: CpuTimes | None = None,
        chunk: int = CHUNK_RECORDS,
        now: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.count = 0
        self._iterate = iterate
        self._device_ms = device_ms
        self._cpu = cpu
        self._chunk = chunk
        self._thinks: Iterator[int] | None = None
        self._dues: Iterator[int] | None = None
        if not isinstance(arrivals, Closed):
            self._dues = arrivals.due_times_ns(seed, start_ns)
        elif arrivals.think_ms > 0:
            self._thinks = arrivals.think_times_ns(seed)
        self._quota = quota
        self._counting = Counting(quota, start_ns, arrivals)
        self._begin_ns = start_ns if first_ns is None or self._dues is not None else first_ns
        self._quota_end_ns = _NEVER_NS if quota.seconds is None else start_ns + s_to_ns(quota.seconds)
        self._outlet = outlet
        self._now = now
        self._sleep = sleep
        dtype = RECORD if cpu is None else _WITH_CPU
        self._buffer = bytearray(chunk * dtype.itemsize)
        self._view = np.frombuffer(self._buffer, dtype)
        self._pending = 0
        self._heartbeat = Every(HEARTBEAT_NS, now())
        self._flush_due = Every(FLUSH_NS, now())
        self._next_between_ns = 0

    def run(self) -> int:
        """Runs the block to its end; returns the number of iterations, all handed to the outlet.

        What the work raises is raised again, after the records made before it were handed over.
        """
        with no_garbage_collection():
            if self._pause(self._begin_ns - SPIN_NS):
                return 0
            self._outlet.heartbeat(self._now(), 0)  # what the scheduler says at both ends of the block
            while self._now() < self._begin_ns:
                pass
            try:
                self._go_on()
            finally:
                self._flush()
            self._outlet.heartbeat(self._now(), self.count)
        return self.count

    def _go_on(self) -> None:
        iterate, device_ms, thinks, dues = self._iterate, self._device_ms, self._thinks, self._dues
        cpu, buffer, chunk = self._cpu, self._buffer, self._chunk
        record = _PACK if cpu is None else _PACK_CPU
        pack, record_bytes = record.pack_into, record.size
        spent: tuple[int, ...] = ()
        wanted = self._counting.first()
        due_ns = count = 0
        if dues is not None and self._pause(due_ns := next(dues)):
            return
        while True:
            if cpu is None:
                submit_ns, retire_ns = iterate()
            else:
                cpu.begin()
                submit_ns, retire_ns = iterate()
                spent = cpu.spent(retire_ns - submit_ns)
            wanted_ns = submit_ns if dues is None else due_ns
            pending = self._pending
            pack(buffer, pending * record_bytes, count, wanted_ns, submit_ns, retire_ns, device_ms(), *spent)
            self.count = count = count + 1
            self._pending = pending = pending + 1
            if pending == chunk:
                self._flush()
            if count == wanted:
                if not (wanted := self._counting.next(count, submit_ns)):
                    return
                if (closes_ns := self._counting.closes_ns) is not None:
                    self._quota_end_ns, self._next_between_ns = closes_ns, 0
            if dues is not None:
                due_ns = next(dues)
            if thinks is not None or due_ns > retire_ns:
                if self._pause(due_ns if thinks is None else retire_ns + next(thinks)):
                    return
            elif retire_ns >= self._next_between_ns and self._between(self._now()):
                return

    def _pause(self, until_ns: int) -> bool:
        """Sleeps; True if the block is to end."""
        while True:
            now_ns = self._now()
            if self._between(now_ns):
                return True
            if now_ns >= until_ns:
                return False
            self._sleep((min(until_ns, now_ns + NAP_NS, self._quota_end_ns) - now_ns) / NS_PER_S)

    def _between(self, now_ns: int) -> bool:
        """All that must not happen inside an iteration; True if the block is to end."""
        if self._outlet.stopped():
            return True
        if now_ns >= self._quota_end_ns:
            if not self._quota.linger:
                return True
            self._outlet.quota_reached(self._quota_end_ns)
            self._quota_end_ns = _NEVER_NS
        if self._heartbeat.due(now_ns):
            self._outlet.heartbeat(now_ns, self.count)
        if self._flush_due.due(now_ns):
            self._flush()
        self._next_between_ns = min(now_ns + LISTEN_NS, self._quota_end_ns)
        return False

    def _flush(self) -> None:
        pending, self._pending = self._pending, 0  # first, so that no record is sent twice after an interruption
        if pending:
            self._outlet.records(self._view[:pending])
