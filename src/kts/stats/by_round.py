"""Figures that are ratios of sums over rounds, with intervals. Pure.

What a round does to both sides of a ratio cancels. Its error is that of its linearised value in each round (Cochran,
*Sampling Techniques*, 1977, 6.4), here of its logarithm, with Student's t of one degree of freedom less than there are
rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kts.model.summary import Estimate
from kts.stats.dependence import student
from kts.stats.quantiles import refused

LEAST_ROUNDS = 2
"""Of rates, which are means of many iterations; a p99 asks for more rounds."""
Pace = Mapping[int, tuple[float, float]]
"""By round: how much there was, and the nanoseconds that it took. Of a tenant's work: cycles, from a submission to the
next; of power: watts times nanoseconds."""


def add(pace: dict[int, tuple[float, float]], number: int, amount: float, took_ns: float) -> None:
    """Adds to what that round has."""
    before, before_ns = pace.get(number, (0, 0))
    pace[number] = before + amount, before_ns + took_ns


@dataclass(frozen=True)
class ByRound:
    """A figure above 0, a ratio of sums over rounds. ``told``: of some of its ``rounds``, the figure, and by what part
    each of them is off it."""

    rounds: frozenset[int]
    told: Callable[[Sequence[int]], tuple[float, NDArray[np.float64]]]

    @classmethod
    def rate(cls, pace: Pace) -> ByRound:
        """So much per nanosecond."""

        def told(rounds: Sequence[int]) -> tuple[float, NDArray[np.float64]]:
            amount, took_ns = np.array([pace[number] for number in rounds], dtype=np.float64).T
            rate = float(amount.sum() / took_ns.sum())
            return rate, (amount - rate * took_ns) / (rate * took_ns.mean())

        return cls(frozenset(pace), told)

    @classmethod
    def total(cls, parts: Sequence[ByRound], per: int = 1) -> ByRound:
        """Their sum, over so many, in rounds that have them all."""

        def told(rounds: Sequence[int]) -> tuple[float, NDArray[np.float64]]:
            values, off = zip(*(part.told(rounds) for part in parts), strict=True)
            return sum(values) / per, np.asarray(np.average(off, axis=0, weights=values))

        return cls(frozenset.intersection(*(part.rounds for part in parts)) if parts else frozenset(), told)

    def over(self, other: ByRound) -> ByRound:
        """The ratio of the two, in rounds that have both."""

        def told(rounds: Sequence[int]) -> tuple[float, NDArray[np.float64]]:
            (above, off), (below, other_off) = self.told(rounds), other.told(rounds)
            return above / below, off - other_off

        return ByRound(self.rounds & other.rounds, told)

    def interval(self, confidence: float) -> Estimate:
        """The figure with its interval; refused where rounds are too few."""
        rounds = sorted(self.rounds)
        if (count := len(rounds)) < LEAST_ROUNDS:
            return refused(f"needs {LEAST_ROUNDS} rounds, have {count}")
        value, off = self.told(rounds)
        log, error = math.log(value), math.sqrt(float(np.square(off).sum()) / (count - 1) / count)
        far = student(count - 1, confidence) * error
        return Estimate(estimate=math.exp(log), lo=math.exp(log - far), hi=math.exp(log + far))
