"""From pieces of calls to what is shown: a machine that holds a bounded past. Pure: no clock but the calls' own.

Seconds of the node's time are looked at one after the other, each when all of it is told. A round trip belongs to the
window in which it began, and is compared only where all windows that it touches are of one kind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from kts.model.summary import Estimate
from kts.stats.quantiles import quantile_estimate, refused
from kts.stats.sample import make_sample
from kts.watch.calls import FUNCTIONS, Array, Piece, WatchedProcess
from kts.watch.company import SECOND_NS, Company, of_second
from kts.watch.live import WATCH_VERSION, Cost, Happened, Watched, WatchNow
from kts.watch.roundtrips import FLIGHT, WATCHED_TRIP, WatchedTrips
from kts.worker.tracing.layout import Kind

Key = tuple[str, tuple[str, ...]]
"""A unit and its GPUs."""

_LAUNCHES = np.array([function.kind in {Kind.LAUNCH, Kind.GRAPH} for function in FUNCTIONS])
NO_GPU = ("",)
"""Where nobody tells which GPU: these are taken to be neighbours of each other."""


@dataclass
class _Second:
    """What a unit did in one second."""

    trips: int = 0
    launches: int = 0
    in_flight: float = 0.0


@dataclass
class _Unit:
    key: Key
    process: WatchedProcess
    processes: set[int] = field(default_factory=set)
    seconds: deque[_Second] = field(default_factory=deque)
    responses: deque[np.ndarray] = field(default_factory=deque)
    alone_s: float = 0.0
    shared_s: float = 0.0


class Watching:
    """``window_s``: how far back figures of now reach. Memory is bounded by units and by calls within that time."""

    def __init__(self, node: str = "", *, window_s: int = 10) -> None:
        self._node = node
        self._window_s = window_s
        self._trips = WatchedTrips()
        self._processes: dict[int, WatchedProcess] = {}
        self._units: dict[Key, _Unit] = {}
        self._recent = np.empty(0, WATCHED_TRIP)
        self._launches: dict[int, int] = {}
        self._ended: list[int] = []
        self._second: int | None = None  # the first that is not yet looked at
        self._until_ns = 0
        self._calls = self._lost = 0
        self._left_out: set[int] = set()
        self._happened: deque[Happened] = deque(maxlen=100)
        self._notes: dict[str, None] = {}

    def take(self, piece: Piece) -> None:
        """Everything up to ``piece.until_ns``. Pieces come in order."""
        self._learn(piece)
        if piece.lost:
            self._trips.forget()
        if self._second is None:
            first = int(piece.calls["ns"][0]) if len(piece.calls) else piece.until_ns
            self._second = first // SECOND_NS
        trips = self._trips.add(piece.calls)
        self._recent = np.concatenate([self._recent, trips])
        self._count_launches(piece.calls)
        self._trips.gone(piece.gone)
        self._ended += piece.gone
        self._until_ns = max(self._until_ns, piece.until_ns)
        while (self._second + 1) * SECOND_NS <= self._until_ns:
            self._look(self._second)
            self._second += 1

    def now(self) -> WatchNow:
        """What it came to by the end of the last piece."""
        return WatchNow(
            schema=WATCH_VERSION,
            node=self._node,
            at_ns=self._until_ns,
            window_s=float(self._window_s),
            units=tuple(self._shown(unit) for unit in self._units.values() if unit.seconds),
            happened=tuple(self._happened),
            calls=self._calls,
            lost=self._lost,
            left_out=len(self._left_out),
            notes=tuple(self._notes),
        )

    def _learn(self, piece: Piece) -> None:
        self._calls += len(piece.calls)
        self._lost += piece.lost
        for note in piece.notes:
            self._notes[note] = None
            if len(self._notes) > 20:
                del self._notes[next(iter(self._notes))]
        for process in piece.processes:
            self._processes[process.number] = process
            self._place(process)
        if piece.lost:
            words = f"{piece.lost} calls found no room"
            self._happened.append(Happened(at_ns=piece.until_ns, what="lost-calls", unit="", words=words))
        for number in piece.unwatched:
            self._left_out.add(number)
            unit = self._unit_of(number).key[0]
            words = "left out from now on, so as not to cost more than may be"
            self._happened.append(Happened(at_ns=piece.until_ns, what="left-out", unit=unit, words=words))
        self._left_out.difference_update(piece.gone)

    def _place(self, process: WatchedProcess) -> _Unit:
        """The unit of a process. One that consisted of it alone goes on under its new name."""
        key = process.unit, process.gpus or NO_GPU
        old = next((unit for unit in self._units.values() if process.number in unit.processes), None)
        if old is not None and old.key == key:
            old.process = process
            return old
        if old is not None:
            old.processes.discard(process.number)
            if not old.processes and key not in self._units:
                del self._units[old.key]
                old.key = key
                self._units[key] = old
        unit = self._units.setdefault(key, _Unit(key, process))
        unit.process = process
        unit.processes.add(process.number)
        return unit

    def _unit_of(self, number: int) -> _Unit:
        found = next((unit for unit in self._units.values() if number in unit.processes), None)
        if found is None:
            found = self._place(WatchedProcess(number=number, pid=0, began_ticks=0, command=f"process {number}"))
        return found

    def _units_of(self, processes: np.ndarray) -> np.ndarray:
        """Place of each one's unit in `_units`."""
        numbers, place = np.unique(processes, return_inverse=True)
        for number in numbers.tolist():
            self._unit_of(number)
        known = {number: at for at, unit in enumerate(self._units.values()) for number in unit.processes}
        return np.array([known[number] for number in numbers.tolist()], dtype=np.int64)[place]

    def _count_launches(self, calls: Array) -> None:
        known = calls[calls["function"] < len(FUNCTIONS)]
        processes, counts = np.unique(
            known["process"][_LAUNCHES[known["function"]] & (known["returned"] == 0)], return_counts=True
        )
        for number, count in zip(processes.tolist(), counts.tolist(), strict=True):
            self._launches[number] = self._launches.get(number, 0) + count

    def _look(self, second: int) -> None:
        """All of that second is told."""
        begin_ns, end_ns = second * SECOND_NS, (second + 1) * SECOND_NS
        flights = np.empty(len(self._recent), FLIGHT)
        for name in ("process", "begin_ns", "end_ns"):
            flights[name] = self._recent[name]
        flights = np.concatenate([flights, self._trips.in_flight(self._until_ns)])
        flights = flights[(flights["begin_ns"] < end_ns) & (flights["end_ns"] > begin_ns)]
        unit = self._units_of(flights["process"])
        units = list(self._units.values())
        company = of_second(flights, unit, [one.key[1] for one in units], np.ones(len(units)), begin_ns)
        over = self._recent["end_ns"] <= end_ns
        done, self._recent = self._recent[over], self._recent[~over]
        self._note(units, done, self._units_of(done["process"]), company)
        self._leave()

    def _note(self, units: list[_Unit], done: Array, unit: np.ndarray, company: Company) -> None:
        """Adds a second to each unit's past."""
        order = np.argsort(unit, kind="stable")
        response = (done["end_ns"] - done["begin_ns"])[order] / 1e6
        edges = np.searchsorted(unit[order], np.arange(len(units) + 1))
        launches, self._launches = self._launches, {}
        for number, one in enumerate(units):
            mine = response[edges[number] : edges[number + 1]]
            issued = sum(launches.get(process, 0) for process in one.processes)
            one.seconds.append(_Second(len(mine), issued, float(company.own[number].mean())))
            one.responses.append(mine)
            if len(one.seconds) > self._window_s:
                one.seconds.popleft()
                one.responses.popleft()
            if company.others[number].any():
                one.shared_s += 1
            else:
                one.alone_s += 1

    def _leave(self) -> None:
        """Forgets processes that have ended, and units that have none and nothing to show."""
        ended, self._ended = self._ended, []
        for number in ended:
            self._processes.pop(number, None)
            for unit in self._units.values():
                unit.processes.discard(number)
        empty = [key for key, one in self._units.items() if not one.processes and not any(s.trips for s in one.seconds)]
        for key in empty:
            del self._units[key]

    def _shown(self, unit: _Unit) -> Watched:
        seconds = max(len(unit.seconds), 1)
        process = unit.process
        responses = _joined(unit.responses)
        p50, p99 = (_quantile(responses, p) for p in (0.5, 0.99))
        none = refused("not compared yet")
        return Watched(
            unit=unit.key[0],
            gpu=", ".join(unit.key[1]),
            namespace=process.namespace,
            pod=process.pod,
            container=process.container_name,
            processes=len(unit.processes),
            p50_ms=p50,
            p99_ms=p99,
            trips=sum(one.trips for one in unit.seconds) / seconds,
            launches=sum(one.launches for one in unit.seconds) / seconds,
            in_flight=sum(one.in_flight for one in unit.seconds) / seconds,
            cost=Cost(alone_s=unit.alone_s, shared_s=unit.shared_s, df50=none, df99=none),
            added_ms=0.0,
            waits_for={},
        )


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([*parts, np.empty(0)])


def _quantile(responses: np.ndarray, p: float) -> Estimate:
    return quantile_estimate(make_sample([(0, responses.copy())], split=True), p, missing="no round trips")
