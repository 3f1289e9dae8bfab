"""How much less dependent iterations know than independent ones.

Two things make iterations dependent. Neighbours in time are alike, which many pairs of iterations show
(`Dependence.design_effect`). And units (rounds) differ in level, which few units show (`Dependence.between`):
levels are compared where a unit knows its own best, in the middle of its distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri, stdtrit

FloatArray = NDArray[np.floating[Any]]

FEWEST_BATCHES = 8
"""Batches in a unit, at the longest that is looked at."""

FEWEST_SLOW = 50
"""Slow iterations from which dependence is learnt; where fewer lie beyond a quantile, those of a lower one."""

CORE = (0.25, 0.75)
CORE_VALUES = 1000
TICK_PARTS = (np.arange(16) + 0.5) / 16 - 0.5
NODES = ndtri((np.arange(101) + 0.5) / 101)
RUNS_BELIEVED = 2.0
UNITS_BELIEVED = 3.0
"""Standard deviations of an excess that is believed by half. Units ask for more: they are few, and their levels,
which is where they mostly differ, are judged apart."""


class Effect(NamedTuple):
    """A design effect (at least 1), and whether the units' totals show it rather than runs within them."""

    ratio: float
    by_units: bool


class LevelError(NamedTuple):
    """``centre``: log quantile over all levels; ``log``: its standard error; ``fraction``: of the fraction slower."""

    centre: float
    log: float
    fraction: float


