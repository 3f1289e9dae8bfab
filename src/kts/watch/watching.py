"""From pieces of calls to what is shown: a machine that holds a bounded past. Pure: no clock but the calls' own.

Seconds of the node's time are looked at one after the other, each when all of it is told.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kts.model.summary import Estimate
from kts.rows import joined
from kts.stats.natural import KEPT, NaturalCost, Rows, SeenUnit, compared
from kts.stats.quantiles import quantile_estimate, refused
from kts.stats.sample import make_sample
from kts.watch.alarms import Newcomers, TailAlarm
from kts.watch.blame import SAMPLED, Blame, UsualTimes
from kts.watch.calls import Array, Piece, WatchedProcess
from kts.watch.company import BINS, SECOND_NS, Company, of_second
from kts.watch.iterations import UnitIterations
from kts.watch.live import WATCH_VERSION, Cost, Happened, Watched, WatchNow
from kts.watch.roundtrips import FLIGHT, WATCHED_TRIP, WatchedTrips
from kts.watch.sides import ALONE, NEITHER, SHARED, Ended, Past, Pasts

Key = tuple[str, tuple[str, ...]]
"""A unit and its GPUs."""

NO_GPU = ("",)
"""Where nobody tells which GPU: these are taken to be neighbours of each other."""
AT_ONCE = 2
"""Units whose figures with intervals are made anew each time that somebody asks: those that were made longest ago."""
MOST_NOTES = 20
HOSTS = 2 / 3
"""Of the time in which a host hands work over one by one: what the GPU is taken to wait for it. No call tells."""
LEAST_MET = 0.1
"""So many of the round trips stand for those that met nobody, where there are none."""


class ByModel(NamedTuple):
    """``df99``: None where the model has none. ``note``: what it rests on, or what is missing; may be empty."""

    df99: Estimate | None
    note: str = ""


class TurnCosts(NamedTuple):
    """How a GPU is shared. ``switches_ms``: of the two that a turn costs, to whom it is and to the next."""

    slice_ms: float
    switches_ms: float

    def taken_ms(self, need_ms: float) -> float:
        """Off a unit that waits, by a neighbour's round trip that needs the GPU for so long."""
        return need_ms + self.switches_ms * (1 + need_ms / self.slice_ms)

    def need_ms(self, took_ms: float, met: float) -> float:
        """The GPU, by a round trip that took so long while it met so many neighbours, if each took off it what it
        takes off them."""
        return (took_ms - met * self.switches_ms) / (1 + met * (1 + self.switches_ms / self.slice_ms))


USUAL = TurnCosts(slice_ms=2.087, switches_ms=0.178 + 0.1)
"""Where nobody tells: of an H200 in default compute mode, preempting and yielding (docs/physics.md)."""
TurnsOf = Callable[[str], TurnCosts]
"""Of a GPU by its UUID, which is empty where nobody tells it."""

Foretell = Callable[[SeenUnit, tuple[SeenUnit, ...]], ByModel]
"""DF99 of a unit beside its neighbours by a model, from what is seen."""


class _Did(NamedTuple):
    """What a unit did in a second, or in the mean of some. ``took_ms``: its iterations, together; ``company``: seconds
    in which both it and a neighbour had work in flight."""

    trips: float
    iterations: float
    took_ms: float
    launches: float
    in_flight: float
    company: float


class _Figures(NamedTuple):
    """What is made anew in turns."""

    p50: Estimate
    p99: Estimate
    cost: NaturalCost
    foretold: ByModel


