"""What dependence costs, in words: how much the iterations are worth, why, and how much longer would do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kts.model.summary import Estimate
from kts.stats.quantiles import min_samples
from kts.stats.sample import LatencySample
from kts.stats.series import SIDES, Side
from kts.stats.verdict import asked_of, half_width

if TYPE_CHECKING:
    from kts.stats.view import TenantView

TAIL = 0.99
TOLD_FROM = 2.0
"""Iterations that are worth at least half of themselves are not worth a caution."""


def cost(view: TenantView) -> Iterator[tuple[Side, Estimate, str]]:
    """Of each side whose response p99 dependence has refused or left wider than asked: that p99, and a sentence."""
    asked = asked_of(view.plan.precision)
    for side in SIDES:
        sample = view.samples[side]["response"]
        if sample is None or sample.n < min_samples(TAIL):
            continue
        found: Estimate = getattr(view.summary.response, side).p99
        if text := _told(sample, found, asked):
            yield side, found, text


def effective_number(sample: LatencySample, p: float) -> float:
    """Independent iterations that would know the fraction slower than quantile ``p`` as well as this sample does."""
    variance = p * (1 - p) / sample.n * sample.dependence.design_effect(p).ratio
    return p * (1 - p) / (variance + sample.dependence.level_error(p).fraction ** 2)


def _told(sample: LatencySample, found: Estimate, asked: float) -> str:
    known = sample.dependence
    worth = effective_number(sample, TAIL)
    width = half_width(found)
    if worth * TOLD_FROM > sample.n or (width is not None and width <= asked):
        return ""
    effect = known.design_effect(TAIL)
    unit = "round" if sample.rounds else "segment"
    if sample.n / effect.ratio > worth * TOLD_FROM:
        why = f"{unit}s differ in level by {100 * math.sqrt(known.between):.2g} %"
    else:
        why = f"{unit}s differ in their slow ones" if effect.by_units else "slow ones come in runs"
    times = min_samples(TAIL) * effect.ratio / sample.n if width is None else (width / asked) ** 2
    goal = "for an interval" if width is None else f"for +-{100 * asked:.3g} %"
    k = len(sample.units)
    need = f"some {math.ceil(k * times)} rounds instead of {k}" if sample.rounds else f"{times:.2g} times as long"
    return f"{sample.n} iterations are worth {worth:.0f} independent ones: {why}. It takes {need} {goal}."
