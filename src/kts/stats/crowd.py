"""Tenants of one kind, pooled: what any of them meets where so many run at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kts.model.plan import Plan
from kts.model.reading import RunData
from kts.model.summary import Estimate
from kts.stats.block import MeasuredBlock, gather
from kts.stats.by_round import ByRound, Pace, add
from kts.stats.degradation import degradation
from kts.stats.proportions import fraction_within
from kts.stats.quantiles import quantile_estimate
from kts.stats.sample import Blocks, make_sample, split_blocks
from kts.units import NS_PER_S

ALONE = "alone"


@dataclass(frozen=True)
class CrowdFigures:
    """So many ``tenants`` in a ``mode`` at once; ``mode`` `ALONE`: each by itself, of which there are several.

    ``p99_ms``, ``df99``: on the response clock, of all their iterations together; ``goodput``: the share of these
    within the deadline; ``rate_hz``: iterations per second of all together, ``rate_over_first``: over that of as many
    tenants in the first mode that has so many, round by round; None of that itself.
    """

    mode: str
    tenants: int
    iterations: int
    p99_ms: Estimate
    df99: Estimate
    goodput: Estimate
    rate_hz: float
    rate_over_first: Estimate | None = None


class _Pooled:
    """A pass: by condition, each block's responses that count, of all its tenants in order of time."""

    def __init__(self) -> None:
        self.ms: dict[str, Blocks] = {}
        self.paces: dict[str, dict[int, tuple[float, float]]] = {}

    def feed(self, block: MeasuredBlock) -> None:
        rows = [one for one in block.kept.values() if len(one.response)]
        if not rows:
            return
        retire_ns = np.concatenate([one.span.retire_ns for one in rows])
        submit_ns = np.concatenate([one.span.submit_ns for one in rows])
        order, name = np.argsort(retire_ns, kind="stable"), block.outcome.condition
        self.ms.setdefault(name, []).append((block.outcome.round, np.concatenate([r.response for r in rows])[order]))
        took_ns = int(retire_ns.max() - submit_ns.min())
        add(self.paces.setdefault(name, {}), block.outcome.round, len(order), took_ns)


def crowds(run: RunData, deadline_ms: float, confidence: float = 0.95) -> list[CrowdFigures]:
    """Of a run in modes whose tenants are all of one kind: `ALONE` first, then mode by mode by number of tenants.

    Mixes of as many tenants are pooled, and so are the solo blocks of whoever has some: that tenants are alike, the
    caller must know. Intervals know how iterations of all together depend on each other, and how rounds differ.
    """
    pooled = _Pooled()
    gather(run, [pooled])
    plan = run.info.plan
    solos = [one.name for one in plan.conditions if one.is_solo]
    alone = _joined(pooled, solos)
    first: dict[int, Pace] = {}

    def figures(mode: str, count: int, names: Sequence[str]) -> CrowdFigures:
        blocks = _joined(pooled, names)
        split = split_blocks({number for number, _ in alone}, {number for number, _ in blocks})
        sample, solo = (make_sample([(n, ms.copy()) for n, ms in some], split=split) for some in (blocks, alone))
        one = Estimate(estimate=1.0, lo=1.0, hi=1.0)
        iterations, pace = sum(len(ms) for _, ms in blocks), _pace(pooled, names)
        seconds = sum(took_ns for _, took_ns in pace.values()) / NS_PER_S
        other = first.setdefault(count, pace)
        return CrowdFigures(
            mode=mode,
            tenants=count,
            iterations=iterations,
            p99_ms=quantile_estimate(sample, 0.99, confidence),
            df99=one if mode == ALONE else degradation(sample, solo, 0.99, confidence),
            goodput=fraction_within(sample, deadline_ms, confidence),
            rate_hz=iterations / seconds if seconds else 0.0,
            rate_over_first=None
            if other is pace
            else ByRound.rate(pace).over(ByRound.rate(other)).interval(confidence),
        )

    mixes = [(mode, count, names) for mode, by_count in _mixes(plan).items() for count, names in by_count.items()]
    return [figures(ALONE, 1, solos), *(figures(*one) for one in mixes)]


def _mixes(plan: Plan) -> dict[str, dict[int, list[str]]]:
    """By mode and number of tenants, rising, the plan's conditions."""
    found: dict[str, dict[int, list[str]]] = {}
    for arm in plan.modes:
        by_count: dict[int, list[str]] = {}
        for name in arm.mixes.values():
            by_count.setdefault(len(plan.condition(name).tenants), []).append(name)
        if by_count:
            found[arm.mode.name] = dict(sorted(by_count.items()))
    return found


def _pace(pooled: _Pooled, names: Sequence[str]) -> Pace:
    """By round, iterations of these conditions and how long they took."""
    found: dict[int, tuple[float, float]] = {}
    for name in names:
        for number, (count, took_ns) in pooled.paces.get(name, {}).items():
            add(found, number, count, took_ns)
    return found


def _joined(pooled: _Pooled, names: Sequence[str]) -> Blocks:
    return [block for name in names for block in pooled.ms.get(name, [])]
