"""False fails of `kts check --pair` on simulated pairs, what it finds, and whether its intervals hold the truth.

Each comparison is looked at after every round until it is decided or its limit of time is over, by the code that ends
real runs. Two tenants; where B is worse, the first one is. Without options it prints the tables that docs/gate.md
quotes; the seeds are fixed, so it prints them again.

    python -m bench gate --repetitions 50
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from bench.coverage import CELLS
from kts.model.gate import TOLERANCE
from kts.model.plan import Condition, Kernel, Pair, Plan, Tenant
from kts.stats.gate import FALSE_FAIL
from kts.stats.pair_gate import PairLooks
from kts.stats.pairs import Rounds
from kts.stats.spending import Spending

LIMIT_S = 600.0
BLOCK_S = 10.0
ROUND_S = 2 * (BLOCK_S + 0.3)
ITERATIONS = 1000
"""Of a block: 100 a second."""
NAMES = ("first", "second")


@dataclass(frozen=True)
class Noise:
    """A kind of latencies (`bench.coverage.CELLS`). Standard deviations of the logarithm of levels: ``rounds``: of both
    versions together; ``blocks``: of each version's block apart."""

    name: str
    cell: str
    rounds: float = 0.0
    blocks: float = 0.0

    def latencies(self, rng: np.random.Generator, count: int, factor: float) -> Rounds:
        """Of one tenant, B's times ``factor``."""
        cell = CELLS[self.cell]
        together = rng.normal(0, self.rounds, (count, 1))
        a, b = (
            cell.latencies(rng, count, ITERATIONS) * np.exp(together + rng.normal(0, self.blocks, (count, 1)))
            for _ in range(2)
        )
        return Rounds(list(a), list(b * factor))


NOISES = (
    Noise("lognormal (deviation 0.2)", "lognormal"),
    Noise("two modes, 3 % slow", "bimodal"),
    Noise("round-robin", "round-robin"),
    Noise("slow runs of 4 to 10", "slow runs"),
    Noise("AR(1) 0.8", "AR(1) 0.8"),
    Noise("lognormal, rounds differ by 5 %", "lognormal", rounds=0.05),
    Noise("lognormal, rounds differ by 15 %", "lognormal", rounds=0.15),
    Noise("two modes, rounds differ by 15 %", "bimodal", rounds=0.15),
    Noise("lognormal, blocks differ by 1 %", "lognormal", blocks=0.01),
    Noise("lognormal, rounds by 5, blocks by 2 %", "lognormal", rounds=0.05, blocks=0.02),
    Noise("Pareto (index 3)", "Pareto"),
)
ANSWERS = ("fail", "pass", "inconclusive")
FACTORS = (1.0, 1.05, 1.1, 1.2)


@dataclass
class Score:
    """What became of the comparisons of one kind. ``held``, ``intervals``: tenants' intervals at the stop. ``wrong``:
    fails of the second tenant, which is never worse."""

    answers: Counter[str] = field(default_factory=Counter)
    held: int = 0
    intervals: int = 0
    seconds: float = 0.0
    wrong: int = 0

    @property
    def count(self) -> int:
        """Of comparisons."""
        return sum(self.answers[kind] for kind in ANSWERS)


class Remembered(Spending):
    """The same looks come in every comparison, so what they need is computed once."""

    known: ClassVar[dict[tuple[float, ...], float]] = {}

    def __init__(self, alpha: float) -> None:
        super().__init__(alpha)
        self._looks: tuple[float, ...] = ()

    def look(self, units: float, fraction: float) -> float:
        """See Spending."""
        self._looks += (units, fraction)
        key = (self.alpha, *self._looks)
        if key not in self.known:
            anew = Spending(self.alpha)
            for before in zip(self._looks[::2], self._looks[1::2], strict=True):
                self.known[key] = anew.look(*before)
        return self.known[key]


def plan() -> Plan:
    """What the looks need of one."""
    both = {name: (f"{name}-a", f"{name}-b") for name in NAMES}
    tenants = tuple(
        Tenant(name=one, work=Kernel(workload="fft", size=64), seconds=BLOCK_S)
        for pair in both.values()
        for one in pair
    )
    conditions = tuple(
        Condition(name=f"shared-{s}", tenants=tuple(p[k] for p in both.values())) for k, s in enumerate("ab")
    )
    pair = Pair(a="a", b="b", tenants=both, asked=NAMES, tolerance=TOLERANCE)
    return Plan(
        name="pair",
        design="interleaved",
        tenants=tenants,
        conditions=conditions,
        rounds=4,
        max_rounds=1000,
        max_seconds=LIMIT_S,
        pair=pair,
    )


