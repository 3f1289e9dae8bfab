"""The same work took longer on the device."""

from __future__ import annotations

import numpy as np

from kts.stats.causes.facts import Change, Facts, Told
from kts.units import format_ms

CLOCKS = 0.005
"""Clocks that differ by less explain nothing."""


def clocks(facts: Facts, change: Change) -> Told | None:
    """The SM clock differed as the work did."""
    if facts.clocks_mhz is None or not change.at_mean:
        return None
    alone, together = facts.clocks_mhz
    slower = alone / together - 1
    if abs(slower) < CLOCKS or slower * change.ms < 0:
        return None
    return "slower-clocks", f"the SM clock was {together:.0f} MHz instead of {alone:.0f} (means of the blocks)"


def slower(facts: Facts, change: Change) -> Told | None:
    """CPU time, which only runs while the tenant does, grew; or iterations that met nobody took longer, too."""
    if change.ms <= 0 or not change.at_mean:
        return None
    before, rows = facts.before.rows, facts.after.rows
    if facts.is_cpu:
        alone, together = facts.means(lambda side: side.of("work"))
        return "slower", f"{format_ms(together)} of CPU time instead of {format_ms(alone)} (means)"
    apart = ~rows.met
    if apart.sum() < LEAST:
        return None
    alone, together = float(np.mean(before.device)), float(np.mean(rows.device[apart]))
    if together <= alone:
        return None
    return (
        "slower",
        f"iterations that met nobody {format_ms(together)} on the stopwatch instead of {format_ms(alone)} (means)",
    )


def own(facts: Facts, change: Change) -> Told | None:
    """Of a quantile, where the mean of its own time has not changed: it falls on other iterations."""
    del facts
    if change.is_mean or change.at_mean:
        return None
    kind = "less" if change.ms < 0 else "more"
    return (
        "own",
        f"the iterations at this quantile had {kind} work of their own than those alone; the mean has not changed",
    )


LEAST = 30
"""Iterations that a mean needs."""
