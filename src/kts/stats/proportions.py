"""Fractions of iterations with intervals that know iterations and the levels of rounds."""

from __future__ import annotations

import math

from scipy.special import betaincinv

from kts.model.summary import Estimate
from kts.stats.dependence import student
from kts.stats.quantiles import refused
from kts.stats.sample import LatencySample

LEAST_EVENTS = 10
"""Dependence and levels are judged as if this many were on either side of the limit, at least."""


def clopper_pearson(hits: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper & Pearson 1934), from the beta distribution's quantiles."""
    tail = (1 - confidence) / 2
    lo = 0.0 if hits <= 0 else float(betaincinv(hits, trials - hits + 1, tail))
    hi = 1.0 if hits >= trials else float(betaincinv(hits + 1, trials - hits, 1 - tail))
    return lo, hi


def fraction_within(
    sample: LatencySample | None, limit_ms: float, confidence: float = 0.95, missing: str = ""
) -> Estimate:
    """Fraction of the iterations that took at most ``limit_ms``, with its interval.

    Clopper & Pearson's at the effective number of iterations (Korn & Graubard 1998). Where levels differ, the
    fraction lies where the limit would be at levels higher and lower by their error; both add, each side for
    itself (Zou & Donner 2008).
    """
    if sample is None or not sample.n:
        return refused(missing or "no iterations")
    n, known = sample.n, sample.dependence
    fraction = (n - int(sample.above(limit_ms).sum())) / n
    trials = n / known.design_effect(fraction).ratio
    lo, hi = clopper_pearson(fraction * trials, trials, confidence)
    near = min(LEAST_EVENTS / n, 0.5)
    judged = min(max(fraction, near), 1 - near)
    level = known.level_error(judged)
    if level.log and limit_ms > 0:
        far = student(known.count - 1, confidence) * level.log
        slower, faster = (1 - float(known.slower(level.centre + shift).mean()) for shift in (-far, far))
        off = 1 - float(known.slower(math.log(limit_ms)).mean()) - fraction
        far_fraction = student(known.count - 1, confidence) * level.fraction
        lo = max(0.0, fraction - math.hypot(fraction - lo, max(judged - slower, far_fraction), min(off, 0.0)))
        hi = min(1.0, fraction + math.hypot(hi - fraction, faster - judged, max(off, 0.0)))
    return Estimate(estimate=fraction, lo=lo, hi=hi)
