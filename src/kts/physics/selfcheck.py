"""Does the whole way hold? Many simulated runs of pairs whose true DF99 is known, and what is said of their figures.

Pure: whoever calls it says how often, and in how many processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from kts.model.plan import Plan
from kts.model.provenance import Provenance
from kts.physics.rehearsal import Finding, stream
from kts.physics.simulate import Completed, simulate
from kts.physics.synthetic import SHARING, TenantPair
from kts.plan.blocks import derive
from kts.stats import starts
from kts.stats.overlap import Span, collided
from kts.stats.proportions import clopper_pearson
from kts.stats.quantiles import binomial_ranks
from kts.stats.verdict import asked_of
from kts.units import NS_PER_MS

MEDIAN_WITHIN = 0.03
COVERED = (0.93, 0.98)
UNCHANGED_AT_MOST = 0.05
CHANGED = 1.2
"""Times the asked precision: a tenant this much slower must not be called unchanged."""
TAIL_OFF = 0.1
"""A pair is on a cliff where a tail of a tenth more or less than 1 % moves the true DF99 by over `MEDIAN_WITHIN`."""
CHANCE = 0.99
"""Confidence of the intervals that say what chance explains in this many repetitions."""
WARM_UP = 0.01

T = TypeVar("T", np.float64, np.bool_)
State = Literal["passed", "undecided", "failed", "not-applicable"]


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant in one very long simulation. ``met``: share of its iterations that a neighbour's overlapped.

    ``df99_low``, ``df99_high``: shared quantiles beyond which 1.1 and 0.9 % lie, over solo p99.
    """

    df99: float
    df99_low: float
    df99_high: float
    met: float
    n: int

    @property
    def on_cliff(self) -> bool:
        """Whether p99 hangs on a tenth of its tail."""
        return max(self.df99_high / self.df99, self.df99 / self.df99_low) > 1 + MEDIAN_WITHIN


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar. ``value`` with the interval that chance leaves it in so many repetitions; None where it was not judged.

    passed: within the bar. undecided: outside, by no more than chance explains. failed: by more.
    """

    name: Literal["median", "coverage", "first-of-block", "no-change"]
    state: State
    value: float | None = None
    lo: float | None = None
    hi: float | None = None
    bar: tuple[float, float]


class TenantCheck(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant of one pair over all repetitions. ``kinds``: how often which verdict;
    ``cautioned``: how often the analysis said that blocks' beginnings are in the tail; ``rounds``, ``n``: means."""

    pair: str
    tenant: str
    truth: Truth
    on_cliff: bool
    repetitions: int
    refused: int
    median: float | None
    rounds: float
    n: float
    kinds: dict[str, int]
    cautioned: int
    checks: tuple[Bar, ...]

    def check(self, name: str) -> Bar:
        """The check of that name. StopIteration if there is none."""
        return next(check for check in self.checks if check.name == name)


