"""Which figures a run can decide in its time, told before it is over.

Before the first round all is from calibration: how long iterations take alone, and company as
`kts.plan.expected_block` takes it; iterations count as independent. Of programs, of which that may be far off, it is
left open what depends on it. After rounds 1, 2, 4, 8 and 16 it is from what these hold: as many iterations a round,
blocks as long, iterations that depend on each other as they do. The rounds so far are repeated until the end, and go
through the estimators of the report. Refusals are those of `kts.stats.quantiles`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from msgspec.structs import replace

from kts.model.foretold import FIGURES, Bound, Expected, Foretold
from kts.model.mode import SIDE_BY_SIDE
from kts.model.plan import Plan
from kts.model.records import Records
from kts.model.run import BlockOutcome
from kts.plan import ExpectedBlock, blocks_of_round, expected_block, most_rounds
from kts.stats.degradation import degradation
from kts.stats.dependence import Effect
from kts.stats.enough import enough, enough_time
from kts.stats.foretold_pair import expected_ratios, reach
from kts.stats.quantiles import QUANTILES, refusal_of_worth
from kts.stats.responses import Responses
from kts.stats.sample import MIN_ROUNDS, Blocks, LatencySample, make_sample, split_blocks
from kts.stats.verdict import half_width
from kts.units import ns_to_s, whole

LOOKS = (1, 2, 4, 8, 16)
"""Rounds after which it is told anew, if it is another thing then."""
REPEATED = 40_000
"""Iterations that a sample is repeated to, at most: what more of them are worth, and how narrow they make an interval,
follows from that."""
UNSURE = 8.0
"""How many times as few iterations, or as many, programs may have in company as is expected of them; and how many of
theirs may be worth one."""
INDEPENDENT = Effect(1.0, by_units=False)
PLACE = tuple[str, str]
"""Tenant and condition."""


@dataclass(frozen=True)
class RoundRates:
    """What a round holds. ``counts``: iterations that count; ``slower``: see `Expected`; ``seconds``: by condition.
    ``bounds``: of what nobody can tell well, how many times as few and as many it may be."""

    counts: dict[PLACE, float]
    slower: dict[PLACE, float]
    seconds: dict[str, float]
    bounds: dict[PLACE, tuple[float, float]] = field(default_factory=dict)

    @property
    def round_s(self) -> float:
        """Of a whole round."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class SeenRounds:
    """Rounds that were measured, and what they would show if the rest were like them."""

    plan: Plan
    responses: Responses
    rounds: int
    confidence: float
    _cut: dict[tuple[PLACE, int, bool], LatencySample | None] = field(default_factory=dict)

    def effect(self, place: PLACE, p: float, rounds: float) -> Effect:
        """Of iterations like those so far, of so many rounds."""
        times = self._times(place, rounds)
        sample = self._sample(place, times, split=times * self.rounds < MIN_ROUNDS)
        return INDEPENDENT if sample is None else sample.dependence.design_effect(p)

    def width(self, place: PLACE, rounds: float) -> float | None:
        """Relative half-width of DF99 in a mix after so many rounds; None while what was measured refuses it: then its
        tail is not there yet."""
        if self._df(place, 1) is None:
            return None
        times = self._times(place, rounds)
        found = self._df(place, times)
        return None if found is None else found * math.sqrt(times * self.rounds / rounds)

    def _times(self, place: PLACE, rounds: float) -> int:
        n = sum(len(ms) for _, ms in self.responses.blocks.get(place, [])) or 1
        return max(1, min(round(rounds / self.rounds), REPEATED // n))

    def _df(self, place: PLACE, times: int) -> float | None:
        alone = alone_of(self.plan, place[0])
        numbers = [{n for n, _ in self._repeated(one, times)} for one in (alone, place)]
        split = split_blocks(*numbers)
        solo, shared = (self._sample(one, times, split=split) for one in (alone, place))
        return half_width(degradation(shared, solo, 0.99, self.confidence))

    def _sample(self, place: PLACE, times: int, *, split: bool) -> LatencySample | None:
        key = (place, times, split)
        if key not in self._cut:
            self._cut[key] = make_sample(self._repeated(place, times), split=split)
        return self._cut[key]

    def _repeated(self, place: PLACE, times: int) -> Blocks:
        blocks = self.responses.blocks.get(place, [])
        return [(number + self.rounds * again, ms) for again in range(times) for number, ms in blocks]


class Foretelling:
    """Implements `kts.conduct.ports.Foreteller`."""

    def __init__(self, confidence: float = 0.95) -> None:
        self._confidence = confidence
        self._plan: Plan | None = None
        self._told: Foretold | None = None
        self._responses: Responses | None = None
        self._seen: dict[str, list[float]] = {}
        self._began_ns = 0

    def begin(
        self, plan: Plan, solo_ms: Mapping[str, float | None], cycles_ms: Mapping[str, float | None]
    ) -> Foretold | None:
        """See Foreteller."""
        if self._told is not None or any(t.work.in_thread and solo_ms.get(t.name) is None for t in plan.tenants):
            return None
        self._plan = plan
        if plan.design == "interleaved":
            self._responses = Responses({c.name for c in plan.conditions}, plan.max_rounds)
        self._told = at_start(plan, solo_ms, cycles_ms, self._confidence)
        return self._told

    def take(self, tenant: str, records: Records) -> None:
        """See Foreteller."""
        if self._responses is not None:
            self._responses.take(tenant, records)

    def end(self, outcome: BlockOutcome) -> Foretold | None:
        """See Foreteller."""
        if self._responses is None or self._plan is None or not self._responses.end(outcome):
            return None
        self._began_ns = self._began_ns or outcome.start_ns
        self._seen.setdefault(outcome.condition, []).append(ns_to_s(outcome.end_ns - outcome.start_ns))
        rounds = len(self._seen[outcome.condition])
        whole = sum(map(len, self._seen.values())) == rounds * len(self._plan.conditions)
        if not whole or rounds not in LOOKS or rounds >= self._plan.max_rounds:
            return None
        told = after(self._plan, self._responses, self._with_breaks(outcome.end_ns), rounds, self._confidence)
        if rounds == LOOKS[-1]:
            self._responses = None
        former, self._told = self._told, told
        again = rounds == 1 and bool(former and former.enough)
        return told if former is None or again or wanting(told) != wanting(former) else None

    def forget(self, tenant: str) -> None:
        """See Foreteller. It begins anew."""
        if self._responses is not None:
            self._responses.forget(tenant)
            self._seen, self._began_ns = {}, 0

    def _with_breaks(self, now_ns: int) -> dict[str, float]:
        """How long a block of each condition takes, with what passes between two."""
        durations = [s for each in self._seen.values() for s in each]
        between_s = max(0.0, ns_to_s(now_ns - self._began_ns) - sum(durations)) / max(len(durations) - 1, 1)
        return {name: sum(each) / len(each) + between_s for name, each in self._seen.items()}


def at_start(
    plan: Plan,
    solo_ms: Mapping[str, float | None],
    cycles_ms: Mapping[str, float | None] | None = None,
    confidence: float = 0.95,
) -> Foretold:
    """What can be told before the first round. Of tenants without a duration nothing is."""
    blocks = [expected_block(plan, block, solo_ms, cycles_ms) for block in blocks_of_round(plan, 0)]
    told = _foretold(plan, _expected_rates(plan, blocks), None, confidence)
    untimed = {name for block in blocks for name in block.condition.tenants if name not in block.iterations}
    return replace(told, untold=tuple(name for name in _asked(plan) if name in map(plan.plain, untimed)))


def after(
    plan: Plan, responses: Responses, seconds: Mapping[str, float], rounds: int, confidence: float = 0.95
) -> Foretold:
    """What can be told after ``rounds`` whole ones. ``seconds``: by condition, how long its blocks take."""
    blocks = {place: found for place, found in responses.blocks.items() if plan.plain(place[0]) in _asked(plan)}
    heard = {name for name, _ in blocks}
    places = [(n, condition.name) for condition in plan.conditions for n in condition.tenants if n in heard]
    means = {place: sum(float(ms.mean()) for _, ms in found) / len(found) for place, found in blocks.items()}
    rates = RoundRates(
        counts={place: responses.counts[place] / rounds for place in places},
        slower={place: mean / alone for place, mean in means.items() if (alone := means.get(alone_of(plan, place[0])))},
        seconds=dict(seconds),
    )
    return _foretold(plan, rates, SeenRounds(plan, responses, rounds, confidence), confidence)


def alone_of(plan: Plan, tenant: str) -> PLACE:
    """Where it is alone, in whichever mode it shares; nowhere if the plan has no such condition."""
    plain = plan.plain(tenant)
    return plain, next((c.name for c in plan.conditions if c.tenants == (plain,)), "")


def wanting(told: Foretold) -> set[tuple[str, ...]]:
    """What there will be none of, and DF99 that stays wider than asked; of a pair which tails it cannot decide."""
    places: dict[tuple[str, ...], Expected] = {(one.mode, one.tenant, one.condition): one for one in told.expected}
    refused = {(*place, figure) for place, one in places.items() for figure in one.refused}
    wide = {(*place, "width") for place, one in places.items() if told.too_wide(one)}
    return refused | wide | {(one.tenant, reach(one)) for one in told.ratios}


def _asked(plan: Plan) -> tuple[str, ...]:
    """Of whom figures are asked, as all modes and versions call them."""
    return plan.pair.asked if plan.pair is not None else plan.asked


def _expected_rates(plan: Plan, blocks: list[ExpectedBlock]) -> RoundRates:
    counts = {(name, b.condition.name): n for b in blocks for name, n in b.iterations.items()}
    return RoundRates(
        counts=counts,
        slower={(name, b.condition.name): x for b in blocks for name, x in b.slower.items()},
        seconds={block.condition.name: block.seconds for block in blocks},
        bounds={(n, b.condition.name): _bounds(plan, b, n, count) for b in blocks for n, count in b.iterations.items()},
    )


def _bounds(plan: Plan, block: ExpectedBlock, name: str, count: float) -> tuple[float, float]:
    """Programs do not take company as kernels do: each wait of the host may last a neighbour's turn, or cost nothing.
    Nor do tenants that compute side by side share as in turns: they may go on as alone, or be slower by their number.
    Their own quota is certain."""
    condition = block.condition
    if condition.is_solo or count <= 0:
        return 1.0, 1.0
    own = (plan.tenant(name).iterations or 0) / plan.rounds / count
    if not all(plan.tenant(one).work.in_thread for one in condition.tenants):
        return min(1.0, max(own, 1 / UNSURE)), UNSURE
    mode, _ = plan.mode_of(condition.name)
    if next((one.mode.kind for one in plan.modes if one.mode.name == mode), "") in SIDE_BY_SIDE:
        return min(1.0, max(own, 1 / len(condition.tenants))), block.slower[name]
    return 1.0, 1.0


@dataclass(frozen=True)
class _Course:
    """How a run with such rounds goes on."""

    plan: Plan
    rates: RoundRates
    seen: SeenRounds | None
    confidence: float

    @cached_property
    def most(self) -> float:
        return most_rounds(self.plan, self.rates.round_s)

    @cached_property
    def least(self) -> float:
        return min(self.plan.rounds, self.most)

    @cached_property
    def places(self) -> list[PLACE]:
        """Those of whom figures are asked, solos first."""
        return [
            place
            for condition in self.plan.conditions
            for name in condition.tenants
            if (place := (name, condition.name)) in self.rates.counts and self.plan.plain(name) in _asked(self.plan)
        ]

    def refused(self, place: PLACE, figure: str, rounds: float, effect: Effect | None = None) -> bool:
        """Whether there would be none of it after so many rounds."""
        p = QUANTILES[figure]
        n = whole(self.rates.counts.get(place, 0.0) * rounds)
        return bool(refusal_of_worth(n, effect or self.effect(place, p), p, self.confidence))

    def effect(self, place: PLACE, p: float) -> Effect:
        """How its iterations depend on each other; about the same however many they are."""
        return self.seen.effect(place, p, self.most) if self.seen else INDEPENDENT

    def width(self, place: PLACE, rounds: float) -> float | None:
        """Of DF99 in a mix."""
        alone = alone_of(self.plan, place[0])
        if self.seen is None or self.refused(alone, "p99", rounds) or self.refused(place, "p99", rounds):
            return None
        return self.seen.width(place, rounds)

    @cached_property
    def widths(self) -> dict[PLACE, float | None]:
        """After the most rounds, by mix."""
        return {place: self.width(place, self.most) for place in self.places if not self._solo(place)}

    @cached_property
    def wanted(self) -> float | None:
        """Rounds until DF99 is as precise as asked; None while that cannot be told."""
        if self.plan.precision is None or None in self.widths.values() or not self.widths:
            return None
        return self.most * (max(width or 0.0 for width in self.widths.values()) / self.plan.precision) ** 2

    @cached_property
    def end(self) -> tuple[float, Bound]:
        """After how many rounds it ends, and why."""
        if self.wanted is not None and self.wanted < self.most:
            return max(self.least, math.ceil(self.wanted)), "precision"
        if self.most < self.plan.allowed_rounds:
            return self.most, "max_seconds"
        return self.most, "max_rounds" if self.plan.sequential else "rounds"

    def expected(self, place: PLACE) -> Expected:
        """What there will be of it."""
        rounds, _ = self.end
        refusals = {figure: self.refusals(place, figure) for figure in QUANTILES}
        if not self._solo(place):
            alone = self.refusals(alone_of(self.plan, place[0]), "p99")
            refusals["df99"] = {a or b for a, b in product(alone, refusals["p99"])}
        width = self.widths.get(place)
        mode, condition = self.plan.mode_of(place[1])
        return Expected(
            tenant=self.plan.plain(place[0]),
            condition=condition,
            mode=mode,
            n=whole(self.rates.counts[place] * rounds),
            slower=round(self.rates.slower.get(place, 1.0), 3),
            effect=round(self.effect(place, 0.99).ratio, 3),
            refused=tuple(figure for figure in FIGURES if refusals.get(figure) == {True}),
            open=tuple(figure for figure in FIGURES if refusals.get(figure) == {True, False}),
            width=None if width is None else round(width * math.sqrt(self.most / rounds), 4),
        )

    def refusals(self, place: PLACE, figure: str) -> set[bool]:
        """Whether it will be refused; both where that depends on when the run stops, or on what a program does."""
        rounds, _ = self.end
        soonest, latest = self._when() if figure == "p999" else (rounds, rounds)
        fewest, most = self.rates.bounds.get(place, (1.0, 1.0))
        least_worth = self.refused(place, figure, soonest * fewest, self._unsure(place))
        return {least_worth, self.refused(place, figure, latest * most)}

    def _unsure(self, place: PLACE) -> Effect | None:
        """How much a program's iterations may depend on each other, while too few rounds show how these differ."""
        known = self.plan.tenant(place[0]).work.in_thread or (self.seen is not None and self.seen.rounds >= MIN_ROUNDS)
        return None if known else Effect(UNSURE, by_units=True)

    def _when(self) -> tuple[float, float]:
        """Between which rounds it is likely to stop."""
        if self.plan.precision is None:
            return self.most, self.most
        if self.wanted is None:
            return self.least, self.most
        return max(self.least, self.wanted / 2), min(self.most, max(2 * self.wanted, self.least))

    def _solo(self, place: PLACE) -> bool:
        return self.plan.condition(place[1]).is_solo

    def enough_rounds(self, place: PLACE) -> float:
        """The fewest after which there is its p99, and in a mix DF99 as precise as asked where that can be told."""
        low, high = 1, 1
        while self.refused(place, "p99", high):
            low, high = high, 2 * high
            if high > 1 << 20:
                return math.inf
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.refused(place, "p99", middle) else (low, middle)
        width, asked = self.widths.get(place), self.plan.precision
        return max(high, math.ceil(self.most * (width / asked) ** 2)) if width and asked else high


def _foretold(plan: Plan, rates: RoundRates, seen: SeenRounds | None, confidence: float) -> Foretold:
    course = _Course(plan, rates, seen, confidence)
    rounds, bound = course.end
    if plan.pair is not None:
        blocks = seen.responses.blocks if seen else {}
        ratios, wanted = expected_ratios(plan, rates.counts, rates.bounds, rounds, blocks)
        return Foretold(
            after_rounds=seen.rounds if seen else 0,
            rounds=round(rounds, 2),
            seconds=round(rounds * rates.round_s, 1),
            bound=bound,
            expected=(),
            ratios=ratios,
            enough=enough_time(plan, wanted * rates.round_s, measured=seen is not None) if wanted > rounds else (),
        )
    needed = {place: course.enough_rounds(place) for place in course.places}
    return Foretold(
        after_rounds=seen.rounds if seen else 0,
        rounds=round(rounds, 2),
        seconds=round(rounds * rates.round_s, 1),
        bound=bound,
        expected=tuple(course.expected(place) for place in course.places),
        precision=plan.precision,
        enough=enough(plan, rates.seconds, needed, rounds, measured=seen is not None),
    )
