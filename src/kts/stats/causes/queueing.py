"""Before it is submitted: waiting for own earlier iterations, and a host that begins late."""

from __future__ import annotations

from kts.stats.causes.facts import Change, Facts, Told
from kts.units import format_ms


def queue(facts: Facts, change: Change) -> Told | None:
    """From its due time until its own earlier iterations had retired."""
    del change
    alone, together = facts.means(lambda side: side.of("backlog"))
    return (
        "queue",
        f"waiting for its own earlier iterations: {format_ms(together)} instead of {format_ms(alone)} (means)",
    )


def between(facts: Facts, change: Change) -> Told | None:
    """Nothing of its own was in flight, it was due, and it was not submitted."""
    del change
    alone, together = facts.means(lambda side: side.of("late"))
    return (
        "between",
        f"due, nothing in flight, and not begun: {format_ms(together)} instead of {format_ms(alone)} (means)",
    )
