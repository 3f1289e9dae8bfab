"""Events of a traced program whose truth is told beside them: a host thread, and a GPU that does what it hands over."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kts.model.records import RECORD, Records
from kts.worker.tracing.layout import EVENT, Flag, Kind

CALL_NS = 4_000
USUAL_NS = 1_500


@dataclass
class Traced:
    """A program that runs. Call `begin`, then what it does, then `end`, once per iteration.

    Truth, per launch of the iterations: ``offset``, ``duration``, ``waited`` (-1: none), all ns; ``offset`` without
    waits. The GPU begins `USUAL_NS` after a call's return, or when the stream is free.
    """

    now: int = 1_000_000_000
    activity: bool = True
    thread: int = 7
    rows: list[tuple[int, int, int, int, float]] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    duration: list[int] = field(default_factory=list)
    waited: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    _events: list[tuple[int, ...]] = field(default_factory=list)
    _free: dict[int, int] = field(default_factory=dict)
    _correlation: int = 0
    _submit: int = 0
    _held: int = 0
    _waits_since: int | None = None
    _returned: int = 0
    _ready: int = 0

    def begin(self) -> None:
        """An iteration is submitted."""
        self._submit, self._held = self.now, 0
        self.counts.append(0)

    def host(self, ns: int) -> None:
        """The host does something else."""
        self.now += ns

    def launch(
        self,
        ns: int,
        kind: Kind = Kind.LAUNCH,
        *,
        flags: int = 0,
        stream: int = 0,
        nested: bool = False,
        nodes: int = 1,
        blocks: bool = False,
        call_ns: int = CALL_NS,
    ) -> None:
        """Hands over ``ns`` of work. ``blocks``: the call returns when it is done. ``nested``: the GPU's part has the
        driver call's correlation; a graph has ``nodes``."""
        begin = self.now
        self._correlation += 10
        own, inner = self._correlation, self._correlation + 1
        returned = begin if blocks else begin + call_ns
        start = max(returned + USUAL_NS, self._free.get(stream, 0))
        self._free[stream] = done = start + ns
        self.now = done + 1000 if blocks else returned
        self.offset.append(max(returned + USUAL_NS - self._submit - self._held, 0))
        self.duration.append(ns)
        self.waited.append(-1)
        self.counts[-1] += 1
        self._waits_since, self._returned, self._ready = None, self.now, returned + USUAL_NS
        detail = ns if kind in (Kind.COPY, Kind.SET) else 0
        self._event(begin, self.now, kind, flags, stream, own, inner, detail)
        if blocks:
            self._hold(begin)
        if self.activity:
            what = {Kind.COPY: Kind.COPIED, Kind.SET: Kind.SETTLED}.get(kind, Kind.KERNEL)
            edges = np.linspace(start, done, nodes + 1).astype(int).tolist()
            for a, b in itertools.pairwise(edges):
                self._event(a, b, what, flags & ~Flag.WAITED, stream, inner if nested else own, 0, detail, device=True)

    def record(self, stream: int = 0, *, counts: bool = True, event: int = 1) -> None:
        """Records an event. ``counts``: it is a launch of no duration."""
        begin, self.now = self.now, self.now + CALL_NS
        self._event(begin, self.now, Kind.RECORD, 0, stream, 0, 0, event)
        if counts:
            self.offset.append(self.now + USUAL_NS - self._submit - self._held)
            self.duration.append(0)
            self.waited.append(-1)
            self.counts[-1] += 1
            self._waits_since, self._returned, self._ready = None, self.now, self.now + USUAL_NS

    def ask(self, event: int) -> None:
        """Queries an event, which answers "done"."""
        begin, self.now = self.now, self.now + 700
        self._event(begin, self.now, Kind.QUERY, 0, 0, 0, 0, event)

    def wait(self, kind: Kind = Kind.WAIT, notice_ns: int = 2000) -> None:
        """Waits until all streams are empty."""
        begin = self.now
        self.now = max(begin, *self._free.values(), 0) + notice_ns
        if kind is Kind.QUERY:
            begin = self._returned
            self._event(self.now - 500, self.now, kind, 0, 0, 0, 0, 0)
        else:
            self._event(begin, self.now, kind, 0, 0, 0, 0, 0)
        self._hold(begin)

    def end(self) -> None:
        """The iteration retires: what was waited for at its end is its end."""
        if self.counts[-1]:
            self.waited[-1] = -1
        self.rows.append((len(self.rows), self._submit, self._submit, self.now, np.nan))

    @property
    def events(self) -> NDArray[np.void]:
        """All of them, as the ring has them: in order of their ends."""
        found = np.array(self._events, EVENT)
        found.sort(order="end_ns")
        found["seq"] = np.arange(1, len(found) + 1)
        return found

    @property
    def records(self) -> Records:
        """The iterations."""
        return np.array(self.rows, RECORD)

    def _hold(self, begin: int) -> None:
        """Between two launches there is one wait, from the earliest begin."""
        if not self.counts[-1]:
            return
        since = max(begin, min(self._ready, self.now))  # not before the GPU could have begun what is waited for
        self._waits_since = since if self._waits_since is None else min(since, self._waits_since)
        before = max(self.waited[-1], 0)
        self.waited[-1] = self.now - self._waits_since
        self._held += self.waited[-1] - before

    def _event(self, *fields: int, device: bool = False) -> None:
        """Begin, end, kind, flags, stream, correlation, inner, detail."""
        begin, end, kind, flags, stream, correlation, inner, detail = fields
        thread = 0 if device else self.thread
        self._events.append((0, begin, end, kind, flags, thread, stream, 1, correlation, inner, 0, detail))
