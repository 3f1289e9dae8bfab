"""What the figures are made of: latencies by tenant and side, block by block, and how fast iterations came."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kts.model.reading import RunData
from kts.shelf import Shelf
from kts.stats.block import MeasuredBlock, Rows, held_bytes, valid_blocks
from kts.stats.overlap import Counted
from kts.stats.sample import Blocks
from kts.stats.series import Side


@dataclass
class SideData:
    """One tenant, alone, in the full house or in another mix. Arrays per block, in order of time, as ``(round, ms)``.

    ``response`` holds the same array objects as ``service`` where every due time is the submission.
    ``lost``: iterations that could not be read; ``events_lost``: calls of a traced program that were not kept;
    ``unsteady``: iterations from before the tenant, or one beside it, was steady.
    ``left_out_device``: of iterations that do not count: ``lead`` of them for what they are, ``dropped`` ran while a
    neighbour was not there. ``cycles`` start-to-start cycles took
    ``cycles_ns``; the due times of the same iterations lie ``due_ns`` apart. ``set_back``: a clock was set back within
    a block, so that nobody knows how long it took.
    """

    response: Blocks = field(default_factory=list)
    service: Blocks = field(default_factory=list)
    device: Blocks = field(default_factory=list)
    left_out_device: Blocks = field(default_factory=list)
    lost: int = 0
    events_lost: int = 0
    lead: int = 0
    dropped: int = 0
    unsteady: int = 0
    cycles: int = 0
    cycles_ns: int = 0
    due_ns: int = 0
    set_back: bool = False

    @property
    def n(self) -> int:
        """Iterations that count."""
        return sum(len(ms) for _, ms in self.service)

    @property
    def rounds(self) -> set[int]:
        """Rounds that hold iterations."""
        return {number for number, _ in self.service}

    def add(self, number: int, rows: Rows, kept: Rows, counts: Counted, shelf: Shelf) -> None:
        """One more block, of round ``number``: all its rows, and those that count. Keeps arrays on ``shelf``."""
        self.lead += counts.lead
        self.dropped += counts.alone
        self.unsteady += rows.unsteady
        if counts.lead or counts.alone:
            left_out = np.ones(len(rows.device), dtype=np.bool_)
            left_out[counts.keep] = False
            self.left_out_device.append((number, shelf.put(rows.device[left_out])))
        if not len(kept.service):
            return
        service = shelf.put(kept.service)
        response = service if kept.response is kept.service else shelf.put(kept.response)
        self.service.append((number, service))
        self.response.append((number, response))
        self.device.append((number, shelf.put(kept.device)))
        submit_ns = kept.span.submit_ns
        self.cycles += len(submit_ns) - 1
        span_ns = int(submit_ns[-1] - submit_ns[0])
        self.cycles_ns += span_ns
        self.set_back |= bool(np.any(submit_ns[1:] < submit_ns[:-1]))
        late_ms = kept.response[[0, -1]] - kept.service[[0, -1]]
        self.due_ns += span_ns - round(float(late_ms[1] - late_ms[0]) * 1e6)


@dataclass
class TenantData:
    """Everything kept of one tenant. ``mixes``: by condition, those besides the full house that it is part of.

    ``impossible``: iterations left out because a latency was below zero.
    """

    solo: SideData = field(default_factory=SideData)
    shared: SideData = field(default_factory=SideData)
    mixes: dict[str, SideData] = field(default_factory=dict)
    impossible: int = 0

    def side(self, side: Side) -> SideData:
        """The data of one side."""
        return self.solo if side == "solo" else self.shared


class Latencies:
    """Every latency that counts, of every tenant; of many iterations in a file."""

    def __init__(self, run: RunData) -> None:
        self._tenants = {tenant.name: TenantData() for tenant in run.info.plan.tenants}
        self._shelf = Shelf(3 * held_bytes(valid_blocks(run)))

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.rows.items():
            data = self._tenants[name]
            data.impossible += row.impossible
            condition = block.outcome.condition
            side = data.mixes.setdefault(condition, SideData()) if block.side is None else data.side(block.side)
            side.lost += block.outcome.lost.get(name, 0)
            side.events_lost += block.outcome.events_lost.get(name, 0)
            side.add(block.outcome.round, row, block.kept[name], block.counts[name], self._shelf)

    def take(self, tenant: str) -> TenantData:
        """What was kept of a tenant: the caller's now."""
        return self._tenants.pop(tenant)
