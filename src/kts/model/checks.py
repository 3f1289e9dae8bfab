"""What was checked of a run before anybody believes its figures: values of summary.json. See docs/checks.md."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["passed", "failed", "not-applicable"]

TITLES: dict[str, str] = {
    "same-gpu": "One GPU for all tenants",
    "clock-alignment": "All records on one clock",
    "no-neighbour": "No uninvited neighbour",
    "as-asked": "Tenants ran as asked",
    "lost-records": "No record lost",
    "steady": "Steady state",
    "alone": "Alone when alone",
    "overlap": "Neighbours there when shared",
    "symmetry": "Tenants meet each other alike",
    "block-starts": "Beginnings of blocks not in the tail",
    "phase-lock": "Not in step with a neighbour",
    "keeps-up": "Open loop keeps up",
    "clocks": "Same clock speed alone and together",
    "cores": "CPU cores of its own",
    "drift": "No drift between rounds",
    "conservation": "Times add up",
    "observer": "Measuring itself not in the figures",
    "samples": "Enough samples",
}
"""Stable code of a check to what a reader calls it, in the order in which they are told."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """A condition for believing a figure. ``code``: which, one of `TITLES`; ``figure`` is what was measured of it,
    ``text`` says it in a sentence, or why it does not apply. ``tenant``: empty where it is of the whole run.

    A failed one lowers the verdict (``lowers``), or says by how much, as a share, a figure may be off (``off``); null:
    that is not known. ``caution``: the stable code under which ``warnings`` repeat the sentence; empty: they do not.
    """

    code: str
    outcome: Outcome
    figure: str
    text: str
    tenant: str = ""
    off: float | None = None
    lowers: bool = False
    caution: str = ""
