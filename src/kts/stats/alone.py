"""Whether a tenant that was measured alone had its core to itself, by what the kernel's scheduler says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.summary import Activity, ActivityRole, Caution

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
    waited, ran = (_solo_mean(activity, role) for role in ("cpu-wait", "cpu-run"))
    if waited is None or ran is None or waited < LEAST:
        return None
    share = waited / (waited + ran)
    return share if share > WAITED else None


def of_tenant(name: str, activity: Sequence[Activity]) -> Iterator[Caution]:
    """A caution where alone was not alone."""
    share = contended(activity)
    if share is not None:
        text = (
            f"{name} was not alone in its solo blocks: {waited_words(share)}. Other programs ran there, or a CPU limit "
            "held it back. DF compares with that. Measure on a quiet machine."
        )
        yield Caution(code="solo-not-alone", tenant=name, text=text)


def waited_words(share: float) -> str:
    """What the kernel's scheduler says, for sentences."""
    return f"its thread waited for a core {100 * share:.0f} % of the time in which it wanted one"


def _solo_mean(activity: Sequence[Activity], role: ActivityRole) -> float | None:
    return next((one.solo.block_mean for one in activity if one.role == role), None)
