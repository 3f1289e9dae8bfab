"""How often `kts.steady` leaves out what is steady, and how often it misses a slow start; on simulated series.

Without options it prints the tables that docs/measuring.md quotes; the seed is fixed.

    python -m bench steady --repetitions 100
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kts.steady import course

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]


def _runs(rng: np.random.Generator, n: int) -> Array:
    values = rng.lognormal(0, 0.05, n)
    for first in np.cumsum(rng.integers(30, 90, n)):
        values[first : first + int(rng.integers(4, 11))] *= 3
    return values


def _spikes(rng: np.random.Generator, n: int) -> Array:
    values = rng.lognormal(0, 0.05, n)
    values[::37] *= 20
    return values


def _correlated(rng: np.random.Generator, n: int) -> Array:
    from scipy.signal import lfilter  # takes seconds, and who only looks for tests needs none

    noise = rng.normal(0, 0.1 * np.sqrt(1 - 0.95**2), n + 200)
    return np.asarray(np.exp(lfilter([1.0], [1.0, -0.95], noise)[200:]))


def _wandering(rng: np.random.Generator, n: int) -> Array:
    values, at = rng.lognormal(0, 0.05, n), 0
    while at < n:
        stays = max(5, int(n * rng.uniform(0.05, 0.25)))
        values[at : at + stays] *= rng.choice([1.0, 1.3, 1.75])
        at += stays
    return values


def _rounds(rng: np.random.Generator, n: int) -> Array:
    return rng.lognormal(0, 0.05, n) * np.repeat(rng.lognormal(0, 0.05, 5), -(-n // 5))[:n]


SERIES: dict[str, Draw] = {
    "lognormal (deviation 0.2)": lambda rng, n: rng.lognormal(0, 0.2, n),
    "Pareto (index 1.5)": lambda rng, n: rng.pareto(1.5, n) + 1,
    "every 37th 20 times as slow": _spikes,
    "slow runs of 4 to 10": _runs,
    "two modes, 1 and 4": lambda rng, n: np.where(rng.random(n) < 0.5, 1.0, 4.0) * rng.lognormal(0, 0.05, n),
    "AR(1), 0.95, deviation 0.1": _correlated,
    "5 rounds, levels of 5 in 100": _rounds,
    "a host between 1, 1.3 and 1.75": _wandering,
}
LENGTHS = (60, 300, 3000)
STARTS = ((1.5, 60, 15), (4.0, 60, 15), (1.5, 300, 100), (4.0, 300, 200), (1.5, 3000, 200), (4.0, 3000, 200))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100)
    repetitions = parser.parse_args().repetitions
    print(f"| steady series | {' | '.join(f'{n}: left out / no steady state' for n in LENGTHS)} |")
    print(f"|---|{'---|' * len(LENGTHS)}")
    for name, draw in SERIES.items():
        cells = []
        for n in LENGTHS:
            rng = np.random.default_rng(n)
            kinds = Counter(course(draw(rng, n)).kind for _ in range(repetitions))
            cells.append(f"{kinds['warm-up'] / repetitions:.1%} / {kinds['no-steady-state'] / repetitions:.1%}")
        print(f"| {name} | {' | '.join(cells)} |".replace("%", " %"), flush=True)
    heads = (f"first {slow} of {n}, {factor:g}x" for factor, n, slow in STARTS)
    print(f"\n| series with a slow start: all of it left out | {' | '.join(heads)} |")
    print(f"|---|{'---|' * len(STARTS)}")
    for name, draw in list(SERIES.items())[:6]:
        cells = []
        for factor, n, slow in STARTS:
            rng = np.random.default_rng(n)
            cells.append(f"{sum(_left_out(draw(rng, n), factor, slow) for _ in range(repetitions)) / repetitions:.0%}")
        print(f"| {name} | {' | '.join(cells)} |".replace("%", " %"), flush=True)


def _left_out(values: Array, factor: float, slow: int) -> bool:
    values[:slow] *= factor
    return course(values).first >= slow


if __name__ == "__main__":
    main()
