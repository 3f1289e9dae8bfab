"""Latency over the run, and a short window of a shared block: for the figures, thinned while the blocks go by."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from kts.model.reading import RunData
from kts.stats.block import MeasuredBlock, Rows, valid_blocks
from kts.stats.series import OVER_TIME_POINTS, PLACES, STRIP_INTERVALS, BlockSpan, OverTime, Strip

STRIP_ITERATIONS = 30


def origin_ns(run: RunData) -> int:
    """Zero of the figures' time axis: the start of the run's first block."""
    return min((block.start_ns for block in run.blocks), default=0)


def block_spans(run: RunData) -> tuple[BlockSpan, ...]:
    """All blocks on the figures' time axis."""
    origin = origin_ns(run)
    return tuple(
        BlockSpan(
            block=block.index,
            condition=block.condition,
            round=block.round,
            start_s=(block.start_ns - origin) / 1e9,
            end_s=(block.end_ns - origin) / 1e9,
            valid=block.valid,
        )
        for block in run.blocks
    )


class LatencyOverTime:
    """Of every tenant some `OVER_TIME_POINTS`: the slowest iteration of each of as many bins."""

    def __init__(self, run: RunData) -> None:
        plan, blocks = run.info.plan, valid_blocks(run)
        tenants_of = {condition.name: condition.tenants for condition in plan.conditions}
        self._origin = origin_ns(run)
        self._points: dict[str, list[OverTime]] = {tenant.name: [] for tenant in plan.tenants}
        self._budget = {
            name: max(1, OVER_TIME_POINTS // max(1, sum(name in tenants_of[b.condition] for b in blocks)))
            for name in self._points
        }

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.rows.items():
            if len(row.span.submit_ns):
                self._points[name].append(self._thinned(name, row, block))

    def _thinned(self, name: str, row: Rows, block: MeasuredBlock) -> OverTime:
        n = len(row.span.submit_ns)
        edges = np.linspace(0, n, min(self._budget[name], n) + 1).astype(np.int64)
        chosen = np.array([a + int(np.argmax(row.service[a:b])) for a, b in pairwise(edges)])
        place = np.full(n, PLACES.index("not counted"), dtype=np.int8)
        place[block.counts[name].keep] = PLACES.index(block.side or "shared")
        return OverTime(
            t_s=(row.span.submit_ns[chosen] - self._origin) / 1e9,
            service_ms=row.service[chosen].astype(np.float64),
            device_ms=row.device[chosen].astype(np.float64),
            block=np.full(len(chosen), block.outcome.index, dtype=np.int64),
            place=place[chosen],
        )

    def of(self, tenant: str) -> OverTime:
        """All points of a tenant."""
        parts = self._points[tenant] or [OverTime(*(np.empty(0, t) for t in (float, float, float, np.int64, np.int8)))]
        names = ("t_s", "service_ms", "device_ms", "block", "place")
        return OverTime(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Strips:
    """Each tenant's iterations in a window in the middle of the run's middle shared block."""

    def __init__(self, run: RunData) -> None:
        house = run.info.plan.full_house
        shared = [b.index for b in valid_blocks(run) if b.condition == house.name and not house.is_solo]
        self._block = shared[len(shared) // 2] if shared else None
        self._strips: dict[str, Strip] = {}

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        if block.outcome.index == self._block:
            self._strips = _strips({name: row for name, row in block.rows.items() if len(row.span.submit_ns) > 1})

    def of(self, tenant: str) -> Strip | None:
        """The tenant's, None if it has none."""
        return self._strips.get(tenant)


def _strips(rows: dict[str, Rows]) -> dict[str, Strip]:
    """A window of some 30 iterations of the slowest tenant, fewer where that would be over 400 of another."""
    if not rows:
        return {}
    submitted = {name: row.span.submit_ns for name, row in rows.items()}
    cycle = {name: float((times[-1] - times[0]) / (len(times) - 1)) for name, times in submitted.items()}
    span = min(STRIP_ITERATIONS * max(cycle.values()), STRIP_INTERVALS * 0.8 * min(cycle.values()))
    first = max(int(row.span.submit_ns[0]) for row in rows.values())
    last = min(int(row.span.retire_ns[-1]) for row in rows.values())
    begin = int(max(first, (first + last - span) / 2))
    return {name: _strip(row, begin, int(span)) for name, row in rows.items()}


def _strip(row: Rows, begin: int, span: int) -> Strip:
    a, b = np.searchsorted(row.span.submit_ns, [begin, begin + span])
    picked = slice(max(int(a) - 1, 0), min(int(b), int(a) + STRIP_INTERVALS - 1))
    submit, retire = row.span.submit_ns[picked], row.span.retire_ns[picked]
    inside = retire >= begin
    return Strip(
        submit_s=(submit[inside] - begin) / 1e9,
        retire_s=(retire[inside] - begin) / 1e9,
        device_ms=row.device[picked][inside].astype(np.float64),
    )
