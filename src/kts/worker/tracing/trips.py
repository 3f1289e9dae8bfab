"""From a process's calls to its round trips. Pure: events in, round trips out, however the events come in pieces.

A round trip of a thread goes from the first work that it hands to the GPU while nothing of its own is in flight until
the host has waited for all of it. Which work a wait covers is what CUDA promises: all that was handed to the stream
before the wait began; of an event, up to where it was recorded; and what that stream had been told to wait for. Work on
the legacy default stream comes after all that its context was given before. (Streams made non-blocking are exempt from
that, which the calls do not tell: a round trip may end while such a stream still works.) A query that answers "done"
is a wait.

Threads that only help, as those that compute gradients, never wait: their work belongs to the round trip of whoever
waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kts.worker.tracing.layout import Flag, Kind

TRIP = np.dtype(
    [
        ("begin_ns", "<i8"),  # the first call that handed work over began
        ("end_ns", "<i8"),  # the wait returned
        ("thread", "<u4"),  # that waited
        ("launches", "<u4"),  # kernels and graphs
        ("copies", "<u4"),
        ("waits", "<u4"),  # at least 1, the last
        ("waited_ns", "<i8"),  # in waits and in copies that wait; from the last work handed over to a query's "done"
    ]
)

Array = NDArray[np.void]

_OWN_STREAM = 2
_WAIT, _QUERY, _RECORD, _STREAM_WAIT = map(int, (Kind.WAIT, Kind.QUERY, Kind.RECORD, Kind.STREAM_WAIT))
_WAITS = frozenset({_WAIT, _QUERY})
_WAITED, _ALL, _LEGACY = int(Flag.WAITED), int(Flag.ALL), int(Flag.LEGACY)


def _among(*kinds: Kind) -> NDArray[np.bool_]:
    """Whether a kind, as index, is one of them."""
    table = np.zeros(2**16, dtype=bool)
    table[list(kinds)] = True
    return table


_LAUNCHES = _among(Kind.LAUNCH, Kind.GRAPH)
HANDS_OVER = _LAUNCHES | _among(Kind.COPY, Kind.SET, Kind.HOST)
"""Whether a call of that kind, as index, hands work to the GPU."""
_ASKS = _among(Kind.WAIT, Kind.QUERY)
_MATTERS = HANDS_OVER | _among(Kind.WAIT, Kind.QUERY, Kind.RECORD, Kind.STREAM_WAIT)
_MOST_RECORDED = 4096
_MOST_RUNS = 64
FORGOTTEN = 64
"""So many waits after it was handed over, with nothing more on that stream, nobody waits for a piece of work any more:
a library that was set up beside, say. A round trip ends without it."""
HELPED = 64
"""So often in a row others have waited for a thread's work before it counts as one that only helps."""


class _Stream:
    """Work is told by its number within the stream, from 1. ``after``: what was before its last work, elsewhere."""

    __slots__ = ("after", "context", "done", "handed", "runs")

    def __init__(self, context: int) -> None:
        self.context = context
        self.handed = self.done = 0
        self.after: dict[_Stream, int] = {}
        self.runs: list[tuple[NDArray[np.int64], int]] = []  # when each was handed over, and the number of the last

    def before(self, ns: int) -> int:
        """The last work that was handed over by ``ns``; looked for from the newest on."""
        number = self.handed
        for begins, last in reversed(self.runs):
            earlier = int(np.searchsorted(begins, ns, side="right"))
            number = last - len(begins) + earlier
            if earlier:
                break
        return number

    def comes_after(self, works: Mapping[_Stream, int]) -> None:
        """What it is given next begins when these have ended."""
        for other, last in works.items():
            if other is not self and last > other.done:
                self.after[other] = max(last, self.after.get(other, 0))

    def seen(self, number: int) -> None:
        """The host has waited for all up to that."""
        self.done = max(self.done, number)
        while self.runs and self.runs[0][1] <= self.done:
            self.runs.pop(0)


