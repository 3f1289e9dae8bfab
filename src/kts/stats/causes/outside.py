"""A process of no tenant was on the device."""

from __future__ import annotations

from kts.stats.causes.facts import Change, Facts, Told


def uninvited(facts: Facts, change: Change) -> Told | None:
    """Somebody was seen on the GPU in the blocks in company, and less so alone."""
    if facts.is_cpu or change.ms <= 0 or not change.at_mean or not facts.strangers:
        return None
    return "uninvited", f"{facts.strangers}; less so alone"
