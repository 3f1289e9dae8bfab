"""The simulator's face: streams of iterations and a way of sharing in, completed iterations out. Deterministic.

The model is in docs/physics.md. Randomness is not here: a `Stream` holds every iteration's draw already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kts.physics.tables import COURSE, LANE, LAUNCH, LISTED, STEP, TENANT, Tables, Trips
from kts.physics.values import Floats, Ints, Iterations


@dataclass(frozen=True, eq=False)
class Stream:
    """One tenant as simulated: its m-th iteration is ``iterations[pick[m]]``, ``(planned,)`` of them.

    Closed loop: ``think_ms[m]`` lies between the m-th retirement and the next submission, the first of which is at
    ``start_ms``. Open loop: ``due_ms``, rising; one iteration in flight, first come first served. ``slice_ms``
    None: that of the GPU. ``queue_depth``: launches that are queued or run before the host must wait; None: any
    number. Higher ``priority`` is served first. ``settles_next``: who is next when its queue empties is settled when
    its turn begins, among those that wait then (a replayed CUDA graph); if nobody waits, as for others. ``late_ms``:
    how long after each due time the host has woken up, in an open loop; None: at once.
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

    def slower_host(self, factor: float) -> Stream:
        """The same with all host times, launches and retirements, ``factor`` times as long."""
        if factor == 1.0:
            return self
        return replace(self, iterations=self.iterations.slower_host(factor))


@dataclass(frozen=True)
class SharingModel:
    """How the GPU is shared. Costs (ms) by the number of other tenants waiting, from one; the last holds beyond.

    ``launch_gap_ms`` lies between two kernels of an iteration. ``at_once``: a higher priority takes the GPU when
    its kernel is queued; else when the slice is over.
    """

    slice_ms: float
    preempt_ms: tuple[float, ...]
    yield_ms: tuple[float, ...]
    wake_ms: tuple[float, ...]
    launch_gap_ms: float = 0.0
    at_once: bool = False

    def __post_init__(self) -> None:
        costs = (*self.preempt_ms, *self.yield_ms, *self.wake_ms)
        if not (self.preempt_ms and self.yield_ms and self.wake_ms) or min(*costs, self.launch_gap_ms) < 0:
            raise ValueError("switch costs: at least one of each kind, none below zero")
        if not self.slice_ms > 0:
            raise ValueError("a slice is longer than zero")


