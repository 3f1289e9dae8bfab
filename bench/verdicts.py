"""How often verdicts and the caution of a phase lock are right, on simulated runs whose truth is known.

Without options it prints the tables that docs/measuring.md quotes; the seeds are fixed, so it prints them again.

    python -m bench verdicts --repetitions 100
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kts.stats.degradation import ratio_estimate
from kts.stats.phase import PhaseLock, block_phases, lock
from kts.stats.sample import FloatArray, make_sample
from kts.stats.verdict import Kind, judge, relevance, settled

KINDS: tuple[Kind, ...] = ("worse", "better", "no-change", "undetermined")
Starts = NDArray[np.int64]
Draw = Callable[[np.random.Generator], Starts]


@dataclass(frozen=True)
class Noise:
    """Lognormal latencies: deviations ``within`` a block and ``between`` the levels of blocks."""

    within: float = 0.1
    between: float = 0.0

    def block(self, rng: np.random.Generator, n: int, factor: float = 1.0) -> FloatArray:
        """Independent latencies of one block (ms), slower by ``factor``."""
        return np.asarray(3.6 * factor * np.exp(rng.normal(0, self.between)) * rng.lognormal(0.0, self.within, n))


@dataclass
class Outcomes:
    """How often each kind of verdict came out, how often it was relevant, and after how many rounds in all."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    relevant: int = 0
    rounds: int = 0


def stopped(
    factor: float, noise: Noise, precision: float, *, repetitions: int, per_round: int = 100, most: int = 60
) -> Outcomes:
    """Verdicts where the true DF is ``factor`` and the stop rule is asked after every round from the tenth, ``most``
    rounds at most."""
    outcomes = Outcomes()
    for repetition in range(repetitions):
        rng = np.random.default_rng([4, repetition])
        solo: list[tuple[int, FloatArray]] = []
        shared: list[tuple[int, FloatArray]] = []
        for number in range(most):
            solo.append((number, noise.block(rng, per_round)))
            shared.append((number, noise.block(rng, per_round, factor)))
            if number < 9:
                continue
            samples = [make_sample(side, split=False) for side in (shared, solo)]
            df = ratio_estimate(samples[0], 0.99, samples[1], 0.99)
            if settled(df, precision):
                break
        outcomes.kinds[judge(df, precision)[0]] += 1
        outcomes.relevant += relevance(df, precision) is True
        outcomes.rounds += number + 1
    return outcomes


def classic(between: float, *, repetitions: int, n: int = 800, precision: float = 0.05) -> Counter[Kind]:
    """Kinds of verdict on two identical conditions of one block each, whose levels differ by ``between``."""
    kinds: Counter[Kind] = Counter()
    for repetition in range(repetitions):
        rng = np.random.default_rng([5, repetition])
        shared, solo = (make_sample([(0, Noise(0.1, between).block(rng, n))], split=True) for _ in range(2))
        kinds[judge(ratio_estimate(shared, 0.99, solo, 0.99), precision)[0]] += 1
    return kinds


def closed(rng: np.random.Generator, think_ms: float, jitter: float, service_ms: float, length_ms: float) -> Starts:
    """Starts (ns) of a closed loop for ``length_ms``, from a phase at random."""
    n = int(length_ms / (think_ms * (1 - jitter) + service_ms)) + 2
    cycles = service_ms * rng.lognormal(0, 0.02, n) + think_ms * rng.uniform(1 - jitter, 1 + jitter, n)
    at_ms = rng.uniform(0, cycles[0]) + np.cumsum(cycles) - cycles[0]
    return np.asarray(at_ms[at_ms < length_ms] * 1e6, dtype=np.int64)


def periodic(rng: np.random.Generator, period_ms: float, length_ms: float) -> Starts:
    """Starts (ns) of a trace with one period, from an offset at random."""
    return np.asarray(np.arange(rng.uniform(0, period_ms), length_ms, period_ms) * 1e6, dtype=np.int64)


