"""Others had the device: before its own first turn, since, or at a time that no stopwatch tells."""

from __future__ import annotations

from kts.stats.causes.facts import Change, Facts, Told
from kts.units import format_ms


def first_turn(facts: Facts, change: Change) -> Told | None:
    """Handed over, and others' turns came first."""
    del change
    alone, together = facts.means(lambda side: side.rows.rest)
    return (
        "first-turn",
        f"until the device let it in {format_ms(together)} instead of {format_ms(alone)} (means); {_met(facts)}",
    )


def turns(facts: Facts, change: Change) -> Told | None:
    """The device's stopwatch ran on while others were in flight."""
    del change
    alone, together = facts.means(lambda side: side.rows.rest if facts.is_cpu else side.rows.device)
    clock = "off the core" if facts.is_cpu else "on the device's stopwatch"
    return "turns", f"{clock} {format_ms(together)} instead of {format_ms(alone)} (means); {_met(facts)}"


def contended(facts: Facts, change: Change) -> Told | None:
    """The time with neighbours in flight grew, and no stopwatch tells turns before the first from later ones."""
    del change
    why = (
        "no stopwatch of a device" if "whole" in facts.after.places else "the stopwatch begins before a first turn does"
    )
    return "contended", f"{why}; {_met(facts)}"


def side_by_side(facts: Facts, change: Change) -> Told | None:
    """Tenants compute at the same time: nobody waits for a turn. What a tenant takes with a part of the device was
    measured nowhere: where each has one, nothing tells that from what others' work adds."""
    del change
    if not facts.concurrent:
        return None
    if facts.limit:
        return "limited", f"{facts.limit}; what it takes with that and nobody beside it was not measured; {_met(facts)}"
    return "beside", f"tenants compute side by side, and nobody waits for a turn; {_met(facts)}"


def hidden(facts: Facts, change: Change) -> Told | None:
    """Own time off the stopwatch that is missing since others had their turns."""
    return ("hidden", f"own time that passed while the device was waited for; {_met(facts)}") if change.ms < 0 else None


def back_to_back(facts: Facts, change: Change) -> Told | None:
    """Own time on the stopwatch that is missing behind others' turns."""
    if change.ms >= 0:
        return None
    return "back-to-back", f"less on the device's stopwatch behind others' turns than ever alone; {_met(facts)}"


def _met(facts: Facts) -> str:
    return f"a neighbour was in flight in {100 * facts.met:.3g} % of the iterations"