class SelfCheck(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``passed``: nothing failed."""

    provenance: Provenance | None = None
    repetitions: int
    seed: int
    passed: bool
    tenants: tuple[TenantCheck, ...]


def truth(pair: TenantPair, seed: int, iterations: int) -> dict[str, Truth]:
    """Every tenant's stationary DF99: ``iterations`` of the first tenant alone and beside the others, in one piece.

    The time that takes is simulated of the others, too; its first hundredth is left out.
    """
    plan = pair.plan(seed)
    alone = {c.tenants[0]: _long(pair, plan, c.tenants, seed, iterations) for c in plan.conditions if c.is_solo}
    together = _long(pair, plan, plan.full_house.tenants, seed, iterations)
    return {name: _true(alone[name][name], together, name) for name in together}


def _long(pair: TenantPair, plan: Plan, names: Sequence[str], seed: int, iterations: int) -> dict[str, Completed]:
    tenants = [plan.tenant(name) for name in names]
    first = plan.tenants[0]
    horizon_ms = iterations * pair.cycle_ms(first)
    seeds = {name: derive(seed, "truth", *names, "of", name) for name in names}
    streams = [stream(t, pair.kernels[t.name], seeds[t.name], until_ms=horizon_ms) for t in tenants]
    return dict(zip(names, simulate(streams, SHARING, horizon_ms=horizon_ms).tenants, strict=True))


def _true(alone: Completed, together: Mapping[str, Completed], name: str) -> Truth:
    mine = together[name]
    solo, shared = (_settled(done.response_ms) for done in (alone, mine))
    p99 = float(np.quantile(solo, 0.99))
    low, middle, high = np.quantile(shared, [1 - 0.01 * (1 + TAIL_OFF), 0.99, 1 - 0.01 * (1 - TAIL_OFF)]) / p99
    met = collided({other: _span(done) for other, done in together.items()}, name)
    return Truth(
        df99=float(middle),
        df99_low=float(low),
        df99_high=float(high),
        met=float(_settled(met).mean()),
        n=len(shared),
    )


def _settled(values: NDArray[T]) -> NDArray[T]:
    return values[int(WARM_UP * len(values)) :]


def _span(done: Completed) -> Span:
    submit_ns, retire_ns = (np.round(ms * NS_PER_MS).astype(np.int64) for ms in (done.submit_ms, done.retire_ms))
    return Span(submit_ns, retire_ns)


def judge(
    pair: TenantPair, known: Mapping[str, Truth], runs: Sequence[Mapping[str, Finding]]
) -> tuple[TenantCheck, ...]:
    """All repetitions of a pair against the truth, by tenant."""
    asked = asked_of(pair.plan(0).precision)
    return tuple(_judged(pair, name, true, [run[name] for run in runs], asked) for name, true in known.items())


def _judged(pair: TenantPair, name: str, true: Truth, found: Sequence[Finding], asked: float) -> TenantCheck:
    given = [f for f in found if f.df99 is not None and f.lo is not None and f.hi is not None]
    values = np.sort([f.df99 for f in given])
    enough = 2 * len(given) > len(found)
    held = sum(f.lo <= true.df99 <= f.hi for f in given)  # type: ignore[operator]
    kinds = Counter(f.kind for f in found)
    changed = true.df99 >= 1 + (CHANGED - 0.05) * asked
    return TenantCheck(
        pair=pair.name,
        tenant=name,
        truth=true,
        on_cliff=true.on_cliff,
        repetitions=len(found),
        refused=len(found) - len(given),
        median=float(np.median(values)) if enough else None,
        rounds=float(np.mean([f.rounds for f in found])),
        n=float(np.mean([f.n for f in found])),
        kinds=dict(kinds),
        cautioned=sum(f.cautioned for f in found),
        checks=(
            _median(values, true) if enough else Bar(name="median", state="not-applicable", bar=_median_bar(true)),
            _rate("coverage", held, len(given) if enough else 0, COVERED),
            _first(found),
            _rate("no-change", kinds["no-change"], len(found) if enough and changed else 0, (0.0, UNCHANGED_AT_MOST)),
        ),
    )


def _median_bar(true: Truth) -> tuple[float, float]:
    """Within 3 % of the truth; on a cliff within 3 % of what is true of a tail a tenth more or less."""
    low, high = (true.df99_low, true.df99_high) if true.on_cliff else (true.df99, true.df99)
    return low * (1 - MEDIAN_WITHIN), high * (1 + MEDIAN_WITHIN)


def _median(values: NDArray[np.float64], true: Truth) -> Bar:
    """With the distribution-free interval of a median."""
    n = len(values)
    lower, upper = (round(rank * n) - 1 for rank in binomial_ranks(n, 0.5, CHANCE))
    lo, hi = (float(values[min(max(rank, 0), n - 1)]) for rank in (lower, upper))
    return _check("median", float(np.median(values)), lo, hi, _median_bar(true))


def _rate(name: Literal["coverage", "no-change"], hits: int, trials: int, bar: tuple[float, float]) -> Bar:
    if not trials:
        return Bar(name=name, state="not-applicable", bar=bar)
    return _check(name, hits / trials, *clopper_pearson(hits, trials, CHANCE), bar)


def _first(found: Sequence[Finding]) -> Bar:
    """Blocks' first iterations among the slowest 1 %, over what chance gives; a Poisson count's exact interval."""
    bar = (0.0, starts.TIMES_CHANCE)
    hits, chance = sum(f.first for f in found), sum(f.chance for f in found)
    if not chance:
        return Bar(name="first-of-block", state="not-applicable", bar=bar)
    tail = (1 - CHANCE) / 2
    lo = float(gammaincinv(hits, tail)) if hits else 0.0
    return _check("first-of-block", hits / chance, lo / chance, float(gammaincinv(hits + 1, 1 - tail)) / chance, bar)


def _check(
    name: Literal["median", "coverage", "first-of-block", "no-change"],
    value: float,
    lo: float,
    hi: float,
    bar: tuple[float, float],
) -> Bar:
    if bar[0] <= value <= bar[1]:
        state: State = "passed"
    else:
        state = "undecided" if lo <= bar[1] and hi >= bar[0] else "failed"
    return Bar(name=name, state=state, value=value, lo=lo, hi=hi, bar=bar)
