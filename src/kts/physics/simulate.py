"""The simulator's face: streams of iterations and a way of sharing in, completed iterations out. Deterministic.

The model is in docs/physics.md. Randomness is not here: a `Stream` holds every iteration's draw already.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from kts.physics.tables import COURSE, LANE, LAUNCH, LISTED, STEP, TENANT, TRIP, Tables, TripTables
from kts.physics.values import Floats, Ints, Iterations


@dataclass(frozen=True, eq=False)
class Stream:
    """One tenant as simulated: its m-th iteration is ``iterations[pick[m]]``, ``(planned,)`` of them.

    Closed loop: ``think_ms[m]`` lies between the m-th retirement and the next submission, the first of which is at
    ``start_ms``. Open loop: ``due_ms``, rising; one iteration in flight, first come first served. ``slice_ms``
    None: that of the GPU. ``queue_depth``: launches that are queued or run before the host must wait; None: any
    number. Higher ``priority`` is served first. ``settles_next``: who is next when its queue empties is settled when
    its turn begins, among those that wait then (a replayed CUDA graph); if nobody waits, as for others. ``late_ms``:
    how long after each due time the host has woken up, in an open loop; None: at once. ``host``: its host's times,
    launches, waits and retirements, are so many times those listed. ``process``: streams of the same one are its
    threads, each with a host of its own: they have one place in the circle, and share its turns (None: a process of
    its own).
    """

    iterations: Iterations
    pick: Ints
    think_ms: Floats | None = None
    due_ms: Floats | None = None
    start_ms: float = 0.0
    priority: int = 0
    slice_ms: float | None = None
    queue_depth: int | None = None
    settles_next: bool = False
    late_ms: Floats | None = None
    host: float = 1.0
    process: str | None = None

    @property
    def pace_ms(self) -> Floats:
        """Think times, or the times at which the host has noticed that an iteration is due."""
        if self.due_ms is None:
            return np.asarray(self.think_ms, dtype=np.float64)
        return self.due_ms if self.late_ms is None else self.due_ms + self.late_ms

    def __post_init__(self) -> None:
        given = self.due_ms if self.due_ms is not None else self.think_ms
        if (self.due_ms is None) == (self.think_ms is None) or given is None or len(given) != len(self.pick):
            raise ValueError("a stream needs either think_ms or due_ms, as long as pick")
        if len(self.pick) and not 0 <= self.pick.min() <= self.pick.max() < self.iterations.n:
            raise ValueError("pick is outside of the iterations")
        if self.queue_depth is not None and self.queue_depth < 1:
            raise ValueError("a queue holds at least one launch")
        if self.queue_depth is not None and self.iterations.lane is not None:
            raise ValueError("a bounded queue has one lane")


@dataclass(frozen=True)
class SharingModel:
    """How the GPU is shared. Costs (ms) by the number of other tenants waiting, from one; the last holds beyond.

    ``launch_gap_ms`` lies between two kernels of an iteration. ``at_once``: a higher priority takes the GPU when
    its kernel is queued; else when the slice is over. ``in_line``: there are no turns (MPS, streams): whichever kernel
    could run first of all tenants' is next, and goes on to its end. Then slice and costs do not count.
    """

    slice_ms: float
    preempt_ms: tuple[float, ...]
    yield_ms: tuple[float, ...]
    wake_ms: tuple[float, ...]
    launch_gap_ms: float = 0.0
    at_once: bool = False
    in_line: bool = False

    def __post_init__(self) -> None:
        costs = (*self.preempt_ms, *self.yield_ms, *self.wake_ms)
        if not (self.preempt_ms and self.yield_ms and self.wake_ms) or min(*costs, self.launch_gap_ms) < 0:
            raise ValueError("switch costs: at least one of each kind, none below zero")
        if not self.slice_ms > 0:
            raise ValueError("a slice is longer than zero")


@dataclass(frozen=True, eq=False)
class Completed:
    """One tenant's iterations whose last kernel ended, in order; ms from the start of the simulation, shape ``(n,)``.

    ``begin_ms``: its first kernel starts; ``end_ms``: its last one ends. ``busy_ms``: GPU time in all; that of a
    process with several threads counts with the first of them.
    """

    due_ms: Floats
    submit_ms: Floats
    begin_ms: Floats
    end_ms: Floats
    retire_ms: Floats
    busy_ms: float

    @property
    def response_ms(self) -> Floats:
        """Due to retired."""
        return self.retire_ms - self.due_ms

    @property
    def service_ms(self) -> Floats:
        """Submitted to retired."""
        return self.retire_ms - self.submit_ms

    @property
    def device_ms(self) -> Floats:
        """First kernel's start to last one's end, through the turns of others: what CUDA events show."""
        return self.end_ms - self.begin_ms


def together(threads: Sequence[Completed]) -> Completed:
    """What these completed, in order of submission."""
    if len(threads) == 1:
        return threads[0]
    columns = ("due_ms", "submit_ms", "begin_ms", "end_ms", "retire_ms")
    whole = {name: np.concatenate([getattr(one, name) for one in threads]) for name in columns}
    order = np.argsort(whole["submit_ms"], kind="stable")
    return Completed(
        **{name: column[order] for name, column in whole.items()}, busy_ms=sum(one.busy_ms for one in threads)
    )


@dataclass(frozen=True, eq=False)
class Simulated:
    """What happened until ``end_ms`` = busy of all tenants + ``switch_ms`` + ``idle_ms``.

    ``switches``: preempting, yielding, waking. ``events``: submissions, launches queued, kernel ends, decisions
    to switch, switch ends and retirements of what was completed; slice renewals of a lone tenant are not counted.
    """

    tenants: tuple[Completed, ...]
    end_ms: float
    switch_ms: float
    idle_ms: float
    switches: tuple[int, int, int]
    kernels: int

    @property
    def iterations(self) -> int:
        """Iterations completed by all tenants."""
        return sum(len(tenant.retire_ms) for tenant in self.tenants)

    @property
    def events(self) -> int:
        """See above."""
        return 2 * self.iterations + 2 * self.kernels + 2 * sum(self.switches)


def simulate(
    streams: Sequence[Stream], sharing: SharingModel, *, horizon_ms: float = np.inf, stop_at_first: bool = True
) -> Simulated:
    """Runs the streams side by side until ``horizon_ms``, or until one (``stop_at_first``) or all are exhausted.

    The same arguments give the same outcome, to the bit. The first call in a process loads or compiles the loop.
    """
    from kts.physics import engine

    processes = _processes(streams)
    in_trips = frozenset(streams[number].iterations for process in processes if len(process) > 1 for number in process)
    listings = _listings(tuple(sorted({stream.iterations for stream in streams}, key=id)), in_trips)
    rows = _rows(streams, sharing, listings)
    tenants, threads = _circle(processes, rows)
    pick = _joined([stream.pick for stream in streams])
    pace = _joined([stream.pace_ms for stream in streams])
    out = np.empty((len(pick), 5))
    course = np.zeros(1, COURSE)
    course["horizon_ms"], course["stop_at_first"] = horizon_ms, stop_at_first
    course["at_once"], course["in_line"] = sharing.at_once, sharing.in_line
    ends = np.empty(sum(map(_longest, streams)))
    tables = Tables(listings.launches, listings.listed, pick, pace, _costs(sharing), ends, out)
    trips = None
    if tenants["trips"].any():
        lanes = np.empty(sum(listings.most_lanes[stream.iterations] for stream in streams), LANE)
        trips = TripTables(tables, listings.steps, listings.trips, listings.heads, lanes, threads)
    total = course[0]
    engine.run(tenants, tables, trips, total)
    return Simulated(
        tenants=tuple(_completed(s, out, row) for s, row in _each(streams, processes, tenants, threads)),
        end_ms=float(total["end_ms"]),
        switch_ms=float(total["switch_ms"]),
        idle_ms=float(total["idle_ms"]),
        switches=tuple(int(n) for n in total["switches"]),  # type: ignore[arg-type]
        kernels=int(total["kernels"]),
    )


def _processes(streams: Sequence[Stream]) -> list[list[int]]:
    """Places of the streams of each process, in the order of their first ones. ValueError where these are served
    differently, or have bounded queues."""
    found: dict[str | int, list[int]] = {}
    for number, stream in enumerate(streams):
        found.setdefault(number if stream.process is None else stream.process, []).append(number)
    for process in found.values():
        threads = [streams[number] for number in process]
        if len({(one.priority, one.slice_ms, one.settles_next) for one in threads}) > 1:
            raise ValueError("threads of a process have one priority and one slice")
        if len(threads) > 1 and any(one.queue_depth is not None for one in threads):
            raise ValueError("a bounded queue has one thread")
    return list(found.values())


@dataclass(frozen=True, eq=False)
class _Listings:
    """Profiles as the engine reads them. ``base``: place of each in ``listed``; ``most_lanes``: of a trip."""

    launches: np.ndarray
    listed: np.ndarray
    steps: np.ndarray
    trips: np.ndarray
    heads: Ints
    base: dict[Iterations, int]
    most_lanes: dict[Iterations, int]


@lru_cache(maxsize=2)
def _listings(of: tuple[Iterations, ...], in_trips: frozenset[Iterations]) -> _Listings:
    """Kept, as every replicate of a mix draws from the same: then a replicate costs no time or memory per launch.

    ``in_trips``: those that are told as trips though they are plain."""
    with_trips = any(not them.are_plain for them in of) or bool(in_trips)
    launches = np.empty(sum(len(them.offset_ms) for them in of), LAUNCH)
    listed = np.zeros(sum(them.n for them in of), LISTED)
    steps = np.zeros(len(launches) if with_trips else 0, STEP)
    trips, heads = [np.empty(0, TRIP)], [np.empty(0, np.int64)]
    base, most_lanes = {}, {}
    launch = listing = 0
    for them in of:
        these, lists = launches[launch : launch + len(them.offset_ms)], listed[listing : listing + them.n]
        these["offset_ms"], these["work_ms"] = them.offset_ms, them.duration_ms
        lists["first"], lists["last"] = them.first[:-1] + launch, them.first[1:] - 1 + launch
        lists["retire_ms"] = them.retire_ms
        base[them], most_lanes[them] = listing, 1
        if not them.are_plain or them in in_trips:
            made, opening = _made_of_trips(them, steps[launch : launch + len(these)])
            lists["trip"] = np.searchsorted(made["last"], them.first[:-1]) + sum(map(len, trips))
            most_lanes[them] = int(made["lanes"].max())
            made["last"] += launch
            made["heads"] += sum(map(len, heads))
            trips.append(made)
            heads.append(opening + launch)
        launch, listing = launch + len(these), listing + them.n
    return _Listings(launches, listed, steps, np.concatenate(trips), np.concatenate(heads), base, most_lanes)


def _made_of_trips(them: Iterations, steps: np.ndarray) -> tuple[np.ndarray, Ints]:
    """The trips, and the launches that open a lane of each; places are counted from the first of ``them``. Writes its
    steps."""
    ends = np.zeros(len(steps), np.bool_)
    ends[them.first[1:] - 1] = True
    if them.wait_ms is not None:
        ends |= ~np.isnan(them.wait_ms)
    last = np.flatnonzero(ends)
    trips = np.empty(len(last), TRIP)
    trips["last"] = last
    trips["wait_ms"] = np.nan if them.wait_ms is None else them.wait_ms[last]
    trips["notice_ms"] = 0.0 if them.notice_ms is None else them.notice_ms[last]
    steps["apart"] = False if them.apart is None else them.apart
    trip: Ints = np.cumsum(ends) - ends
    lane = np.zeros(len(steps), np.int64) if them.lane is None else them.lane
    steps["lane"] = lane
    order = np.arange(len(steps)) if them.lane is None else np.lexsort((lane, trip))
    follows = (np.diff(trip[order]) == 0) & (np.diff(lane[order]) == 0)
    steps["further"][order[:-1][follows]] = np.diff(order)[follows]
    opens = np.ones(len(steps), np.bool_)
    opens[order[1:][follows]] = False
    heads = np.flatnonzero(opens)
    trips["lanes"] = np.bincount(trip[heads])
    trips["heads"] = np.cumsum(trips["lanes"]) - trips["lanes"]
    return trips, heads


def _rows(streams: Sequence[Stream], sharing: SharingModel, listings: _Listings) -> np.ndarray:
    """A row for each stream, as if it were a process of its own."""
    rows = np.zeros(len(streams), TENANT)
    first = scratch = lanes = 0
    for row, stream in zip(rows, streams, strict=True):
        them = stream.iterations
        row["first"], row["base"], row["ends"], row["lanes"] = first, listings.base[them], scratch, lanes
        row["planned"] = len(stream.pick)
        row["open"], row["depth"] = stream.due_ms is not None, stream.queue_depth or 0
        row["trips"] = 0 if them.are_plain else 1 if them.lane is None else 2
        row["settles"], row["priority"] = stream.settles_next and not sharing.in_line, stream.priority
        row["slice_ms"] = sharing.slice_ms if stream.slice_ms is None else stream.slice_ms
        row["start_ms"], row["host"], row["gap_ms"] = stream.start_ms, stream.host, sharing.launch_gap_ms
        first, scratch, lanes = first + len(stream.pick), scratch + _longest(stream), lanes + listings.most_lanes[them]
    return rows


def _circle(processes: Sequence[Sequence[int]], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A row for each process, and one for each thread of those that have several."""
    tenants = rows[[process[0] for process in processes]]
    several = [process for process in processes if len(process) > 1]
    threads = rows[[number for process in several for number in process]]
    at = 0
    for tenant, process in zip(tenants, processes, strict=True):
        if len(process) > 1:
            tenant["trips"], tenant["planned"], tenant["threads"], tenant["members"] = 3, 0, at, len(process)
            at += len(process)
    return tenants, threads


