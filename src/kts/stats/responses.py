"""Responses that count, kept while a run goes on: by tenant and condition, 4 bytes each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np

from kts.model.records import Records
from kts.model.run import BlockOutcome
from kts.stats.block import Rows, joined, part_of
from kts.stats.overlap import counted
from kts.stats.sample import Blocks

KEPT = 1 << 23
"""Responses kept of one tenant in one condition, over all rounds that the plan allows: 32 MiB."""
BLOCK_KEPT = 1 << 20
"""The most of one block."""


class Responses:
    """``blocks``: by tenant and condition; ``counts``: how many iterations these had. Of blocks with more than
    `BLOCK_KEPT`, or than lets ``rounds`` of them fit into `KEPT`, the first ones are kept, which give no narrower an
    interval. The running block takes 20 bytes each."""

    def __init__(self, conditions: Collection[str], rounds: int) -> None:
        self.blocks: dict[tuple[str, str], Blocks] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self._conditions = conditions
        self._most = max(1, min(BLOCK_KEPT, KEPT // rounds))
        self._running: dict[str, list[Rows]] = {}
        self._members: dict[str, Collection[str]] = {}

    def take(self, tenant: str, records: Records) -> None:
        """A chunk of the running block."""
        parts = self._running.setdefault(tenant, [])
        left = self._most - sum(len(part.service) for part in parts)
        if left > 0 and len(records):
            parts.append(part_of(records[:left], np.float32))

    def end(self, outcome: BlockOutcome) -> bool:
        """The running block ended; whether it counts."""
        rows = {name: joined(parts) for name, parts in self._running.items() if parts}
        self._running.clear()
        if not outcome.valid or outcome.condition not in self._conditions:
            return False
        self._members[outcome.condition] = outcome.counts.keys()
        counts = counted(outcome, {name: row.span for name, row in rows.items()})
        for name, row in rows.items():
            if len(response := row.response[counts[name].keep]):
                place = name, outcome.condition
                self.blocks.setdefault(place, []).append((outcome.round, response))
                self.counts[place] += len(response) + max(0, outcome.counts.get(name, 0) - len(row.service))
        return True

    def forget(self, tenant: str) -> None:
        """What was kept of blocks that the tenant took part in."""
        for place in [one for one in self.blocks if tenant in self._members[one[1]]]:
            del self.blocks[place], self.counts[place]
