"""How much evidence each of several looks at growing data needs, so that all looks together err as seldom as asked.

Group-sequential boundaries with alpha spending (Lan & DeMets 1983), by recursive integration (Armitage, McPherson &
Rowe 1969): of all errors that may be made, the share ``fraction ** POWER`` may be made by the time that this fraction
of the limit is over (Kim & DeMets 1987). How many looks there are, and when, need not be known before; only that it
does not depend on what they show. Pure.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

POWER = 2.0
"""Between Pocock's boundaries (about 1) and those of O'Brien & Fleming (about 3)."""
_POINTS = 200
_REACH = 8.0
"""Standard deviations below which nothing is integrated."""


class Spending:
    """One one-sided test that is looked at repeatedly; ``alpha``: how often it may reject a true hypothesis, in all."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self._spent = 0.0
        self._units = 0.0
        self._sums: NDArray[np.float64] = np.zeros(1)
        self._mass: NDArray[np.float64] = np.ones(1)

    def look(self, units: float, fraction: float) -> float:
        """The p value to be below at this look, for it alone.

        ``units``: of data so far, more than at the last look; increments are independent and vary alike.
        ``fraction``: of the limit that is over, 1 at the last look of all. 0 where nothing is left to spend.
        """
        may = self.alpha * min(max(fraction, 0.0), 1.0) ** POWER - self._spent
        deviation = math.sqrt(units - self._units)
        boundary = self._boundary(may, deviation, units)
        self._advance(boundary, deviation, units)
        self._spent += max(may, 0.0)
        self._units = units
        return float(ndtr(-boundary / math.sqrt(units)))

    def _boundary(self, may: float, deviation: float, units: float) -> float:
        """The sum that standard normal units exceed now, and did not before, with probability ``may``."""
        low, high = -_REACH * math.sqrt(units), 2 * _REACH * math.sqrt(units)
        if may <= 0:
            return high
        for _ in range(60):
            middle = (low + high) / 2
            beyond = float(self._mass @ ndtr((self._sums - middle) / deviation))
            low, high = (middle, high) if beyond > may else (low, middle)
        return high

    def _advance(self, boundary: float, deviation: float, units: float) -> None:
        """The distribution of the sum where no look has rejected yet, as masses on the middles of a grid."""
        edges = np.linspace(-_REACH * math.sqrt(units), boundary, _POINTS + 1)
        below = self._mass @ ndtr((edges[np.newaxis, :] - self._sums[:, np.newaxis]) / deviation)
        self._mass = np.diff(below)
        self._sums = (edges[1:] + edges[:-1]) / 2
