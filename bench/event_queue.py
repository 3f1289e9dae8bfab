"""A second, slow simulator, written from the text of docs/physics.md alone: a queue of events, one at a time.

It shares no code with `kts.physics.engine` and is built the other way round: each launch is an event that joins a
real queue, each slice ends in an event whether somebody waits or not, and a decision is an event of its own. Tests
hold the fast one against it; `python -m bench simulate` times both.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from kts.physics.simulate import SharingModel, Stream

LAUNCH, KERNEL_END, SWITCH_END, SLICE_END, DECIDE = range(5)
"""Kinds of events; those of the same instant happen in this order."""


@dataclass
class Host:
    """One tenant's program."""

    number: int
    stream: Stream
    queue: deque[float] = field(default_factory=deque)  # GPU time still needed by each queued kernel
    records: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    due: float = 0.0
    submit: float = 0.0
    begin: float | None = None
    launched: int = 0
    finished: int = 0
    held_back: float = 0.0
    waiting_for_room: bool = False
    next: Host | None = None
    busy: float = 0.0

    @property
    def listing(self) -> int:
        return int(self.stream.pick[len(self.records)])

    @property
    def span(self) -> range:
        first = self.stream.iterations.first
        return range(int(first[self.listing]), int(first[self.listing + 1]))