@dataclass
class _Unit:
    key: Key
    process: WatchedProcess
    blame: Blame
    past: Past
    window: NDArray[np.float64]
    """A `_Did` of each of its latest seconds."""
    responses: deque[NDArray[np.float32]]
    """Milliseconds, of each of these."""
    iterations: UnitIterations = field(default_factory=UnitIterations)
    seen: int = 0
    covered: NDArray[np.float32] = field(default_factory=lambda: np.zeros((3, BINS), np.float32))
    """``own``, ``others`` and ``met`` of the last second (`Company`)."""
    processes: set[int] = field(default_factory=set)
    tail: TailAlarm = field(default_factory=TailAlarm)
    alone_s: int = 0
    shared_s: int = 0
    blind: bool = False
    taken_ms: float = math.inf  # by an iteration off who waits meanwhile
    made_at: int = -1
    figures: _Figures | None = None

    @property
    def name(self) -> str:
        return self.key[0]

    def second(self, did: _Did, response_ms: NDArray[np.float32]) -> None:
        """Adds one."""
        self.window[self.seen % len(self.window)] = did
        self.responses.append(response_ms)
        self.seen += 1

    def recent(self) -> NDArray[np.float64]:
        """`_Did` of the seconds within the window, in no order."""
        return self.window[: self.seen]

    def did(self) -> _Did:
        """Per second, within the window."""
        rows = self.recent()
        return _Did(*(rows.sum(axis=0) / max(len(rows), 1)).tolist())

    @property
    def flight_ms(self) -> float:
        """In flight for an iteration of several round trips; NaN where it is of one."""
        did = self.did() if self.iterations.each > 1 else None
        return 1e3 * did.in_flight / did.iterations if did and did.iterations else math.nan

    def begin_anew(self) -> None:
        """Its iterations are others from now on."""
        self.responses = deque((one[:0] for one in self.responses), maxlen=self.responses.maxlen)
        for name in ("iterations", "took_ms", "company"):
            self.window[:, _Did._fields.index(name)] = 0.0
        self.tail, self.blame = TailAlarm(), Blame(len(self.window))
        self.taken_ms, self.figures = math.inf, None