class _TripThread:
    """``last``: of its open round trip, the last work on each stream; empty where none is open. ``since``: how many
    waits of its own were over with that work still not done."""

    __slots__ = (
        "begin_ns",
        "copies",
        "handed_ns",
        "helped",
        "last",
        "launches",
        "since",
        "waited_ns",
        "waits",
        "waits_itself",
    )

    def __init__(self) -> None:
        self.waits_itself = False
        self.helped = 0
        self.last: dict[_Stream, int] = {}
        self.since: dict[_Stream, int] = {}
        self.clear()

    def clear(self) -> None:
        self.last = {}
        self.since = {}
        self.begin_ns = self.launches = self.copies = self.waits = 0
        self.handed_ns = self.waited_ns = 0

    def take(self, other: _TripThread) -> None:
        """The other's round trip was part of this one."""
        self.begin_ns = min(self.begin_ns, other.begin_ns)
        self.launches += other.launches
        self.copies += other.copies
        self.waits += other.waits
        other.clear()

    def forget(self) -> None:
        """One of its waits is over: what nobody waits for any more is no part of the round trip."""
        for stream, number in list(self.last.items()):
            if stream.done < number:
                self.since[stream] = self.since.get(stream, 0) + 1
                if self.since[stream] >= FORGOTTEN:
                    del self.last[stream]

    def all_done(self) -> bool:
        return all(stream.done >= number for stream, number in self.last.items())


