"""The one pass over a run's records: what the statistics and the figures need, and nothing else, stays in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kts.model.reading import RunData
from kts.model.records import Records
from kts.model.run import BlockOutcome
from kts.stats.activity import Join
from kts.stats.faults import sound
from kts.stats.overlap import Counted, Span, collided, counted
from kts.stats.phase import BlockPhases, block_phases
from kts.stats.sample import FloatArray
from kts.stats.series import OVER_TIME_POINTS, STRIP_INTERVALS, OverTime, Side, Strip

SINGLE_PRECISION_FROM = 4_000_000
"""Runs with more records than this are held in float32 (7 digits), to halve memory and sorting time."""

SLOWEST_KEPT = 20_000
COLLIDED_KEPT = 200_000
"""Per block, evenly in time: their quantiles do not need more."""
STRIP_ITERATIONS = 30
PORTION = 1_000_000


@dataclass
class SideData:
    """One tenant, alone, in the full house or in another mix. Arrays per block, in order of time, as ``(round, ms)``.

    ``response`` holds the same array objects as ``service`` where every due time is the submission.
    ``lost``: iterations that could not be read. ``left_out_device``: of iterations that do not count: ``lead`` of them
    for what they are, ``dropped`` ran while a neighbour was not there. ``collided``: response times of the ``met``
    iterations that ran beside a neighbour's, kept of the full house. ``firsts``: each block's first response time that
    counts. ``cycles`` start-to-start cycles took ``cycles_ns``; the due times of the same iterations lie ``due_ns``
    apart. ``slowest``: (service, device) of at least each block's slowest 5 %; not kept of a mix.
    """

    response: list[tuple[int, FloatArray]] = field(default_factory=list)
    service: list[tuple[int, FloatArray]] = field(default_factory=list)
    device: list[tuple[int, FloatArray]] = field(default_factory=list)
    left_out_device: list[tuple[int, FloatArray]] = field(default_factory=list)
    slowest: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)
    collided: list[tuple[int, FloatArray]] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    met: int = 0
    lost: int = 0
    lead: int = 0
    dropped: int = 0
    cycles: int = 0
    cycles_ns: int = 0
    due_ns: int = 0

    @property
    def n(self) -> int:
        """Iterations that count."""
        return sum(len(ms) for _, ms in self.service)

    @property
    def rounds(self) -> set[int]:
        """Rounds that hold iterations."""
        return {number for number, _ in self.service}


@dataclass
class TenantData:
    """Everything kept of one tenant. ``mixes``: by condition, those besides the full house that it is part of.

    ``phases``: of its starts in each neighbour's cycles, one per block of the full house. ``negative``: iterations
    left out because a latency was below zero.
    """

    solo: SideData = field(default_factory=SideData)
    shared: SideData = field(default_factory=SideData)
    mixes: dict[str, SideData] = field(default_factory=dict)
    points: list[OverTime] = field(default_factory=list)
    strip: Strip | None = None
    phases: dict[str, list[BlockPhases]] = field(default_factory=dict)
    negative: int = 0

    def side(self, side: Side) -> SideData:
        """The data of one side."""
        return self.solo if side == "solo" else self.shared

    def of(self, side: Side | None, condition: str) -> SideData:
        """The data of one side, or of a mix besides the full house (None)."""
        return self.mixes.setdefault(condition, SideData()) if side is None else self.side(side)


@dataclass(frozen=True)
class _Rows:
    """One tenant in one block, compact: ``retire_ns`` is rebuilt from the service time when asked for."""

    submit_ns: NDArray[np.int64]
    response: FloatArray
    service: FloatArray
    device: FloatArray

    @property
    def span(self) -> Span:
        return Span(self.submit_ns, self.submit_ns + (self.service * 1e6).astype(np.int64))


def gather(run: RunData, join: Join | None = None) -> dict[str, TenantData]:
    """All tenants of the plan, from the valid blocks. Reads the records of each tenant and block once, invalid
    blocks not at all. ``join`` is shown every block's iterations."""
    plan = run.info.plan
    tenants = {tenant.name: TenantData() for tenant in plan.tenants}
    house = plan.full_house
    wanted = {c.name: c.tenants for c in plan.conditions}
    alone = {c.name for c in plan.conditions if c.is_solo}
    blocks = [block for block in run.blocks if block.valid and block.condition in wanted]
    rows_in_all = sum(sum(block.counts.values()) for block in blocks)
    dtype: DTypeLike = np.float32 if rows_in_all > SINGLE_PRECISION_FROM else np.float64
    budget = {
        name: max(1, OVER_TIME_POINTS // max(1, sum(name in wanted[b.condition] for b in blocks))) for name in tenants
    }
    origin = origin_ns(run)
    shared_blocks = [block.index for block in blocks if block.condition == house.name and not house.is_solo]
    strip_block = shared_blocks[len(shared_blocks) // 2] if shared_blocks else None
    for block in blocks:
        shared = block.condition not in alone
        rows = {}
        for name in wanted[block.condition]:
            records, negative = sound(run.records(name, block.index))
            tenants[name].negative += negative
            rows[name] = _compact(records, dtype)
        for name, row in rows.items():
            if len(row.submit_ns):
                tenants[name].points.append(_thinned(row, block, budget[name], origin, shared))
        if block.index == strip_block:
            _add_strips(tenants, rows)
        spans = {name: row.span for name, row in rows.items()}
        counts = counted(block, spans)
        side: Side | None = "solo" if not shared else "shared" if block.condition == house.name else None
        for name, row in rows.items():
            keep = counts[name].keep
            if join is not None and join.wants(name):
                join.add(name, block, side, spans[name].submit_ns[keep], spans[name].retire_ns[keep])
            data = tenants[name].of(side, block.condition)
            data.lost += block.lost.get(name, 0)
            _add(data, row, block.round, counts[name])
            if side is None:
                data.slowest.clear()  # what waiting adds is told of the full house alone
        if side == "shared":
            _add_company(tenants, rows, spans, counts, block.round)
        rows.clear()  # before the next block's are read
    return tenants


def origin_ns(run: RunData) -> int:
    """Zero of the figures' time axis: the start of the run's first block."""
    return min((block.start_ns for block in run.blocks), default=0)


def _compact(records: Records, dtype: DTypeLike) -> _Rows:
    submit = np.ascontiguousarray(records["submit_ns"])
    service = _until_retired_ms(records, "submit_ns", dtype)
    closed = bool(np.array_equal(records["due_ns"], submit))
    return _Rows(
        submit_ns=submit,
        response=service if closed else _until_retired_ms(records, "due_ns", dtype),
        service=service,
        device=records["device_ms"].astype(dtype),
    )


def _until_retired_ms(records: Records, begin: str, dtype: DTypeLike) -> FloatArray:
    """Milliseconds from ``begin`` to completion, in portions: the temporary arrays would outweigh the result."""
    spans = np.empty(len(records), dtype=dtype)
    for first in range(0, len(records), PORTION):
        part = records[first : first + PORTION]
        spans[first : first + PORTION] = (part["retire_ns"] - part[begin]) / 1e6
    return spans


def _add_company(
    tenants: dict[str, TenantData],
    rows: dict[str, _Rows],
    spans: dict[str, Span],
    counts: dict[str, Counted],
    number: int,
) -> None:
    """What is told of the full house alone: iterations that met a neighbour's, and whether starts are in step."""
    for name, row in rows.items():
        data, keep = tenants[name], counts[name].keep
        met = np.flatnonzero(collided(spans, name)[keep])
        data.shared.met += len(met)
        data.shared.collided.append((number, row.response[keep][met[:: 1 + len(met) // COLLIDED_KEPT]]))
        for other in rows:
            if other != name:
                found = block_phases(spans[name].submit_ns, spans[name].retire_ns, spans[other].submit_ns)
                data.phases.setdefault(other, []).append(found)


def _add(side: SideData, row: _Rows, number: int, counts: Counted) -> None:
    keep = counts.keep
    side.lead += counts.lead
    side.dropped += counts.alone
    if counts.lead or counts.alone:
        left_out = np.ones(len(row.device), dtype=np.bool_)
        left_out[keep] = False
        side.left_out_device.append((number, row.device[left_out]))
    submit = row.submit_ns[keep]
    if not len(submit):
        return
    service, device = row.service[keep], row.device[keep]
    side.service.append((number, service))
    side.response.append((number, service if row.response is row.service else row.response[keep]))
    side.firsts.append(float(row.response[keep][0]))
    side.device.append((number, device))
    side.cycles += len(submit) - 1
    side.cycles_ns += int(submit[-1] - submit[0])
    late_ms = row.response[keep] - service
    side.due_ns += int(submit[-1] - submit[0]) - round(float(late_ms[-1] - late_ms[0]) * 1e6)
    most = max(SLOWEST_KEPT, len(service) // 20)
    top = slice(None) if most >= len(service) else np.argpartition(service, len(service) - most)[-most:]
    side.slowest.append((service[top].copy(), device[top].copy()))


def _thinned(row: _Rows, block: BlockOutcome, budget: int, origin: int, shared: bool) -> OverTime:
    n = len(row.submit_ns)
    edges = np.linspace(0, n, min(budget, n) + 1).astype(np.int64)
    chosen = np.array([a + int(np.argmax(row.service[a:b])) for a, b in pairwise(edges)])
    return OverTime(
        t_s=(row.submit_ns[chosen] - origin) / 1e9,
        service_ms=row.service[chosen].astype(np.float64),
        device_ms=row.device[chosen].astype(np.float64),
        block=np.full(len(chosen), block.index, dtype=np.int64),
        shared=np.full(len(chosen), shared, dtype=np.bool_),
    )


def _add_strips(tenants: dict[str, TenantData], rows: dict[str, _Rows]) -> None:
    """A window of some 30 iterations of the slowest tenant, fewer where that would be over 400 of another."""
    found = {name: row for name, row in rows.items() if len(row.submit_ns) > 1}
    if not found:
        return
    cycle = {name: float(np.diff(row.submit_ns).mean()) for name, row in found.items()}
    span = min(STRIP_ITERATIONS * max(cycle.values()), STRIP_INTERVALS * 0.8 * min(cycle.values()))
    first = max(int(row.submit_ns[0]) for row in found.values())
    last = min(int(row.submit_ns[-1]) + int(row.service[-1] * 1e6) for row in found.values())
    begin = int(max(first, (first + last - span) / 2))
    for name, row in found.items():
        a, b = np.searchsorted(row.submit_ns, [begin, begin + int(span)])
        picked = slice(max(int(a) - 1, 0), min(int(b), int(a) + STRIP_INTERVALS - 1))
        submit = row.submit_ns[picked]
        retire = submit + (row.service[picked] * 1e6).astype(np.int64)
        inside = retire >= begin
        tenants[name].strip = Strip(
            submit_s=(submit[inside] - begin) / 1e9,
            retire_s=(retire[inside] - begin) / 1e9,
            device_ms=row.device[picked][inside].astype(np.float64),
        )
