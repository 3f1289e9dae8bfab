"""False alarms of `kts compare` on simulated runs of one experiment, and what it finds where sides do differ.

Without options it prints the tables that docs/measuring.md quotes; the seeds are fixed, so it prints them again.

    python -m bench compare --repetitions 400
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kts.model.summary import Estimate
from kts.stats.comparison import THRESHOLD, holm
from kts.stats.replicates import difference, pooled

ERRORS = (0.002, 0.010, 0.002, 0.012, 0.015, 0.025) * 2
"""Of one run, relative, for the twelve figures of two tenants, in the order of `kts.stats.comparison.FAMILY`."""
RATIOS = (4, 5, 10, 11)
"""Those that are DF99s."""
SIDES: dict[tuple[int, int], tuple[float, ...]] = {
    (1, 1): (0.0, 0.01, 0.015, 0.02, 0.03),
    (2, 2): (0.01, 0.03),
    (3, 3): (0.01, 0.03),
    (5, 5): (0.0, 0.01, 0.03),
    (10, 5): (0.01, 0.03),
}
"""Runs a side, and the standard deviations from run to run to try with them."""
Z = 1.959964


@dataclass(frozen=True)
class Found:
    """Shares of repetitions: with any alarm; with any where all figures are truly ``1 + threshold`` apart; in which a
    DF99 that is 10 or 20 % higher is found (mean over the four); of figures that are called the same."""

    alarms: float
    at_threshold: float
    ten: float
    twenty: float
    same: float


def runs(rng: np.random.Generator, count: int, between: float, truth: NDArray[np.float64]) -> list[list[Estimate]]:
    """``count`` runs of one side: per figure an estimate of each run, with the interval of its own error."""
    errors = np.array(ERRORS)
    spread = between * rng.normal(size=(count, len(errors))) + errors * rng.normal(size=(count, len(errors)))
    logs = np.log(truth) + spread
    figures = np.exp(np.stack([logs - Z * errors, logs, logs + Z * errors]))
    return [
        [Estimate(lo=float(lo), estimate=float(value), hi=float(hi)) for lo, value, hi in figures[:, :, k].T]
        for k in range(len(errors))
    ]


def judged(
    a: Sequence[Sequence[Estimate]], b: Sequence[Sequence[Estimate]], threshold: float
) -> tuple[list[bool], list[bool]]:
    """Per figure: whether it differs, whether it is the same, as `kts.stats.comparison.compare` has it."""
    found = [one for one in map(difference, a, b) if not isinstance(one, str)]
    adjusted = holm([one.p_beyond(threshold) for one in found])
    return [p < 0.05 for p in adjusted], [one.within(threshold) for one in found]


def simulate(
    sides: tuple[int, int], between: float, *, repetitions: int, threshold: float = THRESHOLD, seed: int = 1
) -> Found:
    """One row of the table."""
    none = np.ones(len(ERRORS))
    ten, twenty = none.copy(), none.copy()
    ten[list(RATIOS)], twenty[list(RATIOS)] = 1.1, 1.2
    rng = np.random.default_rng([seed, *sides, round(1000 * between)])
    rows = []
    for _ in range(repetitions):
        a = runs(rng, sides[0], between, none)
        alarm, same = judged(a, runs(rng, sides[1], between, none), threshold)
        edge, _ = judged(a, runs(rng, sides[1], between, none * (1 + threshold)), threshold)
        more = [judged(a, runs(rng, sides[1], between, truth), threshold)[0] for truth in (ten, twenty)]
        found_ten, found_twenty = (_share([found[k] for k in RATIOS]) for found in more)
        rows.append((float(any(alarm)), float(any(edge)), found_ten, found_twenty, _share(same)))
    return Found(*(float(value) for value in np.mean(rows, axis=0)))


def _share(told: Sequence[bool]) -> float:
    return sum(told) / len(told)


def coverage(count: int, between: float, *, repetitions: int, seed: int = 2) -> tuple[float, float]:
    """How often `pooled` of ``count`` runs holds the true DF99, and the median width of its interval."""
    rng = np.random.default_rng([seed, count, round(1000 * between)])
    held, widths = 0, []
    for _ in range(repetitions):
        found = pooled(runs(rng, count, between, np.ones(len(ERRORS)))[RATIOS[0]]).estimate
        lo, hi = found.lo or math.nan, found.hi or math.nan
        held += lo <= 1 <= hi
        widths.append(hi - lo)
    return held / repetitions, float(np.median(widths))


def alarm_table(repetitions: int, threshold: float = THRESHOLD) -> Iterator[str]:
    """Lines of Markdown."""
    yield (
        "| runs, A and B | between runs | any alarm | at the threshold | DF99 10 % higher: found | 20 % higher: found "
        "| called the same |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for sides, betweens in SIDES.items():
        for between in betweens:
            one = simulate(sides, between, repetitions=repetitions, threshold=threshold)
            cells = [one.alarms, one.at_threshold, one.ten, one.twenty, one.same]
            shares = " | ".join(f"{100 * cell:.1f} %" for cell in cells)
            yield f"| {sides[0]}, {sides[1]} | {100 * between:g} % | {shares} |"


def coverage_table(repetitions: int) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| runs | between runs | coverage | width |"
    yield "|---:|---:|---:|---:|"
    for count in (2, 3, 5, 10):
        for between in (0.0, 0.01, 0.03):
            held, width = coverage(count, between, repetitions=repetitions)
            yield f"| {count} | {100 * between:g} % | {100 * held:.1f} % | {width:.3f} |"


def main(arguments: Sequence[str]) -> int:
    """Prints both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    given = parser.parse_args(arguments)
    for line in alarm_table(given.repetitions, given.threshold):
        print(line, flush=True)
    print()
    for line in coverage_table(given.repetitions):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
