"""What tells two modes of a run apart, round by round: the work that they do, and the p99s of their tenants. Pure.

All modes have a block in each round, so what a round does to both cancels. The ratio of the work of two modes is that
of their throughputs over all rounds: a ratio of sums, whose error is that of its linearised value in each round
(Cochran, *Sampling Techniques*, 1977, 6.4), here of its logarithm, with Student's t of one degree of freedom less than
there are rounds. Of a p99: `kts.stats.pairs`. The intervals of all pairs of modes hold together (Bonferroni), each kind
for itself, as nobody knows before which two will be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kts.model.reading import RunData
from kts.model.summary import Estimate, Summary
from kts.stats.block import MeasuredBlock, gather
from kts.stats.dependence import student
from kts.stats.modes import views
from kts.stats.pair_gate import CONFIDENCE, Recorded
from kts.stats.pairs import Rounds
from kts.stats.quantiles import refused
from kts.stats.steadiness import since_ns

_Key = TypeVar("_Key")
WORK_CONFIDENCE = 0.975
"""With which the intervals of work hold together. Those of p99s hold with 95 %, and hold more often than that; so one
mode under two names shows no difference of either kind in 93 runs of 100 (`python -m bench same_mode`)."""
LEAST_ROUNDS = 2
"""Of rates, which are means of many iterations; a p99 asks for more rounds."""
Pace = Mapping[int, tuple[int, int]]
"""By round: cycles from a submission to the next, and the nanoseconds that they took."""


@dataclass(frozen=True)
class WorkDone:
    """What the tenants of a mode did, each alone and all together. ``alone`` empty: their rates are summed as they are,
    which is for tenants of one kind."""

    alone: Mapping[str, Pace]
    together: Mapping[str, Pace]

    @property
    def rounds(self) -> set[int]:
        """Those in which every tenant has cycles, alone and together."""
        known = [set(pace) for side in (self.alone, self.together) for pace in side.values()]
        return set.intersection(*known) if known else set()


def work_ratio(one: WorkDone | None, other: WorkDone | None, confidence: float) -> Estimate:
    """The work of ``one`` over that of the ``other``, both per device; None: a device for each tenant, whose is 1."""
    sides = [side for side in (one, other) if side is not None]
    if len(sides) == 2 and sides[0].together.keys() != sides[1].together.keys():
        return refused("not the same tenants")
    rounds = sorted(set.intersection(*(side.rounds for side in sides))) if sides else []
    if len(rounds) < LEAST_ROUNDS:
        return refused(f"needs {LEAST_ROUNDS} rounds, have {len(rounds)}")
    (above, off), (below, other_off) = (_work(side, rounds) for side in (one, other))
    count, log = len(rounds), math.log(above / below)
    error = math.sqrt(float(np.square(off - other_off).sum()) / (count - 1) / count)
    far = student(count - 1, confidence) * error
    return Estimate(estimate=math.exp(log), lo=math.exp(log - far), hi=math.exp(log + far))


def _work(side: WorkDone | None, rounds: Sequence[int]) -> tuple[float, NDArray[np.float64]]:
    """In tenants' worth; and how far its logarithm is off in each round, linearised."""
    if side is None:
        return 1.0, np.zeros(len(rounds))
    progress, off = [], []
    for name, together in side.together.items():
        rate, mine = _rate(together, rounds)
        alone, by_itself = _rate(side.alone[name], rounds) if side.alone else (1.0, 0.0 * mine)
        progress.append(rate / alone)
        off.append(mine - by_itself)
    total = sum(progress)
    return total, np.asarray(np.average(off, axis=0, weights=progress))


def _rate(pace: Pace, rounds: Sequence[int]) -> tuple[float, NDArray[np.float64]]:
    """Cycles per nanosecond, and by what part each round is off, of the mean round."""
    cycles, took_ns = np.array([pace[number] for number in rounds], dtype=np.float64).T
    rate = float(cycles.sum() / took_ns.sum())
    return rate, (cycles - rate * took_ns) / (rate * took_ns.mean())


class Paces:
    """A pass: by tenant and condition, the `Pace` of the iterations that count."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], dict[int, tuple[int, int]]] = {}

    def feed(self, block: MeasuredBlock) -> None:
        """See `kts.stats.block.Pass`. A block in which a clock was set back is none."""
        for name, rows in block.kept.items():
            submit_ns = rows.span.submit_ns
            if len(submit_ns) < 2 or submit_ns[-1] <= submit_ns[0] or bool(np.any(submit_ns[1:] < submit_ns[:-1])):
                continue
            pace = self.kept.setdefault((name, block.outcome.condition), {})
            cycles, took_ns = pace.get(block.outcome.round, (0, 0))
            took = int(submit_ns[-1] - submit_ns[0])
            pace[block.outcome.round] = cycles + len(submit_ns) - 1, took_ns + took


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
        self._work = cache(self._work_of)
        self.work = cache(self._work_ratio)
        self.p99s = cache(self._p99_ratios)

    def interval(self, name: str, confidence: float) -> Estimate:
        """The work that a mode does per device, by itself: over that of the exclusive use, which is 1."""
        mine = self._work(name)
        return Estimate(estimate=1.0, lo=1.0, hi=1.0) if mine is None else work_ratio(mine, None, confidence)

    def _work_of(self, name: str) -> WorkDone | None:
        view = self._views.get(name)
        return None if view is None else _work_of(view, self._summaries.get(name))

    def _work_ratio(self, one: str, other: str) -> Estimate:
        """The work of mode ``one`` over that of the ``other``."""
        level = 1 - (1 - WORK_CONFIDENCE) / max(self._pairs, 1)
        return work_ratio(self._work(one), self._work(other), level)

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


def _work_of(view: RunData, summary: Summary | None) -> WorkDone:
    """Of the iterations that the summary's rates are of."""
    plan, paces = view.info.plan, Paces()
    tenants = summary.tenants.values() if summary is not None else ()
    left_out = any(one.steadiness is not None and one.steadiness.left_out for one in tenants)
    gather(view, [paces], since_ns(view) if left_out else None)
    house = plan.full_house
    solo_of = {one.tenants[0]: one.name for one in plan.conditions if one.is_solo}
    return WorkDone(
        alone={name: paces.kept.get((name, solo_of.get(name, "")), {}) for name in house.tenants},
        together={name: paces.kept.get((name, house.name), {}) for name in house.tenants},
    )
