"""Is B's tail worse than A's? Looked at after each round of a run that measures both, until it is decided.

Each look has its share of the errors that all looks together may make (`kts.stats.spending`), so looking often costs
nothing but a wider interval. The same looks are made while the run goes on, where they end it, and of its records
afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from kts.model.gate import Criterion, Gate, Judgement
from kts.model.plan import Pair, Plan
from kts.model.reading import RunData
from kts.model.records import Records
from kts.model.run import BlockOutcome
from kts.model.summary import Estimate, Summary
from kts.stats.analysis import analyse
from kts.stats.block import MeasuredBlock, gather
from kts.stats.gate import FALSE_FAIL, doubt, gate_of, more_s, told_of
from kts.stats.pairs import LEAST_ROUNDS, Rounds, p99
from kts.stats.part import RunPart
from kts.stats.quantiles import refused
from kts.stats.responses import Responses
from kts.stats.sample import Blocks
from kts.stats.spending import Spending
from kts.units import ns_to_s

CONFIDENCE = 0.95
LOWERING = frozenset({"as-asked", "lost-records", "steady"})
"""Checks that leave nothing to compare where they take a verdict with them, besides those of response times in company.
"""
Kept = Mapping[tuple[str, str], Blocks]


@dataclass(frozen=True)
class LastLook:
    """What the last look at a tenant saw, or the one that decided. ``t``: its statistic at the limit."""

    judged: Judgement
    rounds: Rounds
    t: float
    p: float
    elapsed_s: float


class PairLooks:
    """The looks at a pair, one after each round, in order. ``seen``: by tenant; what is decided stays, for what could
    take it back is an error that was paid for."""

    def __init__(self, plan: Plan, spending: type[Spending] = Spending) -> None:
        assert plan.pair is not None
        self._plan, self._pair = plan, plan.pair
        self._limit = 1 + plan.pair.tolerance
        self._pass = spending((1 - CONFIDENCE) / 2)
        self._fail = spending(FALSE_FAIL / len(plan.pair.asked))
        self._why: dict[str, str] = {}
        self.seen: dict[str, LastLook] = {}

    @property
    def decided(self) -> bool:
        """True once a tenant fails, or all pass."""
        kinds = [one.judged for one in self.seen.values()]
        return "fail" in kinds or (len(kinds) == len(self._pair.asked) and set(kinds) == {"pass"})

    def look(self, rounds: Mapping[str, Rounds], count: int, elapsed_s: float, *, last: bool = False) -> None:
        """After ``count`` rounds, which took so long; ``rounds``: of each tenant that has any. ``last``: the limits are
        reached, and so this look has all that is left to err with."""
        if count < LEAST_ROUNDS:
            return
        fraction = 1.0 if last else elapsed_s / (self._plan.max_seconds or elapsed_s)
        p_pass, p_fail = self._pass.look(count, fraction), self._fail.look(count, fraction)
        for name in self._pair.asked:
            before, now = self.seen.get(name), rounds.get(name)
            if before is not None and before.judged != "inconclusive":
                continue
            self._why[name] = "no iterations" if now is None else now.refusal
            if now is not None and not self._why[name]:
                t = now.statistic(float(np.log(self._limit)))
                judged: Judgement = "inconclusive"
                if t > now.critical(p_fail):
                    judged = "fail"
                elif t < -now.critical(p_pass):
                    judged = "pass"
                self.seen[name] = LastLook(judged, now, t, p_pass, elapsed_s)

    def criteria(self, count: int) -> Iterator[Criterion]:
        """What the looks come to, after ``count`` rounds."""
        few = f"needs {LEAST_ROUNDS} rounds, have {count}"
        for name in self._pair.asked:
            one = self.seen.get(name)
            why, ratio, more = self._why.get(name, few), None, None
            if one is not None:
                ratio = one.rounds.interval(one.p)
                open_now = one.judged == "inconclusive"
                known = _one_bound(one) if ratio.refused else ""
                why = (ratio.refused or self._undecided(ratio)) if open_now else known
                clear = float(np.log(self._limit))
                single = one.rounds.interval(self._pass.alpha)  # a later look's is as wide for its rounds, nearly
                more = more_s(single, self._limit, one.elapsed_s, clear=clear) if open_now else None
            yield Criterion(
                tenant=name,
                figure="shared p99",
                measured=ratio or refused(why),
                unit="ratio",
                limit=self._limit,
                judgement="inconclusive" if one is None else one.judged,
                why=why,
                more_s=more,
                old=None if one is None else p99(one.rounds.a),
                new=None if one is None else p99(one.rounds.b),
            )

    def _undecided(self, ratio: Estimate) -> str:
        beyond = ratio.lo is not None and ratio.lo > self._limit
        sure = f"{100 * (1 - self._fail.alpha):.4g} %"
        return f"beyond its limit, but not at {sure}" if beyond else "the interval holds the limit"


def _one_bound(one: LastLook) -> str:
    """What decided, where it is all that is known of the ratio: of much slower times the slowest are too few to say how
    much slower at most."""
    lo, hi = one.rounds.bounds(one.p)
    return f"B / A is at least {lo:.3g}" if one.judged == "fail" else f"B / A is at most {hi:.3g}"


class PairRule:
    """Reached once the comparison is decided. A `kts.conduct.ports.StopRule`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._looks = PairLooks(plan)
        self._responses = Responses([condition.name for condition in plan.conditions], plan.max_rounds)
        self._blocks: list[BlockOutcome] = []
        self._looked = 0

    def take(self, tenant: str, records: Records) -> None:
        """See StopRule."""
        self._responses.take(tenant, records)

    def end(self, outcome: BlockOutcome) -> None:
        """See StopRule."""
        if self._responses.end(outcome):
            self._blocks.append(outcome)

    def reached(self) -> bool:
        """See StopRule."""
        whole = _whole(self._blocks)
        if len(whole) >= self._plan.rounds and len(whole) > self._looked:
            self._looked = len(whole)
            self._looks.look(rounds_of(self._plan, self._responses.blocks, whole), *_course(self._blocks, whole))
        return self._looks.decided

    def forget(self, tenant: str) -> None:
        """See StopRule. The looks begin anew, as they do for whoever reads the run."""
        self._responses.forget(tenant)
        self._blocks = [block for block in self._blocks if tenant not in block.counts]
        self._looks, self._looked = PairLooks(self._plan), 0

    def widths(self) -> dict[str, float | None]:
        """Nothing: it does not go by a width."""
        return {}


