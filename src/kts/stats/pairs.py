"""Two versions of a tenant, measured in turns: is the second one's p99 worse by more than a factor?

Rounds are the units: what an iteration owes to its neighbours in time stays within them, and what a round does to
both versions cancels. With A's times multiplied by the factor in question, both versions exceed the p99 of both equally
often if that factor is the true ratio of their p99s, whatever their distributions are. So the test is Student's t of
the rounds' differences in how often they exceed it (Woodruff's 1952 inversion, of a ratio; linearised for rounds of
unequal size), and the interval is all factors that it does not reject. Rounds are put on one level first, by the
geometric mean of both versions' medians: else only the slowest rounds would have a tail, and tell of it. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from kts.model.summary import Estimate
from kts.stats.quantiles import quantile_estimate, refusal, refused
from kts.stats.sample import FloatArray, make_sample

P = 0.99
LEAST_ROUNDS = 4
"""Of fewer rounds nothing is concluded."""
_WIDEST = math.log(1e3)
_STEPS = 40


@dataclass(frozen=True, eq=False)
class Rounds:
    """The same number of rounds of either version: latencies in ms of each round, in its order or any other."""

    a: Sequence[FloatArray]
    b: Sequence[FloatArray]

    @property
    def count(self) -> int:
        """Of rounds."""
        return len(self.a)

    def first(self, count: int) -> Rounds:
        """The first ``count`` of them."""
        part = Rounds(self.a[:count], self.b[:count])
        part.__dict__["_medians"] = self._medians[:, :count]
        return part

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """Iterations of each round, A's and B's, shape ``(2, count)``."""
        return np.array([[len(ms) for ms in side] for side in (self.a, self.b)], dtype=np.float64)

    @cached_property
    def _medians(self) -> NDArray[np.float64]:
        return np.array([[np.median(ms) if len(ms) else 0.0 for ms in side] for side in (self.a, self.b)])

    @cached_property
    def _pooled(self) -> list[FloatArray]:
        """All times of either version, each over the level that its round has over all rounds, of both versions."""
        logs = np.log(self._medians).mean(axis=0)
        levels = np.exp(logs - logs.mean())
        return [
            np.concatenate([ms / level for ms, level in zip(side, levels, strict=True)]) for side in (self.a, self.b)
        ]

    @cached_property
    def _beyond(self) -> int:
        """One more iteration than lies beyond the p99 of both together."""
        return max(1, round((1 - P) * sum(map(len, self._pooled)))) + 1

    @cached_property
    def _tails(self) -> list[tuple[FloatArray, NDArray[np.int64]]]:
        """The slowest of either version, as many as can be beyond the p99 of both, and the round of each."""
        tails = []
        for ms, sizes in zip(self._pooled, self.sizes, strict=True):
            most = min(self._beyond, len(ms))
            kept = np.flatnonzero(ms >= np.partition(ms, -most)[-most])
            tails.append((ms[kept], np.searchsorted(np.cumsum(sizes), kept, side="right")))
        return tails

    @property
    def refusal(self) -> str:
        """Why there is no ratio; empty if there is one."""
        if self.count < LEAST_ROUNDS:
            return f"needs {LEAST_ROUNDS} rounds, have {self.count}"
        for name, sizes, medians in zip("AB", self.sizes, self._medians, strict=True):
            if why := refusal(int(sizes.sum()), P, 0.95):
                return f"{name} {why}"
            if not medians.min() > 0:
                return f"{name}: times of zero"
        return ""

    @property
    def log_ratio(self) -> float:
        """log(B's p99 / A's p99), type 7 quantiles."""
        a, b = (float(np.quantile(ms, P)) for ms in self._pooled)
        return math.log(b / a)

    def statistic(self, log_factor: float) -> float:
        """Student's t for a true log ratio of ``log_factor``, `count` - 1 degrees of freedom; above 0: B is worse.

        The variance is that of the rounds' differences, but at least what independent iterations have.
        """
        factor = math.exp(log_factor)
        limit = self._common(factor)
        limits = limit / factor, limit
        slower = [self._slower(*tail, limit) for tail, limit in zip(self._tails, limits, strict=True)]
        shares = [float(x.sum() / n.sum()) for x, n in zip(slower, self.sizes, strict=True)]
        off = [(x - share * n) / n.mean() for x, n, share in zip(slower, self.sizes, shares, strict=True)]
        k = self.count
        between = float(np.square(off[1] - off[0]).sum()) / (k - 1) / k
        share = sum(shares) / 2
        within = share * (1 - share) * float((1 / self.sizes.sum(axis=1)).sum())
        error = math.sqrt(max(between, within))
        return (shares[1] - shares[0]) / error if error > 0 else 0.0

    def interval(self, p: float) -> Estimate:
        """B's p99 / A's p99, with all factors that are not rejected at ``p``, as too low or as too high."""
        if why := self.refusal:
            return refused(why)
        lo, hi = self.bounds(p)
        if lo == 0 or hi == math.inf:
            return refused("so few slow iterations bound no ratio")
        return Estimate(estimate=min(max(math.exp(self.log_ratio), lo), hi), lo=lo, hi=hi)

    def bounds(self, p: float) -> tuple[float, float]:
        """The lowest and the highest factor that is not rejected at ``p``; 0 or infinity where there is none."""
        lo, _ = self._passes(self.critical(p))
        _, hi = self._passes(-self.critical(p))
        return 0.0 if lo <= -_WIDEST else math.exp(lo), math.inf if hi >= _WIDEST else math.exp(hi)

    def critical(self, p: float) -> float:
        """What t exceeds with probability ``p`` where the factor is true; infinite for 0."""
        return float(-stdtrit(self.count - 1, p)) if p > 0 else math.inf

    def _passes(self, t: float) -> tuple[float, float]:
        """Between which log factors, as near as can be, the statistic passes ``t``: it falls with the factor."""
        low, high = -_WIDEST, _WIDEST
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.statistic(middle) > t else (low, middle)
        return low, high

    def _common(self, factor: float) -> float:
        """The p99 of B's times and A's times ``factor``, together."""
        (a, _), (b, _) = self._tails
        both = np.concatenate([a * factor, b])
        return float(np.partition(both, -self._beyond)[-self._beyond])

    def _slower(self, tail: FloatArray, rounds: NDArray[np.int64], limit: float) -> NDArray[np.float64]:
        """Iterations over ``limit`` of each round; one at it counts half, as ticks of a stopwatch make many."""
        over, from_it = (np.bincount(rounds[slow], minlength=self.count) for slow in (tail > limit, tail >= limit))
        return np.asarray((over + from_it) / 2)


def p99(rounds: Sequence[FloatArray]) -> Estimate:
    """Of one version, in ms, with its own interval."""
    return quantile_estimate(make_sample(list(enumerate(rounds)), split=False), P)
