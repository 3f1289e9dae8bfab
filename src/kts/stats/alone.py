"""Whether a tenant that was measured alone had its core to itself, by what the kernel's scheduler says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kts.model.summary import Activity, ActivityRole
from kts.stats.causes.company import Floats
from kts.stats.causes.kept import KeptRows
from kts.units import format_ms

WAITED = 0.10
"""Of the time in which its thread wanted a core (ran or waited), the share that it may wait alone. Below 0.2 % on the
machines of examples/results."""
LEAST = 0.005
"""Of the whole time: less waiting than this moves no figure."""
TAIL = 0.99


@dataclass(frozen=True)
class Disturbed:
    """That its solo figures are no baseline. ``off``: by what share the p99 alone may be too high; ``figure``: what was
    measured of it, in percent; ``words``: the same, for sentences."""

    off: float
    figure: str
    words: str


@dataclass(frozen=True)
class Tail:
    """The p99 of the response time alone, ms, and what it were had no iteration waited for a core."""

    p99_ms: float
    without_ms: float

    @property
    def off(self) -> float:
        """By what share the one is above the other."""
        return self.p99_ms / self.without_ms - 1 if self.without_ms > 0 else 0.0


def disturbed(activity: Sequence[Activity], tail: Tail | None, limit: float) -> Disturbed | None:
    """Why solo is no baseline: the thread waited for its core much of the time, or so long in the slowest iterations
    that p99 is off by over ``limit``. None where neither is so, or nobody told.
    """
    share = contended(activity)
    words, off, figure = [], 0.0, ""
    if share is not None:
        words.append(waited_words(share))
        off, figure = share, f"{100 * share:.0f} %"
    if tail is not None and tail.off > limit:
        words.append(
            f"without its thread's waits for a core its p99 alone would be {format_ms(tail.without_ms)}, not "
            f"{format_ms(tail.p99_ms)}"
        )
        off, figure = max(off, tail.off), figure or f"{100 * tail.off:.0f} % of p99"
    return Disturbed(off, figure, "; ".join(words)) if words else None


def tail_alone(rows: KeptRows | None, *, on_core: bool) -> Tail | None:
    """By the own waits of the ``rows`` of solo blocks. None where they tell none. ``on_core``: their device is a core.

    Beside a GPU a thread may wait for a core while the GPU works: then at most what an iteration took longer than
    usual is due to that.
    """
    if rows is None or np.isnan(rows.core_wait).all():
        return None
    wait = np.nan_to_num(rows.core_wait)
    if not on_core:
        wait = np.minimum(wait, np.maximum(rows.service - np.median(rows.service), 0.0))
    p99, without = (_tail(response, rows.weight) for response in (rows.response, rows.response - wait))
    return Tail(p99, without)


def contended(activity: Sequence[Activity]) -> float | None:
    """Of the time in which the tenant's thread, alone, wanted a core, the share in which it had none, where that is so
    much that its solo figures are no baseline. None where it is not, or where no kernel told.

    Means of whole solo blocks: heartbeats are longer than most iterations.
    """
    share, waited = waiting(activity), _solo_mean(activity, "cpu-wait")
    if share is None or waited is None or waited < LEAST:
        return None
    return share if share > WAITED else None


def waiting(activity: Sequence[Activity]) -> float | None:
    """The same share whatever it is; None where no kernel told."""
    waited, ran = (_solo_mean(activity, role) for role in ("cpu-wait", "cpu-run"))
    if waited is None or ran is None:
        return None
    return waited / (waited + ran) if waited + ran > 0 else 0.0


def waited_words(share: float) -> str:
    """What the kernel's scheduler says, for sentences."""
    return f"its thread waited for a core {100 * share:.0f} % of the time in which it wanted one"


def _tail(values: Floats, weight: Floats) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(reached, TAIL * reached[-1])])


def _solo_mean(activity: Sequence[Activity], role: ActivityRole) -> float | None:
    return next((one.solo.block_mean for one in activity if one.role == role), None)
