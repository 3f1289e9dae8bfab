"""Ratios of quantiles (DF, jitter) with bootstrap intervals that know both blocks and iterations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kts.model.summary import Estimate
from kts.stats.dependence import t_over_z, weight
from kts.stats.quantiles import refusal, refused
from kts.stats.sample import Sample

REPLICATES = 2000
LEAST_MS = 1e-9
"""Stands for a latency of 0 (a coarse stopwatch) on the log scale."""


@dataclass
class Bootstrap:
    """Two-stage bootstrap of one tenant: the same resampled rounds serve every clock and quantile.

    Stage 1 resamples blocks, stage 2 iterations within blocks. Run one inside the other they count the
    variance within blocks twice, and percentiles of ten blocks are too narrow (Davison & Hinkley 1997,
    section 3.8). So each stage gives an interval of its own on the log scale. Stage 1 is unbiased for the
    whole variance once multiplied by k / (k - 1), and takes Student's t for its k - 1 degrees of freedom.
    Stage 2 is what n independent iterations would allow. The result lies between the two, at the weight
    that the spread between blocks deserves (`kts.stats.dependence.weight`): stage 2 where blocks differ
    no more than their iterations explain, stage 1 where they do.

    ``rounds``: every round in which the tenant has iterations; units drawn together.
    """

    rounds: tuple[int, ...]
    confidence: float = 0.95
    seed: int = 0
    replicates: int = REPLICATES
    _weights: dict[object, NDArray[np.float64]] = field(default_factory=dict)
    _stages: dict[tuple[int, float], tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    _known: list[Sample] = field(default_factory=list)

    def ratio(
        self,
        above: Sample | None,
        p_above: float,
        below: Sample | None,
        p_below: float,
        *,
        missing: str = "",
        names: tuple[str, str] = ("", ""),
    ) -> Estimate:
        """Quantile ``p_above`` of one sample over quantile ``p_below`` of the other, with its interval.

        Refused where either quantile would be; ``names`` say which sample lacks iterations.
        """
        if above is None or below is None:
            return refused(missing or "no iterations")
        for sample, p, name in ((above, p_above, names[0]), (below, p_below, names[1])):
            if reason := refusal(sample.n, p, self.confidence):
                return refused(f"{name} {reason}".strip())
        top, bottom = above.quantile(p_above), below.quantile(p_below)
        if not (top > 0 and bottom > 0):
            return refused("a quantile is not above zero")
        estimate = float(np.log(top) - np.log(bottom))
        blocks = self._stage(above, p_above)[0] - self._stage(below, p_below)[0]
        iterations = self._stage(above, p_above)[1] - self._stage(below, p_below)[1]
        if self._reaches_zero(above, p_above, below, p_below):
            return refused("the interval reaches latencies of zero")
        k, degrees = self._degrees(above, p_above, below, p_below)
        unbiased = k / (k - 1)
        share = weight(unbiased * float(np.nanvar(blocks)) / max(float(np.var(iterations)), 1e-300), degrees)
        inflate = np.sqrt(unbiased) * t_over_z(round(degrees, 1), self.confidence)
        tails = [(1 - self.confidence) / 2, 1 - (1 - self.confidence) / 2]
        near = np.quantile(iterations, tails) - estimate
        far = inflate * (np.nanquantile(blocks, tails) - estimate)
        mixed = (1 - share) * near + share * far
        lo, hi = min(mixed[0], 0.0), max(mixed[1], 0.0)
        return Estimate(
            estimate=float(np.exp(estimate)), lo=float(np.exp(estimate + lo)), hi=float(np.exp(estimate + hi))
        )

    def _reaches_zero(self, above: Sample, p_above: float, below: Sample, p_below: float) -> bool:
        """Whether an end of the interval would be made of `LEAST_MS`, which is no latency."""
        floor, tail = np.log(LEAST_MS) + 1e-6, (1 - self.confidence) / 2
        stages = (*self._stage(above, p_above), *self._stage(below, p_below))
        return any(float(np.mean(stage <= floor)) > tail for stage in stages)

    def _degrees(self, above: Sample, p_above: float, below: Sample, p_below: float) -> tuple[int, float]:
        """Units behind a ratio, and degrees of freedom of the spread between them (Welch's if drawn apart)."""
        if above is below or (above.rounds and below.rounds):
            k = max(len({*above.labels, *below.labels}), 2)
            return k, float(k - 1)
        pairs = ((above, p_above), (below, p_below))
        parts = [(float(np.nanvar(self._stage(s, p)[0])), max(len(s.units) - 1, 1)) for s, p in pairs]
        spread = sum(variance**2 / free for variance, free in parts)
        k = max(min(len(above.units), len(below.units)), 2)
        return k, sum(variance for variance, _ in parts) ** 2 / spread if spread > 0 else float(k - 1)

    def _stage(self, sample: Sample, p: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Log quantiles of both stages' replicates, each of shape ``(replicates,)``."""
        if not any(known is sample for known in self._known):
            self._known.append(sample)  # also keeps its id from being used again
        key = (id(sample), p)
        if key not in self._stages:
            blocks = np.log(np.maximum(sample.resampled(self._weights_of(sample), p), LEAST_MS))
            iterations = np.log(np.maximum(self._iterations(sample, p), LEAST_MS))
            self._stages[key] = blocks, iterations
        return self._stages[key]

    def _weights_of(self, sample: Sample) -> NDArray[np.float64]:
        """How often each unit is drawn in each resample, shape ``(replicates, k)``.

        Units that are rounds are drawn together with the same rounds of every other sample, so that
        what changes from round to round cancels in a ratio; segments are drawn per sample.
        """
        universe = self.rounds if sample.rounds else sample.labels
        key = universe if sample.rounds else id(sample)
        if key not in self._weights:
            k = len(universe)
            generator = np.random.default_rng([self.seed, 0, len(self._weights)])
            drawn = generator.multinomial(k, np.full(k, 1 / k), size=self.replicates)
            self._weights[key] = drawn.astype(np.float64)
        columns = [universe.index(label) for label in sample.labels]
        return self._weights[key][:, columns]

    def _iterations(self, sample: Sample, p: float) -> NDArray[np.float64]:
        """Quantile ``p`` of resamples of the iterations within every unit, shape ``(replicates,)``.

        Resampling a unit changes how many of its iterations are faster than the quantile: a binomial
        count. The resample's quantile is then read from the pool as many ranks away (Woodruff 1952).
        """
        n, sizes = sample.n, sample.sizes
        faster = sizes - sample.above(sample.quantile(p))
        order = next(i for i, known in enumerate(self._known) if known is sample)
        generator = np.random.default_rng([self.seed, 1 + order, round(p * 1e6)])
        drawn = generator.binomial(sizes, faster / sizes, size=(self.replicates, len(sizes))).sum(axis=1)
        position = np.clip((n - 1) * p + (faster.sum() - drawn), 0, n - 1)
        rank = np.floor(position).astype(np.int64)
        values = sample.at_ranks(np.concatenate([rank, rank + 1]))
        lower, upper = values[: len(rank)], values[len(rank) :]
        return np.asarray(lower + (upper - lower) * (position - rank), dtype=np.float64)
