"""Quantiles with distribution-free intervals, and the refusal where the data cannot support one."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, bdtrik

from kts.model.summary import Estimate
from kts.stats.dependence import design_effect
from kts.stats.sample import Sample

QUANTILES: dict[str, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p999": 0.999}
"""Field of the summary -> probability."""


def label(p: float) -> str:
    """``p99``, ``p99.9``."""
    return f"p{100 * p:.10g}"


def min_samples(p: float, confidence: float = 0.95) -> int:
    """Fewest iterations with any two-sided order-statistic interval for quantile ``p``.

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


def quantile_estimate(sample: Sample | None, p: float, confidence: float = 0.95, missing: str = "") -> Estimate:
    """Type-7 quantile (ms) and its order-statistic interval at the effective number of iterations.

    Woodruff (1952): an interval for the probability, inverted through the empirical distribution; here
    the exact binomial one with n / design effect trials, so that independent iterations get the
    classical distribution-free interval. Refused below `min_samples`; ``missing`` says why there is no sample.
    """
    if sample is None:
        return refused(missing or "no iterations")
    n = sample.n
    if reason := refusal(n, p, confidence):
        return refused(reason)
    estimate = sample.quantile(p)
    lower, upper = binomial_ranks(int(n / design_effect(sample, estimate, confidence)), p, confidence)
    ranks = np.array([math.floor(lower * n) - 1, math.ceil(upper * n) - 1])
    lo, hi = sample.at_ranks(ranks)
    return Estimate(estimate=estimate, lo=min(float(lo), estimate), hi=max(float(hi), estimate))


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
