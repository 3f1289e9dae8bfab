"""Coverage of the intervals on simulated records: how often they hold the truth, how wide they are, what is refused.

Without options it prints the tables that docs/measuring.md quotes; the seeds are fixed, so it prints them again.

    python -m bench coverage --repetitions 200
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from kts.model.summary import Estimate
from kts.stats.degradation import ratio_estimate
from kts.stats.proportions import fraction_within
from kts.stats.quantiles import quantile_estimate
from kts.stats.sample import FloatArray, LatencySample, make_sample
from kts.stats.verdict import settled

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Array]
"""(generator, rounds, iterations a round) -> latencies in ms, shape ``(rounds, iterations)``, rounds independent."""

FIGURES = ("p99", "df99", "goodput")
SHAPES = ((3, 300), (3, 1000), (10, 300), (30, 100), (30, 300))
"""Rounds, iterations a round."""

CLASSIC = (1, 3000)
DEADLINE = 0.98
"""Goodput's deadline is this quantile of the truth."""

TRUTH = (20_000, 200)
FEWEST_GIVEN = 20
"""A coverage of fewer figures would be one of chance."""


def lognormal(rng: np.random.Generator, rounds: int, n: int, median: float = 3.6) -> Array:
    """Independent lognormal latencies."""
    return np.asarray(median * rng.lognormal(0.0, 0.2, (rounds, n)))


def bimodal(rng: np.random.Generator, rounds: int, n: int) -> Array:
    """Independent; 3 % of the iterations wait for a neighbour's slice."""
    slow = rng.random((rounds, n)) < 0.03
    return np.asarray(rng.normal(3.6, 0.05, (rounds, n)) + slow * rng.uniform(2.0, 2.5, (rounds, n)))


def round_robin(rng: np.random.Generator, rounds: int, n: int) -> Array:
    """A paced tenant drifts through the neighbour's cycle, and waits where it is busy.

    The phase moves on by think times of +-5 % jitter, so slow iterations come in runs; which of them are
    the slowest 1 % is nearly independent.
    """
    cycle = 150.0
    steps = rng.uniform(0.95, 1.05, (rounds, n)) * 155.0
    phase = (rng.uniform(0, cycle, (rounds, 1)) + np.cumsum(steps, axis=1)) % cycle
    busy = np.maximum(0.0, 21.0 - phase)
    return np.asarray(rng.normal(3.6, 0.03, phase.shape) + np.minimum(busy, 2.26) * rng.uniform(0.9, 1.1, phase.shape))


def pareto(rng: np.random.Generator, rounds: int, n: int) -> Array:
    """Independent with a heavy tail (index 3)."""
    return np.asarray(3.6 * (1 + rng.pareto(3.0, (rounds, n))))


def quantised(rng: np.random.Generator, rounds: int, n: int, *, median: float, tick: float) -> Array:
    """Independent lognormal latencies, read from a stopwatch of that step (ms)."""
    return np.asarray(np.round(lognormal(rng, rounds, n, median) / tick) * tick)


def autoregressive(rng: np.random.Generator, rounds: int, n: int, *, phi: float) -> Array:
    """Lognormal latencies whose logarithms are an AR(1) process."""
    from scipy.signal import lfilter  # takes seconds, and who only looks for tests needs none

    noise = rng.normal(size=(rounds, n))
    noise[:, 1:] *= np.sqrt(1 - phi**2)
    return np.asarray(3.6 * np.exp(0.2 * lfilter([1.0], [1.0, -phi], noise, axis=1)))


def slow_runs(rng: np.random.Generator, rounds: int, n: int) -> Array:
    """Slow iterations (3 %) come in runs of 4 to 10, as beside a neighbour that works in bursts."""
    share, mean_run = 0.03, 7.0
    runs = 2 * n // 100 + 40  # pairs of a fast and a slow stretch: over 2 n iterations
    is_slow = np.empty((rounds, n), dtype=bool)
    for row in is_slow:
        fast = rng.geometric(share / (mean_run * (1 - share)), runs)
        lengths = np.column_stack([fast, rng.integers(4, 11, runs)]).ravel()
        state = np.repeat(np.tile([False, True], runs), lengths)
        row[:] = state[(begin := int(rng.integers(0, n))) : begin + n]
    shape = (rounds, n)
    return np.asarray(rng.normal(3.6, 0.05, shape) + is_slow * rng.uniform(2.0, 2.5, shape))


