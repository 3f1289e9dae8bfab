"""Was the tenant in one steady state while it was measured?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.shown import first_few
from kts.stats import steadiness
from kts.stats.checks.told import count, failed, not_applicable, passed
from kts.steady import SLOW
from kts.units import format_ms, format_ratio

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "steady"
NAMED = 4
"""States that a sentence names."""


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By its change points (`kts.stats.steadiness`). What it did before it was steady is in no figure."""
    name, found = view.name, view.steadiness
    if not found.states:
        yield not_applicable(CODE, f"{name}: it has no iterations.", name)
        return
    if why := steadiness.no_steady_state(found):
        text = f"{name}: not steady: {why}."
        yield failed(CODE, "not-steady", count(len(found.states), "state"), text, name, lowers=True)
        return
    told = [*_begun(view), *_changes(view)]
    yield from told
    if not told:
        figure = count(len(found.states), "state")
        yield passed(CODE, figure, f"{name}: steady from its first iteration that counts to its last.", name)


def _begun(view: TenantView) -> Iterator[Check]:
    name, found = view.name, view.steadiness
    if found.settled is not None and found.unsettled:
        text = (
            f"{name}: not steady yet when the {found.settled.limit_s:g} s before its first block were over; allow more "
            "(settle_seconds). What it did later was looked at as well."
        )
        yield passed(CODE, f"not in {found.settled.limit_s:g} s", text, name, caution="not-settled")
    if found.left_out:
        before = [state for state in found.states if not state.counts]
        slow = format_ratio(max(state.level for state in before))
        took = format_ms(1e3 * (before[-1].end_s - before[0].begin_s))
        text = (
            f"{name}: not steady from the start: its first {found.left_out} iterations, in {took}, took up "
            f"to {slow}x what they took later. They are left out, and what its neighbours did meanwhile."
        )
        yield passed(CODE, f"{found.left_out} left out", text, name, caution="warm-up")


def _changes(view: TenantView) -> Iterator[Check]:
    """States that count and differ."""
    name, found = view.name, view.steadiness
    named = steadiness.telling(found)
    factor = steadiness.factor(named)
    if factor < SLOW:
        return
    slower = "it ends slower than it began" if found.kind == "slowdown" else "its level comes and goes"
    states = [
        f"{format_ratio(one.level)}x its median for {format_ms(1e3 * (one.end_s - one.begin_s))}" for one in named
    ]
    shown = first_few(states, NAMED, ", then ")
    text = f"{name}: it changes its state while it is measured ({slower}): {shown}. All of it counts."
    yield failed(CODE, "changes-state", f"{format_ratio(factor)}x", text, name, off=factor - 1)