class Trips:
    """The round trips of one process. Feed it all of its events, in order."""

    def __init__(self) -> None:
        self._streams: dict[tuple[int, int, int], _Stream] = {}
        self._busy: dict[_Stream, None] = {}
        self._recorded: dict[int, dict[_Stream, int]] = {}
        self._threads: dict[int, _TripThread] = {}
        self._found: list[tuple[int, int, int, int, int, int, int]] = []

    @property
    def waits(self) -> int:
        """How often its threads have waited in round trips that are not over."""
        return sum(thread.waits for thread in self._threads.values())

    def add(self, events: Array) -> Array:
        """Round trips that end with one of ``events``, dtype `TRIP`, in the order in which they end."""
        events = events[_MATTERS[events["kind"]] & (events["flags"] & int(Flag.FAILED) == 0)]
        first, beyond = self._plain(events)
        parts = [self._walk(events[:first]), self._leap(events[first:beyond]), self._walk(events[beyond:])]
        return np.concatenate(parts)

    def _plain(self, events: Array) -> tuple[int, int]:
        """The part of ``events`` in which nothing is in flight before its first, and every wait is for all that is:
        where one thread uses one stream. (0, 0): none."""
        nothing = (0, 0)
        if not len(events):
            return nothing
        kind, flags = events["kind"], events["flags"]
        hands = HANDS_OVER[kind]
        where = events[["context", "stream", "thread"]][hands | (flags & _ALL == 0)]
        thread, waits = events["thread"], events[~hands]
        if not (hands | _ASKS[kind]).all() or waits["detail"].any() or (thread != thread[0]).any():
            return nothing
        if not len(where) or (where != where[0]).any() or (events["context"] != where["context"][0]).any():
            return nothing
        key = self._key(int(where["context"][0]), int(where["stream"][0]), int(thread[0]))
        if self._streams.keys() - {key} or self._threads.keys() - {int(thread[0])}:
            return nothing
        ends = np.flatnonzero(~hands | (flags & _WAITED != 0))
        if not len(ends):
            return nothing
        return (int(ends[0]) + 1 if self.unfinished else 0), int(ends[-1]) + 1

    def _leap(self, events: Array) -> Array:
        """Round trips of such a part: each wait ends one, where anything was handed over since the wait before."""
        if not len(events):
            return np.empty(0, TRIP)
        kind = events["kind"]
        hands = HANDS_OVER[kind]
        firsts, ends = np.flatnonzero(hands), np.flatnonzero(~hands | (events["flags"] & _WAITED != 0))
        number = np.cumsum(hands)[ends]
        counts = np.diff(number, prepend=0)
        ended = counts > 0
        trips = np.zeros(int(ended.sum()), TRIP)
        if not len(trips):
            return trips
        trips["begin_ns"] = events["begin_ns"][firsts[(number - counts)[ended]]]
        trips["end_ns"] = events["end_ns"][ends[ended]]
        last = firsts[number[ended] - 1]
        asked = kind[ends[ended]] == _QUERY
        since_ns = np.where(asked, events["end_ns"][last], events["begin_ns"][ends[ended]])
        trips["waited_ns"] = trips["end_ns"] - since_ns
        trips["thread"], trips["waits"] = events["thread"][0], 1
        trips["launches"] = np.diff(np.cumsum(_LAUNCHES[kind])[ends], prepend=0)[ended]
        trips["copies"] = np.diff(np.cumsum(kind == int(Kind.COPY))[ends], prepend=0)[ended]
        thread, stream = self._of(int(events["thread"][0])), self._on(events[firsts[0]])
        stream.handed += int(number[-1])
        self._done(stream, stream.handed)
        thread.waits_itself, thread.helped = True, 0
        return trips

    def _walk(self, events: Array) -> Array:
        for run in _runs(events):
            self._take(run)
        found, self._found = self._found, []
        return np.array(found, dtype=TRIP)

    @staticmethod
    def _key(context: int, stream: int, thread: int) -> tuple[int, int, int]:
        return context, stream, thread if stream == _OWN_STREAM else 0

    def _of(self, number: int) -> _TripThread:
        thread = self._threads.get(number)
        if thread is None:
            thread = self._threads[number] = _TripThread()
        return thread

    def _on(self, call: Any) -> _Stream:
        """The stream of an event."""
        return self._stream(int(call["context"]), int(call["stream"]), int(call["thread"]))

    def _stream(self, context: int, number: int, thread: int) -> _Stream:
        key = self._key(context, number, thread)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream(context)
        return stream

    def forget(self) -> int:
        """To be called where events are missing: gives up what is in flight; how many round trips that were."""
        given_up = self.unfinished
        for stream in self._streams.values():
            stream.seen(stream.handed)
            stream.after.clear()
        self._busy.clear()
        self._recorded.clear()
        for thread in self._threads.values():
            thread.clear()
        return given_up

    @property
    def unfinished(self) -> int:
        """Round trips that were begun, and for which no host has waited yet."""
        return sum(bool(thread.last) for thread in self._threads.values())

    def _take(self, run: _Run) -> None:
        thread = self._of(run.thread)
        if run.kind in _WAITS:
            self._looked(run)
            self._waited(thread, run, run.kind == _WAIT)
            return
        stream = self._stream(run.context, run.stream, run.thread)
        if run.kind == _STREAM_WAIT:
            stream.comes_after(self._recorded.get(run.detail, {}))
            return
        if run.flags & _LEGACY:
            self._after_all(stream)
        if run.kind == _RECORD:
            self._recorded.pop(run.detail, None)
            self._recorded[run.detail] = {**stream.after, stream: stream.handed}
            if len(self._recorded) > _MOST_RECORDED:
                del self._recorded[next(iter(self._recorded))]
            return
        self._handed(thread, stream, run)
        if run.flags & _WAITED:
            self._covers(stream, stream.handed, int(run.begins[0]))
            self._waited(thread, run, 1)

    def _looked(self, run: _Run) -> None:
        """What the host has waited for, or seen done: all of a context, an event, or a stream."""
        began_ns = int(run.begins[0])
        if run.flags & _ALL:
            for other in self._streams.values():
                if other.context == run.context or 0 in {run.context, other.context}:
                    self._covers(other, self._before(other, began_ns), began_ns)
        elif run.detail:
            for other, last in self._recorded.get(run.detail, {}).items():
                self._done(other, min(last, self._before(other, began_ns)))
        else:
            stream = self._stream(run.context, run.stream, run.thread)
            self._covers(stream, self._before(stream, began_ns), began_ns)

    def _after_all(self, stream: _Stream) -> None:
        """What comes next on the legacy default stream comes after all that its context was given."""
        if not self._busy or (len(self._streams) == 1 and stream in self._busy):
            return
        for other in self._streams.values():
            if other is not stream and other.context == stream.context:
                stream.comes_after({**other.after, other: other.handed})

    def _handed(self, thread: _TripThread, stream: _Stream, run: _Run) -> None:
        stream.handed += len(run.begins)
        self._busy[stream] = None
        stream.runs.append((run.begins, stream.handed))
        if len(stream.runs) > _MOST_RUNS:
            del stream.runs[0]
        if not thread.last:
            thread.begin_ns = int(run.begins[0])
        thread.last[stream] = stream.handed
        thread.since.pop(stream, None)
        thread.handed_ns = run.end_ns
        thread.launches += run.launches
        thread.copies += run.copies

    def _covers(self, stream: _Stream, number: int, began_ns: int) -> None:
        """The host has waited, from ``began_ns`` on, for that work of the stream, and so for all that was before it."""
        self._done(stream, number)
        if stream.after:
            for other, last in stream.after.items():
                self._done(other, min(last, self._before(other, began_ns)))
            stream.after = {other: last for other, last in stream.after.items() if last > other.done}

    def _before(self, stream: _Stream, ns: int) -> int:
        return stream.before(ns) if len(self._threads) > 1 else stream.handed

    def _done(self, stream: _Stream, number: int) -> None:
        stream.seen(number)
        if stream.done == stream.handed:
            self._busy.pop(stream, None)

    def _waited(self, thread: _TripThread, run: _Run, waits: int) -> None:
        """A thread's wait is over: what was all done then is a round trip."""
        over: list[tuple[int, _TripThread]] = []
        took_ns = run.end_ns - int(run.begins[0])
        if thread.last:
            thread.waits += waits
            if run.kind != _QUERY:
                thread.waited_ns += took_ns
            elif thread.all_done():
                thread.waited_ns += run.end_ns - thread.handed_ns
            thread.waits_itself, thread.helped = True, 0
            if waits:
                thread.forget()
            if thread.all_done():
                over.append((run.thread, thread))
        if len(self._threads) > 1:
            over += self._helpers(thread)
        if len(over) > 1:
            whose, first = over[0] if over[0][1] is thread else min(over, key=lambda one: one[1].begin_ns)
            for _, other in over:
                if other is not first:
                    first.take(other)
        elif over:
            whose, first = over[0]
        else:
            return
        waited_ns = min(first.waited_ns if first is thread else took_ns, run.end_ns - first.begin_ns)
        counts = first.launches, first.copies, first.waits or 1
        self._found.append((first.begin_ns, run.end_ns, whose, *counts, waited_ns))
        first.clear()

    def _helpers(self, waiting: _TripThread) -> list[tuple[int, _TripThread]]:
        """Threads whose work is all done, and that never wait for it themselves."""
        over = []
        for number, thread in self._threads.items():
            if thread is not waiting and thread.last and thread.all_done():
                if not thread.waits_itself:
                    over.append((number, thread))
                thread.helped += 1
                thread.waits_itself = thread.waits_itself and thread.helped < HELPED
        return over


