"""A second, slow simulator, written from the text of docs/physics.md alone: a queue of events, one at a time.

It shares no code with `kts.physics.engine` and is built the other way round: each launch is an event that joins a
real queue, each wait and each end of a copy is one, each slice ends in an event whether somebody waits or not, and a
decision is an event of its own. Tests hold the fast one against it; `python -m bench simulate` times both.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isnan

from kts.physics.simulate import SharingModel, Stream

LAUNCH, WAIT, KERNEL_END, COPY_END, SWITCH_END, SLICE_END, DECIDE = range(7)
"""Kinds of events; those of the same instant happen in this order."""
OF_HOSTS = (LAUNCH, WAIT, COPY_END)
"""Those that happen whoever has the GPU."""


@dataclass
class Queued:
    """A launch in its lane."""

    left: float
    apart: bool
    since: float  # -inf once it has run
    front_since: float = inf


@dataclass
class Host:
    """One thread of a program."""

    number: int
    stream: Stream
    lanes: dict[int, deque[Queued]] = field(default_factory=dict)
    records: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    due: float = 0.0
    submit: float = 0.0
    begin: float | None = None
    launched: int = 0
    finished: int = 0
    held_back: float = 0.0
    waiting_for_room: bool = False
    waiting_since: float | None = None  # until its lanes are empty
    busy: float = 0.0

    @property
    def listing(self) -> int:
        return int(self.stream.pick[len(self.records)])

    @property
    def kernels(self) -> list[int]:
        """Lanes with a kernel at the front."""
        return [lane for lane, queue in self.lanes.items() if queue and not queue[0].apart]

    def front(self, lane: int) -> Queued:
        return self.lanes[lane][0]

    def wait(self, place: int) -> tuple[float, float]:
        """When it begins to wait behind the launch at ``place`` (NaN: never), and what follows."""
        them = self.stream.iterations
        if them.wait_ms is None or them.notice_ms is None:
            return float("nan"), 0.0
        return (
            self.submit + self.host_ms(them.wait_ms[place]) + self.held_back,
            self.host_ms(them.notice_ms[place]),
        )

    def host_ms(self, listed: float) -> float:
        """What takes the host so long in the profile takes this one."""
        return float(listed) * self.stream.host

    def lane(self, place: int) -> int:
        lanes = self.stream.iterations.lane
        return 0 if lanes is None else int(lanes[place])

    @property
    def span(self) -> range:
        first = self.stream.iterations.first
        return range(int(first[self.listing]), int(first[self.listing + 1]))


@dataclass
class Process:
    """What takes turns: one host, or several that share its turns."""

    number: int
    hosts: list[Host]
    next: Process | None = None

    @property
    def stream(self) -> Stream:
        """It says how the process is served."""
        return self.hosts[0].stream

    @property
    def kernels(self) -> list[tuple[int, int]]:
        """Host and lane of each kernel that runs in a turn: of several in a lane, the one that was launched first."""
        found: dict[int, list[tuple[float, int]]] = {}
        for host in self.hosts:
            for lane in host.kernels:
                found.setdefault(lane, []).append((host.front(lane).since, host.number))
        return [(min(fronts)[1], lane) for lane, fronts in found.items()]

    @property
    def came(self) -> float:
        """In a line: since when one of its threads stands there."""
        return min(host.front(lane).front_since for host in self.hosts for lane in host.kernels)


class EventQueue:
    """One simulation; `run` returns it when it is over."""

    def __init__(self, streams: Sequence[Stream], sharing: SharingModel) -> None:
        self.sharing = sharing
        self.hosts = [Host(number, stream) for number, stream in enumerate(streams)]
        self.processes: list[Process] = []
        named: dict[str, Process] = {}
        for host in self.hosts:
            name = host.stream.process
            if name is None or name not in named:
                self.processes.append(Process(len(self.processes), []))
            process = self.processes[-1] if name is None else named.setdefault(name, self.processes[-1])
            process.hosts.append(host)
        self.heap: list[tuple[float, int, int, int, int]] = []
        self.now = 0.0
        self.owner: Process | None = None
        self.switching_to: Process | None = None
        self.running: set[tuple[int, int]] = set()  # host and lane of each kernel of the owner that does
        self.began: dict[tuple[int, int], float] = {}  # each of them
        self.ran_since = 0.0
        self.slice_over = False
        self.came = 0.0  # in a line: since when its owner stood in it as its turn began
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
            time, kind, number, stamp, lane = heapq.heappop(self.heap)
            if kind not in (*OF_HOSTS, DECIDE) and stamp != self.stamp:
                continue  # of a turn that was interrupted
            if time > horizon_ms:
                self._stop(horizon_ms)
                return self
            self.passes(time)
            self.now = time
            if time == horizon_ms and kind not in (*OF_HOSTS, KERNEL_END):
                continue  # what would begin now is no longer part of it
            host = self.hosts[number]
            if kind == LAUNCH:
                self._launch(host)
            elif kind == WAIT:
                self._wait(host)
            elif kind == DECIDE:
                self._decide()
            elif kind == SWITCH_END:
                self._switch_end()
            elif kind == SLICE_END:
                self.slice_over = True
                self._at(self.now, DECIDE)
            elif (self._kernel_end(host, lane) if kind == KERNEL_END else self._ended(host, lane)) and stop_at_first:
                horizon_ms = self.now  # what else ends now has ended, too
        self._stop(self.now)
        return self

    def passes(self, until: float) -> None:
        """Called before time goes on until then; for who watches what happens meanwhile."""

    def _at(self, time: float, kind: int, number: int = 0, lane: int = 0) -> None:
        heapq.heappush(self.heap, (time, kind, number, self.stamp, lane))

    def _stop(self, time: float) -> None:
        self.now = time
        self._account()
        if self.switching_to is not None:
            self.switch_ms -= max(self.switch_end - time, 0.0)
        if self.idle_since is not None:
            self.idle_ms += time - self.idle_since

    def _account(self) -> None:
        """The owner's time on the GPU, so far."""
        if self.running and self.owner:
            self.owner.hosts[0].busy += self.now - self.ran_since
        self.ran_since = self.now

    # the hosts

    def _submit(self, host: Host, free_at: float) -> None:
        stream = host.stream
        host.due = free_at if stream.due_ms is None else float(stream.due_ms[len(host.records)])
        host.submit = max(free_at, host.due)
        host.begin, host.launched, host.finished, host.held_back = None, 0, 0, 0.0
        self._at(host.submit + host.host_ms(stream.iterations.offset_ms[host.span[0]]), LAUNCH, host.number)

    def _launch(self, host: Host) -> None:
        """A launch joins its lane, and the host goes on to the next one, unless it waits or the queue is full."""
        place, lane, them = host.span[host.launched], host.lane(host.span[host.launched]), host.stream.iterations
        apart = them.apart is not None and bool(them.apart[place])
        gap = self.sharing.launch_gap_ms if not apart and self._followed(host, place) else 0.0
        queue = host.lanes.setdefault(lane, deque())
        queue.append(Queued(float(them.duration_ms[place]) + gap, apart, self.now))
        host.launched += 1
        if len(queue) == 1:
            self._front(host, lane)
        if host.launched < len(host.span):
            waits, _ = host.wait(place)
            if not isnan(waits):
                self._at(waits, WAIT, host.number)
            elif host.launched - host.finished == host.stream.queue_depth:
                host.waiting_for_room = True
            else:
                self._next_launch(host)
        self._at(self.now, DECIDE)

    def _followed(self, host: Host, place: int) -> bool:
        """Whether its lane gets another launch before the host waits."""
        while isnan(host.wait(place)[0]) and place + 1 < host.span.stop:
            place += 1
            if host.lane(place) == host.lane(host.span[host.launched]):
                return True
        return False

    def _front(self, host: Host, lane: int) -> None:
        """Another launch is at the front of a lane: a copy begins at once."""
        front = host.lanes[lane][0]
        front.front_since = self.now
        if front.apart:
            if host.begin is None:
                host.begin = self.now
            self._at(self.now + front.left, COPY_END, host.number, lane)

    def _wait(self, host: Host) -> None:
        if host.finished == host.launched:
            self._go_on(host, self.now)
        else:
            host.waiting_since = self.now

    def _go_on(self, host: Host, since: float) -> None:
        _, notice = host.wait(host.span[host.launched - 1])
        host.waiting_since = None
        host.held_back += self.now + notice - since
        self._next_launch(host)

    def _ended(self, host: Host, lane: int) -> bool:
        """The launch at the front of a lane is done. True if the tenant's work is all done."""
        host.lanes[lane].popleft()
        host.finished += 1
        self._at(self.now, DECIDE)
        if host.lanes[lane]:
            self._front(host, lane)
        if host.waiting_for_room:
            host.waiting_for_room = False
            self._next_launch(host)
        if host.waiting_since is not None and host.finished == host.launched:
            self._go_on(host, host.waiting_since)
        return host.finished == len(host.span) and self._over(host)

    def _over(self, host: Host) -> bool:
        """The iteration's last launch is done; as for `_ended`."""
        assert host.begin is not None
        goes_on = self.now
        waits, notice = host.wait(host.span[-1])
        if not isnan(waits):
            goes_on = max(waits, goes_on) + notice
        retire = goes_on + host.host_ms(host.stream.iterations.retire_ms[host.listing])
        think = host.stream.think_ms
        pause = 0.0 if think is None else float(think[len(host.records)])
        host.records.append((host.due, host.submit, host.begin, self.now, retire))
        if len(host.records) == len(host.stream.pick):
            return True
        self._submit(host, retire + pause)
        return False

    def _next_launch(self, host: Host) -> None:
        wanted = host.submit + host.host_ms(host.stream.iterations.offset_ms[host.span[host.launched]]) + host.held_back
        if wanted < self.now:
            host.held_back += self.now - wanted
        self._at(max(wanted, self.now), LAUNCH, host.number)

    # the GPU

    def _kernel_end(self, host: Host, lane: int) -> bool:
        """As for `_ended`."""
        self._account()
        self.running.remove((host.number, lane))
        self.kernels += 1
        return self._ended(host, lane)

    def _switch_end(self) -> None:
        self.owner, self.switching_to = self.switching_to, None
        self.turn_begins = True
        self._new_slice()
        self._at(self.now, DECIDE)

    def _new_slice(self) -> None:
        assert self.owner is not None
        self.slice_over = False
        self.stamp += 1
        if self.sharing.in_line:
            self.came = min((self.hosts[n].front(lane).front_since for n, lane in self.owner.kernels), default=inf)
            return
        own = self.owner.stream.slice_ms
        self._at(self.now + (self.sharing.slice_ms if own is None else own), SLICE_END)
        for number, lane in self.running:
            self._at(self.now + self.hosts[number].front(lane).left, KERNEL_END, number, lane)

    def _decide(self) -> None:
        if self.switching_to is not None:
            return
        if any(time == self.now and kind != DECIDE for time, kind, *_ in self.heap):
            self._at(self.now, DECIDE)  # not before all that happens now has happened
            return
        owner = self.owner
        waiting = [process for process in self.processes if process.kernels and process is not owner]
        if owner is None or not owner.kernels:
            self._without_work(waiting)
            return
        if self.was_idle:
            self._busy_again()
            self._new_slice()
            self.turn_begins = True
        if self.sharing.in_line:
            self._next_in_line(owner, waiting)
            return
        if self.turn_begins:
            self.turn_begins = False
            owner.next = self._following(waiting) if waiting and owner.stream.settles_next else None
        rivals = [p for p in waiting if p.stream.priority >= owner.stream.priority]
        higher = [p for p in rivals if p.stream.priority > owner.stream.priority]
        if (self.slice_over and rivals) or (self.sharing.at_once and higher):
            self._interrupt()
            self._switch(waiting, 0)
            return
        for number, lane in owner.kernels:
            if (number, lane) not in self.running:
                self._run(self.hosts[number], lane)
        if self.slice_over:
            kernels = set(self.running)
            self._interrupt()
            self.running = kernels
            self.began = dict.fromkeys(kernels, self.now)
            self._new_slice()

    def _next_in_line(self, owner: Process, waiting: list[Process]) -> None:
        """Kernels of the owner begin that nobody else's comes before; if none runs then, it is somebody else's turn."""
        rivals = [p.came for p in waiting if p.stream.priority >= owner.stream.priority]
        for number, lane in owner.kernels:
            since = self.hosts[number].front(lane).front_since
            if (number, lane) not in self.running and (since <= self.came or since < min(rivals, default=inf)):
                self._run(self.hosts[number], lane)
        if not self.running:
            self._switch(waiting, 1)

    def _run(self, host: Host, lane: int) -> None:
        """The kernel at the front of that lane begins, or goes on."""
        self._account()
        self.running.add((host.number, lane))
        if host.begin is None:
            host.begin = self.now
        self.began[host.number, lane] = self.now
        host.front(lane).since = -inf
        self._at(self.now + host.front(lane).left, KERNEL_END, host.number, lane)

    def _without_work(self, waiting: list[Process]) -> None:
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

    def _interrupt(self) -> None:
        self._account()
        for number, lane in self.running:
            self.hosts[number].front(lane).left -= self.now - self.began[number, lane]
        self.running = set()

    def _following(self, waiting: list[Process]) -> Process:
        n, at = len(self.processes), -1 if self.owner is None else self.owner.number

        def place(process: Process) -> tuple[int, float, int]:
            came = process.came if self.sharing.in_line else 0.0
            return -process.stream.priority, came, (process.number - at - 1) % n

        return min(waiting, key=place)

    def _switch(self, waiting: list[Process], kind: int) -> None:
        sharing = self.sharing
        settled = self.owner.next if self.owner is not None and kind == 1 else None
        chosen = settled or self._following(waiting)
        costs = (sharing.preempt_ms, sharing.yield_ms, sharing.wake_ms)[kind]
        cost = costs[min(len(waiting), len(costs)) - 1]
        if self.owner is None or sharing.in_line:
            cost = 0.0
        else:
            self.switches[kind] += 1
        self.switch_ms += cost
        self.switch_end = self.now + cost
        self.switching_to = chosen
        self.stamp += 1
        self._at(self.switch_end, SWITCH_END)
