"""Where a program's iterations come from: the lines that it prints, its NVTX ranges, or its round trips.

Each makes records of what was printed and seen since it was asked last; ``i`` is the block's to fill in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from kts.model.records import COUNTS, RECORD, WAITED, Records, joined, record_dtype
from kts.units import NS_PER_MS
from kts.wire.appline import AppLine
from kts.worker.clocks import epoch_offset_ns
from kts.worker.tracing.calls import Calls
from kts.worker.tracing.layout import Kind
from kts.worker.tracing.pattern import SURE, Grouping, Pattern, pattern
from kts.worker.tracing.reader import Batch
from kts.worker.tracing.trips import TRIP, Array, Trips

_CLOCK_SET_NS = 5 * NS_PER_MS
_REMEMBERED = 1 << 14
_Key = tuple[int, int]


class IterationSource(Protocol):
    """One way of telling a program's iterations. ``notes``: what a reader of the run must know of them."""

    notes: tuple[str, ...]

    @property
    def speaks(self) -> bool:
        """It has told of an iteration at some time."""

    @property
    def unread(self) -> int:
        """Iterations that are missing, as far as that can be told: what was seen of these could not be kept."""

    @property
    def left_out(self) -> int:
        """Round trips that belong to no iteration."""

    def words(self) -> str:
        """What an iteration is."""

    def take(self, lines: Sequence[AppLine], batches: Iterable[Batch]) -> Records:
        """Iterations that ended since, in order of their begin."""


class _Lost:
    """Events that found no room, by process."""

    def __init__(self) -> None:
        self._before: dict[_Key, int] = {}

    def since(self, batch: Batch) -> int:
        """How many more since it was asked of that process."""
        before, now = self._before.get(batch.process.key, 0), batch.process.lost
        self._before[batch.process.key] = now
        return now - before


def made_of(begin_ns: Any, end_ns: Any, device_ms: Any = math.nan, **counts: Any) -> Records:
    """Records of iterations from ``begin_ns`` to ``end_ns`` (CLOCK_MONOTONIC), sorted by these."""
    begin_ns = np.asarray(begin_ns, np.int64)
    records = np.zeros(len(begin_ns), record_dtype(tuple(name for name in (*COUNTS, WAITED) if name in counts)))
    records["due_ns"] = records["submit_ns"] = begin_ns
    records["retire_ns"], records["device_ms"] = end_ns, device_ms
    for name, values in counts.items():
        records[name] = values
    return records[np.argsort(begin_ns, kind="stable")]


class FromLines:
    """The KTS_APP lines that it prints; launches and waits are those of all its processes in the meantime."""

    left_out = 0

    def __init__(self) -> None:
        self.speaks = False
        self.unread = 0
        self.notes: tuple[str, ...] = ()
        self._ahead_ns = epoch_offset_ns()
        self._set_ns = 0
        self._calls = Calls()

    def words(self) -> str:
        """See IterationSource."""
        return "an iteration is a KTS_APP line"

    def take(self, lines: Sequence[AppLine], batches: Iterable[Batch]) -> Records:
        """See IterationSource. Where CLOCK_REALTIME was set in the meantime, nobody can tell which of both clocks a
        line was printed by: those since the last look, and any that began before this one, count as unread."""
        for batch in batches:
            self._calls.add(batch.events, batch.breaks.tolist())
        if not lines:
            return np.empty(0, RECORD)
        self.speaks = True
        before_ns, self._ahead_ns = self._ahead_ns, epoch_offset_ns()
        if abs(self._ahead_ns - before_ns) > _CLOCK_SET_NS:
            by_ms = (self._ahead_ns - before_ns) / NS_PER_MS
            self.notes = (f"CLOCK_REALTIME was set by {by_ms:+.6g} ms: its iterations meanwhile count as unread",)
            self._set_ns = time.monotonic_ns()
            self.unread += len(lines)
            return np.empty(0, RECORD)
        times_ns = np.array([(line.start_ns, line.end_ns) for line in lines], np.int64) - self._ahead_ns
        if self._set_ns:
            told = times_ns[:, 0] >= self._set_ns
            self.unread += len(lines) - int(told.sum())
            lines, times_ns = [line for line, whole in zip(lines, told, strict=True) if whole], times_ns[told]
        counts = self._calls.within(times_ns[:, 0], times_ns[:, 1]) if self._calls.any else {}
        return made_of(times_ns[:, 0], times_ns[:, 1], [line.device_ms for line in lines], **counts)


class FromRanges:
    """Its NVTX ranges of a name; launches and waits are those of the range's process in it."""

    notes: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.speaks = False
        self.unread = self.left_out = 0
        self.others: dict[str, None] = {}
        """Names of its other ranges."""
        self._name = name
        self._calls: dict[_Key, Calls] = {}
        self._lost = _Lost()

    def words(self) -> str:
        """See IterationSource."""
        return f"an iteration is an NVTX range {self._name!r}"

    def take(self, lines: Sequence[AppLine], batches: Iterable[Batch]) -> Records:
        """See IterationSource."""
        del lines
        parts = [self._of(batch) for batch in batches]
        whole = joined(parts)
        self.speaks = self.speaks or len(whole) > 0
        return whole[np.argsort(whole["submit_ns"], kind="stable")]

    def _of(self, batch: Batch) -> Records:
        calls = self._calls.setdefault(batch.process.key, Calls())
        calls.add(batch.events, batch.breaks.tolist())
        ranges = batch.events[batch.events["kind"] == int(Kind.RANGE)]
        wanted = {number for number, name in batch.names.items() if name == self._name}
        self.others.update(dict.fromkeys(name for number, name in batch.names.items() if number not in wanted))
        ranges = ranges[np.isin(ranges["detail"], np.array(sorted(wanted), np.uint64))]
        self.unread += math.ceil(self._lost.since(batch) * len(ranges) / len(batch.events))
        counts = calls.within(ranges["begin_ns"], ranges["end_ns"]) if calls.any else {}
        return made_of(ranges["begin_ns"], ranges["end_ns"], **counts)


