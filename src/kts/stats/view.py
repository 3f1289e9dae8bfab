"""One tenant's figures, from its samples; what the cautions about it look at."""

from __future__ import annotations

from typing import Literal

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace as replaced

from kts.model.causes import Causes
from kts.model.mode import SIDE_BY_SIDE
from kts.model.records import Clock
from kts.model.run import RunInfo
from kts.model.summary import (
    ClockSummary,
    Collided,
    Degradation,
    Estimate,
    Goodput,
    Latency,
    MixTenant,
    Overlap,
    Rate,
    ReferenceTable,
    SloResult,
    TenantSummary,
    Throughput,
)
from kts.stats.alone import disturbed, tail_alone
from kts.stats.causes.kept import KeptRows
from kts.stats.causes.of_tenant import causes
from kts.stats.checks import alignment, same_gpu
from kts.stats.degradation import degradation, ratio_estimate
from kts.stats.faults import gap_reason, told_device
from kts.stats.fitness import unfit
from kts.stats.gathering import Gathered
from kts.stats.latencies import SideData
from kts.stats.proportions import fraction_within
from kts.stats.quantiles import QUANTILES, quantile_estimate
from kts.stats.reference import reference_table
from kts.stats.sample import LatencySample, make_sample, split_blocks
from kts.stats.series import SIDES, TAIL_POINTS, Side, TailCurve, TenantSeries
from kts.stats.steadiness import unsteady
from kts.stats.verdict import NEEDS_SOLO, asked_of, dimming, judge, verdict
from kts.stats.waiting import waiting

Samples = dict[Side, dict[Clock, LatencySample | None]]

TAIL_CANDIDATES = 100 * TAIL_POINTS
"""Values of which the points of a tail are picked, at most."""