@dataclass(frozen=True)
class Cell:
    """Latencies whose truth is known. ``between``: standard deviation of the logarithm of the rounds' levels."""

    draw: Draw
    between: float = 0.0
    independent: bool = False

    def latencies(self, rng: np.random.Generator, rounds: int, n: int) -> Array:
        """Shape ``(rounds, n)``, in ms, each round at a level of its own."""
        values = self.draw(rng, rounds, n)
        return values * np.exp(rng.normal(0, self.between, (rounds, 1))) if self.between else values


CELLS: dict[str, Cell] = {
    "lognormal": Cell(lognormal, independent=True),
    "bimodal": Cell(bimodal, independent=True),
    "round-robin": Cell(round_robin, independent=True),
    "Pareto": Cell(pareto, independent=True),
    "3.6 ms read to 32 ns": Cell(partial(quantised, median=3.6, tick=32e-6), independent=True),
    "20 us read to 1 us": Cell(partial(quantised, median=0.02, tick=1e-3), independent=True),
    "lognormal, levels 5 %": Cell(lognormal, 0.05),
    "bimodal, levels 5 %": Cell(bimodal, 0.05),
    "round-robin, levels 5 %": Cell(round_robin, 0.05),
    "lognormal, levels 15 %": Cell(lognormal, 0.15),
    "bimodal, levels 15 %": Cell(bimodal, 0.15),
    "round-robin, levels 15 %": Cell(round_robin, 0.15),
    "AR(1) 0.8": Cell(partial(autoregressive, phi=0.8)),
    "AR(1) 0.95": Cell(partial(autoregressive, phi=0.95)),
    "slow runs": Cell(slow_runs),
}


@dataclass
class Score:
    """What became of one figure over the repetitions. ``widths``: of the interval, relative to the truth."""

    repetitions: int
    held: int = 0
    widths: list[float] = field(default_factory=list)

    def add(self, found: Estimate, truth: float) -> None:
        """One repetition's figure; a refused one counts as not given."""
        if found.lo is not None and found.hi is not None:
            self.held += found.lo <= truth <= found.hi
            self.widths.append((found.hi - found.lo) / truth)

    @property
    def given(self) -> float:
        """Fraction of the repetitions that were not refused."""
        return len(self.widths) / self.repetitions

    @property
    def coverage(self) -> float:
        """Fraction of the given intervals that hold the truth."""
        return self.held / max(len(self.widths), 1)

    def cells(self) -> str:
        """Coverage, median width and what was refused, as cells of a Markdown table."""
        if not self.widths:
            return "- | - | 100 %"
        coverage = f"{self.coverage:.1%}" if len(self.widths) >= FEWEST_GIVEN else f"{self.held} of {len(self.widths)}"
        return f"{coverage} | {np.median(self.widths):.3g} | {1 - self.given:.1%}".replace("%", " %")


@lru_cache(maxsize=64)
def truth(name: str) -> tuple[float, float, float]:
    """(p99, deadline, fraction within the deadline) over all levels of rounds: from 4 million latencies."""
    values = CELLS[name].latencies(np.random.default_rng(99), *TRUTH).ravel()
    p99, deadline = np.quantile(values, [0.99, DEADLINE])
    return float(p99), float(deadline), float((values <= deadline).mean())


def sampled(values: Array) -> LatencySample:
    """A sample of these rounds; of one block, segments."""
    made = make_sample(list(enumerate(values)), split=len(values) == 1)
    assert made is not None
    return made