def compared(run: RunData, summary: Summary) -> Gate:
    """What a run of a pair comes to, by the looks that were made, or would have been. Only for such a run.

    ``summary``: its figures, for what limits them.
    """
    plan = run.info.plan
    assert plan.pair is not None
    recorded = Recorded(plan)
    gather(run, [recorded])
    looks = PairLooks(plan)
    whole = _whole(recorded.blocks)
    _, elapsed_s = _course(recorded.blocks, whole)
    for end in range(plan.rounds, len(whole) + 1):
        count, elapsed_s = _course(recorded.blocks, whole[:end])
        last = count == len(whole) and run.info.outcome.kind == "undetermined"
        looks.look(rounds_of(plan, recorded.kept, whole[:end]), count, elapsed_s, last=last)
        if looks.decided:
            break
    sides = summary, analyse(_of_b(run, plan, plan.pair)).summary
    return gate_of(
        "pair",
        [_doubted(one, sides, plan.pair) for one in looks.criteria(len(whole))],
        new=(f"B ({plan.pair.b})",),
        old=(f"A ({plan.pair.a})",),
        confidence=CONFIDENCE,
        tolerance=plan.pair.tolerance,
        measured_s=elapsed_s,
        is_gpu=bool(run.info.workers) and all(worker.device.kind == "cuda" for worker in run.info.workers),
        notes=[*dict.fromkeys(line for side in sides for line in told_of(side)), *_notes(plan, plan.pair)],
    )


def _doubted(one: Criterion, sides: tuple[Summary, Summary], pair: Pair) -> Criterion:
    """Not decided where a check of either version takes the figure with it, or says that it may be off too far."""
    for side, name in zip(sides, pair.tenants[one.tenant], strict=True):
        if why := doubt(side, name, one.measured, one.limit, LOWERING):
            return replace(one, judgement="inconclusive", why=why, more_s=None)
    return one


def _of_b(run: RunData, plan: Plan, pair: Pair) -> RunPart:
    """The same run, of which B's tenants are asked; a summary's own are A's."""
    names = [b for _, b in pair.tenants.values()]
    mine = tuple(condition for condition in plan.conditions if set(condition.tenants) <= set(names))
    tenants = tuple(plan.tenant(name) for name in names)
    return RunPart(
        run,
        replace(plan, tenants=tenants, conditions=mine, pair=None),
        tenants={name: name for name in names},
        conditions={condition.name: condition.name for condition in mine},
    )


class Recorded:
    """A pass that keeps the responses that count, as `Responses` does while they are measured: by tenant and condition,
    each round's in ms."""

    def __init__(self, plan: Plan) -> None:
        self.kept: dict[tuple[str, str], Blocks] = {}
        self.blocks: list[BlockOutcome] = []
        self._conditions = {condition.name for condition in plan.conditions}

    def feed(self, block: MeasuredBlock) -> None:
        """See `kts.stats.block.Pass`."""
        self.blocks.append(block.outcome)
        for name, rows in block.kept.items():
            if len(rows.response):
                key = name, block.outcome.condition
                self.kept.setdefault(key, []).append((block.outcome.round, rows.response.astype(np.float32)))


def _whole(blocks: Sequence[BlockOutcome]) -> list[int]:
    """The rounds that have both blocks."""
    of_round = Counter(block.round for block in blocks)
    return sorted(number for number, count in of_round.items() if count == 2)


def _course(blocks: Sequence[BlockOutcome], whole: Sequence[int]) -> tuple[int, float]:
    """How many rounds ``whole`` are, and how many seconds passed from the first submission to their end."""
    ends = [block.end_ns for block in blocks if block.round <= whole[-1]] if whole else []
    return len(whole), ns_to_s(max(ends) - blocks[0].start_ns) if ends else 0.0


def rounds_of(plan: Plan, kept: Kept, whole: Container[int] | None = None) -> dict[str, Rounds]:
    """By tenant, the rounds of ``whole`` (None: any) in which both versions have iterations."""
    assert plan.pair is not None
    found = {}
    conditions = [condition.name for condition in plan.conditions]
    for name in plan.pair.asked:
        sides = [dict(kept.get(key, [])) for key in zip(plan.pair.tenants[name], conditions, strict=True)]
        both = [number for number in sorted(sides[0]) if number in sides[1] and (whole is None or number in whole)]
        if both:
            found[name] = Rounds(*([side[number] for number in both] for side in sides))
    return found


def _notes(plan: Plan, pair: Pair) -> Iterator[str]:
    for name, (a, b) in pair.tenants.items():
        if plan.tenant(a).arrivals != plan.tenant(b).arrivals:
            yield f"{name}: arrivals differ: B is asked for another load than A"
