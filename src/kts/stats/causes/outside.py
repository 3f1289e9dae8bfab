"""A process of no tenant was on the device; the device told an error."""

from __future__ import annotations

import numpy as np

from kts.stats.causes.facts import Change, Facts, Told


def uninvited(facts: Facts, change: Change) -> Told | None:
    """Somebody was seen on the GPU in the blocks in company, and less so alone."""
    if facts.is_cpu or change.ms <= 0 or not change.at_mean or not facts.strangers:
        return None
    return "uninvited", f"{facts.strangers}; less so alone"


def xid(facts: Facts, change: Change) -> Told | None:
    """Iterations in which the GPU told an error were slower than those in which it told none."""
    if change.ms <= 0:
        return None
    before, after = (float(side.rows.weight[side.of("ill") > 0].sum()) for side in (facts.before, facts.after))
    rows, ill = facts.after.rows, facts.after.of("ill")
    numbers = ", ".join(f"{number:.0f}" for number in np.unique(rows.rate("xid")[ill > 0]))
    took = float(np.average(ill[ill > 0], weights=rows.weight[ill > 0]))
    return (
        "xid",
        f"Xid {numbers}: {after:.0f} that met it took {took:.3g} ms longer than others; alone {before:.0f} did",
    )
