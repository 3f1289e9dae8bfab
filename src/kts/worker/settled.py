"""What is recorded of a tenant's way to its steady state, before its first block."""

from __future__ import annotations

from kts.model.run import COURSE, Settled
from kts.steady import Settling


def settled(settling: Settling, limit_s: float) -> Settled:
    """What is recorded of it."""
    course, n = settling.course, len(settling.durations_ms)
    shown = range(0, n, -(-n // COURSE)) if course.first or not course.steady else ()
    return Settled(
        steady=course.steady,
        seconds=settling.took_s,
        limit_s=limit_s,
        iterations=n,
        unsteady=course.first,
        course=tuple((settling.begun_s[k] - settling.begun_s[0], settling.durations_ms[k]) for k in shown),
    )
