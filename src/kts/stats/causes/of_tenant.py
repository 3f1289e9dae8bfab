"""The causes of one tenant's added time in a run: each shared condition against the tenant alone."""

from __future__ import annotations

from collections.abc import Mapping

from kts.model.causes import Causes
from kts.model.mode import SIDE_BY_SIDE
from kts.model.run import RunInfo
from kts.model.summary import Latency
from kts.stats.causes.components import components
from kts.stats.causes.decompose import Compared, decompositions
from kts.stats.causes.facts import Facts
from kts.stats.causes.held import met_error
from kts.stats.causes.kept import KeptIterations, KeptRows
from kts.stats.causes.speed import Speed, follows
from kts.stats.sample import split_blocks

FEWEST = 30
"""Iterations of either side that a mean with an interval asks for."""


def causes(
    name: str,
    info: RunInfo,
    kept: KeptIterations,
    *,
    alone: Latency,
    together: Mapping[str, Latency],
    confidence: float,
) -> tuple[Causes, ...]:
    """Of the tenant, by shared condition, in the order of ``together``, which has its response times under each.
    ``alone``: those without company."""
    plan = info.plan
    solo = next((one.name for one in plan.conditions if one.is_solo and one.tenants == (name,)), None)
    before = kept.of(name, solo) if solo is not None else None
    sides = {condition: kept.of(name, condition) for condition in together}
    is_cpu = name in kept.on_core
    seen = [one for one in sides.values() if one is not None]
    speed = None if before is None else follows(before, seen, is_cpu=is_cpu)
    found = []
    for condition, latency in together.items():
        after = sides[condition]
        if reason := _missing(before, "alone") or _missing(after, "in company"):
            found.append(Causes(condition=condition, refused=reason))
            continue
        assert before is not None
        assert after is not None
        facts = _facts(info, kept, before, after, is_cpu=is_cpu, speed=speed)
        split = split_blocks(set(before.round.tolist()), set(after.round.tolist()))
        compared = Compared(facts, alone, latency, split, confidence)
        found.append(Causes(condition=condition, of=decompositions(compared)))
    return tuple(found)


def _missing(rows: KeptRows | None, where: str) -> str:
    n = rows.n if rows is not None else 0
    return f"a split needs {FEWEST} iterations, {n} here {where}" if n < FEWEST else ""


def _facts(
    info: RunInfo, kept: KeptIterations, before: KeptRows, after: KeptRows, *, is_cpu: bool, speed: Speed | None
) -> Facts:
    errors = any(met_error(side).any() for side in (before, after))
    return Facts(
        before=components(before, before, is_cpu=is_cpu, errors=errors, speed=speed),
        after=components(after, before, is_cpu=is_cpu, errors=errors, speed=speed),
        is_cpu=is_cpu,
        concurrent=not is_cpu and info.sharing.likely in SIDE_BY_SIDE,
        limit=info.sharing.limit,
        strangers=_strangers(kept, before, after),
    )


def _strangers(kept: KeptIterations, before: KeptRows, after: KeptRows) -> str:
    """Who was seen on the GPU in more of the one side's blocks than of the other's."""
    found = []
    for there in kept.strangers:
        alone, together = (
            len(there.blocks & blocks) / len(blocks)
            for blocks in (set(rows.block.tolist()) for rows in (before, after))
        )
        found += [there.text.rstrip(".")] if together > alone else []
    return "; ".join(found)
