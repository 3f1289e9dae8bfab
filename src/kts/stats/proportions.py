"""Fractions of iterations with exact intervals."""

from __future__ import annotations

from scipy.special import betaincinv

from kts.model.summary import Estimate
from kts.stats.quantiles import refused
from kts.stats.sample import Sample


def clopper_pearson(hits: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper & Pearson 1934), from the beta distribution's quantiles."""
    tail = (1 - confidence) / 2
    lo = 0.0 if hits <= 0 else float(betaincinv(hits, trials - hits + 1, tail))
    hi = 1.0 if hits >= trials else float(betaincinv(hits + 1, trials - hits, 1 - tail))
    return lo, hi


def fraction_within(sample: Sample | None, limit_ms: float, confidence: float = 0.95, missing: str = "") -> Estimate:
    """Fraction of the iterations that took at most ``limit_ms``, with its Clopper-Pearson interval."""
    if sample is None or not sample.n:
        return refused(missing or "no iterations")
    n = sample.n
    hits = n - int(sample.above(limit_ms).sum())
    lo, hi = clopper_pearson(hits, n, confidence)
    return Estimate(estimate=hits / n, lo=lo, hi=hi)