class TenantView:
    """One tenant's samples and everything computed from them. ``summary`` and ``mixes`` (by condition, the full house
    last) hold the figures; ``disturbed``, ``tail_alone``: see `kts.stats.alone`; ``unfit``: why no interval decides
    (no device was shared, the clocks are apart, `kts.stats.fitness`); ``steadiness``, of the tenant, and ``unsteady``,
    its own or a neighbour's: `kts.stats.steadiness`."""

    def __init__(self, name: str, info: RunInfo, gathered: Gathered, confidence: float, *, on_cpu: bool) -> None:
        """Takes the tenant's arrays out of ``gathered``."""
        self.name, self.info, self.plan, self.gathered, self.confidence = name, info, info.plan, gathered, confidence
        self.data = gathered.latencies.take(name)
        solo, shared = self.data.solo, self.data.shared
        split = split_blocks(solo.rounds, shared.rounds)
        self.samples: Samples = {
            "solo": _samples(solo, split),
            "shared": _samples(shared, split),
        }
        join = gathered.activity
        self._activity = join.activity(name) if join is not None else None
        alone, on_core = self.kept("solo"), name in gathered.kept.on_core
        self.tail_alone = tail_alone(alone, on_core=on_core)
        self.disturbed = disturbed(self._activity or (), self.tail_alone, asked_of(self.plan.precision))
        self.unfit = same_gpu.apart(info) or alignment.apart(info) or unfit(info, name)
        steady = {tenant.name: gathered.steady.summary(tenant.name) for tenant in self.plan.tenants}
        self.steadiness = steady[name]
        self.unsteady = unsteady(steady, name, self.plan.full_house.tenants)
        self._unsteady_in = {mix.name: bool(unsteady(steady, name, mix.tenants)) for mix in self.plan.mixes}
        self.summary = self._summary(on_cpu)
        self.mixes = self._in_mixes()
        self.summary = replaced(self.summary, causes=self._causes())

    def _summary(self, on_cpu: bool) -> TenantSummary:
        tenant = self.plan.tenant(self.name)
        solo, shared = self.data.solo, self.data.shared
        response, device = self._clock("response"), self._clock("device")
        closed = all(self.samples[side]["service"] is self.samples[side]["response"] for side in SIDES)
        service = response if closed else self._clock("service")
        waits = waiting(self.kept("solo"), self.kept("shared"), service.solo.p99.estimate)
        return TenantSummary(
            workload=tenant.work.workload,
            size=tenant.work.size,
            response=response,
            service=service,
            device=device,
            throughput=Throughput(solo=self._rate("solo"), shared=self._rate("shared")),
            overlap=Overlap(
                kept=shared.n,
                dropped=shared.dropped,
                lead=solo.lead + shared.lead,
                unsteady=solo.unsteady + shared.unsteady,
            ),
            collided=self._collided(),
            verdict=verdict(
                self.name,
                response,
                device,
                waits,
                is_gpu=not on_cpu,
                side_by_side=self.info.sharing.likely in SIDE_BY_SIDE,
                closed=closed,
                precision=self.plan.precision,
                confidence=self.confidence,
                dimmed=dimming(len(solo.rounds), len(shared.rounds)),
                disturbed=self.disturbed.words if self.disturbed else "",
                unfit=self.unfit,
                unsteady=self.unsteady,
            ),
            waiting=waits,
            goodput=self._goodput(tenant.slo.deadline_ms),
            slo=_slo(tenant.slo.p99_ms, response),
            reference=self._reference(),
            activity=self._activity if self._activity is not None else UNSET,
            steadiness=self.steadiness,
        )

    def _in_mixes(self) -> dict[str, MixTenant]:
        """Figures of the tenant by shared condition; those of the full house are the headline's own."""
        figures = {
            mix.name: self._in_mix(self.data.mixes.pop(mix.name, SideData()))
            for mix in self.plan.mixes[:-1]
            if self.name in mix.tenants
        }
        house = self.plan.full_house
        if not house.is_solo and self.name in house.tenants:
            response, device = self.summary.response, self.summary.device
            figures[house.name] = self._mix_tenant(
                response.shared, response.df.p50, response.df.p99, device.df.p99, self.data.shared
            )
        return {name: self._if_steady(name, one) for name, one in figures.items()}

    def _if_steady(self, mix: str, figures: MixTenant) -> MixTenant:
        doubted = self._unsteady_in.get(mix) and figures.kind != "refused"
        return replaced(figures, kind="undetermined") if doubted else figures

    def _in_mix(self, side: SideData) -> MixTenant:
        """As the headline's estimator, with solo samples cut as these need it."""
        solo = self.data.solo
        split = split_blocks(solo.rounds, side.rounds)
        same_cut = split == split_blocks(solo.rounds, self.data.shared.rounds)
        alone = self.samples["solo"] if same_cut else _samples(solo, split)
        together = _samples(side, split)
        missing = self._missing("shared", side) if solo.service else self._missing("solo")

        def df(clock: Clock, p: float) -> Estimate:
            return degradation(together[clock], alone[clock], p, self.confidence, missing)

        p50, p99 = df("response", 0.5), df("response", 0.99)
        response = self._latency(together["response"], missing)
        return self._mix_tenant(response, p50, p99, df("device", 0.99), side)

    def _mix_tenant(
        self, response: Latency, p50: Estimate, p99: Estimate, device: Estimate, side: SideData
    ) -> MixTenant:
        kind, precise = judge(p99, asked_of(self.plan.precision))
        if (self.unfit and kind != "refused") or (self.disturbed and kind in NEEDS_SOLO):
            kind = "undetermined"
        dimmed = "" if kind == "refused" else dimming(len(self.data.solo.rounds), len(side.rounds))
        return MixTenant(
            n=response.n,
            df_p50=p50,
            df_p99=p99,
            device_df_p99=device,
            kind=kind,
            precise=precise,
            dimmed=dimmed,
            response=response,
            rate_hz=_rate_hz(side),
        )

    def kept(self, side: Side) -> KeptRows | None:
        conditions = self.plan.conditions if side == "solo" else (self.plan.full_house,)
        names = [one.name for one in conditions if self.name in one.tenants and one.is_solo == (side == "solo")]
        return self.gathered.kept.of(self.name, names[0]) if names else None

    def _causes(self) -> tuple[Causes, ...]:
        figures = {name: mix.response for name, mix in self.mixes.items() if mix.response is not None}
        alone = self.summary.response.solo
        return causes(
            self.name,
            self.info,
            self.gathered.kept,
            alone=alone,
            together=figures,
            confidence=self.confidence,
        )

    def series(self) -> TenantSeries:
        """What the figures show of the tenant: tail curves of every side and clock that has samples, and the rest."""
        tails = {
            side: {clock: _tail(sample) for clock, sample in clocks.items() if sample is not None}
            for side, clocks in self.samples.items()
        }
        over_time, strip = self.gathered.over_time.of(self.name), self.gathered.strips.of(self.name)
        slowest = self.gathered.slowest.of(self.name)
        stages = self.gathered.steady.stages(self.name)
        return TenantSeries(tails=tails, over_time=over_time, strip=strip, slowest=slowest, stages=stages)

    def _clock(self, clock: Clock) -> ClockSummary:
        solo, shared = self.samples["solo"][clock], self.samples["shared"][clock]
        missing = self._missing("solo") if solo is None else self._missing("shared")
        df = {field: degradation(shared, solo, p, self.confidence, missing) for field, p in QUANTILES.items()}
        return ClockSummary(
            solo=self._latency(solo, self._missing("solo")),
            shared=self._latency(shared, self._missing("shared")),
            df=Degradation(**df),
        )

    def _latency(self, sample: LatencySample | None, missing: str) -> Latency:
        figures = {field: quantile_estimate(sample, p, self.confidence, missing) for field, p in QUANTILES.items()}
        return Latency(
            n=sample.n if sample else 0,
            mean=sample.mean if sample else None,
            jitter=ratio_estimate(sample, 0.99, sample, 0.5, self.confidence, missing=missing),
            **figures,
        )

    def _missing(self, side: Side, data: SideData | None = None) -> str:
        if (found := data or self.data.side(side)).service:
            return gap_reason(found.device, side)
        silent = not any(block.counts.get(self.name) for block in self.info.blocks)
        if silent and not self.plan.tenant(self.name).work.in_thread:
            return "the program reports no iterations: a neighbour without figures of its own"
        return f"no valid {side} iterations"

    def _rate(self, side: Side) -> Rate:
        device = self.samples[side]["device"]
        real = _rate_hz(self.data.side(side))
        return Rate(real=real, proxy=1000 / device.mean if device is not None and device.mean > 0 else None)

    def _collided(self) -> Collided | None:
        """None where no iteration counts, or where no neighbour has any."""
        shared, company = self.data.shared, self.gathered.company
        if not shared.n or not self.gathered.phases.of(self.name):
            return None
        split = split_blocks(self.data.solo.rounds, shared.rounds)
        sample = make_sample(company.take(self.name), split=split, aside=True)
        figures = {
            field: quantile_estimate(sample, QUANTILES[field], self.confidence, "none met a neighbour's")
            for field in ("p50", "p95", "p99")
        }
        met = company.met(self.name)
        return Collided(n=met, share=met / shared.n, **figures)

    def _goodput(self, deadline_ms: float | None) -> Goodput | None:
        if deadline_ms is None:
            return None
        solo, shared = (
            fraction_within(self.samples[side]["response"], deadline_ms, self.confidence, self._missing(side))
            for side in SIDES
        )
        return Goodput(deadline_ms=deadline_ms, solo=solo, shared=shared)

    def _reference(self) -> ReferenceTable | None:
        if self.samples["shared"]["device"] is None and self.data.shared.service:
            return None
        alone, together = (
            [sample for sample in (self.samples[side]["device"], left_out) if sample is not None]
            for side in SIDES
            for left_out in (make_sample(self.data.side(side).left_out_device, split=False, aside=True),)
        )
        return reference_table(alone, together)