def _each(
    streams: Sequence[Stream], processes: Sequence[Sequence[int]], tenants: np.ndarray, threads: np.ndarray
) -> Iterator[tuple[Stream, np.void]]:
    """Each stream with its row, in their order."""
    of: dict[int, np.void] = {}
    for tenant, process in zip(tenants, processes, strict=True):
        if len(process) == 1:
            of[process[0]] = tenant
            continue
        at = int(tenant["threads"])
        of.update(zip(process, threads[at : at + len(process)], strict=True))
        of[process[0]]["busy_ms"] = tenant["busy_ms"]
    return ((stream, of[number]) for number, stream in enumerate(streams))


def _joined(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _longest(stream: Stream) -> int:
    return int(np.diff(stream.iterations.first).max())


def _costs(sharing: SharingModel) -> Floats:
    kinds = (sharing.preempt_ms, sharing.yield_ms, sharing.wake_ms)
    width = max(len(kind) for kind in kinds)
    return np.array([[*kind, *[kind[-1]] * (width - len(kind))] for kind in kinds], dtype=np.float64)


def _completed(stream: Stream, out: Floats, row: np.void) -> Completed:
    done, first = int(row["done"]), int(row["first"])
    due, submit, begin, end, retire = out[first : first + done].T
    if stream.due_ms is not None:
        due = stream.due_ms[:done]
    return Completed(due, submit, begin, end, retire, float(row["busy_ms"]))
