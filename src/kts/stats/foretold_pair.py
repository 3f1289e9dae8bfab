"""Which tails a run of a pair can decide in its time, told before it is over.

How many iterations each version will have follows from how long a round takes. Which ratio that decides follows from
how rounds differ, so nothing is said of it before as many are there as the test needs: then they are repeated until the
limit, and their interval is what the last look has, with all that is left to err with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from kts.model.foretold import ExpectedRatio
from kts.model.plan import Pair, Plan
from kts.stats.gate import FALSE_FAIL
from kts.stats.pair_gate import CONFIDENCE, Kept, rounds_of
from kts.stats.pairs import LEAST_ROUNDS, P, Rounds
from kts.stats.quantiles import min_samples, refusal
from kts.stats.spending import Spending
from kts.units import whole

REPEATED = 40_000
"""Iterations of a version that its rounds are repeated to, at most; an interval is as wide as one over the root."""
MOST_LOOKS = 40
"""Looks that are reckoned with, at most: more hardly need more evidence in the last."""
Bounds = tuple[float, float]


def expected_ratios(
    plan: Plan,
    counts: Mapping[tuple[str, str], float],
    bounds: Mapping[tuple[str, str], Bounds],
    rounds: float,
    seen: Kept,
) -> tuple[tuple[ExpectedRatio, ...], float]:
    """Of each tenant that is asked about and has iterations, when ``rounds`` are over; and after how many rounds all
    have a ratio, and two versions that are alike pass, as far as that can be told.

    ``counts``: iterations a round, by tenant and condition; ``bounds``: how many times as few and as many these may be;
    ``seen``: responses of the rounds so far. Only for the plan of a pair.
    """
    assert plan.pair is not None
    end = _End(rounds, plan.pair)
    measured = rounds_of(plan, seen)
    conditions = [one.name for one in plan.conditions]
    found, wanted = [], float(LEAST_ROUNDS)
    for name in plan.pair.asked:
        places = list(zip(plan.pair.tenants[name], conditions, strict=True))
        each = [counts.get(place, 0.0) for place in places]
        if min(each) <= 0:
            continue
        one, needed = end.ratio(name, each, [bounds.get(place, (1.0, 1.0)) for place in places], measured.get(name))
        found.append(one)
        wanted = max(wanted, needed)
    return tuple(found), wanted


def reach(one: ExpectedRatio) -> str:
    """In a word, what can be decided of it: what it is told anew for."""
    if one.refused or one.passes is None:
        return "refused" if one.refused else "unknown"
    return "alike passes" if one.passes >= 1 else "alike does not pass"


@dataclass(frozen=True)
class _End:
    """The last look, after ``rounds``."""

    rounds: float
    pair: Pair

    def ratio(
        self, name: str, counts: list[float], bounds: list[Bounds], so_far: Rounds | None
    ) -> tuple[ExpectedRatio, float]:
        """Of one tenant; and after how many rounds it has a ratio, and passes where B is like A."""
        refused = [self._refused([n * times[side] for n, times in zip(counts, bounds, strict=True)]) for side in (0, 1)]
        needed = min_samples(P) / min(counts)
        passes = fails = None
        if not any(refused) and so_far is not None and not so_far.refusal:
            above, below = self._arms(so_far)
            limit = 1 + self.pair.tolerance
            passes, fails = limit / above or None, limit * below if below < math.inf else None
            if self.pair.tolerance > 0 and above < math.inf:
                needed = max(needed, self.rounds * (math.log(above) / math.log(limit)) ** 2)
        n_a, n_b = (whole(n * self.rounds) for n in counts)
        one = ExpectedRatio(
            tenant=name,
            n=(n_a, n_b),
            refused=all(refused),
            open=refused[0] != refused[1],
            passes=passes,
            fails=fails,
        )
        return one, needed

    def _refused(self, counts: list[float]) -> bool:
        return self.rounds < LEAST_ROUNDS or any(refusal(whole(n * self.rounds), P, CONFIDENCE) for n in counts)

    def _arms(self, so_far: Rounds) -> tuple[float, float]:
        """By which factor the interval of rounds like these reaches above the ratio, where it is to show that it is
        low enough, and below it, where it is to show that it is too high."""
        most = max(sum(map(len, side)) for side in (so_far.a, so_far.b))
        times = max(1, min(round(self.rounds / so_far.count), REPEATED // most))
        again = Rounds(list(so_far.a) * times, list(so_far.b) * times)
        ratio, (low, _), (_, high) = math.exp(again.log_ratio), again.bounds(self._p_fail), again.bounds(self._p_pass)
        narrower = math.sqrt(again.count / self.rounds)
        return max(1.0, high / ratio) ** narrower, max(1.0, ratio / low if low else math.inf) ** narrower

    @cached_property
    def _p_pass(self) -> float:
        return self._last_p((1 - CONFIDENCE) / 2)

    @cached_property
    def _p_fail(self) -> float:
        return self._last_p(FALSE_FAIL / len(self.pair.asked))

    def _last_p(self, alpha: float) -> float:
        """What p must be below at the last look, after one at each round from the first that there may be."""
        spending, more = Spending(alpha), self.rounds - LEAST_ROUNDS
        looks = max(1, min(MOST_LOOKS, int(more)))
        units = [LEAST_ROUNDS + more * number / looks for number in range(looks + 1)] if more > 0 else [self.rounds]
        return [spending.look(count, count / self.rounds) for count in units][-1]
