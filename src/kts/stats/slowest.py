"""Each tenant's slowest iterations: when they ran, and which neighbours ran meanwhile."""

from __future__ import annotations

import numpy as np

from kts.model.plan import Plan
from kts.stats.block import MeasuredBlock
from kts.stats.overlap import PORTION, overlapping
from kts.stats.sample import FloatArray
from kts.stats.series import SIDES, Side, SlowIteration

KEPT = 20
"""Of every tenant and side."""


class Slowest:
    """The `KEPT` slowest iterations that count, by response time, of every tenant alone and in the full house."""

    def __init__(self, plan: Plan) -> None:
        self._slowest: dict[tuple[str, Side], list[SlowIteration]] = {
            (tenant.name, side): [] for tenant in plan.tenants for side in SIDES
        }

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.kept.items() if block.side else ():
            assert block.side is not None
            slowest = self._slowest[name, block.side]
            for first in range(0, len(row.response), PORTION):
                limit = slowest[-1].response_ms if len(slowest) == KEPT else -np.inf
                slow = first + _slowest(row.response[first : first + PORTION], limit)
                slowest += [_told(name, block, int(at)) for at in slow]
                slowest.sort(key=lambda one: -one.response_ms)
                del slowest[KEPT:]

    def of(self, tenant: str, side: Side) -> tuple[SlowIteration, ...]:
        """The slowest first."""
        return tuple(self._slowest[tenant, side])


def _slowest(response: FloatArray, limit: float) -> np.ndarray:
    """Where those above ``limit`` are, `KEPT` of them at most."""
    above = np.flatnonzero(response > limit)
    if len(above) <= KEPT:
        return above
    return above[np.argpartition(response[above], len(above) - KEPT)[-KEPT:]]


def _told(name: str, block: MeasuredBlock, at: int) -> SlowIteration:
    row = block.kept[name]
    submit_ns, retire_ns = int(row.span.submit_ns[at]), int(row.span.retire_ns[at])
    beside = {other: overlapping(span, submit_ns, retire_ns) for other, span in block.spans.items() if other != name}
    return SlowIteration(
        block=block.outcome.index,
        submit_ns=submit_ns,
        retire_ns=retire_ns,
        response_ms=float(row.response[at]),
        service_ms=float(row.service[at]),
        device_ms=float(row.device[at]),
        neighbours={other: count for other, count in beside.items() if count},
    )
