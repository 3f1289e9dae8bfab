"""How long a tenant's iterations take in some blocks, against those in others of the same condition."""

from __future__ import annotations

from collections.abc import Collection
from statistics import fmean

import numpy as np

from kts.model.plan import Plan
from kts.stats.block import MeasuredBlock


class Levels:
    """The median response time of every tenant in every block."""

    def __init__(self, plan: Plan) -> None:
        self._medians: dict[str, dict[str, dict[int, float]]] = {tenant.name: {} for tenant in plan.tenants}

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        for name, row in block.kept.items():
            if len(row.response):
                of_condition = self._medians[name].setdefault(block.outcome.condition, {})
                of_condition[block.outcome.index] = float(np.median(row.response))

    def off(self, tenant: str, blocks: Collection[int]) -> float | None:
        """By what share ``blocks`` move the tenant's level: the mean of its medians with them over that without them,
        where that is most. None where no condition has blocks of both kinds."""
        moves = []
        for medians in self._medians[tenant].values():
            others = [median for index, median in medians.items() if index not in blocks]
            if others and len(others) < len(medians) and fmean(others) > 0:
                moves.append(abs(fmean(medians.values()) / fmean(others) - 1))
        return max(moves, default=None)

    def most_off(self, blocks: Collection[int]) -> float | None:
        """The same of the tenant of whom it is most."""
        return max((off for name in self._medians if (off := self.off(name, blocks)) is not None), default=None)
