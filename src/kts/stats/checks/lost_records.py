"""Is every record there that was made, and can it be true?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.model.reading import RunData
from kts.stats.checks.told import count, failed, passed
from kts.stats.faults import MOST_GAPS, device_gaps
from kts.stats.series import SIDES

if TYPE_CHECKING:
    from kts.stats.gathering import Gathered
    from kts.stats.view import TenantView

CODE = "lost-records"


def of_run(run: RunData, gathered: Gathered) -> Iterator[Check]:
    """What could not be read. Blocks that are left out as a whole leave the others as they are."""
    del gathered
    bad = [block for block in (run.info.blocks or run.blocks) if not block.valid]
    if bad:
        reasons = "; ".join(sorted({block.reason for block in bad if block.reason})) or "no reason recorded"
        figure = count(len(bad), "block")
        text = f"{figure} left out as invalid: {reasons}."
        yield passed(CODE, f"{figure} left out", text, caution="invalid-blocks")
    for line in run.damage:
        yield failed(CODE, "damage", "not read", f"Not read: {line}.")


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By what its records, its tracer and its blocks tell is missing. Where p99 could hang on it, it is refused."""
    faults = [*_impossible(view), *_device_gaps(view), *_trace(view)]
    yield from faults
    if not faults:
        n = view.summary.response.solo.n + view.summary.response.shared.n
        yield passed(CODE, f"0 of {n}", f"{view.name}: all of its {n} iterations that count were read.", view.name)


def _impossible(view: TenantView) -> Iterator[Check]:
    if wrong := view.data.impossible:
        figure = count(wrong, "iteration")
        text = f"{view.name}: left out: {figure} with a latency below zero, which no clock that runs on can give."
        n = wrong + sum(side.n for side in (view.data.solo, view.data.shared))
        yield failed(CODE, "damage", figure, text, view.name, off=wrong / n)


def _device_gaps(view: TenantView) -> Iterator[Check]:
    """Device times that are missing here and there."""
    gaps = {side: device_gaps(view.data.side(side).device) for side in SIDES}
    if any(missing for missing, _ in gaps.values()) and any(missing < n for missing, n in gaps.values()):
        counts = ", ".join(f"{missing} of {n} {side}" for side, (missing, n) in gaps.items())
        text = (
            f"{view.name}: iterations without a device time: {counts}. Device figures of a side are refused where over "
            f"{100 * MOST_GAPS:g} % lack it, else they are of the others."
        )
        refused = any(missing > MOST_GAPS * n for missing, n in gaps.values())
        share = max(missing / max(n, 1) for missing, n in gaps.values())
        yield failed(CODE, "device-clock-gaps", counts, text, view.name, off=share, lowers=refused)


def _trace(view: TenantView) -> Iterator[Check]:
    """Calls of a traced program that its tracer could not keep."""
    sides = {side: view.data.side(side) for side in SIDES}
    if not any(side.events_lost for side in sides.values()):
        return
    calls = ", ".join(f"{data.events_lost} {side}" for side, data in sides.items() if data.events_lost)
    left = sum(data.lost for data in sides.values())
    if left:
        means = f"{left} iterations that these calls could be of are in no figure, and the slowest may be among them"
    else:
        means = "its iterations are told without these calls, and their launches and waits may be too few"
    text = f"{view.name}: calls to the GPU that were seen and not kept: {calls}: {means}."
    refused = any(
        "could not be read" in side.p99.refused for side in (view.summary.response.solo, view.summary.response.shared)
    )
    n = left + sum(data.n for data in sides.values())
    yield failed(CODE, "trace-lost", f"calls: {calls}", text, view.name, off=left / max(n, 1), lowers=refused)