class _ThreadTrips:
    """Round trips of one thread of one process: how many, whether any launches, and those to look at, which begin with
    the first that launches: what is before that loads data."""

    def __init__(self, process: _Key, usual: Pattern) -> None:
        self.process = process
        self.grouping = Grouping(usual)
        self.trips: Array = np.empty(0, TRIP)
        self.count = 0
        self.launches = False

    def add(self, trips: Array, *, remember: bool) -> Array:
        """Those of ``trips`` that count."""
        self.count += len(trips)
        launching = np.flatnonzero(trips["launches"])
        if not self.launches and len(launching):
            self.launches = True
            self.trips, trips = self.trips[:0], trips[launching[0] :]
        if remember:
            self.trips = np.concatenate([self.trips, trips])[-_REMEMBERED:]
        return trips

    def again(self) -> Array:
        """Its iterations, made of those trips."""
        self.grouping = Grouping(self.grouping.of)
        return self.grouping.add(self.trips)


class FromTrips:
    """Its round trips, so many to an iteration as `settle` says; of threads that launch, where any does.

    ``settled``: `again` is not asked any more.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, each: int | None) -> None:
        self.settled = False
        self.unread = 0
        self._each = each
        self._usual = Pattern((0,) * (each or 1))
        self._looked = False
        self._processes: dict[_Key, Trips] = {}
        self._lost = _Lost()
        self._given_up = 0
        self._threads: dict[tuple[_Key, int], _ThreadTrips] = {}

    @property
    def launches(self) -> bool:
        """Whether any round trip launches anything."""
        return any(thread.launches for thread in self._threads.values())

    @property
    def speaks(self) -> bool:
        """See IterationSource."""
        return any(thread.count for thread in self._threads.values())

    @property
    def sure(self) -> bool:
        """What an iteration is was asked for, or repeats."""
        return self._usual.asked or self._usual.sure >= SURE

    @property
    def unfinished(self) -> bool:
        """It hands work over, and has waited for some of it, but never for all."""
        return not self.speaks and any(process.unfinished and process.waits for process in self._processes.values())

    @property
    def left_out(self) -> int:
        """See IterationSource."""
        return self._given_up + sum(thread.grouping.left_out for thread in self._threads.values())

    def words(self) -> str:
        """See IterationSource."""
        return self._usual.words()

    def take(self, lines: Sequence[AppLine], batches: Iterable[Batch]) -> Records:
        """See IterationSource."""
        del lines
        parts = []
        for batch in batches:
            for thread, trips in self._trips_of(batch):
                counted = thread.add(trips, remember=not self.settled)
                if self._counts(thread):
                    parts.append(thread.grouping.add(counted))
        return _records(parts)

    def settle(self) -> bool:
        """Looks again what repeats, in each thread; True if an iteration is something else from now on."""
        busiest = max(self._threads.values(), key=lambda one: (one.launches, one.count), default=None)
        if busiest is None:
            return False
        before, self._usual = self._usual, pattern(busiest.trips, self._each)
        first, self._looked = not self._looked, True
        for thread in self._threads.values():
            enough = len(thread.trips) >= len(busiest.trips) / 2
            usual = pattern(thread.trips, self._each) if enough else self._usual
            if thread.grouping.of.launches != usual.launches:
                thread.grouping = Grouping(usual)
        return first or before.launches != self._usual.launches

    def again(self) -> Records:
        """All iterations so far, as an iteration is told now."""
        return _records([thread.again() for thread in self._threads.values() if self._counts(thread)])

    def _counts(self, thread: _ThreadTrips) -> bool:
        return thread.launches or not self.launches

    def _trips_of(self, batch: Batch) -> list[tuple[_ThreadTrips, Array]]:
        key = batch.process.key
        process = self._processes.setdefault(key, Trips())
        lost = self._lost.since(batch)
        parts = []
        for k, events in enumerate(np.split(batch.events, batch.breaks)):
            if k:
                self._forget(key, process)
            parts.append(process.add(events))
        trips = np.concatenate(parts)
        if lost:
            self.unread += max(len(batch.breaks), math.ceil(lost * len(trips) / self._usual.each / len(batch.events)))
        found = []
        for number in np.unique(trips["thread"]).tolist():
            thread = self._threads.setdefault((key, number), _ThreadTrips(key, self._usual))
            found.append((thread, trips[trips["thread"] == number]))
        return found

    def _forget(self, key: _Key, process: Trips) -> None:
        self._given_up += process.forget()
        for thread in self._threads.values():
            if thread.process == key:
                thread.grouping.forget()


def _records(iterations: Sequence[Array]) -> Records:
    whole = np.concatenate([np.empty(0, TRIP), *iterations])
    counts = {name: whole[name] for name in (*COUNTS, WAITED)}
    return made_of(whole["begin_ns"], whole["end_ns"], **counts)
