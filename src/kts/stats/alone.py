"""Whether a tenant that was measured alone had its core to itself, by what the kernel's scheduler says."""

from __future__ import annotations

from collections.abc import Sequence

from kts.model.summary import Activity, ActivityRole

WAITED = 0.10
"""Of the time in which its thread wanted a core (ran or waited), the share that it may wait alone. Below 0.2 % on the
machines of examples/results."""
LEAST = 0.005
"""Of the whole time: less waiting than this moves no figure."""


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


def _solo_mean(activity: Sequence[Activity], role: ActivityRole) -> float | None:
    return next((one.solo.block_mean for one in activity if one.role == role), None)
