"""Ratios of quantiles (DF, jitter) with intervals that know iterations, ticks and the levels of rounds."""

from __future__ import annotations

import math

import numpy as np

from kts.model.summary import Estimate
from kts.stats.dependence import Dependence, student, weighted_variance
from kts.stats.quantiles import ENOUGH, Ends, ends, label, log_arms, refusal_of, refused
from kts.stats.sample import LatencySample

MIN_PAIRS = 2


def degradation(
    shared: LatencySample | None, solo: LatencySample | None, p: float, confidence: float = 0.95, missing: str = ""
) -> Estimate:
    """DF: quantile ``p`` shared over the same alone, on one clock. What stops a run and what a report prints.

    The samples are cut alike (`kts.stats.sample.split_blocks`). Refused as in `ratio_estimate`.
    """
    return ratio_estimate(shared, p, solo, p, confidence, missing=missing, names=("shared", "solo"))


def ratio_estimate(
    above: LatencySample | None,
    p_above: float,
    below: LatencySample | None,
    p_below: float,
    confidence: float = 0.95,
    *,
    missing: str = "",
    names: tuple[str, str] = ("", ""),
    enough_of_rounds: float = ENOUGH,
) -> Estimate:
    """Quantile ``p_above`` of one sample over quantile ``p_below`` of the other, with its interval.

    The intervals that the iterations of either allow combine on the log scale by the method of variance
    estimates recovery (Zou & Donner 2008); what levels add (`_level_arm`) is independent of them. Refused where
    either quantile would be (``enough_of_rounds`` as in `refusal_of`), or is not known to be above zero; ``names`` say
    which sample lacks what.
    """
    if above is None or below is None:
        return refused(missing or "no iterations")
    found = []
    for sample, p, name in ((above, p_above, names[0]), (below, p_below, names[1])):
        if reason := refusal_of(sample, p, confidence, enough_of_rounds):
            return refused(f"{name} {reason}".strip())
        found.append(ends(sample, p, confidence))
        if reason := _too_near_zero(found[-1], p, sample.tick):
            return refused(f"{name} {reason}".strip() if sample.tick else reason)
    top, bottom = found
    (top_down, top_up), (bottom_down, bottom_up) = log_arms(top), log_arms(bottom)
    level = _level_arm(above, p_above, below, p_below, confidence)
    estimate = math.log(top.estimate) - math.log(bottom.estimate)
    return Estimate(
        estimate=math.exp(estimate),
        lo=math.exp(estimate - math.hypot(top_down, bottom_up, level)),
        hi=math.exp(estimate + math.hypot(top_up, bottom_down, level)),
    )


def _too_near_zero(found: Ends, p: float, tick: float) -> str:
    """A quantile within one tick of zero may be any fraction of it: a ratio would have no bound."""
    if tick and found.estimate < tick:
        return f"{label(p)} is below one tick of the stopwatch ({tick:.3g} ms)"
    if found.estimate <= 0:
        return "a quantile is not above zero"
    return "" if found.lo > 0 else "the interval reaches latencies of zero"


def _level_arm(above: LatencySample, p_above: float, below: LatencySample, p_below: float, confidence: float) -> float:
    """Half-width (log) that the differing levels of rounds add to a ratio.

    A quantile moves with the levels by `_gain` times their mean. Where both samples have the same rounds, what
    counts is how the difference varies from round to round: what a round does to both cancels.
    """
    gains = _gain(above.dependence, p_above), _gain(below.dependence, p_below)
    if not any(gains):
        return 0.0
    if above is below:
        one = above.dependence
        return student(one.count - 1, confidence) * abs(gains[0] - gains[1]) * math.sqrt(one.between / one.count)
    common = sorted(set(above.labels) & set(below.labels)) if above.rounds and below.rounds else []
    pairs = tuple(zip((above, below), gains, strict=True))
    if len(common) >= MIN_PAIRS and all(len(sample.dependence.levels) for sample, _ in pairs):
        picked = [[sample.labels.index(number) for number in common] for sample, _ in pairs]
        mine, others = (gain * s.dependence.levels[rows] for (s, gain), rows in zip(pairs, picked, strict=True))
        weights = np.minimum(*(s.dependence.sizes[rows] for (s, _), rows in zip(pairs, picked, strict=True)))
        noise = sum(gain**2 * sample.dependence.noise for sample, gain in pairs)
        spread = max(0.0, weighted_variance(mine - others, weights) - noise)
        return student(len(common) - 1, confidence) * math.sqrt(spread / len(common))
    parts = [
        student(sample.dependence.count - 1, confidence)
        * gain
        * math.sqrt(sample.dependence.between / len(sample.units))
        for sample, gain in pairs
    ]
    return math.hypot(*parts)


def _gain(known: Dependence, p: float) -> float:
    """How far the logarithm of quantile ``p`` moves per unit of the levels' standard error; 0 where none differ."""
    return known.level_error(p).log * math.sqrt(known.count) / known.deviation if known.between else 0.0
