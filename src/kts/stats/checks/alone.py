"""Had the tenant its core to itself when it was measured alone?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.stats.alone import WAITED, waiting
from kts.stats.checks.told import failed, not_applicable, passed, percent
from kts.stats.verdict import asked_of

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "alone"


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By the kernel's scheduler (`kts.stats.alone`). Solo is no baseline otherwise: no change and better are taken
    back."""
    name, found = view.name, view.disturbed
    if found is not None:
        text = (
            f"{name} was not alone in its solo blocks: {found.words}. Other programs ran there, or a CPU limit "
            "held it back. DF compares with that. Measure on a quiet machine."
        )
        yield failed(CODE, "solo-not-alone", found.figure, text, name, off=found.off, lowers=True)
        return
    waited, tail = waiting(view.summary.activity or ()), view.tail_alone
    told = []
    if waited is not None:
        told.append(
            f"its thread waited for a core {percent(waited)} of the time in which it wanted one (at most "
            f"{100 * WAITED:g} %, or of half a percent of all)"
        )
    if tail is not None:
        told.append(
            f"such waits make {percent(tail.off)} of its p99 (at most {100 * asked_of(view.plan.precision):.3g} %)"
        )
    if told:
        figure = percent(waited if waited is not None else tail.off if tail is not None else 0.0)
        yield passed(CODE, figure, f"{name}: alone, {'; '.join(told)}.", name)
    else:
        yield not_applicable(CODE, f"{name}: no scheduler told of its thread in solo blocks.", name)