def scores(
    name: str, rounds: int, n: int, repetitions: int, *, figures: Sequence[str] = FIGURES, seed: int = 1
) -> dict[str, Score]:
    """Every figure's score on one kind of data. DF99 is that of two sides that are alike: the truth is 1."""
    cell, (p99, deadline, within) = CELLS[name], truth(name)
    found = {figure: Score(repetitions) for figure in figures}
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), rounds, n, repetition])
        sample = sampled(cell.latencies(rng, rounds, n))
        if "p99" in found:
            found["p99"].add(quantile_estimate(sample, 0.99), p99)
        if "goodput" in found:
            found["goodput"].add(fraction_within(sample, deadline), within)
        if "df99" in found:
            other = sampled(cell.latencies(rng, rounds, n))
            found["df99"].add(ratio_estimate(other, 0.99, sample, 0.99), 1.0)
    return found


def paired_width(between: float, *, common: bool, repetitions: int, seed: int = 2) -> float:
    """Median width of DF99 of two lognormal sides, ten rounds of 150, whose levels are the rounds' or each its own."""
    widths = []
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, repetition])
        levels = rng.normal(0, between, (2, 10, 1))
        sides = [sampled(lognormal(rng, 10, 150) * np.exp(levels[0 if common else side])) for side in (0, 1)]
        found = ratio_estimate(sides[0], 0.99, sides[1], 0.99)
        assert found.lo is not None
        assert found.hi is not None
        widths.append(found.hi - found.lo)
    return float(np.median(widths))


def stopping_coverage(
    between: float, per_round: int, *, precision: float, repetitions: int, seed: int = 3
) -> tuple[float, float]:
    """Fraction of DF99 intervals that hold 1 when an A/A run ends at the first look (round 10, 11, ... 60) at which the
    stop rule finds it settled; and the mean number of rounds. Lognormal latencies."""
    held, used = 0, []
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, repetition])
        sides: list[list[tuple[int, FloatArray]]] = [[], []]
        for number in range(60):
            for side in sides:
                side.append((number, lognormal(rng, 1, per_round)[0] * np.exp(rng.normal(0, between))))
            if number < 9:
                continue
            above, below = (make_sample(side, split=False) for side in sides)
            found = ratio_estimate(above, 0.99, below, 0.99)
            if settled(found, precision):
                break
        assert found.lo is not None
        assert found.hi is not None
        held += found.lo <= 1 <= found.hi
        used.append(number + 1)
    return held / repetitions, float(np.mean(used))


def _row(job: tuple[str, int, int, int]) -> str:
    name, rounds, n, repetitions = job
    found = scores(name, rounds, n, repetitions)
    return f"| {name} | {rounds} x {n} | " + " | ".join(found[figure].cells() for figure in FIGURES) + " |"


def _stopped(job: tuple[float, int]) -> str:
    between, repetitions = job
    coverage, rounds = stopping_coverage(between, 100, precision=0.05, repetitions=repetitions)
    return f"| {between:.0%} | {coverage:.1%} | {rounds:.1f} |".replace("%", " %")


def main(argv: Sequence[str] = ()) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench coverage")
    parser.add_argument("--repetitions", type=int, default=200)
    repetitions = parser.parse_args(argv).repetitions
    jobs = [(name, *shape, repetitions) for name in CELLS for shape in SHAPES]
    jobs += [(name, *CLASSIC, repetitions) for name, cell in CELLS.items() if not cell.between]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        print(f"95 % intervals, {repetitions} repetitions: coverage of those given, median width, refused\n")
        print("| data | rounds | p99 | width | refused | DF99 | width | refused | goodput | width | refused |")
        print("|" + "---|" * 11)
        for row in pool.map(_row, jobs):
            print(row, flush=True)
        print("\nDF99 of two like sides with sequential stopping at +-5 %: coverage, mean number of rounds\n")
        print("| levels | coverage | rounds |\n|---|---|---|")
        for row in pool.map(_stopped, [(between, repetitions) for between in (0.0, 0.03)]):
            print(row)


if __name__ == "__main__":
    main(sys.argv[1:])
