"""Whether the beginnings of blocks are in the tail: then it is that of the schedule, not of sharing."""

from __future__ import annotations

from collections.abc import Iterator

from scipy.special import bdtrc

from kts.model.plan import Plan
from kts.model.run import RunInfo
from kts.model.summary import Caution
from kts.stats.block import MeasuredBlock
from kts.stats.sample import LatencySample

TAIL = 0.01
TIMES_CHANCE = 3.0
P_VALUE = 0.01
STATIONARY_SINCE = 2
"""Schema of the first runs whose tenants enter a block in their stationary phase."""


def of_run(info: RunInfo) -> Iterator[Caution]:
    """A caution for interleaved runs of an older kts."""
    if info.schema < STATIONARY_SINCE and info.plan.design == "interleaved" and info.plan.mixes:
        text = (
            "An older kts measured this. All its tenants began each block at the same instant, so they met there more "
            "often than by themselves, and these meetings are in the tail. Measure it again for figures without them."
        )
        yield Caution(code="started-together", text=text)


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


def of_tenant(name: str, firsts: list[float], shared: LatencySample | None) -> Iterator[Caution]:
    """A caution where the first iterations of shared blocks are among the slowest 1 % over three times as often as
    chance puts them there (binomial, p < 0.01). ``shared``: its response times."""
    if shared is None or not firsts:
        return
    limit = shared.quantile(1 - TAIL)
    slow = sum(first > limit for first in firsts)
    if slow > TIMES_CHANCE * TAIL * len(firsts) and float(bdtrc(slow - 1, len(firsts), TAIL)) < P_VALUE:
        text = (
            f"{name}: {slow} of {len(firsts)} shared blocks begin with one of its slowest 1 % of iterations; by chance "
            f"{TAIL * len(firsts):.2g} would. The tail holds the beginnings of blocks; longer blocks dilute them."
        )
        yield Caution(code="block-starts", tenant=name, text=text)
