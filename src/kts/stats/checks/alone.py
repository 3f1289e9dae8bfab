"""Had the tenant its core to itself when it was measured alone?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.stats.alone import WAITED, contended, waited_words, waiting
from kts.stats.checks.told import failed, not_applicable, passed, percent

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "alone"


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By the kernel's scheduler (`kts.stats.alone`). Solo is no baseline otherwise: no change and better are taken
    back."""
    name, activity = view.name, view.summary.activity or ()
    share = contended(activity)
    if share is not None:
        text = (
            f"{name} was not alone in its solo blocks: {waited_words(share)}. Other programs ran there, or a CPU limit "
            "held it back. DF compares with that. Measure on a quiet machine."
        )
        yield failed(CODE, "solo-not-alone", percent(share), text, name, off=share, lowers=True)
    elif (waited := waiting(activity)) is None:
        yield not_applicable(CODE, f"{name}: no scheduler told of its thread in solo blocks.", name)
    else:
        text = f"{name}: alone, its thread waited for a core {percent(waited)} of the time in which it wanted one"
        yield passed(CODE, percent(waited), f"{text} (at most {100 * WAITED:g} %, or of half a percent of all).", name)
