"""Iterations of the full house that ran beside a neighbour's."""

from __future__ import annotations

import numpy as np

from kts.model.reading import RunData
from kts.shelf import Shelf
from kts.stats.block import MeasuredBlock, held_bytes, valid_blocks
from kts.stats.overlap import collided, every
from kts.stats.sample import Blocks

COLLIDED_KEPT = 200_000
"""Per block, evenly in time: their quantiles do not need more."""


class Collisions:
    """Of every tenant: how many iterations met a neighbour's, and response times of these as ``(round, ms)``."""

    def __init__(self, run: RunData) -> None:
        plan = run.info.plan
        self._met = {tenant.name: 0 for tenant in plan.tenants}
        self._response: dict[str, Blocks] = {tenant.name: [] for tenant in plan.tenants}
        self._shelf = Shelf(held_bytes([one for one in valid_blocks(run) if one.condition == plan.full_house.name]))

    def feed(self, block: MeasuredBlock) -> None:
        """See Pass."""
        if block.side != "shared":
            return
        for name, row in block.kept.items():
            met = collided(block.spans, name)[block.counts[name].keep]
            count = int(np.count_nonzero(met))
            self._met[name] += count
            some = row.response[every(len(met), met.__getitem__, 1 + count // COLLIDED_KEPT)]
            self._response[name].append((block.outcome.round, self._shelf.put(some)))

    def met(self, tenant: str) -> int:
        """Iterations that met a neighbour's."""
        return self._met[tenant]

    def take(self, tenant: str) -> Blocks:
        """Response times of these, some of very many. The caller's now."""
        return self._response.pop(tenant)
