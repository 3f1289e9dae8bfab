"""Which threads of a tenant waited for a core, alone and in company, by what its worker told of each block."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from kts.model.reading import RunData
from kts.model.run import BlockOutcome
from kts.stats.block import valid_blocks

MOST = 3


class Waited(msgspec.Struct, frozen=True, kw_only=True):
    """A thread: ``main`` where it is the first of its process. ``alone``, ``together``: the part of the time in which
    it was ready and had no core; 0 where it was not among those that were told."""

    name: str
    pid: int
    tid: int
    main: bool
    alone: float
    together: float


def waited(run: RunData, tenant: str, condition: str) -> tuple[Waited, ...]:
    """The threads that waited longest under ``condition``, `MOST` at most; none where no kernel told."""
    solo = next((one.name for one in run.info.plan.conditions if one.tenants == (tenant,)), "")
    blocks = valid_blocks(run)
    together, alone = (_shares(tenant, (b for b in blocks if b.condition == name)) for name in (condition, solo))
    longest = sorted(together, key=lambda key: -together[key])[:MOST]
    return tuple(
        Waited(
            name=name,
            pid=pid,
            tid=tid,
            main=pid == tid,
            alone=alone.get((pid, tid, name), 0.0),
            together=together[pid, tid, name],
        )
        for pid, tid, name in longest
    )


def _shares(tenant: str, blocks: Iterable[BlockOutcome]) -> dict[tuple[int, int, str], float]:
    total_ns, waited_ns = 0, defaultdict[tuple[int, int, str], int](int)
    for block in blocks:
        if tenant in block.counts:
            total_ns += block.end_ns - block.start_ns
            for one in block.waits.get(tenant, ()):
                waited_ns[one.pid, one.tid, one.name] += one.waited_ns
    return {key: ns / total_ns for key, ns in waited_ns.items()} if total_ns > 0 else {}
