"""Were the neighbours there while the tenant was measured in company?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.stats.checks.told import failed, not_applicable, passed, percent, tail_moves

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "overlap"
DROPPED = 0.05


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By the shared iterations that a neighbour's absence takes out. Were they all fast and counted, p99 would be off
    by as much as that moves its rank."""
    name = view.name
    kept, dropped = view.summary.overlap.kept, view.summary.overlap.dropped
    sample = view.samples["shared"]["response"]
    if sample is None or not kept:
        yield not_applicable(CODE, f"{name}: no iteration of it counts as shared.", name)
        return
    share = dropped / (kept + dropped)
    if share > DROPPED:
        text = (
            f"{name}: {dropped} of {kept + dropped} shared iterations ({100 * share:.0f} %) "
            "ran while a neighbour was idle and do not count as shared."
        )
        off = tail_moves(sample, 0.01 / (1 - share))
        yield failed(CODE, "overlap-dropped", percent(share), text, name, off=off)
    else:
        text = f"{name}: {kept} of {kept + dropped} shared iterations ran while every neighbour was there."
        yield passed(CODE, percent(share), text, name)