class Watching:
    """``window_s``: how far back figures of now reach. Memory is bounded by units and by calls within that time."""

    def __init__(
        self,
        node: str = "",
        *,
        window_s: float = 10,
        foretell: Foretell | None = None,
        turns: TurnsOf | None = None,
    ) -> None:
        self._node = node
        self._window_s = max(math.ceil(window_s), 1)
        self._foretell = foretell
        self._turns = turns or (lambda _: USUAL)
        self._trips = WatchedTrips()
        self._pasts = Pasts()
        self._units: dict[Key, _Unit] = {}
        self._of: dict[int, _Unit] = {}
        self._recent = np.empty(0, WATCHED_TRIP)
        self._launches: dict[int, int] = {}
        self._ended: list[tuple[int, int]] = []  # until when something of theirs was told, and who
        self._second: int | None = None  # the first that is not yet looked at
        self._until_ns = self._blind_until_ns = 0
        self._calls = self._lost = 0
        self._left_out: dict[int, _Unit] = {}
        self._newcomers = Newcomers()
        self._happened: deque[Happened] = deque(maxlen=100)
        self._notes: dict[str, None] = {}

    def take(self, piece: Piece) -> None:
        """Everything up to ``piece.until_ns``. Pieces come in order."""
        self._learn(piece)
        if piece.lost:
            self._trips.forget()
            self._blind_until_ns = piece.until_ns
        if self._second is None:
            first = int(piece.calls["ns"][0]) if len(piece.calls) else piece.until_ns
            self._second = first // SECOND_NS
        trips = self._trips.add(piece.calls)
        self._recent = joined((self._recent, trips))
        for number, count in zip(*(part.tolist() for part in self._trips.launched), strict=True):
            self._launches[number] = self._launches.get(number, 0) + count
        self._trips.gone(piece.gone)
        self._ended += [(piece.until_ns, number) for number in piece.gone]
        self._until_ns = max(self._until_ns, piece.until_ns)
        while (self._second + 1) * SECOND_NS <= self._until_ns:
            self._look(self._second)
            self._second += 1

    def tell(self, happened: Happened) -> None:
        """Adds what others have seen, as a GPU that is lost."""
        self._happened.append(happened)

    def now(self, *, whole: bool = False) -> WatchNow:
        """What it came to by the end of the last piece. Figures with intervals are of the last few calls of this, or
        all made now with ``whole``, which takes some milliseconds for each unit; a second where the model is asked,
        which it is only then."""
        second = self._second or 0
        units = [unit for unit in self._units.values() if unit.seen]
        stale = sorted((one for one in units if whole or one.made_at < second), key=lambda one: one.made_at)
        for number, unit in enumerate(stale):
            if whole or number < AT_ONCE or unit.figures is None:
                unit.figures, unit.made_at = self._figures(unit, foretell=whole), second
        notes = dict(self._notes)
        for unit in units:
            if words := unit.iterations.words():
                notes[f"{unit.name}: {words}"] = None
            if unit.figures and unit.figures.cost.doubt:
                notes[f"{unit.name}: {unit.figures.cost.doubt}"] = None
            if unit.figures and unit.figures.foretold.note:
                notes[unit.figures.foretold.note] = None
        return WatchNow(
            schema=WATCH_VERSION,
            node=self._node,
            at_ns=self._until_ns,
            window_s=float(self._window_s),
            units=tuple(_shown(unit) for unit in units),
            happened=tuple(self._happened),
            calls=self._calls,
            lost=self._lost,
            left_out=len(self._left_out),
            notes=tuple(notes),
        )

    def _learn(self, piece: Piece) -> None:
        self._calls += len(piece.calls)
        self._lost += piece.lost
        for note in piece.notes:
            self._notes[note] = None
            if len(self._notes) > MOST_NOTES:
                del self._notes[next(iter(self._notes))]
        for process in piece.processes:
            self._place(process)
        if piece.lost:
            self._say(piece.until_ns, "lost-calls", "", f"{piece.lost} calls found no room")
        for number in piece.unwatched:
            unit = self._left_out[number] = self._unit_of(number)
            self._say(piece.until_ns, "left-out", unit.name, "left out from now on, so as not to cost more than may be")
        for number in piece.gone:
            self._left_out.pop(number, None)

    def _say(self, at_ns: int, what: str, unit: str, words: str) -> None:
        self._happened.append(Happened(at_ns=at_ns, what=what, unit=unit, words=words))

    def _place(self, process: WatchedProcess) -> _Unit:
        """The unit of a process. One that consisted of it alone goes on under its new name."""
        key, old = (process.unit, process.gpus or NO_GPU), self._of.get(process.number)
        if old is not None and old.key != key:
            old.processes.discard(process.number)
            if not old.processes and key not in self._units:
                del self._units[old.key]
                old.key = key
                self._units[key] = old
        unit = self._units.get(key)
        if unit is None:
            recent = np.zeros((self._window_s, len(_Did._fields))), deque[Any](maxlen=self._window_s)
            unit = self._units[key] = _Unit(key, process, Blame(self._window_s), self._pasts.new(), *recent)
        unit.process = process
        unit.processes.add(process.number)
        self._of[process.number] = unit
        return unit

    def _unit_of(self, number: int) -> _Unit:
        found = self._of.get(number)
        return found or self._place(WatchedProcess(number=number, pid=0, began_ticks=0, command=f"process {number}"))

    def _units_of(self, processes: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Place of each one's unit in `_units`. Of the same process mostly several come in a row."""
        first = np.flatnonzero(np.r_[True, processes[1:] != processes[:-1]][: len(processes)])
        units = [self._unit_of(number) for number in processes[first].tolist()]
        at = {key: number for number, key in enumerate(self._units)}
        places = np.array([at[unit.key] for unit in units], dtype=np.int64)
        return np.repeat(places, np.diff(first, append=len(processes)))

    def _look(self, second: int) -> None:
        """All of that second is told."""
        begin_ns, end_ns = second * SECOND_NS, (second + 1) * SECOND_NS
        flights = np.empty(len(self._recent), FLIGHT)
        for name in ("process", "begin_ns", "end_ns"):
            flights[name] = self._recent[name]
        flights = joined((flights, self._trips.in_flight(self._until_ns)))
        flights = flights.compress((flights["begin_ns"] < end_ns) & (flights["end_ns"] > begin_ns))
        unit = self._units_of(flights["process"])
        units = list(self._units.values())
        density = _densities(flights, end_ns, unit, units)
        company = of_second(flights, unit, [one.key[1] for one in units], density, begin_ns)
        over = self._recent["end_ns"] <= end_ns
        done, self._recent = self._recent.compress(over), self._recent.compress(~over)
        self._note(second, done, self._units_of(done["process"]), company)
        self._leave(end_ns)

    def _note(self, second: int, done: Array, unit: NDArray[np.int64], company: Company) -> None:
        """Adds a second to each unit's past."""
        units, issued = list(self._units.values()), dict.fromkeys(self._units, 0)
        for process, count in self._launches.items():
            if (one := self._of.get(process)) is not None:
                issued[one.key] += count
        self._launches = {}
        if not units:
            return
        parts, trips = self._iterations(done, unit, units)
        edges = np.cumsum([0, *map(len, parts)])
        done, unit = joined(parts), np.repeat(np.arange(len(units)), np.diff(edges))
        ended = _ended(done, edges.tolist())
        ms, response = (done["end_ns"] - done["begin_ns"]) / 1e6, np.ascontiguousarray(ended.rows["ms"])
        begins_ms = (done["begin_ns"] - (second - 1) * SECOND_NS) / 1e6
        usual_ms = np.array([one.past.usual_ms for one in units])[unit]
        known = np.flatnonzero((begins_ms >= 0) & (usual_ms > 0))
        times, covered = UsualTimes.usual(begins_ms[known], usual_ms[known]), _covered(units, company)
        for name, by in (("beside", covered[1]), ("met", covered[2])):
            ended.rows[name] = np.nan
            ended.rows[name][known] = times.covered(by, unit[known])
        in_flight = company.own.mean(axis=1)
        beside = np.einsum("ij,ij->i", company.own, company.others) / BINS
        works, accompanied = company.own.max(axis=1) > 0, company.others.max(axis=1) > 0
        names = [one.name for one in units]
        unseen = {gpu for one in self._left_out.values() for gpu in one.key[1]}
        lost = second * SECOND_NS < self._blind_until_ns
        kinds = np.where(accompanied, SHARED, ALONE)
        spans = zip(pairwise(ended.edges), pairwise(np.searchsorted(known, ended.edges).tolist()), strict=True)
        for number, (one, ((low, high), (first, last))) in enumerate(zip(units, spans, strict=True)):
            one.blind = bool(unseen.intersection(one.key[1]))
            if lost or one.blind:
                kinds[number] = NEITHER
            if lost:
                one.iterations.forget()
            row = company.beside[number]
            near = row.nonzero()[0]
            some = slice(first, first if lost else last, max(1, -(-(last - first) // SAMPLED)))
            shares = times.of(some).covered(covered[0], near[:, None])
            long_ms = one.figures.cost.long_ms if one.figures else math.inf
            beside_it = [names[other] for other in near.tolist()]
            one.blame.second(beside_it, row[near], shares, np.minimum(ms[known[some]], long_ms), high - low)
            took_ms = np.minimum(ms[low:high], long_ms).sum()
            did = _Did(trips[number], high - low, took_ms, issued[one.key], in_flight[number], beside[number])
            one.second(did, response[low:high])
            if works[number]:
                one.shared_s += bool(accompanied[number])
                one.alone_s += not accompanied[number]
            self._events(second, one, response[low:high])
        self._pasts.second(second, [one.past for one in units], kinds, ended)
        self._new_neighbours(second, units, works)

    def _iterations(self, done: Array, unit: NDArray[np.int64], units: list[_Unit]) -> tuple[list[Array], list[int]]:
        """Of each unit, and how many round trips it made."""
        order = np.argsort(unit, kind="stable")
        edges = np.searchsorted(unit[order], np.arange(len(units) + 1)).tolist()
        done = done.take(order)
        found = []
        for one, (low, high) in zip(units, pairwise(edges), strict=True):
            found.append(one.iterations.add(done[low:high]))
            if one.iterations.anew:
                one.begin_anew()
                self._pasts.begin_anew(one.past)
        return found, np.diff(edges).tolist()

    def _events(self, second: int, unit: _Unit, response_ms: NDArray[np.float32]) -> None:
        doubled = unit.tail.second(second, response_ms)
        if doubled:
            words = f"p99 was {doubled[0]:.3g} ms and is {doubled[1]:.3g} ms"
            self._say((second + 1) * SECOND_NS, "tail-doubled", unit.name, words)

    def _new_neighbours(self, second: int, units: list[_Unit], works: NDArray[np.bool_]) -> None:
        busy: dict[str, list[str]] = {}
        for unit, working in zip(units, works.tolist(), strict=True):
            if working:
                for gpu in unit.key[1]:
                    busy.setdefault(gpu, []).append(unit.name)
        for name, gpu, others in self._newcomers.second(second, busy):
            words = f"has work on GPU {gpu or 'of this node'} beside {', '.join(others)}"
            self._say((second + 1) * SECOND_NS, "new-neighbour", name, words)

    def _leave(self, end_ns: int) -> None:
        """Forgets processes that have ended, once all that they did is looked at, and units that have none and nothing
        to show."""
        over = [number for until_ns, number in self._ended if until_ns <= end_ns]
        self._ended = [one for one in self._ended if one[0] > end_ns]
        for number in over:
            unit = self._of.pop(number, None)
            if unit is not None:
                unit.processes.discard(number)
                unit.iterations.gone(number)
        for key in [key for key, one in self._units.items() if not one.processes and not len(_responses(one))]:
            self._pasts.forget(self._units.pop(key).past)

    def _figures(self, unit: _Unit, *, foretell: bool) -> _Figures:
        responses = _responses(unit)
        sample = make_sample([(0, responses.copy())], split=True)
        p50, p99 = (quantile_estimate(sample, p, missing="no round trips") for p in (0.5, 0.99))
        sides = unit.past.alone.rows(), unit.past.shared.rows()
        if unit.blind:
            reason = "a process on its GPU is not watched, which may be a neighbour"
            cost = NaturalCost(refused(reason), refused(reason), math.nan, math.nan, sure=False)
        else:
            cost = compared(*sides, unit.past.window_s)
        unit.blame.learn()
        turns = self._turns(unit.key[1][0])
        unit.taken_ms = turns.taken_ms(_need_ms(*sides, cost.alone_ms, turns))
        foretold = ByModel(None)
        if foretell and self._foretell and cost.df99.refused and unit.shared_s and not unit.blind:
            foretold = self._foretell(_seen(unit), tuple(map(_seen, self._neighbours(unit))))
        return _Figures(p50, p99, cost, foretold)

    def _neighbours(self, unit: _Unit) -> list[_Unit]:
        """Who shares a GPU with it and has had work in flight in the window."""
        gpus = set(unit.key[1])
        return [
            one
            for one in self._units.values()
            if one is not unit and gpus.intersection(one.key[1]) and one.did().in_flight
        ]


def _seen(unit: _Unit) -> SeenUnit:
    did = unit.did()
    return SeenUnit(
        unit=unit.name,
        alone=unit.past.alone.rows(),
        shared=unit.past.shared.rows(),
        trips=did.iterations,
        launches=did.launches,
        in_flight=did.in_flight,
        gpus=unit.key[1],
    )


def _ended(done: Array, edges: list[int]) -> Ended:
    """``done``: round trips by unit, which begin at ``edges``."""
    rows = np.zeros(len(done), KEPT)
    ms = rows["ms"] = (done["end_ns"] - done["begin_ns"]) / 1e6
    rows["issue"] = ms - done["waited_ns"] / 1e6
    rows["size"] = done["launches"] + done["copies"]
    return Ended(rows, edges, done["begin_ns"] // SECOND_NS, done["end_ns"] // SECOND_NS)


def _covered(units: list[_Unit], company: Company) -> NDArray[np.float32]:
    """Cumulated parts of this second and the one before in which work is in flight: of each unit, of any and of all of
    its neighbours, shape (3, units, 2 `BINS` + 1). Each unit keeps this second's."""
    now = np.array(company[:3], np.float32)
    covered = np.empty((3, len(units), 2 * BINS + 1), np.float32)
    covered[:, :, 0] = 0.0
    np.stack([one.covered for one in units], axis=1, out=covered[:, :, 1 : BINS + 1])
    covered[:, :, BINS + 1 :] = now
    for number, one in enumerate(units):
        one.covered = now[:, number]
    return np.cumsum(covered, axis=2, out=covered)


def _densities(flights: Array, until_ns: int, unit: NDArray[np.int64], units: list[_Unit]) -> NDArray[np.float64]:
    """Of the time that each of ``flights`` is in flight, in how much it has a GPU, switches included. One that is not
    over by then is taken to last no less than usual."""
    taken = np.array([one.taken_ms for one in units])
    usual = np.array([one.past.usual_ms for one in units])
    ms = (np.minimum(flights["end_ns"], until_ns) - flights["begin_ns"]) / 1e6
    ms = np.where(flights["end_ns"] < until_ns, ms, np.fmax(ms, usual[unit]))
    # a round trip of several that an iteration is has its part of what that needs
    each = np.array([one.flight_ms for one in units])[unit]
    ms = np.where(np.isnan(each), ms, each)
    return np.asarray(np.minimum(taken[unit] / np.maximum(ms, 1e-6), 1.0))


def _need_ms(alone: Rows, shared: Rows, alone_ms: float, turns: TurnCosts) -> float:
    """How long a round trip needs the GPU: what it takes without company, less `HOSTS` of the time in which its host
    hands work over. Where nothing is seen without, by those that met least, less what the neighbours took."""
    rows, met = alone, 0.0
    issue = rows["issue"]
    if math.isnan(alone_ms) or not len(rows):
        rows = shared
        number = np.ascontiguousarray(rows["met"])
        told = number[~np.isnan(number)]
        if not len(told):
            return math.inf
        few = np.flatnonzero(number <= np.quantile(told, LEAST_MET))
        alone_ms, met, issue = float(rows["ms"][few].mean()), float(number[few].mean()), rows["issue"][few]
    least_ms = 0.01 * alone_ms
    return max(turns.need_ms(max(alone_ms - HOSTS * float(np.median(issue)), least_ms), met), least_ms)


def _responses(unit: _Unit) -> NDArray[np.float32]:
    return np.concatenate([np.empty(0, np.float32), *unit.responses])


def _shown(unit: _Unit) -> Watched:
    figures, process, did = unit.figures, unit.process, unit.did()
    assert figures is not None
    blamed = unit.blame.blamed()
    added, waits_for = _blame(unit, figures.cost, blamed.weights)
    return Watched(
        unit=unit.name,
        gpu=", ".join(unit.key[1]),
        namespace=process.namespace,
        pod=process.pod,
        container=process.container_name,
        processes=len(unit.processes),
        p50_ms=figures.p50,
        p99_ms=figures.p99,
        trips=did.trips,
        trips_each=unit.iterations.each,
        launches=did.launches,
        in_flight=did.in_flight,
        cost=Cost(
            alone_s=float(unit.alone_s),
            shared_s=float(unit.shared_s),
            df50=figures.cost.df50,
            df99=figures.cost.df99,
            foretold_df99=figures.foretold.df99,
        ),
        added_ms=added,
        waits_for=waits_for,
        most_for=blamed.first if waits_for.keys() - {""} else (),
    )


def _blame(unit: _Unit, cost: NaturalCost, turns: dict[str, float]) -> tuple[float, dict[str, float]]:
    """Milliseconds per second that company adds, and whose they are, by ``turns`` (`Blamed`); ``""`` is nobody's.

    What was added is measured: round trips in seconds with company, less as many of the same kind without. Whose it is
    follows from who had the GPU meanwhile (`Blame`), and is no more than the time with a neighbour in flight.
    Never seen without company, it is what turns foretell.
    """
    whole = sum(turns.values())
    if math.isnan(cost.alone_ms):
        return whole, turns
    _, iterations, took_ms, *_, company = unit.recent().T
    added = float(((took_ms - cost.alone_ms * iterations) * (company > 0)).sum()) / max(len(company), 1)
    limit = 1e3 * float(company.sum()) / max(len(company), 1)
    others = min(max(added, 0.0), limit) if cost.sure and whole else 0.0
    waits_for = {name: others * waited / whole for name, waited in turns.items()} if others else {}
    rest = added - others
    return added, waits_for | ({"": rest} if abs(rest) > 1e-9 or (not waits_for and added) else {})
