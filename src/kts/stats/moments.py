"""The moments of a tenant's slowest iterations: its own time, who was in flight meanwhile, and which samples stand out.

Read from the records again, around these moments alone. What a neighbour did is told by its iterations in flight: that
is when it could have a turn, not that it had one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from kts.model.reading import RunData
from kts.model.records import CPU_TIMES, LAUNCHES, NOT_TOLD, WAITED, WAITS, Records
from kts.model.run import BlockOutcome
from kts.model.telemetry import Scope
from kts.stats.activity import Cover
from kts.stats.faults import sound
from kts.stats.over_time import origin_ns
from kts.stats.series import SlowIteration
from kts.units import NS_PER_MS

AROUND = 0.25
"""Of an iteration's response time is shown before and after it."""
FINEST = 1 / 300
"""Of that stretch: gaps below it are not shown, so that a tenant of tiny iterations is no list of thousands."""
EXTREME = 0.01
"""A sample stands out beyond this part of all of its series in blocks of that condition, at either end,"""
SAMPLES = 100
"""of which there are so many at least."""
STAND_OUT = 3
"""Most samples of a moment."""

Ints = NDArray[np.int64]


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """Iterations of a neighbour in flight around a moment; the tenant's own others, where they were during it.

    ``iterations``: how many were in flight during it, for ``ms`` of its response time. ``flights``: (begin, end) in ms
    since it was due, joined where gaps are too short to be seen.
    """

    tenant: str
    iterations: int
    ms: float
    flights: tuple[tuple[float, float], ...]