def poisson(rng: np.random.Generator, interval_ms: float, length_ms: float) -> Starts:
    """Starts (ns) of a Poisson process."""
    found = np.sort(rng.uniform(0, length_ms, rng.poisson(length_ms / interval_ms)))
    return np.asarray(found * 1e6, dtype=np.int64)


def found_lock(own: Draw, other: Draw, blocks: int, seed: int, *, busy_ms: float = 4.0) -> PhaseLock | None:
    """What the caution goes by, for iterations that take ``busy_ms`` in ``blocks`` blocks of independent phases."""
    rng = np.random.default_rng([6, seed])
    found = []
    for _ in range(blocks):
        starts = own(rng)
        found.append(block_phases(starts, starts + round(busy_ms * 1e6), other(rng)))
    return lock(found)


def alarms(own: Draw, other: Draw, blocks: int, *, repetitions: int) -> float:
    """Fraction of runs that are called locked."""
    return sum(found_lock(own, other, blocks, seed) is not None for seed in range(repetitions)) / repetitions


def pacings(length_ms: float) -> dict[str, tuple[Draw, Draw]]:
    """Pairs of tenants, by name: what starts, and the neighbour whose cycles its phases are taken in."""
    return {
        "closed, 100 and 150 ms +-50 %": (
            lambda rng: closed(rng, 100, 0.5, 3.6, length_ms),
            lambda rng: closed(rng, 150, 0.5, 20.7, length_ms),
        ),
        "closed, 100 and 100 ms +-50 %": (
            lambda rng: closed(rng, 100, 0.5, 3.6, length_ms),
            lambda rng: closed(rng, 100, 0.5, 3.6, length_ms),
        ),
        "Poisson, 100 and 150 ms": (
            lambda rng: poisson(rng, 100, length_ms),
            lambda rng: poisson(rng, 150, length_ms),
        ),
        "trace, 50 beside 70 ms (5:7)": (
            lambda rng: periodic(rng, 50, length_ms),
            lambda rng: periodic(rng, 70, length_ms),
        ),
        "trace, 100 beside 150 ms (2:3)": (
            lambda rng: periodic(rng, 100, length_ms),
            lambda rng: periodic(rng, 150, length_ms),
        ),
        "trace, 70 beside 80 ms (7:8)": (
            lambda rng: periodic(rng, 70, length_ms),
            lambda rng: periodic(rng, 80, length_ms),
        ),
    }


def main(argv: Sequence[str] = ()) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench verdicts")
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--precision", type=float, default=0.05)
    given = parser.parse_args(argv)
    repetitions, x = given.repetitions, given.precision
    print(f"verdicts with the stop rule at X = {x:.3g}, 10 to 60 rounds")
    for noise, per_round in ((Noise(0.1), 100), (Noise(0.2), 400), (Noise(0.1, between=0.03), 100)):
        for times in (0.0, 0.5, 1.2, 2.0):
            found = stopped(1 + times * x, noise, x, repetitions=repetitions, per_round=per_round)
            shares = "  ".join(f"{kind} {found.kinds[kind] / repetitions:6.1%}" for kind in KINDS)
            print(
                f"within {noise.within:.0%} between {noise.between:.0%} n={per_round}  DF99 1+{times:.1f}X  {shares}  "
                f"relevant {found.relevant / repetitions:6.1%}  {found.rounds / repetitions:.1f} rounds",
                flush=True,
            )
    print("one block of 800 per condition, both the same: verdicts of worse or better, which are false")
    for between in (0.0, 0.05, 0.15):
        kinds = classic(between, repetitions=repetitions, precision=x)
        print(f"between blocks {between:4.0%}  {(kinds['worse'] + kinds['better']) / repetitions:6.1%}")
    print("called locked to the neighbour: the first of the two")
    for blocks, seconds in ((1, 1.0), (1, 6.0), (10, 0.7), (10, 6.0), (30, 0.5)):
        for name, (own, other) in pacings(1e3 * seconds).items():
            share = alarms(own, other, blocks, repetitions=repetitions)
            print(f"blocks {blocks:2} of {seconds:.1f} s  {name:32} {share:6.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
