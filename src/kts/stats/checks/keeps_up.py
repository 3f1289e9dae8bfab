"""Is an open loop served as fast as its requests come?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.arrivals import Closed
from kts.model.checks import Check
from kts.stats.checks.told import failed, not_applicable, passed, percent

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "keeps-up"
FALLS_BEHIND = 0.95


def of_tenant(view: TenantView) -> Iterator[Check]:
    """An open loop that is served more slowly than it arrives has no stationary response time."""
    name = view.name
    sides = {when: side for when, side in (("alone", view.data.solo), ("when shared", view.data.shared)) if side.cycles}
    behind = {when: side for when, side in sides.items() if side.due_ns < FALLS_BEHIND * side.cycles_ns}
    for when, side in behind.items():
        due, served = (side.cycles * 1e9 / max(ns, 1) for ns in (side.due_ns, side.cycles_ns))
        text = (
            f"{name}: {when} iterations are due {due:.3g} times a second and served {served:.3g} times: the "
            "backlog grows, and every response time with it, for as long as a block lasts."
        )
        share = 1 - side.due_ns / side.cycles_ns
        yield failed(CODE, "overload", f"{percent(share)} behind", text, name, off=None)
    if behind:
        return
    if isinstance(view.plan.tenant(name).arrivals, Closed) or not sides:
        yield not_applicable(CODE, f"{name}: a closed loop sends its next request when the last is answered.", name)
        return
    least = min(side.due_ns / max(side.cycles_ns, 1) for side in sides.values())
    yield passed(CODE, percent(1 - min(least, 1.0)), f"{name}: it is served as fast as its requests come.", name)
