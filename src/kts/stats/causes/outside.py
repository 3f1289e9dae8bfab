"""A process of no tenant was on the device; the device told an error."""

from __future__ import annotations

import numpy as np

from kts.stats.causes.facts import Change, Facts, Told
from kts.stats.causes.host import BUSY, FAIR, share


def uninvited(facts: Facts, change: Change) -> Told | None:
    """Somebody else computed on the GPU more than alone, or was seen on it in more of the blocks."""
    if facts.is_cpu or change.ms <= 0 or not change.at_mean:
        return None
    used, longer = facts.rates("others_sm"), facts.held("others_sm")
    if used and longer and used[1] - used[0] >= BUSY and longer >= FAIR * change.at_mean:
        whose = f" ({facts.strangers})" if facts.strangers else ""
        return (
            "uninvited",
            f"processes of no tenant{whose} computed on the GPU {share(used[1])} of the time, alone {share(used[0])}",
        )
    return ("uninvited", f"{facts.strangers}; less so alone") if facts.strangers else None


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
