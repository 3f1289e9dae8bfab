"""Coverage of the intervals on simulated records: how often they hold the truth, and how wide they are.

Without options it prints the tables that docs/measuring.md quotes; the seeds are fixed, so it prints them again.

    python -m bench coverage --repetitions 1000
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kts.stats.degradation import Bootstrap
from kts.stats.quantiles import quantile_estimate
from kts.stats.sample import FloatArray, make_sample
from kts.stats.verdict import half_width

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def lognormal(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Independent lognormal latencies."""
    return np.asarray(3.6 * rng.lognormal(0.0, 0.2, n))


def bimodal(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Independent; 3 % of the iterations wait for a neighbour's slice."""
    return np.asarray(rng.normal(3.6, 0.05, n) + (rng.random(n) < 0.03) * rng.uniform(2.0, 2.5, n))


def bursts(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Strongly dependent: slow iterations (3 %) come in runs of 4 on average, as beside a neighbour that works in
    bursts. The fraction beyond p99 varies 2.7 times as much as with independent iterations."""
    mean_run, share = 4.0, 0.03
    runs = max(20, n // 50)
    while True:
        fast = rng.geometric(share / (mean_run * (1 - share)), runs)
        slow = rng.geometric(1 / mean_run, runs)
        lengths = np.ravel(np.column_stack([fast, slow]))
        if lengths.sum() >= 2 * n:
            break
        runs *= 2
    state = np.repeat(np.tile([False, True], runs), lengths)
    begin = int(rng.integers(0, n))
    is_slow = state[begin : begin + n]
    return np.asarray(rng.normal(3.6, 0.05, n) + is_slow * rng.uniform(2.0, 2.5, n))


def round_robin(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A paced tenant drifts through the neighbour's cycle, and waits where it is busy.

    The phase moves on by think times of +-5 % jitter, so slow iterations come in runs; which of them are
    the slowest 1 % is nearly independent.
    """
    cycle = 150.0
    start = rng.uniform(0, cycle) + np.cumsum(rng.uniform(0.95, 1.05, n) * 155.0)
    phase = start % cycle
    busy = np.maximum(0.0, 21.0 - phase)
    return np.asarray(rng.normal(3.6, 0.03, n) + np.minimum(busy, 2.26) * rng.uniform(0.9, 1.1, n))


CASES: dict[str, Draw] = {"lognormal": lognormal, "bimodal": bimodal, "round-robin": round_robin, "bursts": bursts}


def quantile_coverage(
    draw: Draw, p: float, n: int, rounds: int, *, repetitions: int, seed: int = 1
) -> tuple[float, float]:
    """Fraction of intervals of quantile ``p`` that hold the truth, and their median width relative to it."""
    truth = float(
        np.quantile(np.concatenate([draw(np.random.default_rng([seed, 9, i]), 20_000) for i in range(100)]), p)
    )
    held, widths = 0, []
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, repetition])
        blocks = [(r, draw(rng, n // rounds)) for r in range(rounds)]
        found = quantile_estimate(make_sample(blocks, split=rounds == 1), p)
        assert found.lo is not None
        assert found.hi is not None
        held += found.lo <= truth <= found.hi
        widths.append((found.hi - found.lo) / truth)
    return held / repetitions, float(np.median(widths))


def aa_coverage(
    draw: Draw, between: float, n: int, rounds: int, *, repetitions: int, seed: int = 2, common: bool = False
) -> tuple[float, float]:
    """Fraction of DF99 intervals of two identical conditions that hold 1, and their median width.

    ``between``: relative standard deviation of the blocks' levels, drawn per block, or with ``common`` per round.
    """
    held, widths = 0, []
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, repetition])
        sides = []
        levels = rng.normal(0, between, rounds)
        for _ in range(2):
            mine = levels if common else rng.normal(0, between, rounds)
            blocks = [(r, draw(rng, n // rounds) * np.exp(mine[r])) for r in range(rounds)]
            sides.append(make_sample(blocks, split=rounds == 1))
        found = Bootstrap(rounds=tuple(range(rounds)), seed=repetition).ratio(sides[0], 0.99, sides[1], 0.99)
        assert found.lo is not None
        assert found.hi is not None
        held += found.lo <= 1 <= found.hi
        widths.append(found.hi - found.lo)
    return held / repetitions, float(np.median(widths))


def stopping_coverage(
    draw: Draw, between: float, per_round: int, *, precision: float, repetitions: int, seed: int = 3
) -> tuple[float, float]:
    """Fraction of DF99 intervals that hold 1 when an A/A run ends at the first look (round 10, 11, ... 60) that
    finds the interval within ``precision``; and the mean number of rounds."""
    held, used = 0, []
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, repetition])
        sides: list[list[tuple[int, FloatArray]]] = [[], []]
        for number in range(60):
            for side in sides:
                side.append((number, draw(rng, per_round) * np.exp(rng.normal(0, between))))
            if number < 9:
                continue
            above, below = (make_sample(list(side), split=False) for side in sides)
            found = Bootstrap(rounds=tuple(range(number + 1)), seed=repetition).ratio(above, 0.99, below, 0.99)
            if (half_width(found) or 1.0) <= precision:
                break
        assert found.lo is not None
        assert found.hi is not None
        held += found.lo <= 1 <= found.hi
        used.append(number + 1)
    return held / repetitions, float(np.mean(used))


def main(argv: Sequence[str] = ()) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench coverage")
    parser.add_argument("--repetitions", type=int, default=1000)
    repetitions = parser.parse_args(argv).repetitions
    print(f"p99 intervals at 95 %, {repetitions} repetitions: coverage, median relative width")
    for name, draw in CASES.items():
        for n, rounds in ((800, 1), (800, 10), (3000, 1), (3000, 10)):
            coverage, width = quantile_coverage(draw, 0.99, n, rounds, repetitions=repetitions)
            print(f"{name:12} n={n:5} rounds={rounds:3}  {coverage:6.1%}  {width:.3f}")
    print("A/A: DF99 interval of two identical conditions holds 1: coverage, median width")
    for name, draw in CASES.items():
        for between in (0.0, 0.03, 0.15):
            for n, rounds in ((800, 10), (3000, 10), (3000, 20), (3000, 1)):
                if rounds == 1 and between:
                    continue
                coverage, width = aa_coverage(draw, between, n, rounds, repetitions=repetitions)
                print(f"{name:12} between={between:.2f} n={n:5} rounds={rounds:3}  {coverage:6.1%}  {width:.3f}")
    print("A/A with sequential stopping at +-5 %: coverage, mean number of rounds")
    for between in (0.0, 0.03):
        coverage, rounds_used = stopping_coverage(
            lognormal, between, 100, precision=0.05, repetitions=max(repetitions // 5, 1)
        )
        print(f"{'lognormal':12} between={between:.2f} 100 per round  {coverage:6.1%}  {rounds_used:.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
