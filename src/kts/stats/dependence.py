"""How much less a sample of dependent iterations knows than one of independent iterations."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit

from kts.stats.sample import Sample


def design_effect(sample: Sample, quantile: float, confidence: float = 0.95) -> float:
    """Variance of the fraction slower than ``quantile``, relative to independent iterations; never below 1.

    The fraction is a ratio of totals over the sample's units (rounds, or segments of a block), so its
    variance comes from the spread of the units' totals (linearised ratio estimator; Woodruff 1952): it
    holds dependence within units and differences between them. Few units know their spread badly: the
    factor (t / z)^2 with k - 1 degrees of freedom makes up for it (Korn & Graubard 1998), and a spread
    that chance explains counts little (`weight`).
    """
    k = len(sample.units)
    if k < 2:
        return 1.0
    n = sample.n
    above = sample.above(quantile)
    fraction = float(above.sum()) / n
    if not 0 < fraction < 1:
        return 1.0
    spread = above - fraction * sample.sizes
    clustered = k / (k - 1) * float(np.square(spread).sum()) / n**2
    ratio = clustered / (fraction * (1 - fraction) / n)
    share = weight(ratio, k - 1)
    return max(1.0, (1 - share) + share * ratio * t_over_z(k - 1, confidence) ** 2)


def weight(ratio: float, degrees: float) -> float:
    """How far to believe that units differ by more than their iterations explain: 0 no, 1 wholly.

    ``ratio`` of the variance seen between units to the one that independent iterations give. Without
    dependence it scatters around 1 with standard deviation sqrt(2 / degrees); taking every excess at face
    value would make intervals too wide whenever nothing is wrong. s^2 / (1 + s^2) for an excess of s
    standard deviations: half at 1, all but a tenth at 3.
    """
    excess = min((ratio - 1) / np.sqrt(2 / max(degrees, 1.0)), 1e6)
    return float(excess**2 / (1 + excess**2)) if excess > 0 else 0.0


@lru_cache(maxsize=1024)
def t_over_z(degrees: float, confidence: float) -> float:
    """Student's t over the normal quantile, two-sided; 1 for many degrees of freedom."""
    tail = 1 - (1 - confidence) / 2
    return float(stdtrit(max(degrees, 1.0), tail) / ndtri(tail))
