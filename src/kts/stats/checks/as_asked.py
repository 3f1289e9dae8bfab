"""Was the tenant's worker let do its work as the run asked?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.stats import fitness
from kts.stats.checks.told import failed, passed

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "as-asked"


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By its pod and by the CPU limit of its cgroup (`kts.stats.fitness`)."""
    held_back = list(fitness.reasons(view.info, view.name))
    for caution, figure, text in held_back:
        yield failed(CODE, caution, figure, f"{view.name}: {text}.", view.name, lowers=True)
    if not held_back:
        limits = {w.cpu_limit for w in view.info.workers if w.tenant == view.name and w.cpu_limit is not None}
        figure = f"CPU limit {min(limits):g}" if limits else "no CPU limit"
        yield passed(
            CODE, figure, f"{view.name}: no limit of its CPU and no change of its pod held it back.", view.name
        )