class EventQueue:
    """One simulation; `run` returns it when it is over."""

    def __init__(self, streams: Sequence[Stream], sharing: SharingModel) -> None:
        self.sharing = sharing
        self.hosts = [Host(number, stream) for number, stream in enumerate(streams)]
        self.heap: list[tuple[float, int, int, int]] = []
        self.now = 0.0
        self.owner: Host | None = None
        self.switching_to: Host | None = None
        self.kernel_began: float | None = None
        self.slice_over = False
        self.turn_begins = False
        self.was_idle = True
        self.stamp = 0  # events of an interrupted turn carry an old one
        self.switch_ms = 0.0
        self.switch_end = 0.0
        self.idle_since: float | None = 0.0
        self.idle_ms = 0.0
        self.switches = [0, 0, 0]
        self.kernels = 0

    def run(self, *, horizon_ms: float = inf, stop_at_first: bool = True) -> EventQueue:
        """Handles events until none is left, the horizon, or the end of one tenant's work."""
        for host in self.hosts:
            if len(host.stream.pick):
                self._submit(host, 0.0 if host.stream.due_ms is not None else host.stream.start_ms)
        while self.heap:
            time, kind, number, stamp = heapq.heappop(self.heap)
            if kind not in (LAUNCH, DECIDE) and stamp != self.stamp:
                continue  # of a turn that was interrupted
            if time > horizon_ms:
                self._stop(horizon_ms)
                return self
            self.now = time
            if time == horizon_ms and kind != KERNEL_END:
                continue  # what would begin now is no longer part of it
            if kind == LAUNCH:
                self._launch(self.hosts[number])
            elif kind == DECIDE:
                self._decide()
            elif kind == SWITCH_END:
                self._switch_end()
            elif kind == SLICE_END:
                self.slice_over = True
                self._at(self.now, DECIDE)
            elif self._kernel_end() and stop_at_first:
                break
        self._stop(self.now)
        return self

    def _at(self, time: float, kind: int, number: int = 0) -> None:
        heapq.heappush(self.heap, (time, kind, number, self.stamp))

    def _stop(self, time: float) -> None:
        if self.kernel_began is not None and self.owner:
            self.owner.busy += time - self.kernel_began
        if self.switching_to is not None:
            self.switch_ms -= max(self.switch_end - time, 0.0)
        if self.idle_since is not None:
            self.idle_ms += time - self.idle_since
        self.now = time

    # the hosts

    def _submit(self, host: Host, free_at: float) -> None:
        stream = host.stream
        host.due = free_at if stream.due_ms is None else float(stream.due_ms[len(host.records)])
        host.submit = max(free_at, host.due)
        host.begin, host.launched, host.finished, host.held_back = None, 0, 0, 0.0
        self._at(host.submit + float(stream.iterations.offset_ms[host.span[0]]), LAUNCH, host.number)

    def _launch(self, host: Host) -> None:
        """A kernel joins the queue, and the host goes on to the next launch, unless the queue is full."""
        place = host.span[host.launched]
        last = host.launched + 1 == len(host.span)
        gap = 0.0 if last else self.sharing.launch_gap_ms
        host.queue.append(float(host.stream.iterations.duration_ms[place]) + gap)
        host.launched += 1
        if not last:
            host.waiting_for_room = len(host.queue) == host.stream.queue_depth
            if not host.waiting_for_room:
                self._next_launch(host)
        self._at(self.now, DECIDE)

    def _next_launch(self, host: Host) -> None:
        wanted = host.submit + float(host.stream.iterations.offset_ms[host.span[host.launched]]) + host.held_back
        if wanted < self.now:
            host.held_back += self.now - wanted
        self._at(max(wanted, self.now), LAUNCH, host.number)

    # the GPU

    def _kernel_end(self) -> bool:
        """True if the tenant's work is all done."""
        host, began = self.owner, self.kernel_began
        assert host is not None
        assert began is not None
        host.busy += self.now - began
        self.kernel_began = None
        self.kernels += 1
        host.queue.popleft()
        host.finished += 1
        self._at(self.now, DECIDE)
        if host.waiting_for_room:
            host.waiting_for_room = False
            self._next_launch(host)
        if host.finished < len(host.span):
            return False
        assert host.begin is not None
        retire = self.now + float(host.stream.iterations.retire_ms[host.listing])
        think = host.stream.think_ms
        pause = 0.0 if think is None else float(think[len(host.records)])
        host.records.append((host.due, host.submit, host.begin, self.now, retire))
        if len(host.records) == len(host.stream.pick):
            return True
        self._submit(host, retire + pause)
        return False

    def _switch_end(self) -> None:
        self.owner, self.switching_to = self.switching_to, None
        self.turn_begins = True
        self._new_slice()
        self._at(self.now, DECIDE)

    def _new_slice(self) -> None:
        assert self.owner is not None
        self.slice_over = False
        self.stamp += 1
        own = self.owner.stream.slice_ms
        self._at(self.now + (self.sharing.slice_ms if own is None else own), SLICE_END)
        if self.kernel_began is not None:
            self._at(self.now + self.owner.queue[0], KERNEL_END)

    def _decide(self) -> None:
        if self.switching_to is not None:
            return
        if any(time == self.now and kind != DECIDE for time, kind, _, _ in self.heap):
            self._at(self.now, DECIDE)  # not before all that happens now has happened
            return
        owner = self.owner
        waiting = [host for host in self.hosts if host.queue and host is not owner]
        if owner is None or not owner.queue:
            self._without_work(waiting)
            return
        if self.was_idle:
            self._busy_again()
            self._new_slice()
            self.turn_begins = True
        if self.turn_begins:
            self.turn_begins = False
            owner.next = self._following(waiting) if waiting and owner.stream.settles_next else None
        rivals = [h for h in waiting if h.stream.priority >= owner.stream.priority]
        higher = [h for h in rivals if h.stream.priority > owner.stream.priority]
        if (self.slice_over and rivals) or (self.sharing.at_once and higher):
            self._interrupt(owner)
            self._switch(waiting, 0)
            return
        if self.kernel_began is None:
            self.kernel_began = self.now
            if owner.begin is None:
                owner.begin = self.now
            self._at(self.now + owner.queue[0], KERNEL_END)
        if self.slice_over:
            self._interrupt(owner)
            self.kernel_began = self.now
            self._new_slice()

    def _without_work(self, waiting: list[Host]) -> None:
        if waiting:
            kind = 2 if self.was_idle else 1
            self._busy_again()
            self._switch(waiting, kind)
        elif not self.was_idle:
            self.was_idle = True
            self.idle_since = self.now
            self.stamp += 1

    def _busy_again(self) -> None:
        if self.idle_since is not None:
            self.idle_ms += self.now - self.idle_since
        self.idle_since = None
        self.was_idle = False

    def _interrupt(self, owner: Host) -> None:
        if self.kernel_began is not None:
            done = self.now - self.kernel_began
            owner.busy += done
            owner.queue[0] -= done
            self.kernel_began = None

    def _following(self, waiting: list[Host]) -> Host:
        n, at = len(self.hosts), -1 if self.owner is None else self.owner.number
        return min(waiting, key=lambda h: (-h.stream.priority, (h.number - at - 1) % n))

    def _switch(self, waiting: list[Host], kind: int) -> None:
        sharing = self.sharing
        settled = self.owner.next if self.owner is not None and kind == 1 else None
        chosen = settled or self._following(waiting)
        costs = (sharing.preempt_ms, sharing.yield_ms, sharing.wake_ms)[kind]
        cost = costs[min(len(waiting), len(costs)) - 1]
        if self.owner is None:
            cost = 0.0
        else:
            self.switches[kind] += 1
        self.switch_ms += cost
        self.switch_end = self.now + cost
        self.switching_to = chosen
        self.stamp += 1
        self._at(self.switch_end, SWITCH_END)