def _samples(side: SideData, split: bool) -> dict[Clock, LatencySample | None]:
    """Samples of the three clocks; response is the very object of service where all due times are submissions."""
    service = make_sample(side.service, split=split, lost=side.lost, aside=True)
    closed = all(a is b for (_, a), (_, b) in zip(side.response, side.service, strict=True))
    return {
        "response": service if closed else make_sample(side.response, split=split, lost=side.lost, aside=True),
        "service": service,
        "device": make_sample(told_device(side.device), split=split, lost=side.lost, aside=True),
    }


def _rate_hz(side: SideData) -> float | None:
    """Cycles per second from first to last submission in each block: think time is part of a cycle. None where that
    time is not known."""
    return side.cycles * 1e9 / side.cycles_ns if side.cycles_ns > 0 and not side.set_back else None


def _slo(p99_ms: float | None, response: ClockSummary) -> SloResult | None:
    if p99_ms is None:
        return None
    return SloResult(p99_ms=p99_ms, solo=kept(response.solo.p99, p99_ms), shared=kept(response.shared.p99, p99_ms))


def kept(p99: Estimate, limit_ms: float) -> Literal["kept", "broken", "undetermined"]:
    """Whether a p99 is at most so much: yes or no only where its whole interval says so."""
    if p99.lo is None or p99.hi is None:
        return "undetermined"
    return "kept" if p99.hi <= limit_ms else "broken" if p99.lo > limit_ms else "undetermined"


def _tail(sample: LatencySample) -> TailCurve:
    """Values at log-spaced tail fractions in every unit, thinned, each with its exact pooled fraction."""
    fractions = np.concatenate([np.linspace(1, 0.1, 100), np.geomspace(0.1, 1 / sample.n, TAIL_POINTS - 100)])
    values = np.concatenate(
        [
            unit[np.clip(np.floor((1 - fractions) * len(unit)).astype(np.int64), 0, len(unit) - 1)]
            for unit in sample.units
        ]
    )
    values = np.unique(values)
    if len(values) > TAIL_CANDIDATES:
        values = values[np.linspace(0, len(values) - 1, TAIL_CANDIDATES).astype(np.int64)]
    faster = np.zeros(len(values), dtype=np.int64)
    for unit in sample.units:
        faster += unit.searchsorted(values, side="left")
    slower = (sample.n - faster) / sample.n
    if len(values) > TAIL_POINTS:  # nearest to the wanted fractions, the maximum always among them
        picked = np.unique(np.searchsorted(-slower, -fractions).clip(0, len(values) - 1))
        picked = np.unique(np.append(picked[: TAIL_POINTS - 1], len(values) - 1))
        values, slower = values[picked], slower[picked]
    return TailCurve(ms=values.astype(np.float64), fraction_slower=slower)
