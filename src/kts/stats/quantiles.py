"""Quantiles with distribution-free intervals, and the refusal where the data cannot support one."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, bdtrik

from kts.model.summary import Estimate
from kts.stats.dependence import Effect, student
from kts.stats.sample import LatencySample

QUANTILES: dict[str, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}
"""Field of the summary -> probability."""


ENOUGH = 0.25
"""A quantile is refused where its iterations are worth less than this part of what it needs. In between the slower end
of its interval lies beyond the slowest iteration (`_beyond`)."""

LOST = 0.5
"""A quantile is refused where iterations that could not be read may be this part of what lies above it."""

TAIL = 0.05
"""The part of the iterations, the slowest ones, that tells how a tail goes on."""
TAIL_VALUES = 1000


class Ends(NamedTuple):
    """A quantile (ms) and the interval that its iterations allow while levels are as they were; ``lo`` may be 0."""

    estimate: float
    lo: float
    hi: float


def label(p: float) -> str:
    """``p99``, ``p99.9``."""
    return f"p{100 * p:.10g}"


def min_samples(p: float, confidence: float = 0.95) -> int:
    """Fewest independent iterations with any two-sided order-statistic interval for quantile ``p``.

    The sample's extremes must lie on both sides of it with probability (1 - confidence) / 2 to spare
    each: 368 for p99 and 3688 for p99.9 at 95 %.
    """
    return math.ceil(math.log((1 - confidence) / 2) / math.log(max(p, 1 - p)))


def refused(reason: str) -> Estimate:
    """No figure, and why."""
    return Estimate(estimate=None, lo=None, hi=None, refused=reason)


def refusal(n: int, p: float, confidence: float) -> str:
    """Why ``n`` iterations give no quantile ``p``; empty if they do."""
    needed = min_samples(p, confidence)
    return "" if n >= needed else f"{label(p)} needs {needed} iterations, have {n}"


def refusal_of(sample: LatencySample, p: float, confidence: float, enough_of_rounds: float = ENOUGH) -> str:
    """Why a sample gives no quantile ``p``, counting what its iterations are worth; empty if it does.
    ``enough_of_rounds``: in place of `ENOUGH` where it is rounds that differ."""
    if sample.lost > LOST * (1 - p) * (sample.n + sample.lost):
        return f"{sample.lost} of {sample.n + sample.lost} iterations could not be read: the slowest may be among them"
    if reason := refusal(sample.n, p, confidence):
        return reason
    effect = sample.dependence.design_effect(p)
    enough = enough_of_rounds if sample.rounds and effect.by_units else ENOUGH
    return refusal_of_worth(sample.n, effect, p, confidence, "rounds" if sample.rounds else "segments", enough=enough)


def refusal_of_worth(
    n: int, effect: Effect, p: float, confidence: float, unit: str = "rounds", *, enough: float = ENOUGH
) -> str:
    """Why ``n`` iterations that depend on each other so much give no quantile ``p``; empty if they do."""
    if reason := refusal(n, p, confidence):
        return reason
    needed, worth = min_samples(p, confidence), int(n / effect.ratio)
    if worth >= enough * needed:
        return ""
    why = f"{unit} differ in them" if effect.by_units else "slow ones come in runs"
    return f"{label(p)} needs {needed} iterations, {n} here are worth {worth}: {why}"


def quantile_estimate(sample: LatencySample | None, p: float, confidence: float = 0.95, missing: str = "") -> Estimate:
    """Type-7 quantile (ms) and its interval: of the iterations (`ends`) and of the levels of rounds, together.

    Both parts are independent and add on the log scale, each side for itself (Zou & Donner 2008). Refused
    below `min_samples` effective iterations; ``missing`` says why there is no sample.
    """
    if sample is None:
        return refused(missing or "no iterations")
    if reason := refusal_of(sample, p, confidence):
        return refused(reason)
    estimate, lo, hi = ends(sample, p, confidence)
    level = sample.dependence.level_error(p)
    if level.log and estimate > 0:
        far = student(sample.dependence.count - 1, confidence) * level.log
        off = level.centre - math.log(estimate)
        below, above = log_arms(Ends(estimate, lo, hi))
        lo = estimate * math.exp(-math.hypot(below, far, min(off, 0.0)))
        hi = estimate * math.exp(math.hypot(above, far, max(off, 0.0)))
    return Estimate(estimate=estimate, lo=lo, hi=hi)


def ends(sample: LatencySample, p: float, confidence: float) -> Ends:
    """Order-statistic interval at the effective number of iterations, half a tick wider on either side.

    Woodruff (1952): an interval for the probability, inverted through the empirical distribution; here
    the exact binomial one with n / design effect trials, so that independent iterations get the
    classical distribution-free interval. A reading stands for all latencies within half a tick of it.
    """
    n, half = sample.n, sample.tick / 2
    estimate = sample.quantile(p)
    worth = int(n / sample.dependence.design_effect(p).ratio)
    lower, upper = binomial_ranks(worth, p, confidence)
    lo, hi = sample.at_ranks(np.array([math.floor(lower * n) - 1, math.ceil(upper * n) - 1]))
    slower = float(hi) * _beyond(sample, worth, min_samples(p, confidence)) if p > 0.5 else float(hi)
    return Ends(estimate, max(min(float(lo), estimate) - half, 0.0), max(slower, estimate) + half)


def _beyond(sample: LatencySample, worth: int, needed: int) -> float:
    """By what factor the slower end of an interval lies beyond the slowest iteration, where these are worth too few.

    The slowest of m iterations is at or above quantile p with probability 1 - p^m, too little below `min_samples`. A
    tail whose excesses on the log scale are exponential with mean h (Hill 1975; Pareto's, heavier than most) is beyond
    the slowest by needed / m to the power h with the probability that is wanted. 1 where iterations are worth enough.
    """
    if worth >= needed:
        return 1.0
    k = max(2, int(TAIL * sample.n))
    ranks = sample.n - 1 - np.unique(np.linspace(0, k, min(k + 1, TAIL_VALUES)).astype(np.int64))
    tail = sample.at_ranks(ranks)
    if not tail.min() > 0:
        return 1.0
    hill = float(np.log(tail[:-1] / tail[-1]).mean())
    return float((needed / max(worth, 1)) ** hill)


def log_arms(found: Ends) -> tuple[float, float]:
    """Distances from the estimate to its ends on the log scale; infinite to an end at 0."""
    below = math.log(found.estimate / found.lo) if found.lo > 0 else math.inf
    return below, math.log(found.hi / found.estimate)


@lru_cache(maxsize=256)
def binomial_ranks(trials: int, p: float, confidence: float) -> tuple[float, float]:
    """1-based ranks of the two order statistics, divided by ``trials``.

    Equal tails first; ranks are whole, so these often cover more than asked, and then the slower end
    (else the faster one) comes one rank closer if the pair still covers ``confidence``.
    """
    tail = (1 - confidence) / 2
    trials = max(trials, 1)
    lower, upper = _binomial_quantile(tail, trials, p), _binomial_quantile(1 - tail, trials, p) + 1
    for narrower in ((lower, upper - 1), (lower + 1, upper)):
        if _binomial_cdf(narrower[1] - 1, trials, p) - _binomial_cdf(narrower[0] - 1, trials, p) >= confidence:
            lower, upper = narrower
            break
    return lower / trials, upper / trials


def _binomial_cdf(k: int, trials: int, p: float) -> float:
    return float(bdtr(k, trials, p)) if k >= 0 else 0.0


def _binomial_quantile(q: float, trials: int, p: float) -> int:
    """Smallest k with P(B <= k) >= q. From scipy.special: scipy.stats alone takes a second to import."""
    k = int(np.ceil(bdtrik(q, trials, p)))
    return k - 1 if _binomial_cdf(k - 1, trials, p) >= q else k
