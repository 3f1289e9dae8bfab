"""Ran the device at the same clock speed alone and in company?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kts.model.checks import Check
from kts.model.summary import Activity, ActivityMean
from kts.stats.checks.told import failed, not_applicable, passed, percent

if TYPE_CHECKING:
    from kts.stats.view import TenantView

CODE = "clocks"
COMPARABLE = 0.02
"""By so much the means may differ."""
LIMITED = 0.05
"""So much more of the time held down is told."""


def of_tenant(view: TenantView) -> Iterator[Check]:
    """By every clock that telemetry sampled, over the tenant's own iterations. What runs on the device may be off by as
    much as the clock differs."""
    name = view.name
    speeds = {one.metric: both for one in view.summary.activity or () if (both := _both(one)) is not None}
    if not speeds:
        yield not_applicable(CODE, f"{name}: no clock was sampled both alone and in company.", name)
        return
    apart = {metric: shared / solo - 1 for metric, (solo, shared) in speeds.items()}
    bad = {metric: by for metric, by in apart.items() if abs(by) > COMPARABLE}
    for metric, by in bad.items():
        solo, shared = speeds[metric]
        text = f"{name}: {_words(metric)} was {solo:.0f} MHz alone and {shared:.0f} MHz in company ({100 * by:+.1f} %)"
        text += f"{_held_down(view.summary.activity or ())}."
        yield failed(CODE, "clocks-differ", f"{100 * by:+.1f} %", text, name, off=abs(by))
    if not bad:
        most = max(map(abs, apart.values()))
        told = ", ".join(
            f"{_words(metric)} {solo:.0f} and {shared:.0f} MHz" for metric, (solo, shared) in speeds.items()
        )
        yield passed(CODE, percent(most), f"{name}: alone and in company the clocks were the same: {told}.", name)


def _held_down(activity: Sequence[Activity]) -> str:
    """By what the GPU says that its clocks were held down, where that differs."""
    told = []
    for one in activity:
        solo, shared = (_mean(side) for side in (one.solo, one.shared))
        if (
            one.metric.startswith("limited_")
            and solo is not None
            and shared is not None
            and abs(shared - solo) > LIMITED
        ):
            why = one.metric.removeprefix("limited_").removesuffix("_ratio").replace("_", " ")
            told.append(f"{why} {percent(solo)} of the time alone, {percent(shared)} in company")
    return f"; held down by {', '.join(told)}" if told else ""


def _both(one: Activity) -> tuple[float, float] | None:
    """Alone and in company; None where it is no clock, or was not sampled in both."""
    solo, shared = (_mean(side) for side in (one.solo, one.shared))
    return (solo, shared) if one.unit == "MHz" and solo and shared else None


def _mean(side: ActivityMean) -> float | None:
    return side.block_mean if side.mean is None else side.mean


def _words(metric: str) -> str:
    """``the SM clock``."""
    what = metric.removesuffix("_mhz").removesuffix("_clock")
    return f"the {what.upper() if len(what) <= len('cpu') else what.replace('_', ' ')} clock"
