"""How far the parts that kts tells are from those that are known: simulated tenants, told as a report tells them.

The truth is of the same iterations: the means of what the simulator saw, and at a quantile those of the iterations
around it. Whatever is told counts: each named part, and what is left unexplained against all that was not named. It
is held where it is at most 5 % of what was added away, or where its interval holds the truth.

    python -m bench truth                  # the table of docs/attribution.md
    python -m bench truth --rounds 5 --mixes "fft, gemm"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.known import GRID, Known, known
from bench.watched import Truth
from kts.model.causes import STATISTICS, CauseName, Decomposition, Part, Statistic
from kts.model.summary import Latency, TenantSummary
from kts.stats import analyse
from kts.stats.causes.allocation import at_mean, at_quantile
from kts.stats.quantiles import QUANTILES

NEAR = 0.05
"""Of what was added."""
LEAST = 0.005
"""Of the time alone: where less was added there is nothing to tell."""
OTHERS: tuple[CauseName, ...] = ("queue", "first-turn", "turns", "hidden", "back-to-back")
OWN = ("launch", "own", "host")
"""Parts of the truth: those that have the name of a cause, and those that together are own time."""


@dataclass(frozen=True)
class Error:
    """A told part against the truth, ms. ``held``: the interval holds it."""

    cause: CauseName
    told: float
    true: float
    held: bool


@dataclass(frozen=True)
class Line:
    """One tenant of a mix at one statistic. ``errors``: empty where too little was added."""

    mix: str
    tenant: str
    statistic: Statistic
    added: float
    errors: tuple[Error, ...]

    def off(self, one: Error) -> float:
        """As part of what was added."""
        return (one.told - one.true) / self.added

    @property
    def worst(self) -> float:
        """The largest, without regard to intervals."""
        return max((self.off(one) for one in self.errors), key=abs, default=0.0)

    @property
    def beyond(self) -> list[Error]:
        """Those that neither are near nor have an interval that holds the truth."""
        return [one for one in self.errors if not one.held and abs(self.off(one)) > NEAR]


def lines(mix: str, found: Known) -> Iterator[Line]:
    """Each tenant and statistic of a run."""
    for name, tenant in analyse(found.run).summary.tenants.items():
        if not isinstance(tenant.causes, tuple):
            raise TypeError("a simulated run has causes")
        for of in tenant.causes[-1].of:
            enough = abs(of.added_ms) >= LEAST * of.alone_ms
            errors = tuple(_errors(of, true_parts(found, name, tenant, of.statistic))) if enough else ()
            yield Line(mix, name, of.statistic, of.added_ms, errors)


def true_parts(found: Known, name: str, tenant: TenantSummary, statistic: Statistic) -> dict[str, float]:
    """What was added to each of `OTHERS`, and to own time; ms."""
    after, before = (
        _level(found.truth[name, together], latency, statistic)
        for together, latency in ((True, tenant.response.shared), (False, tenant.response.solo))
    )
    return dict(zip((*OTHERS, "own"), (after - before).tolist(), strict=True))


def _level(blocks: list[Truth], latency: Latency, statistic: Statistic) -> np.ndarray:
    """Means of the parts, at a quantile those around it."""
    parts = [[*(one.parts[name] for name in OTHERS), sum(one.parts[name] for name in OWN)] for one in blocks]
    columns = np.hstack([np.array(of) for of in parts]).T
    total = np.concatenate([one.rows[:, 4] - one.rows[:, 0] for one in blocks])
    unit = np.repeat(np.arange(len(blocks)), [len(one.rows) for one in blocks])
    weight = np.ones(len(total))
    if statistic == "mean":
        return at_mean(columns, weight, unit).at
    figure = getattr(latency, statistic)
    return at_quantile(columns, total, weight, unit, p=QUANTILES[statistic], statistic=figure).at


def _errors(of: Decomposition, true: dict[str, float]) -> Iterator[Error]:
    left = dict(true)
    for part in of.parts:
        if part.cause == "unexplained":
            yield _error(part, sum(left.values()))
        elif part.cause == "contended":
            first = 0.0 if any(one.cause == "first-turn" for one in of.parts) else left.pop("first-turn")
            yield _error(part, left.pop("turns") + first)
        else:
            yield _error(part, left.pop(part.cause, 0.0))


def _error(part: Part, true: float) -> Error:
    held = part.lo is not None and part.hi is not None and part.lo <= true <= part.hi
    return Error(part.cause, part.ms, true, held)


def table(found: Sequence[Line]) -> Iterator[str]:
    """Lines of Markdown: of each tenant the largest error at each statistic, and what is beyond."""
    yield "| mix | tenant | " + " | ".join(STATISTICS) + " | beyond |"
    yield "|---|---|" + "---:|" * len(STATISTICS) + "---|"
    for mix, name in dict.fromkeys((one.mix, one.tenant) for one in found):
        of = {one.statistic: one for one in found if (one.mix, one.tenant) == (mix, name)}
        cells = [_cell(of.get(statistic)) for statistic in STATISTICS]
        beyond = [
            f"{one.cause} at {line.statistic}: {100 * line.off(one):+.1f} %"
            for line in of.values()
            for one in line.beyond
        ]
        yield f"| {mix} | {name} | " + " | ".join(cells) + f" | {', '.join(beyond)} |"
    told = [one for one in found if one.errors]
    near, held = (
        sum(test(one) for one in told) for test in (lambda one: abs(one.worst) <= NEAR, lambda one: not one.beyond)
    )
    yield ""
    yield f"Of {len(told)} figures {near} have each part within 5 % of the whole, {held} within that or its interval."


def _cell(line: Line | None) -> str:
    return "-" if line is None or not line.errors else f"{100 * line.worst:+.1f} %"


def main(arguments: Sequence[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench truth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mixes", nargs="+", default=list(GRID), choices=list(GRID), metavar="MIX")
    parser.add_argument("--parts", action="store_true", help="every part of every figure, too")
    given = parser.parse_args(arguments)
    found: list[Line] = []
    for mix in given.mixes:
        found += lines(mix, known(GRID[mix], given.seed, given.rounds))
    if given.parts:
        for line in found:
            told = ", ".join(f"{one.cause} {one.told:.2f} (true {one.true:.2f})" for one in line.errors)
            print(f"{line.mix}, {line.tenant}, {line.statistic}: {line.added:.3f} ms = {told}")
    for row in table(found):
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
