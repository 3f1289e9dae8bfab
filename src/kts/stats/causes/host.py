"""The host: its thread had no core, or needed longer."""

from __future__ import annotations

from kts.stats.causes.facts import Change, Facts, Told
from kts.units import format_ms


def core(facts: Facts, change: Change) -> Told | None:
    """The core is the device, the thread was off it, and no neighbour had so much of it."""
    if not facts.is_cpu or change.ms <= 0 or "host" not in facts.after.places or not change.at_mean:
        return None
    alone, together = facts.means(lambda side: side.of("host"))
    return (
        "core",
        f"off the core, and no neighbour computing, {format_ms(together)} instead of {format_ms(alone)} (means)",
    )


def launch(facts: Facts, change: Change) -> Told | None:
    """Not on the device's stopwatch, and longer where nobody had the device."""
    if facts.is_cpu or change.ms <= 0 or not change.at_mean:
        return None
    alone, together = facts.means(lambda side: side.of("host"))
    return "launch", f"own time off the device's stopwatch {format_ms(together)} instead of {format_ms(alone)} (means)"
