"""The host: its thread had no core, was held back, waited for a disk, or needed longer."""

from __future__ import annotations

import numpy as np

from kts.stats.causes.components import CLOCKS
from kts.stats.causes.facts import Change, Facts, Told
from kts.units import format_ms

FAIR, MOST = 0.25, 0.5
"""Of a change that samples alone explain; where it may be the program's own code, too, most of it."""
ASLEEP = 0.02
"""Threads that sleep for a disk, mean number: fewer more than alone are held up by none."""
PRESSED, ANYWAY = 0.01, 0.5
"""Of the time: so much more pressure of input and output goes with a wait for a disk, unless it was high anyway. It is
a mean over the cores that are not idle, so a thread's wait is a small part of it where many are busy."""
SIBLING = 0.1
"""Of a hardware thread beside its core: less more than alone slows nobody."""
BUSY = 0.02
"""Of a core, or of a GPU's time: strangers that use less more than alone take nobody's."""


def strangers(facts: Facts, change: Change) -> Told | None:
    """The device is the core, and processes of no tenant computed on it."""
    used = facts.rates("strangers")
    if not facts.is_cpu or change.ms <= 0 or used is None or used[1] - used[0] < BUSY:
        return None
    return (
        "uninvited",
        f"processes of no tenant used {share(used[1])} of its core instead of {share(used[0])}; {_off(facts)}",
    )


def core(facts: Facts, change: Change) -> Told | None:
    """Ready to run, and another had the core: more than alone, or less."""
    del change
    used = facts.rates("strangers")
    others = f"; others that are no tenants used {share(used[1])} of its cores, alone {share(used[0])}" if used else ""
    return "core", f"{_off(facts)}{others}"


def quota(facts: Facts, change: Change) -> Told | None:
    """Its cgroup's CPU quota held the threads back."""
    held = facts.rates("throttled")
    if change.ms <= 0 or held is None:
        return None
    return "quota", f"its cgroup's quota held back {held[1]:.2g} cores, alone {held[0]:.2g} (means)"


def disk(facts: Facts, change: Change) -> Told | None:
    """A thread slept for a disk. The kernel shows other waits in the same state: where it tells how pressed input and
    output were, that must have risen, too."""
    asleep = facts.rates("blocked")
    if change.ms <= 0 or asleep is None or asleep[1] - asleep[0] < ASLEEP:
        return None
    pressures = {
        whose: rates
        for whose, name in (("its cgroup", "io_pressure"), ("the machine", "machine_io"))
        if (rates := facts.rates(name)) is not None
    }
    if pressures and not any(now >= min(alone + PRESSED, ANYWAY) for alone, now in pressures.values()):
        return None
    told = [f"{asleep[1]:.2g} of its threads slept for a disk, alone {asleep[0]:.2g} (means)"]
    told += [
        f"pressure of input and output in {whose} {share(now)}, alone {share(alone)}"
        for whose, (alone, now) in pressures.items()
    ]
    return "disk", "; ".join(told)


def slow_core(facts: Facts, change: Change) -> Told | None:
    """The same loop took longer on its core, or shorter; by what, where that shows, too."""
    loop = facts.rates("core_loop")
    if loop is None or (loop[1] - loop[0]) * change.ms <= 0:
        return None
    words = f"a loop on its core took {loop[1]:.3g} us, alone {loop[0]:.3g} (means)"
    clock, beside = facts.rates("core_clock"), facts.rates("sibling")
    if beside is not None and (beside[1] - beside[0]) * np.sign(change.ms) >= SIBLING:
        return "sibling", f"{words}; hardware threads beside it were busy {beside[1]:.2g}, alone {beside[0]:.2g}"
    if clock is not None and min(clock) > 0 and (clock[0] / clock[1] - 1) * np.sign(change.ms) >= CLOCKS:
        return "slower-clocks", f"{words}; its clock was {clock[1]:.0f} MHz, alone {clock[0]:.0f}"
    return "slow-core", words


def by_samples(facts: Facts, change: Change) -> Told | None:
    """The threads were held up by what grew most of all that samples show, if that is a fair part of the change."""
    if facts.is_cpu or change.ms <= 0 or not change.at_mean:
        return None
    least = (MOST if change.place == "host" else FAIR) * change.at_mean
    fair = [
        (ms, rule)
        for name, rule in (("throttled", quota), ("waiting", core), ("blocked", disk))
        if (ms := facts.held(name)) is not None and ms >= least
    ]
    by_size = sorted(fair, key=lambda one: -one[0])
    return next((told for _, rule in by_size if (told := rule(facts, change)) is not None), None)


def launch(facts: Facts, change: Change) -> Told | None:
    """Time of its own that is no wait for the device, longer than others' time and the core explain."""
    if facts.is_cpu or change.ms <= 0 or not change.at_mean:
        return None
    alone, together = facts.means(lambda side: side.of("host"))
    where = "in no wait for the device" if "whole" in facts.after.places else "off the device's stopwatch"
    return "launch", f"own time {where} {format_ms(together)} instead of {format_ms(alone)} (means)"


def _off(facts: Facts) -> str:
    alone, together = facts.means(lambda side: side.of("core"))
    samples = facts.rates("waiting")
    if samples is not None and np.isnan(facts.after.rows.core_wait).all():  # then the part is what is more than alone
        return (
            f"threads ready and without a core, mean number {samples[1]:.2g}, alone {samples[0]:.2g} (samples); "
            f"that is {format_ms(together)} more of an iteration (mean)"
        )
    return (
        f"ready and without a core {format_ms(together)}, alone {format_ms(alone)} (means; turns of neighbours apart)"
    )


def share(cores: float) -> str:
    """In words; of a core, or of the time."""
    return f"{100 * cores:.2g} %"