def compare(noise: Noise, factor: float, seed: Sequence[int], score: Score) -> None:
    """One comparison, to its end."""
    rng = np.random.default_rng(seed)
    whole = int(LIMIT_S / ROUND_S)
    drawn = {name: noise.latencies(rng, whole, factor if k == 0 else 1.0) for k, name in enumerate(NAMES)}
    looks = PairLooks(plan(), Remembered)
    for count in range(4, whole + 1):
        rounds = {name: one.first(count) for name, one in drawn.items()}
        looks.look(rounds, count, count * ROUND_S, last=count == whole)
        if looks.decided:
            break
    criteria = list(looks.criteria(count))
    kinds = [one.judgement for one in criteria]
    score.answers["fail" if "fail" in kinds else "pass" if set(kinds) == {"pass"} else "inconclusive"] += 1
    score.wrong += kinds[1] == "fail"
    score.seconds += count * ROUND_S
    for one, truth in zip(criteria, (factor, 1.0), strict=True):
        if one.measured.lo is not None and one.measured.hi is not None:
            score.intervals += 1
            score.held += one.measured.lo <= truth <= one.measured.hi


def scored(noise: Noise, factor: float, repetitions: int) -> Score:
    """All comparisons of one kind."""
    score = Score()
    for number in range(repetitions):
        compare(noise, factor, (number, round(1000 * factor), len(noise.name)), score)
    return score


def rows(found: dict[tuple[Noise, float], Score]) -> Iterator[str]:
    """The table."""
    heads = ("true B / A", "fail", "pass", "inconclusive", "seconds", "intervals that hold the truth")
    yield f"| noise | {' | '.join(heads)} |"
    yield f"|---|{'---:|' * len(heads)}"
    for (noise, factor), score in found.items():
        shares = " | ".join(f"{100 * score.answers[kind] / score.count:.0f} %" for kind in ANSWERS)
        held = f"{100 * score.held / max(score.intervals, 1):.1f} %"
        yield f"| {noise.name} | {factor:g} | {shares} | {score.seconds / score.count:.0f} | {held} |"


def totals(found: dict[tuple[Noise, float], Score]) -> Iterator[str]:
    """What the promises are about. The heaviest tail stands apart: its p99 is not known so well after so long."""
    for some, whose in ((NOISES[:-1], ""), (NOISES[-1:], f", {NOISES[-1].name}")):
        for factor in FACTORS:
            answers = sum((found[noise, factor].answers for noise in some), Counter())
            counts = {kind: answers[kind] for kind in ANSWERS}
            shares = ", ".join(f"{n} {kind} ({100 * n / sum(counts.values()):.1f} %)" for kind, n in counts.items())
            yield f"- B / A {factor:g}{whose}: {sum(counts.values())} comparisons: {shares}"
    held, intervals = sum(s.held for s in found.values()), sum(s.intervals for s in found.values())
    yield f"- fails of the second tenant, which is never worse: {sum(score.wrong for score in found.values())}"
    yield f"- intervals at the stop that hold the truth: {held} of {intervals} ({100 * held / intervals:.1f} %)"


def main(arguments: Sequence[str]) -> int:
    """Prints the tables; exit code 1 where more fail falsely than promised, by more than chance explains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args(arguments)
    kinds = [(noise, factor) for noise in NOISES for factor in FACTORS]
    with ProcessPoolExecutor(options.jobs) as pool:
        scores = pool.map(scored, *zip(*kinds, strict=True), [options.repetitions] * len(kinds))
        found = dict(zip(kinds, scores, strict=True))
    print("\n".join(rows(found)))
    print()
    print("\n".join(totals(found)))
    same = [score for (_, factor), score in found.items() if factor == 1.0]
    wrong, count = sum(score.answers["fail"] for score in same), options.repetitions * len(same)
    return int(wrong > FALSE_FAIL * count + 3 * (FALSE_FAIL * count) ** 0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
