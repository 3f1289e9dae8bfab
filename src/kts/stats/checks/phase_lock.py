"""Does the tenant start in step with a neighbour?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kts.model.checks import Check
from kts.stats.checks.told import count, failed, not_applicable, passed
from kts.stats.phase import LOCKED, lock, mostly_busy

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "phase-lock"


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By its starts in each neighbour's cycle (`kts.stats.phase`). Blocks are then the sample, and their levels' spread
    says how far a figure may be off."""
    name, phases = view.name, view.gathered.phases.of(view.name)
    if not phases:
        yield not_applicable(CODE, f"{name}: it had no neighbour with iterations.", name)
        return
    locks = {other: found for other, blocks in phases.items() if (found := lock(blocks))}
    for other, found in locks.items():
        points = count(found.points, "fixed point")
        text = (
            f"{name} starts in step with {other}: within a block its starts keep to {points} of {other}'s cycle "
            f"(strength {found.strength:.2f} of 1). Each block is one phase and blocks differ, so the intervals "
            f"know {count(found.blocks, 'block')} rather than the iterations. Jitter the think times."
        )
        yield failed(CODE, "phase-lock", f"{found.strength:.2f}", text, name, off=_spread(view, found.blocks))
    if locks:
        return
    if all(mostly_busy(blocks) for blocks in phases.values()):
        text = f"{name}: busy most of the time, it starts when its last iteration ends: sharing itself sets its phase."
        yield not_applicable(CODE, text, name)
    else:
        yield passed(
            CODE, f"under {LOCKED:g}", f"{name}: its starts keep to no fixed point of a neighbour's cycle.", name
        )


def _spread(view: TenantView, blocks: int) -> float | None:
    """Standard error of the level, by the spread of the shared units' medians over so many phases."""
    sample = view.samples["shared"]["response"]
    if sample is None or len(sample.units) < 2:
        return None
    medians = np.array([float(np.median(unit)) for unit in sample.units])
    return float(medians.std(ddof=1) / medians.mean() / np.sqrt(blocks)) if medians.mean() > 0 else None
