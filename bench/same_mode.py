"""How often a run in modes shows a difference between two names of one mode (A/A), on simulated rounds.

Each run: two tenants, one mode under two names, by the intervals and the rule with which `kts run --modes` and
`kts choose` say that tails differ. At most 7 of 100 may; the intervals hold together with 95 %. Beside it, how often a
mode whose first tenant's p99 is longer by a factor is told apart. The seeds are fixed.

    python -m bench same_mode --runs 100
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from bench.gate import ITERATIONS, NAMES, NOISES, Noise
from kts.stats.choosing import differs, together

MOST = 7
"""Of 100 runs of one mode under two names."""
ROUNDS = (6, 20)
FACTORS = (1.0, 1.1, 1.3)


def shown(noise: Noise, factor: float, rounds: int, runs: int) -> tuple[int, int]:
    """Of so many runs, those that show a difference, and those that refuse the interval of a tenant."""
    found = refused = 0
    for run in range(runs):
        rng = np.random.default_rng([run, rounds, round(1000 * factor), len(noise.name)])
        ratios = together(
            {name: noise.latencies(rng, rounds, factor if k == 0 else 1.0) for k, name in enumerate(NAMES)}
        )
        found += any(map(differs, ratios.values()))
        refused += any(one.lo is None for one in ratios.values())
    return found, refused


def main(arguments: Sequence[str]) -> int:
    """Prints the table; exit code 1 where one mode under two names differs too often, by more than chance explains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args(arguments).runs
    print(f"Runs of {runs} that show a difference; {ITERATIONS} iterations a block.\n")
    heads = [f"{rounds} rounds, {factor:g} times" for rounds in ROUNDS for factor in FACTORS]
    print(f"| noise | {' | '.join(heads)} | refused |\n|---|{'---:|' * (len(heads) + 1)}")
    same: list[int] = []
    for noise in NOISES:
        cells = {(rounds, factor): shown(noise, factor, rounds, runs) for rounds in ROUNDS for factor in FACTORS}
        same += [found for (_, factor), (found, _) in cells.items() if factor == 1.0]
        refused = sum(missing for _, missing in cells.values())
        print(f"| {noise.name} | {' | '.join(str(found) for found, _ in cells.values())} | {refused} |", flush=True)
    wrong, count = sum(same), runs * len(same)
    worst = runs - max(same)
    print(f"\nOne mode under two names: no difference in {count - wrong} of {count}, at worst in {worst} of {runs}.")
    allowed = MOST / 100 * count
    return int(wrong > allowed + 3 * allowed**0.5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
