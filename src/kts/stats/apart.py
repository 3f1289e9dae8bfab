"""What tells two modes of a run apart, round by round: work, tenants' rates and p99s, energy. Pure.

All modes have a block in each round, so what a round does to both cancels: of rates `kts.stats.by_round`, of p99s
`kts.stats.pairs`. The intervals of all pairs of modes hold together (Bonferroni), each kind for itself, as nobody knows
before which two will be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import TypeVar

import numpy as np

from kts.model.reading import RunData
from kts.model.summary import Estimate, Summary
from kts.stats.block import MeasuredBlock, gather
from kts.stats.by_round import ByRound, Pace, add
from kts.stats.energy import Drawn
from kts.stats.modes import views
from kts.stats.pair_gate import CONFIDENCE, Recorded
from kts.stats.pairs import Rounds
from kts.stats.quantiles import refused
from kts.stats.steadiness import since_ns

_Key = TypeVar("_Key")
WORK_CONFIDENCE = 0.975
"""With which the intervals of work hold together. Those of p99s hold with 95 %, and hold more often than that; so one
mode under two names shows no difference of either kind in 93 runs of 100 (`python -m bench same_mode`)."""
_EXACTLY_ONE = Estimate(estimate=1.0, lo=1.0, hi=1.0)


@dataclass(frozen=True)
class WorkDone:
    """What the tenants of a mode did, each alone and all together, on so many ``devices``. ``drawn``: power, of the
    device of each, meanwhile."""

    alone: Mapping[str, Pace]
    together: Mapping[str, Pace]
    drawn: Mapping[str, Pace] = field(default_factory=dict)
    devices: int = 1

    def rate(self, tenant: str) -> ByRound:
        """Of a tenant."""
        return ByRound.rate(self.together[tenant])

    def progress(self, tenant: str) -> ByRound:
        """Its rate over that alone."""
        return self.rate(tenant).over(ByRound.rate(self.alone[tenant]))

    def work(self) -> ByRound:
        """Per device, in tenants' worth; in rounds in which every tenant has cycles, alone and together."""
        return ByRound.total([self.progress(name) for name in self.together], self.devices)

    def joules(self) -> ByRound:
        """Per second's work of one tenant alone: what a device drew on average, over its work."""
        watts = ByRound.total([ByRound.rate(pace) for pace in self.drawn.values()], len(self.drawn))
        return watts.over(self.work())


