"""Who of three neighbours that come and go is blamed most, against whose absence would help most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.visits import Stretch, Visitor, due, launched, paced, service_ms, stretch, varied, watched
from kts.physics.synthetic import SyntheticKernel

Rng = np.random.Generator


def _kernel(rng: Rng, ms: float) -> SyntheticKernel:
    return SyntheticKernel(ms * float(rng.uniform(0.6, 1.6)), spread=0.005)


NEIGHBOURS: Mapping[str, Callable[[Rng], Visitor]] = {
    "gemm": lambda rng: paced(_kernel(rng, 20), 15),
    "gemm seldom": lambda rng: paced(_kernel(rng, 20), 250),
    "gemm saturating": lambda rng: paced(_kernel(rng, 20), 0.01),
    "fft": lambda rng: paced(_kernel(rng, 3.5), 10),
    "fft seldom": lambda rng: paced(_kernel(rng, 3.5), 60),
    "fft due": lambda rng: due(_kernel(rng, 3.5), 60),
    "short": lambda rng: paced(_kernel(rng, 0.5), 2),
    "2 to 12 ms": lambda rng: varied(2, 12, float(rng.uniform(10, 40))),
    "60 launches": lambda rng: launched(60, 0.02, float(rng.uniform(0.05, 0.15)), 10),
    "200 launches": lambda rng: launched(200, 0.005, float(rng.uniform(0.01, 0.04)), 5),
    "10 launches": lambda rng: launched(10, float(rng.uniform(0.1, 0.4)), 0.5, 20),
}
"""Kinds of tenants; each draws its lengths anew."""
OWN: Mapping[str, Callable[[Rng], Visitor]] = {
    "fft": lambda rng: paced(_kernel(rng, 3.5), 20),
    "short": lambda rng: paced(_kernel(rng, 0.5), 5),
    "60 launches": lambda rng: launched(60, 0.02, float(rng.uniform(0.07, 0.13)), 10),
    "10 launches": lambda rng: launched(10, float(rng.uniform(0.2, 0.4)), 0.5, 20),
    "2 to 12 ms": lambda rng: varied(2, 12, float(rng.uniform(15, 30))),
    "fft due": lambda rng: due(_kernel(rng, 3.5), 40),
    "gemm": lambda rng: paced(_kernel(rng, 20), 30),
}
WINDOW_S = 60.0


def _visits(rng: Rng, three: Sequence[str]) -> list[Stretch]:
    """Alone, then with each of them in two of three, six times."""
    found: list[Stretch] = []
    for _ in range(6):
        found.append((float(rng.integers(20, 60)), ("own",)))
        found.append((float(rng.integers(20, 60)), ("own", *(name for name in three if rng.random() < 2 / 3))))
    return found


def _each(rng: Rng, three: Sequence[str]) -> list[Stretch]:
    """Each comes and goes as it likes."""
    return [(float(rng.integers(20, 60)), ("own", *(name for name in three if rng.random() < 0.5))) for _ in range(12)]


def _together(rng: Rng, three: Sequence[str]) -> list[Stretch]:
    """All of them come and go together."""
    return [(float(rng.integers(20, 60)), ("own", *three) if number % 2 else ("own",)) for number in range(12)]


def _always(rng: Rng, three: Sequence[str]) -> list[Stretch]:
    """All of them are always there."""
    return [(float(rng.integers(200, 300)), ("own", *three))]


COMINGS: Mapping[str, Callable[[Rng, Sequence[str]], list[Stretch]]] = {
    "in visits, alone between": _visits,
    "each as it likes": _each,
    "all together, alone between": _together,
    "always there": _always,
}


class Mix(NamedTuple):
    """``own`` beside three. ``mean_ms``: of its round trips with all, and without each; ``stretches``: what is seen,
    all of them at the end."""

    tenants: Mapping[str, Visitor]
    kind: str
    with_all_ms: float
    without_ms: Mapping[str, float]
    stretches: list[Stretch]

    @property
    def helps(self) -> dict[str, float]:
        """How much shorter its round trips are without each, ms; the most first."""
        gains = {name: self.with_all_ms - ms for name, ms in self.without_ms.items()}
        return dict(sorted(gains.items(), key=lambda one: -one[1]))


def mix(rng: Rng, coming: str, truth_s: float = 300) -> Mix:
    """One at random."""
    kind = str(rng.choice(sorted(OWN)))
    three = [str(name) for name in rng.choice(sorted(NEIGHBOURS), 3, replace=False)]
    tenants = {"own": OWN[kind](rng), **{name: NEIGHBOURS[name](rng) for name in three}}

    def mean_ms(gone: str = "") -> float:
        there = {name: visitor for name, visitor in tenants.items() if name != gone}
        return float(service_ms(stretch(there, rng, truth_s)["own"]).mean())

    with_all, without = mean_ms(), {name: mean_ms(name) for name in three}
    stretches = [*COMINGS[coming](rng, three), (WINDOW_S, ("own", *three))]
    return Mix(tenants, kind, with_all, without, stretches)


def table(seed: int, trials: int) -> None:
    """How often the neighbour whose absence helps most is blamed most, and named: alone, or among those that are not
    told apart; and the mixes in which another is blamed most."""
    rows: dict[str, list[tuple[bool, bool, bool]]] = {coming: [] for coming in COMINGS}
    wrong = []
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        coming = list(COMINGS)[trial % len(COMINGS)]
        one = mix(rng, coming)
        told = watched(one.tenants, one.stretches, int(rng.integers(1 << 30)), WINDOW_S)
        named = [unit.removeprefix("sim/") for unit in told.most_for]
        true = next(iter(one.helps))
        right = named[:1] == [true]
        rows[coming].append((right, len(named) == 1, true in named))
        if not right:
            helps = ", ".join(f"{name} {ms:.3g}" for name, ms in one.helps.items())
            blamed = ", ".join(f"{name} {told.waits_for.get(f'sim/{name}', 0.0):.3g}" for name in one.helps)
            wrong.append(f"| {coming} | {one.kind} | {helps} | {blamed} | {', '.join(named)} |")
    print("| neighbours | mixes | who costs most is blamed most | one is named | rightly | several | it among them |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for coming, found in [*rows.items(), ("in all", [one for each in rows.values() for one in each])]:
        alone = [right for right, single, _ in found if single]
        among = [there for _, single, there in found if not single]
        first = sum(right for right, _, _ in found)
        print(f"| {coming} | {len(found)} | {first} | {len(alone)} | {sum(alone)} | {len(among)} | {sum(among)} |")
    print("\nWhere another is:\n\n| neighbours | tenant | shorter without, ms | blamed, ms/s | named |")
    print("|---|---|---|---|---|")
    print("\n".join(wrong))
