"""The same work took longer on the device."""

from __future__ import annotations

import numpy as np

from kts.stats.causes.components import CLOCKS
from kts.stats.causes.facts import Change, Facts, Told
from kts.stats.causes.host import SIBLING
from kts.stats.causes.turns import side_by_side
from kts.units import format_ms

DRAM = 0.1
"""Of the time in which the memory is busy: less more than alone holds up nobody."""
LEAST = 30
"""Iterations that a mean needs."""
LIMITS = {
    "limited": "the power limit",
    "heated": "heat",
    "hw_heated": "heat, by the hardware's own limit,",
    "braked": "the power brake outside of the GPU",
}


def limited(facts: Facts, change: Change) -> Told | None:
    """It has a part of the device, alone it had all."""
    return side_by_side(facts, change) if facts.limit and change.ms > 0 and change.at_mean else None


def clocks(facts: Facts, change: Change) -> Told | None:
    """The clock of the SMs, or of the core, differed as the work did."""
    mhz = facts.rates("core_clock" if facts.is_cpu else "sm_clock")
    if mhz is None or not min(mhz) > 0 or not change.at_mean:
        return None
    alone, together = mhz
    slower = alone / together - 1
    if abs(slower) < CLOCKS or slower * change.ms < 0:
        return None
    clock = "core's clock" if facts.is_cpu else "SM clock"
    return "slower-clocks", f"the {clock} was {together:.0f} MHz, alone {alone:.0f} (means){_limits(facts, slower)}"


def sibling(facts: Facts, change: Change) -> Told | None:
    """CPU time grew, and so did what ran on the hardware threads beside its core."""
    busy = facts.rates("sibling")
    if not facts.is_cpu or change.ms <= 0 or busy is None or busy[1] - busy[0] < SIBLING:
        return None
    return (
        "sibling",
        f"hardware threads beside its core were busy {busy[1]:.2g}, alone {busy[0]:.2g} (means); {_work(facts)}",
    )


def memory(facts: Facts, change: Change) -> Told | None:
    """Tenants computed side by side, and the device's memory was busier."""
    busy = facts.rates("dram")
    if not facts.concurrent or change.ms <= 0 or busy is None or busy[1] - busy[0] < DRAM:
        return None
    return (
        "slower-memory",
        f"the device's memory was busy {100 * busy[1]:.2g} % of the time, alone {100 * busy[0]:.2g} %",
    )


def slower(facts: Facts, change: Change) -> Told | None:
    """CPU time, which only runs while the tenant does, grew; or iterations that met nobody took longer, too."""
    if change.ms <= 0 or not change.at_mean:
        return None
    before, rows = facts.before.rows, facts.after.rows
    if facts.is_cpu:
        return "slower", _work(facts)
    apart = ~rows.met
    if apart.sum() < LEAST:
        return None
    alone, together = float(np.mean(before.device)), float(np.mean(rows.device[apart]))
    if together <= alone:
        return None
    return (
        "slower",
        f"iterations that met nobody {format_ms(together)} on the stopwatch, alone {format_ms(alone)} (means)",
    )


def own(facts: Facts, change: Change) -> Told | None:
    """Of a quantile, where the mean of its own time has not changed: it falls on other iterations."""
    del facts
    if change.is_mean or change.at_mean:
        return None
    kind = "less" if change.ms < 0 else "more"
    return "own", f"its iterations here had {kind} work of their own than those alone; the mean has not changed"


def _work(facts: Facts) -> str:
    alone, together = facts.means(lambda side: side.of("work"))
    return f"{format_ms(together)} of CPU time, alone {format_ms(alone)} (means)"


def _limits(facts: Facts, slower: float) -> str:
    """What NVML says of why clocks were held down on the side that had the lower ones."""
    return "".join(
        f"; {by} held them down in {100 * of[1]:.2g} % of the samples, alone {100 * of[0]:.2g} %"
        for name, by in LIMITS.items()
        if (of := facts.rates(name)) and (of[1] - of[0]) * slower > 0
    )
