"""How often a run in modes shows a difference between two names of one mode (A/A), on simulated rounds.

Each run: two tenants, one mode under two names, by the intervals and the rules with which `kts run --modes` and
`kts choose` say that tails differ, or that one mode does more work. At most 7 of 100 may; the intervals of tails hold
together with 95 %, those of work with 97.5 %. Beside it, how often a mode whose first tenant's p99 is longer by a
factor is told apart, and one in which both tenants do 5 % less work. The seeds are fixed.

    python -m bench same_mode --runs 100
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bench.gate import ITERATIONS, NAMES, NOISES, Noise
from kts.stats.apart import WORK_CONFIDENCE, WorkDone, differs, together
from kts.stats.by_round import Pace
from kts.stats.sample import FloatArray

MOST = 7
"""Of 100 runs of one mode under two names."""
ROUNDS = (6, 20)
FACTORS = (1.0, 1.1, 1.3)
LESS = 0.95
"""The work of a mode that does less."""


def shown(noise: Noise, factor: float, rounds: int, runs: int) -> Counter[str]:
    """Of so many runs, those that show a difference of a ``tail``, of ``work``, of ``either``, and of work where there
    is `LESS` besides (``less``); those that refuse the interval of a tenant's p99 (``refused``)."""
    found: Counter[str] = Counter()
    for run in range(runs):
        rng = np.random.default_rng([run, rounds, round(1000 * factor), len(noise.name)])
        pairs = {name: noise.latencies(rng, rounds, factor if k == 0 else 1.0) for k, name in enumerate(NAMES)}
        alone = {name: _pace(noise.latencies(rng, rounds, 1.0).a) for name in NAMES}
        ratios = together(pairs)
        a, b, less = (
            WorkDone(alone, {name: _pace(getattr(one, side), longer) for name, one in pairs.items()}).work()
            for side, longer in (("a", 1.0), ("b", 1.0), ("b", 1 / LESS))
        )
        tail, work = any(map(differs, ratios.values())), differs(b.over(a).interval(WORK_CONFIDENCE))
        found.update(
            tail=tail,
            work=work,
            either=tail or work,
            less=differs(less.over(a).interval(WORK_CONFIDENCE)),
            refused=any(one.lo is None for one in ratios.values()),
        )
    return found


def _pace(blocks: Sequence[FloatArray], longer: float = 1.0) -> Pace:
    """Of iterations without pauses (ms), one block a round."""
    return {number: (len(ms), round(longer * 1e6 * float(ms.sum()))) for number, ms in enumerate(blocks)}


def main(arguments: Sequence[str]) -> int:
    """Prints the tables; exit code 1 where one mode under two names differs too often, by more than chance explains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args(arguments).runs
    print(f"Runs of {runs} that show a difference; {ITERATIONS} iterations a block.\n\nOf a p99:\n")
    heads = [f"{rounds} rounds, {factor:g} times" for rounds in ROUNDS for factor in FACTORS]
    print(f"| noise | {' | '.join(heads)} | refused |\n|---|{'---:|' * (len(heads) + 1)}")
    same: list[tuple[Noise, Mapping[int, Counter[str]]]] = []
    for noise in NOISES:
        cells = {(rounds, factor): shown(noise, factor, rounds, runs) for rounds in ROUNDS for factor in FACTORS}
        same.append((noise, {rounds: cells[rounds, 1.0] for rounds in ROUNDS}))
        refused = sum(one["refused"] for one in cells.values())
        print(f"| {noise.name} | {' | '.join(str(one['tail']) for one in cells.values())} | {refused} |", flush=True)
    what = {"work": "same work", "less": f"{LESS:g} times the work", "either": "same: work or a p99"}
    heads = [f"{rounds} rounds, {words}" for rounds in ROUNDS for words in what.values()]
    print(f"\nOf work:\n\n| noise | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    for noise, by_rounds in same:
        print(f"| {noise.name} | {' | '.join(str(one[kind]) for one in by_rounds.values() for kind in what)} |")
    found = [one for _, by_rounds in same for one in by_rounds.values()]
    count, wrong = runs * len(found), {}
    for kind in ("tail", "work", "either"):
        wrong[kind], most = sum(one[kind] for one in found), max(one[kind] for one in found)
        print(
            f"\nOne mode under two names, {kind}: no difference in {count - wrong[kind]} of {count}, at worst in ",
            end="",
        )
        print(f"{runs - most} of {runs}.")
    allowed = MOST / 100 * count
    return int(wrong["either"] > allowed + 3 * allowed**0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