class Paces:
    """A pass: by tenant and condition, the `Pace` of the iterations that count."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], dict[int, tuple[float, float]]] = {}

    def feed(self, block: MeasuredBlock) -> None:
        """See `kts.stats.block.Pass`. A block in which a clock was set back is none."""
        for name, rows in block.kept.items():
            submit_ns = rows.span.submit_ns
            if len(submit_ns) < 2 or submit_ns[-1] <= submit_ns[0] or bool(np.any(submit_ns[1:] < submit_ns[:-1])):
                continue
            pace = self.kept.setdefault((name, block.outcome.condition), {})
            add(pace, block.outcome.round, len(submit_ns) - 1, int(submit_ns[-1] - submit_ns[0]))


class ModesApart:
    """What the rounds of a run say of any two of its modes."""

    def __init__(self, run: RunData, summaries: Mapping[str, Summary]) -> None:
        """``summaries``: of modes in which a device is shared, by name; what they leave out as not steady is left out
        of the work."""
        plan = run.info.plan
        self._arms = {one.mode.name: one for one in plan.modes}
        self._pairs = len(list(combinations(self._arms, 2)))
        self._plan, self._recorded = plan, Recorded(plan)
        gather(run, [self._recorded])
        self._views, self._summaries = views(run), summaries
        self._done = cache(self._done_in)
        self.work = cache(self._work_ratio)
        self.p99s = cache(self._p99_ratios)

    def interval(self, name: str, confidence: float) -> Estimate:
        """The work that a mode does per device, by itself: over that of the exclusive use, which is 1."""
        return self._done(name).work().interval(confidence) if self._arms[name].mixes else _EXACTLY_ONE

    def progress(self, name: str, confidence: float) -> dict[str, Estimate]:
        """By tenant, its rate in a mode over that alone."""
        done = self._done(name)
        shared = bool(self._arms[name].mixes)
        return {one: done.progress(one).interval(confidence) if shared else _EXACTLY_ONE for one in done.together}

    def joules(self, name: str, confidence: float) -> Estimate:
        """What a second's work of one tenant alone takes in a mode."""
        return self._done(name).joules().interval(confidence)

    def rates(self, one: str, other: str) -> dict[str, Estimate]:
        """By tenant, its rate in mode ``one`` over that in the ``other``. Of tenants and pairs all hold together."""
        mine, theirs = self._done(one), self._done(other)
        level = 1 - (1 - CONFIDENCE) / max(self._pairs * len(mine.together), 1)
        both = [name for name in mine.together if name in theirs.together]
        return {name: mine.rate(name).over(theirs.rate(name)).interval(level) for name in both}

    def energy(self, one: str, other: str) -> Estimate:
        """What a second's work takes in mode ``one`` over that in the ``other``. Of all pairs they hold together."""
        level = 1 - (1 - CONFIDENCE) / max(self._pairs, 1)
        return self._done(one).joules().over(self._done(other).joules()).interval(level)

    def _done_in(self, name: str) -> WorkDone:
        """In exclusive use: what tenants did in the solo blocks, which all modes share."""
        if name in self._views:
            return _work_of(self._views[name], self._summaries.get(name))
        first = next(iter(self._views))
        return _work_of(self._views[first], self._summaries.get(first), exclusive=True)

    def _work_ratio(self, one: str, other: str) -> Estimate:
        """The work of mode ``one`` over that of the ``other``. Of all pairs they hold together."""
        mine, theirs = self._done(one), self._done(other)
        if mine.together.keys() != theirs.together.keys():
            return refused("not the same tenants")
        level = 1 - (1 - WORK_CONFIDENCE) / max(self._pairs, 1)
        return mine.work().over(theirs.work()).interval(level)

    def _p99_ratios(self, one: str, other: str) -> dict[str, Estimate]:
        """By tenant, its p99 in the full house in mode ``one`` over that in the ``other``. Empty where one of them
        shares nothing."""
        arms = [self._arms[name] for name in (one, other)]
        if not all(arm.mixes for arm in arms):
            return {}
        houses = [self._plan.in_mode(arm.mode.name).full_house for arm in arms]
        tenants = [name for name in houses[1].tenants if name in houses[0].tenants]
        shared = sum(bool(arm.mixes) for arm in self._arms.values())
        pairs = {}
        for tenant in tenants:
            over, under = (
                dict(self._recorded.kept.get((arm.tenants[tenant], arm.mixes[house.name]), []))
                for arm, house in zip(arms, houses, strict=True)
            )
            both = sorted(over.keys() & under.keys())
            pairs[tenant] = Rounds([under[number] for number in both], [over[number] for number in both])
        return together(pairs, len(pairs) * shared * (shared - 1) // 2)


def together(pairs: Mapping[_Key, Rounds], count: int | None = None) -> dict[_Key, Estimate]:
    """Of each pair B's p99 over A's, in intervals that all hold at once with `CONFIDENCE`; ``count``: how many there
    are, where these are not all."""
    return {key: one.interval((1 - CONFIDENCE) / 2 / (count or len(pairs))) for key, one in pairs.items()}


def differs(ratio: Estimate) -> bool:
    """Whether a difference is shown: the interval excludes 1."""
    return ratio.lo is not None and ratio.hi is not None and not ratio.lo <= 1 <= ratio.hi


def _work_of(view: RunData, summary: Summary | None, *, exclusive: bool = False) -> WorkDone:
    """Of the iterations that the summary's rates are of."""
    plan, paces, power = view.info.plan, Paces(), Drawn(view)
    tenants = summary.tenants.values() if summary is not None else ()
    left_out = any(one.steadiness is not None and one.steadiness.left_out for one in tenants)
    gather(view, [paces, power], since_ns(view) if left_out else None)
    names = plan.full_house.tenants
    solo = {one.tenants[0]: one.name for one in plan.conditions if one.is_solo}
    house = solo if exclusive else dict.fromkeys(names, plan.full_house.name)
    return WorkDone(
        alone={name: paces.kept.get((name, solo.get(name, "")), {}) for name in names},
        together={name: paces.kept.get((name, house.get(name, "")), {}) for name in names},
        drawn={name: power.kept.get((name, house.get(name, "")), {}) for name in names},
        devices=len(names) if exclusive else 1,
    )
