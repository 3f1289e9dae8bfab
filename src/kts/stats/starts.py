"""Whether the beginnings of blocks are in the tail: then it is that of the schedule, not of sharing."""

from __future__ import annotations

from scipy.special import bdtrc

from kts.model.plan import Plan
from kts.model.run import RunInfo
from kts.stats.block import MeasuredBlock
from kts.stats.sample import LatencySample

TAIL = 0.01
TIMES_CHANCE = 3.0
P_VALUE = 0.01
STATIONARY_SINCE = 2
"""Schema of the first runs whose tenants enter a block in their stationary phase."""


def together(info: RunInfo) -> bool:
    """True for interleaved runs of an older kts, whose tenants began every block at the same instant."""
    return info.schema < STATIONARY_SINCE and info.plan.design == "interleaved" and bool(info.plan.mixes)


class Starts:
    """The first response time that counts of each block of the full house, by tenant."""

    def __init__(self, plan: Plan) -> None:
        self._firsts: dict[str, list[float]] = {tenant.name: [] for tenant in plan.tenants}

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.kept.items() if block.side == "shared" else ():
            self._firsts[name] += row.response[:1].tolist()

    def of(self, tenant: str) -> list[float]:
        """One per block that has iterations of the tenant."""
        return self._firsts[tenant]


def slow_firsts(firsts: list[float], shared: LatencySample) -> int:
    """How many of the first iterations of shared blocks are among the slowest 1 %. ``shared``: its response times."""
    limit = shared.quantile(1 - TAIL)
    return sum(first > limit for first in firsts)


def too_many(slow: int, blocks: int) -> bool:
    """Over three times as many as chance makes (binomial, p < 0.01)."""
    return slow > TIMES_CHANCE * TAIL * blocks and float(bdtrc(slow - 1, blocks, TAIL)) < P_VALUE
