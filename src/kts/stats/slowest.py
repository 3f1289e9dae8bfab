"""Each tenant's slowest iterations: when they ran, and which neighbours ran meanwhile."""

from __future__ import annotations

import numpy as np

from kts.model.plan import Plan
from kts.stats.block import MeasuredBlock
from kts.stats.overlap import PORTION, overlapping
from kts.stats.sample import FloatArray
from kts.stats.series import SlowIteration

KEPT = 20
"""Of every tenant and condition."""


class Slowest:
    """The `KEPT` slowest iterations that count, by response time, of every tenant in every condition."""

    def __init__(self, plan: Plan) -> None:
        self._slowest: dict[str, dict[str, list[SlowIteration]]] = {
            tenant.name: {one.name: [] for one in plan.conditions if tenant.name in one.tenants}
            for tenant in plan.tenants
        }

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.kept.items():
            slowest = self._slowest[name][block.outcome.condition]
            for first in range(0, len(row.response), PORTION):
                limit = slowest[-1].response_ms if len(slowest) == KEPT else -np.inf
                slow = first + _slowest(row.response[first : first + PORTION], limit)
                slowest += [_told(name, block, int(at)) for at in slow]
                slowest.sort(key=lambda one: -one.response_ms)
                del slowest[KEPT:]

    def of(self, tenant: str) -> dict[str, tuple[SlowIteration, ...]]:
        """By condition, the slowest first."""
        return {condition: tuple(found) for condition, found in self._slowest[tenant].items()}


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