class StandOut(msgspec.Struct, frozen=True, kw_only=True):
    """A telemetry sample during a moment, beyond nearly all of its series: ``low`` or high. ``begin_ms``, ``end_ms``:
    what it covers, since the iteration was due; ``median`` of the ``samples`` under the same condition."""

    source: str
    metric: str
    scope: Scope
    value: float
    low: bool
    median: float
    samples: int
    begin_ms: float
    end_ms: float


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One iteration. ``at_s``: when it was due, since the run's first block. Its response is ``queue_ms`` (due to
    submit) and ``service_ms``; ``device_ms``: on the device's stopwatch, None without one. ``launches``, ``waits``,
    ``cpu_ms``, ``core_wait_ms`` (its thread was ready, and had no core) and ``waited_ms`` (its host waited for the
    device): None where they were not recorded."""

    block: int
    round: int
    i: int
    at_s: float
    response_ms: float
    queue_ms: float
    service_ms: float
    device_ms: float | None
    launches: int | None = None
    waits: int | None = None
    cpu_ms: float | None = None
    core_wait_ms: float | None = None
    waited_ms: float | None = None
    lanes: tuple[Lane, ...] = ()
    stand_out: tuple[StandOut, ...] = ()


def moments(run: RunData, tenant: str, slowest: Sequence[SlowIteration]) -> tuple[Moment, ...]:
    """One for each of ``slowest``, in that order. Reads their blocks once per tenant, a portion at a time."""
    outcomes = {block.index: block for block in run.blocks}
    samples = _Samples.of(run, tenant)
    found: dict[int, Moment] = {}
    for index in dict.fromkeys(one.block for one in slowest):
        block = outcomes[index]
        here = [one for one in slowest if one.block == index]
        told = [_Telling(one) for one in here]
        names = run.info.plan.condition(block.condition).tenants
        for name in (tenant, *(other for other in names if other != tenant)):
            for part in run.portions(name, index):
                rows, _ = sound(part)
                for one in told:
                    if name == tenant:
                        one.find_itself(rows)
                    one.add(name, rows)
        for slow, one in zip(here, told, strict=True):
            found[id(slow)] = one.moment(tenant, block, origin_ns(run), samples)
    return tuple(found[id(one)] for one in slowest)


@dataclass
class _Others:
    iterations: int = 0
    ns: int = 0
    flights: list[tuple[int, int]] = field(default_factory=list)


class _Telling:
    """What the records tell of one moment, a portion at a time."""

    def __init__(self, slow: SlowIteration) -> None:
        self._slow = slow
        self._row: Records | None = None
        self._due_ns = slow.retire_ns - round(slow.response_ms * NS_PER_MS)
        around_ns = max(1, round(AROUND * slow.response_ms * NS_PER_MS))
        self._begin_ns, self._end_ns = self._due_ns - around_ns, slow.retire_ns + around_ns
        self._lanes: dict[str, _Others] = {}

    def find_itself(self, rows: Records) -> None:
        """The record itself: of those submitted at that moment the one that ended nearest to it."""
        same = rows[rows["submit_ns"] == self._slow.submit_ns]
        if len(same):
            at = int(np.argmin(np.abs(same["retire_ns"] - self._slow.retire_ns)))
            self._row = same[at : at + 1].copy()

    def add(self, name: str, rows: Records) -> None:
        """Those in flight around it, but not itself."""
        near = (rows["submit_ns"] < self._end_ns) & (rows["retire_ns"] > self._begin_ns)
        if self._row is not None:
            near &= ~((rows["submit_ns"] == self._row["submit_ns"]) & (rows["i"] == self._row["i"]))
        if not near.any():
            return
        begin, end = (np.ascontiguousarray(rows[clock][near]) for clock in ("submit_ns", "retire_ns"))
        lane = self._lanes.setdefault(name, _Others())
        during = (begin < self._slow.retire_ns) & (end > self._due_ns)
        lane.iterations += int(during.sum())
        joined = _union(begin[during], end[during], 0)
        lane.ns += sum(min(b, self._slow.retire_ns) - max(a, self._due_ns) for a, b in joined)
        lane.flights += _union(begin, end, round(FINEST * (self._end_ns - self._begin_ns)))

    def moment(self, tenant: str, block: BlockOutcome, zero_ns: int, samples: _Samples) -> Moment:
        """All of it."""
        slow = self._slow
        lanes = [
            Lane(
                tenant=name,
                iterations=one.iterations,
                ms=one.ns / NS_PER_MS,
                flights=tuple((self._since_due(a), self._since_due(b)) for a, b in sorted(one.flights)),
            )
            for name, one in self._lanes.items()
            if name != tenant or one.iterations
        ]
        lanes.sort(key=lambda lane: (lane.tenant != tenant, -lane.ms))
        row = self._row
        return Moment(
            block=block.index,
            round=block.round,
            i=int(row["i"][0]) if row is not None else -1,
            at_s=(self._due_ns - zero_ns) / 1e9,
            response_ms=slow.response_ms,
            queue_ms=slow.response_ms - slow.service_ms,
            service_ms=slow.service_ms,
            device_ms=slow.device_ms if np.isfinite(slow.device_ms) else None,
            launches=_counted(row, LAUNCHES),
            waits=_counted(row, WAITS),
            cpu_ms=_time_ms(row, CPU_TIMES[0]),
            core_wait_ms=_time_ms(row, CPU_TIMES[1]),
            waited_ms=_time_ms(row, WAITED),
            lanes=tuple(lanes),
            stand_out=tuple(samples.standing_out(block.condition, self._due_ns, slow.retire_ns)),
        )

    def _since_due(self, ns: int) -> float:
        return (min(max(ns, self._begin_ns), self._end_ns) - self._due_ns) / NS_PER_MS


def _counted(row: Records | None, column: str) -> int | None:
    """0 where they were not counted: every iteration has a launch."""
    told = row is not None and column in (row.dtype.names or ())
    return int(row[column][0]) or None if told and row is not None else None


def _time_ms(row: Records | None, column: str) -> float | None:
    if row is None or column not in (row.dtype.names or ()) or int(row[column][0]) == NOT_TOLD:
        return None
    return int(row[column][0]) / NS_PER_MS


def _union(begin: Ints, end: Ints, gap_ns: int) -> list[tuple[int, int]]:
    """Intervals that cover the same, joined where the next begins within ``gap_ns``."""
    if not len(begin):
        return []
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], np.maximum.accumulate(end[order])
    starts = np.append(0, np.flatnonzero(begin[1:] > end[:-1] + gap_ns) + 1)
    return list(zip(begin[starts].tolist(), end[np.append(starts[1:], len(end)) - 1].tolist(), strict=True))


@dataclass(frozen=True)
class _Samples:
    """The telemetry that is of a tenant, and when each condition was measured."""

    covers: tuple[Cover, ...]
    blocks: dict[str, tuple[Ints, Ints]]

    @classmethod
    def of(cls, run: RunData, tenant: str) -> _Samples:
        device = next((worker.device.uuid for worker in run.info.workers if worker.tenant == tenant), "")
        mine = {"device": device, "tenant": tenant}
        covers = tuple(Cover.of(one) for one in run.telemetry() if len(one.t_ns) and one.subject == mine[one.scope])
        edges: dict[str, list[tuple[int, int]]] = {}
        for block in run.blocks:
            if block.valid:
                edges.setdefault(block.condition, []).append((block.start_ns, block.end_ns))
        blocks = {
            name: (np.array([a for a, _ in sorted(of)]), np.array([b for _, b in sorted(of)]))
            for name, of in edges.items()
        }
        return cls(covers, blocks)

    def standing_out(self, condition: str, begin_ns: int, end_ns: int) -> list[StandOut]:
        """Of each series the most extreme, where it is one; the furthest from its median first."""
        found = [one for cover in self.covers for one in self._of(cover, condition, begin_ns, end_ns)]
        return [out for _, out in sorted(found, key=lambda one: -one[0])[:STAND_OUT]]

    def _of(self, cover: Cover, condition: str, begin_ns: int, end_ns: int) -> Iterator[tuple[float, StandOut]]:
        series = cover.series
        starts, ends = self.blocks[condition]
        middle = (cover.begin_ns + cover.end_ns) // 2
        place = np.searchsorted(starts, middle, side="right") - 1
        there = (place >= 0) & (middle <= ends[np.maximum(place, 0)])
        values = series.value[there]
        now = np.flatnonzero(there & (cover.begin_ns < end_ns) & (cover.end_ns > begin_ns))
        if len(values) < SAMPLES or not len(now):
            return
        low, median, high = (float(value) for value in np.quantile(values, (EXTREME, 0.5, 1 - EXTREME)))
        at = int(now[np.argmax(np.abs(series.value[now] - median))])
        value = float(series.value[at])
        if low <= value <= high:
            return
        spread = (high - low) or max(abs(median), 1e-9)
        yield (
            abs(value - median) / spread,
            StandOut(
                source=series.source,
                metric=series.metric,
                scope=series.scope,
                value=value,
                low=value < low,
                median=median,
                samples=len(values),
                begin_ms=(int(cover.begin_ns[at]) - begin_ns) / NS_PER_MS,
                end_ms=(int(cover.end_ns[at]) - begin_ns) / NS_PER_MS,
            ),
        )