@dataclass(frozen=True, eq=False)
class Completed:
    """One tenant's iterations whose last kernel ended, in order; ms from the start of the simulation, shape ``(n,)``.

    ``begin_ms``: its first kernel starts; ``end_ms``: its last one ends. ``busy_ms``: GPU time in all.
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

    tenants, launches, listed = _tables(streams, sharing)
    pick = _joined([stream.pick for stream in streams])
    pace = _joined([stream.pace_ms for stream in streams])
    out = np.empty((len(pick), 5))
    course = np.zeros(1, COURSE)
    course["horizon_ms"], course["stop_at_first"], course["at_once"] = horizon_ms, stop_at_first, sharing.at_once
    ends = np.empty(int(tenants["ends"][-1]) + _longest(streams[-1]))
    tables = Tables(launches, listed, pick, pace, _costs(sharing), ends, out)
    trips = _trips(streams, tenants, tables)
    total = course[0]
    engine.run(tenants, tables, trips, total)
    return Simulated(
        tenants=tuple(_completed(s, out[row["first"] :], row) for s, row in zip(streams, tenants, strict=True)),
        end_ms=float(total["end_ms"]),
        switch_ms=float(total["switch_ms"]),
        idle_ms=float(total["idle_ms"]),
        switches=tuple(int(n) for n in total["switches"]),  # type: ignore[arg-type]
        kernels=int(total["kernels"]),
    )


def _tables(streams: Sequence[Stream], sharing: SharingModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tenants = np.zeros(len(streams), TENANT)
    launches = np.empty(sum(len(s.iterations.offset_ms) for s in streams), LAUNCH)
    listed = np.empty(sum(s.iterations.n for s in streams), LISTED)
    launch = listing = row = scratch = 0
    for tenant, stream in zip(tenants, streams, strict=True):
        them = stream.iterations
        these, lists = launches[launch : launch + len(them.offset_ms)], listed[listing : listing + them.n]
        these["offset_ms"] = them.offset_ms
        these["work_ms"] = them.duration_ms + sharing.launch_gap_ms
        these["work_ms"][them.first[1:] - 1] = them.duration_ms[them.first[1:] - 1]  # nothing follows the last
        tenant["trips"] = not them.are_plain
        lists["first"], lists["last"] = them.first[:-1] + launch, them.first[1:] - 1 + launch
        lists["retire_ms"] = them.retire_ms
        tenant["first"], tenant["base"], tenant["ends"] = row, listing, scratch
        tenant["planned"] = len(stream.pick)
        tenant["open"], tenant["depth"] = stream.due_ms is not None, stream.queue_depth or 0
        tenant["settles"] = stream.settles_next
        tenant["priority"], tenant["start_ms"] = stream.priority, stream.start_ms
        tenant["slice_ms"] = sharing.slice_ms if stream.slice_ms is None else stream.slice_ms
        launch, listing, row = launch + len(these), listing + them.n, row + len(stream.pick)
        scratch += _longest(stream)
    return tenants, launches, listed


def _trips(streams: Sequence[Stream], tenants: np.ndarray, tables: Tables) -> Trips | None:
    """None where no tenant has any. Takes the gap off what nothing is queued behind."""
    if not tenants["trips"].any():
        return None
    steps = np.empty(len(tables.launches), STEP)
    begin = lanes = 0
    for tenant, stream in zip(tenants, streams, strict=True):
        them, tenant["lanes"] = stream.iterations, lanes
        end = begin + len(them.offset_ms)
        if tenant["trips"]:
            mine = steps[begin:end]
            lanes += _into_steps(them, mine)
            alone = (mine["next"] < 0) | (mine["apart"] == 1)
            tables.launches["work_ms"][begin:end][alone] = them.duration_ms[alone]
            mine["next"][mine["next"] >= 0] += begin
        begin = end
    return Trips(tables, steps, np.empty(lanes, LANE))


def _into_steps(them: Iterations, steps: np.ndarray) -> int:
    """Writes them, places counted from the first of ``them``; returns how many lanes a trip has at most."""
    launches = len(steps)
    steps["wait_ms"] = np.nan if them.wait_ms is None else them.wait_ms
    steps["notice_ms"] = 0.0 if them.notice_ms is None else them.notice_ms
    steps["apart"] = False if them.apart is None else them.apart
    begins = np.zeros(launches, np.bool_)
    begins[them.first[:-1]] = True
    begins[1:] |= ~np.isnan(steps["wait_ms"][:-1])
    trip = np.cumsum(begins) - 1
    lane = np.zeros(launches, np.int64) if them.lane is None else them.lane
    order = np.lexsort((lane, trip))
    follows = (np.diff(trip[order]) == 0) & (np.diff(lane[order]) == 0)
    steps["next"], steps["opens"] = -1, 1
    steps["next"][order[:-1][follows]] = order[1:][follows]
    steps["opens"][order[1:][follows]] = 0
    return int(np.bincount(trip, steps["opens"]).max())


def _joined(arrays: Sequence[Any]) -> Any:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _longest(stream: Stream) -> int:
    return int(np.diff(stream.iterations.first).max())


def _costs(sharing: SharingModel) -> Floats:
    kinds = (sharing.preempt_ms, sharing.yield_ms, sharing.wake_ms)
    width = max(len(kind) for kind in kinds)
    return np.array([[*kind, *[kind[-1]] * (width - len(kind))] for kind in kinds], dtype=np.float64)


def _completed(stream: Stream, rows: Floats, tenant: np.void) -> Completed:
    done = int(tenant["done"])
    due, submit, begin, end, retire = rows[:done].T
    if stream.due_ms is not None:
        due = stream.due_ms[:done]
    return Completed(due, submit, begin, end, retire, float(tenant["busy_ms"]))