class _Run(NamedTuple):
    """Calls, one after the other, that hand work to one stream from one thread; or one call of another kind."""

    kind: int
    flags: int
    thread: int
    stream: int
    context: int
    detail: int
    begins: NDArray[np.int64]
    end_ns: int
    launches: int
    copies: int


def _runs(events: Array) -> Iterator[_Run]:
    """``events``, which all matter, in order."""
    if not len(events):
        return
    kind, flags = events["kind"], events["flags"]
    goes_on = HANDS_OVER[kind] & (flags & _WAITED == 0)
    new = np.ones(len(events), dtype=bool)
    new[1:] = ~(goes_on[1:] & goes_on[:-1])
    for name in ("thread", "stream", "context"):
        new[1:] |= events[name][1:] != events[name][:-1]
    new[1:] |= (flags[1:] ^ flags[:-1]) & _LEGACY != 0
    firsts = np.flatnonzero(new)
    lasts = np.append(firsts[1:], len(events)) - 1
    launches = np.add.reduceat(_LAUNCHES[kind].astype(np.int64), firsts)
    copies = np.add.reduceat((kind == int(Kind.COPY)).astype(np.int64), firsts)
    begins = np.ascontiguousarray(events["begin_ns"])
    columns = [events[name][firsts].tolist() for name in ("kind", "flags", "thread", "stream", "context", "detail")]
    beyond = (lasts + 1).tolist()
    begun = (begins[first:last] for first, last in zip(firsts.tolist(), beyond, strict=True))
    ends = events["end_ns"][lasts].tolist()
    yield from map(_Run._make, zip(*columns, begun, ends, launches.tolist(), copies.tolist(), strict=True))
