"""What a program's tracer could not keep, and what that leaves of the figures."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import Caution
from kts.stats.series import SIDES
from kts.stats.view import TenantView


def of_tenant(view: TenantView) -> Iterator[Caution]:
    """A caution where calls of it were lost in blocks that count."""
    sides = {side: view.data.side(side) for side in SIDES}
    if not any(side.events_lost for side in sides.values()):
        return
    calls = ", ".join(f"{data.events_lost} {side}" for side, data in sides.items() if data.events_lost)
    if left := sum(data.lost for data in sides.values()):
        means = f"{left} iterations that these calls could be of are in no figure, and the slowest may be among them"
    else:
        means = "its iterations are told without these calls, and their launches and waits may be too few"
    text = f"{view.name}: calls to the GPU that were seen and not kept: {calls}: {means}."
    yield Caution(code="trace-lost", tenant=view.name, text=text)