@dataclass(frozen=True, eq=False)
class Dependence:
    """What the units of one sample show. ``units``: sorted, in ms; ``in_time``: the first of each in order of time.

    ``tick``: step of the stopwatch (ms). Readings are spread over it, so that two units at slightly different
    levels do not seem to differ by all that shares one reading.
    """

    units: tuple[FloatArray, ...]
    in_time: tuple[FloatArray, ...]
    tick: float = 0.0
    _effects: dict[float, Effect] = field(default_factory=dict)
    _errors: dict[float, LevelError] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """Iterations per unit, shape ``(k,)``."""
        return np.array([len(unit) for unit in self.units], dtype=np.float64)

    @cached_property
    def spread(self) -> tuple[FloatArray, ...]:
        """`in_time`, evenly over each tick."""
        if not self.tick:
            return self.in_time
        rng = np.random.default_rng(0)
        return tuple(x + self.tick * rng.uniform(-0.5, 0.5, len(x)) for x in self.in_time)

    @cached_property
    def count(self) -> float:
        """Number of units, fewer where they differ in size (Kish 1965)."""
        return float(self.sizes.sum() ** 2 / np.square(self.sizes).sum())

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Level of each unit, shape ``(k,)``."""
        return np.array([_middle(unit) for unit in self.units])

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """Logarithm of every unit's level, the mean of its middle half, shape ``(k,)``. Empty if one is not above 0."""
        return np.asarray(np.log(self.centres)) if (self.centres > 0).all() else np.empty(0)

    @cached_property
    def noise(self) -> float:
        """Variance of the levels that the iterations explain, weighted as in `between`.

        Of a mean of the middle half: the variance of the winsorised iterations over (1/2)^2 n (Tukey &
        McLaughlin 1963), times their design effect.
        """
        scores = []
        for unit, series, centre in zip(self.units, self.spread, self.centres, strict=True):
            low, high = (unit[min(int(p * len(unit)), len(unit) - 1)] for p in CORE)
            scores.append(np.clip(series, low, high).astype(np.float64) / centre)
        spread = float(np.average([score.var() for score in scores], weights=self.sizes))
        return 4 * spread * len(self.units) / float(self.sizes.sum()) * _in_runs(scores)

    @cached_property
    def between(self) -> float:
        """Variance of the levels (logarithms) beyond what iterations explain; 0 if there is none, or one unit.

        Units count by their size: a round of three iterations says little.
        """
        if len(self.levels) < 2:
            return 0.0
        found = weighted_variance(self.levels, self.sizes) - self.noise
        return found if found > 1e-12 else 0.0  # rounding

    @cached_property
    def deviation(self) -> float:
        """Upper 60 % limit of the levels' standard deviation: the error of a tail grows faster than it."""
        free = max(self.count - 1, 1)
        return float(np.sqrt(self.between * free / (2 * gammaincinv(free / 2, 0.4))))

    @cached_property
    def shifts(self) -> NDArray[np.float64]:
        """What is believed of each level's distance from their mean, shape ``(k,)``: shrunk by what is noise."""
        if not self.between:
            return np.zeros(len(self.units))
        shrunk = self.between / (self.between + self.noise)
        return np.asarray((self.levels - np.average(self.levels, weights=self.sizes)) * shrunk)

    @cached_property
    def alike(self) -> tuple[FloatArray, ...]:
        """`spread` without the shifts of the units."""
        if not self.between:
            return self.spread
        return tuple(np.asarray(x * np.exp(-s)) for x, s in zip(self.spread, self.shifts, strict=True))

    @cached_property
    def pool(self) -> FloatArray:
        """All of `alike`, sorted."""
        pool = np.concatenate(self.alike)
        pool.sort()
        return pool

    @cached_property
    def logs(self) -> NDArray[np.float64]:
        """Logarithms of `pool`; a latency of 0 is far below all."""
        return np.log(np.maximum(self.pool.astype(np.float64), 1e-300))

    def design_effect(self, p: float) -> Effect:
        """Variance of the fraction slower than quantile ``p`` over that of independent iterations; levels aside.

        The largest of what runs within units show, and what the units' totals do (linearised ratio estimator,
        Woodruff 1952; without the levels or with them, whichever is less), each as far as it is to be believed.
        With fewer than `FEWEST_SLOW` beyond the quantile those of a lower one are looked at, too: a few do not
        show whether they come in runs.
        """
        if p not in self._effects:
            self._effects[p] = self._effect(p)
        return self._effects[p]

    def _effect(self, p: float) -> Effect:
        pool = self.pool
        rare = min(FEWEST_SLOW / len(pool), 0.5)
        known = min(max(p, rare), 1 - rare)
        own, threshold = (pool[min(int(at * len(pool)), len(pool) - 1)] for at in (p, known))
        within = max(self._runs_beyond(cut) for cut in {own, threshold})
        among = min(self._units_beyond(threshold * np.exp(shifts)) for shifts in (self.shifts, 0 * self.shifts))
        return Effect(max(within, among), among > within)

    def _units_beyond(self, thresholds: NDArray[np.float64]) -> float:
        """Spread of the units' totals beyond thresholds, over that of independent iterations; 1 for one unit."""
        k, n = len(self.units), float(self.sizes.sum())
        cuts = thresholds[:, None] + self.tick * (TICK_PARTS if self.tick else np.zeros(1))
        faster = [unit.searchsorted(cut, side="right") for unit, cut in zip(self.units, cuts, strict=True)]
        slower = self.sizes - np.array(faster).mean(axis=1)
        events = float(slower.sum() * (1 - slower.sum() / n))
        if k < 2 or events <= 0:
            return 1.0
        spread = float(np.square(slower - slower.sum() / n * self.sizes).sum())
        return believed(k / (k - 1) * spread / events, k - 1, 1 / events, UNITS_BELIEVED)

    def _runs_beyond(self, threshold: float) -> float:
        return _in_runs([(series > threshold).astype(np.float64) for series in self.alike])

    def slower(self, logarithm: float) -> NDArray[np.float64]:
        """Fraction of iterations slower than a latency (its logarithm), at each level of a normal spread of levels."""
        faster = self.logs.searchsorted(logarithm - self.deviation * NODES, side="right")
        return np.asarray(1 - faster / len(self.logs))

    def quantile(self, p: float) -> float:
        """Logarithm of quantile ``p`` of all levels: of `pool`, shifted by a normal level."""
        low, high = self.logs[0] + self.deviation * NODES[0], self.logs[-1] + self.deviation * NODES[-1]
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self.slower(middle).mean() > 1 - p else (low, middle)
        return float(high)

    def level_error(self, p: float) -> LevelError:
        """What the differing levels add to the error of quantile ``p``; zeros where they do not differ.

        With levels known, iterations of a unit at level d exceed q with probability S(q e^-d). Its variance over
        the levels, divided by the number of units, is that of the fraction slower than q; over the density, the
        quantile's (delta method).
        """
        if not self.between:
            return LevelError(0.0, 0.0, 0.0)
        if p not in self._errors:
            self._errors[p] = self._level_error(p)
        return self._errors[p]

    def _level_error(self, p: float) -> LevelError:
        centre = self.quantile(p)
        fraction = float(np.sqrt(self.slower(centre).var() / self.count))
        for step in self.deviation * np.array([0.5, 1.0, 2.0]):
            fall = float(self.slower(centre - step).mean() - self.slower(centre + step).mean())
            if fall > 0:
                return LevelError(centre, fraction * 2 * float(step) / fall, fraction)
        return LevelError(0.0, 0.0, 0.0)


