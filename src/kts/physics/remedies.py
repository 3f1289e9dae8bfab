"""What would change a mix: questions to the model, and where its answers are not to be believed. Pure.

The mix as it is is asked first. Where the model does not give what was measured there, it knows something else than the
run, and what it says of changes is withheld.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as with_fields

from kts.model.mode import MPS
from kts.model.plan import PROGRAM
from kts.model.summary import Estimate
from kts.physics.forecast import Band
from kts.physics.values import Profile
from kts.physics.whatif import Question

SLICES = (0.5, 2.0)
"""Times the slice that is."""
RATE = 0.5
"""Times a tenant's rate."""


def changes(now: Question, neighbours: Sequence[str]) -> tuple[Question, ...]:
    """Other slices, another mode, and each of ``neighbours`` paced, or moved away."""
    slice_ms = now.fingerprint.slice_ms.value
    return (
        *(() if now.fingerprint.in_line else (now.with_slice(float(f"{factor * slice_ms:.3g}")) for factor in SLICES)),
        *_in_other_mode(now),
        *(with_fields(now.at_rate(RATE, name), label=f"{name} at half its rate") for name in neighbours),
        *(_without(now, name) for name in neighbours),
    )


def unsupported(profile: Profile) -> str:
    """Why nothing can be foreseen of this tenant; empty where it can be tried."""
    if profile.method == "burst" and profile.workload == PROGRAM:
        return "a run alone does not tell a program's launches: kts profile it, and give --profiles"
    return ""


def disagreement(measured: Estimate, band: Band) -> str:
    """Why what the model says of a tenant is not to be believed; empty where its band of no change and the measured
    interval of p99 meet."""
    if measured.estimate is None:
        return f"p99 is refused: {measured.refused}"
    if band.value is None or band.lo is None or band.hi is None:
        return "too few iterations alone for a p99 of the mix"
    lo = measured.estimate if measured.lo is None else measured.lo
    hi = measured.estimate if measured.hi is None else measured.hi
    if lo <= band.hi and band.lo <= hi:
        return ""
    return (
        f"of no change the model says {band.value:.3g} ms ({band.lo:.3g} to {band.hi:.3g}), "
        f"measured is {measured.estimate:.3g} ms ({lo:.3g} to {hi:.3g})"
    )


def _in_other_mode(now: Question) -> tuple[Question, ...]:
    """Of a GPU: in line where there are turns."""
    if now.fingerprint.gpu.kind != "cuda" or now.fingerprint.in_line:
        return ()
    return (with_fields(now.in_mode(MPS), label=f"{MPS} (a first model)"),)


def _without(question: Question, name: str) -> Question:
    mix = tuple(other for other in question.mix if other != name)
    return with_fields(question, label=f"{name} moved away", mix=mix)