def _in_runs(scores: Sequence[NDArray[np.float64]]) -> float:
    """Long-run variance of ``scores`` within units over their plain variance, never below 1.

    Overlapping batch means (Meketon & Schmeiser 1984) at doubling lengths; the largest counts, as far as it
    is to be believed. Deviations are from each unit's own mean, which makes a batch of b in a unit of m vary by
    1 - b / m less.
    """
    sizes = np.array([len(score) for score in scores])
    deviations = np.concatenate([score - score.mean() for score in scores])
    n = len(deviations)
    squares = np.square(deviations)
    plain = float(squares.mean())
    if plain <= 1e-24:
        return 1.0
    lumpy = float(np.square(squares).mean()) / plain**2 / n
    sums = np.concatenate([[0.0], np.cumsum(deviations)])
    ends = np.cumsum(sizes)
    worst, length = 1.0, 2
    while length * FEWEST_BATCHES <= sizes.max():
        enough = sizes >= length * FEWEST_BATCHES
        within = zip((ends - sizes)[enough].tolist(), ends[enough].tolist(), strict=True)
        batches = np.concatenate([sums[a + length : b + 1] - sums[a : b + 1 - length] for a, b in within])
        shrunk = np.repeat(1 - length / sizes[enough], sizes[enough] + 1 - length)
        ratio = float((np.square(batches) / shrunk).mean()) / length / plain
        worst = max(worst, believed(ratio, 1.5 * len(batches) / length, lumpy, RUNS_BELIEVED))
        length *= 2
    return worst


def weighted_variance(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Variance of k >= 2 values, unbiased for equal weights."""
    centre = np.average(values, weights=weights)
    return float(np.average(np.square(values - centre), weights=weights)) * len(values) / (len(values) - 1)


def believed(ratio: float, degrees: float, lumpy: float, half: float) -> float:
    """``ratio`` of two variances, drawn to 1 as far as chance explains it (`weight`)."""
    return 1 + weight(ratio, degrees, lumpy, half) * (ratio - 1)


def weight(ratio: float, degrees: float, lumpy: float = 0.0, half: float = RUNS_BELIEVED) -> float:
    """How far to believe that a ratio of variances is above 1: 0 no, 1 wholly, half at ``half`` deviations.

    Taking every excess at face value would widen intervals whenever nothing is wrong. Deviations are those of
    the cube root, which is nearly normal (Wilson & Hilferty 1931). ``lumpy`` is the relative variance that the
    few slow iterations add: fourth moment over squared second, over n.
    """
    unit = 2 / (9 * max(degrees, 1.0))
    z = (max(ratio, 0.0) ** (1 / 3) - (1 - unit)) / np.sqrt(unit + lumpy / 9)
    return float(1 / (1 + (half / z) ** 4)) if z > 0.01 and ratio > 1 else 0.0


@lru_cache(maxsize=1024)
def student(degrees: float, confidence: float) -> float:
    """Two-sided quantile of Student's t."""
    return float(stdtrit(max(degrees, 1.0), 1 - (1 - confidence) / 2))


def _middle(unit: FloatArray) -> float:
    """Mean of the middle half of a sorted unit, from at most some 1000 of its values."""
    low = int(CORE[0] * len(unit))
    high = max(int(np.ceil(CORE[1] * len(unit))), low + 1)
    return float(unit[low : high : max(1, (high - low) // CORE_VALUES)].mean(dtype=np.float64))
