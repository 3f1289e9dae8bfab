"""From a run to its figures: one pass over the records, then everything from sorted samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from kts.model.plan import Plan
from kts.model.reading import RunData
from kts.model.records import Clock
from kts.model.summary import (
    SUMMARY_VERSION,
    Caution,
    ClockSummary,
    Collided,
    Degradation,
    Estimate,
    Goodput,
    Latency,
    Mix,
    MixTenant,
    Overlap,
    Rate,
    ReferenceTable,
    SloResult,
    Summary,
    TenantSummary,
    Throughput,
)
from kts.stats import cautions, starts
from kts.stats.activity import Join, traces
from kts.stats.degradation import ratio_estimate
from kts.stats.depends_cautions import of_dependence
from kts.stats.faults import gap_reason, told_device
from kts.stats.gathering import SideData, TenantData, gather, origin_ns
from kts.stats.proportions import fraction_within
from kts.stats.quantiles import QUANTILES, quantile_estimate
from kts.stats.reference import reference_table
from kts.stats.sample import MIN_ROUNDS, FloatArray, Sample, make_sample
from kts.stats.series import SIDES, TAIL_POINTS, Analysis, BlockSpan, OverTime, Side, TailCurve, TenantSeries
from kts.stats.verdict import asked_of, dimming, judge, verdict
from kts.stats.waiting import waiting

Samples = dict[Side, dict[Clock, Sample | None]]


def analyse(run: RunData, *, confidence: float = 0.95) -> Analysis:
    """Figures with ``confidence`` intervals, cautions, and the series for the pictures.

    Same run and confidence: same result. Reads every record once. Figures that the data do not
    support are refused inside the summary; nothing is raised for a run that holds too little.
    """
    info = run.info
    samples = run.telemetry()
    join = Join(samples, info) if samples else None
    gathered = gather(run, join)
    tenants: dict[str, TenantSummary] = {}
    series: dict[str, TenantSeries] = {}
    in_mixes: dict[str, dict[str, MixTenant]] = {}
    warnings: list[Caution] = [*cautions.of_run(run), *starts.of_run(info)]
    is_gpu = bool(info.workers) and all(worker.device.kind == "cuda" for worker in info.workers)
    on_cpu = any(worker.device.kind == "cpu" for worker in info.workers)
    for name in list(gathered):
        data = gathered[name]
        view = _TenantView(name, info.plan, data, confidence)
        tenants[name] = view.summary(on_cpu)
        if join is not None:
            tenants[name] = msgspec.structs.replace(tenants[name], activity=join.activity(name))
        series[name] = TenantSeries(tails=view.tails(), over_time=_joined(data.points), strip=data.strip)
        warnings += cautions.of_tenant(name, info.plan, data, tenants[name], view.samples["solo"]["service"])
        warnings += starts.of_tenant(name, data, view.samples["shared"]["response"])
        warnings += of_dependence(name, info.plan, tenants[name], view.samples)
        in_mixes[name] = view.in_mixes(tenants[name])
        warnings += cautions.of_mixes(name, info.plan, in_mixes[name])
        gathered[name] = TenantData()  # its arrays can go
    labels = sorted({worker.device.label for worker in info.workers})
    summary = Summary(
        schema=SUMMARY_VERSION,
        run=info.id,
        experiment=info.plan.name,
        design=info.plan.design,
        device=", ".join(labels) or "unknown device",
        is_gpu=is_gpu,
        backend=info.backend,
        mode=info.mode,
        outcome=info.outcome.kind,
        confidence=confidence,
        headline_clock="response",
        rounds=len({block.round for block in run.blocks if block.valid}),
        tenants=tenants,
        warnings=tuple(warnings),
        notes=(*info.notes, *cautions.notes(info.plan, tenants)),
        mixes=_mixes(info.plan, in_mixes) if len(info.plan.mixes) > 1 else UNSET,
        telemetry=info.telemetry or UNSET,
        provenance=info.provenance or UNSET,
    )
    activity = {name: tenant.activity or () for name, tenant in tenants.items()}
    end_ns = max((block.end_ns for block in run.blocks), default=0)
    shown = traces(samples, activity, origin_ns(run), end_ns) if samples else ()
    return Analysis(summary=summary, series=series, spans=_spans(run), activity=shown)


def _mixes(plan: Plan, figures: dict[str, dict[str, MixTenant]]) -> tuple[Mix, ...]:
    return tuple(
        Mix(condition=mix.name, tenants={name: figures[name][mix.name] for name in mix.tenants}) for mix in plan.mixes
    )


def split_blocks(solo_rounds: set[int], shared_rounds: set[int]) -> bool:
    """True where there are too few rounds to tell how they differ, so that blocks are cut into segments."""
    present = [len(rounds) for rounds in (solo_rounds, shared_rounds) if rounds]
    return bool(present) and min(present) < MIN_ROUNDS


@dataclass
class _TenantView:
    """One tenant's samples and everything computed from them."""

    name: str
    plan: Plan
    data: TenantData
    confidence: float

    def __post_init__(self) -> None:
        solo, shared = self.data.solo, self.data.shared
        split = split_blocks(solo.rounds, shared.rounds)
        recut = any(split_blocks(solo.rounds, mix.rounds) != split for mix in self.data.mixes.values())
        self.samples: Samples = {
            "solo": _samples(_copied(solo) if recut else solo, split),
            "shared": _samples(shared, split),
        }

    def summary(self, on_cpu: bool) -> TenantSummary:
        tenant = self.plan.tenant(self.name)
        solo, shared = self.data.solo, self.data.shared
        response, device = self._clock("response"), self._clock("device")
        closed = all(self.samples[side]["service"] is self.samples[side]["response"] for side in SIDES)
        service = response if closed else self._clock("service")
        waits = waiting(solo, shared, service.solo.p99.estimate)
        return TenantSummary(
            workload=tenant.work.workload,
            size=tenant.work.size,
            response=response,
            service=service,
            device=device,
            throughput=Throughput(solo=self._rate("solo"), shared=self._rate("shared")),
            overlap=Overlap(kept=shared.n, dropped=shared.dropped, lead=solo.lead + shared.lead),
            collided=self._collided(),
            verdict=verdict(
                self.name,
                response,
                device,
                waits,
                is_gpu=not on_cpu,
                closed=closed,
                precision=self.plan.precision,
                confidence=self.confidence,
                dimmed=dimming(len(solo.rounds), len(shared.rounds)),
            ),
            waiting=waits,
            goodput=self._goodput(tenant.slo.deadline_ms),
            slo=_slo(tenant.slo.p99_ms, response),
            reference=self._reference(),
        )

    def in_mixes(self, summary: TenantSummary) -> dict[str, MixTenant]:
        """Figures of the tenant by shared condition; those of the full house are the headline's own."""
        figures = {
            mix.name: self._in_mix(self.data.mixes.pop(mix.name, SideData()))
            for mix in self.plan.mixes[:-1]
            if self.name in mix.tenants
        }
        response, device = summary.response, summary.device
        house = self._mix_tenant(response.shared.n, response.df.p50, response.df.p99, device.df.p99, self.data.shared)
        return {**figures, self.plan.full_house.name: house}

    def _in_mix(self, side: SideData) -> MixTenant:
        """As the headline's estimator, with solo samples cut as these need it."""
        solo = self.data.solo
        split = split_blocks(solo.rounds, side.rounds)
        same_cut = split == split_blocks(solo.rounds, self.data.shared.rounds)
        alone = self.samples["solo"] if same_cut else _samples(solo, split)
        together = _samples(side, split)
        missing = self._missing("shared", side) if solo.service else self._missing("solo")

        def df(clock: Clock, p: float) -> Estimate:
            above, below = together[clock], alone[clock]
            return ratio_estimate(above, p, below, p, self.confidence, missing=missing, names=("shared", "solo"))

        p50, p99 = df("response", 0.5), df("response", 0.99)
        return self._mix_tenant(side.n, p50, p99, df("device", 0.99), side)

    def _mix_tenant(self, n: int, p50: Estimate, p99: Estimate, device: Estimate, side: SideData) -> MixTenant:
        kind, precise = judge(p99, asked_of(self.plan.precision))
        dimmed = "" if kind == "refused" else dimming(len(self.data.solo.rounds), len(side.rounds))
        return MixTenant(n=n, df_p50=p50, df_p99=p99, device_df_p99=device, kind=kind, precise=precise, dimmed=dimmed)

    def tails(self) -> dict[Side, dict[Clock, TailCurve]]:
        """Tail curves of every side and clock that has samples."""
        return {
            side: {clock: _tail(sample) for clock, sample in clocks.items() if sample is not None}
            for side, clocks in self.samples.items()
        }

    def _clock(self, clock: Clock) -> ClockSummary:
        solo, shared = self.samples["solo"][clock], self.samples["shared"][clock]
        missing = self._missing("solo") if solo is None else self._missing("shared")
        names = ("shared", "solo")
        df = {
            field: ratio_estimate(shared, p, solo, p, self.confidence, missing=missing, names=names)
            for field, p in QUANTILES.items()
        }
        return ClockSummary(
            solo=self._latency("solo", solo), shared=self._latency("shared", shared), df=Degradation(**df)
        )

    def _latency(self, side: Side, sample: Sample | None) -> Latency:
        missing = self._missing(side)
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
        silent = not (self.data.solo.service or self.data.shared.service)
        if silent and not self.plan.tenant(self.name).work.in_thread:
            return "the program reports no iterations: a neighbour without figures of its own"
        return f"no valid {side} iterations"

    def _rate(self, side: Side) -> Rate:
        """Cycles per second from first to last submission in each block: think time is part of a cycle."""
        data, device = self.data.side(side), self.samples[side]["device"]
        real = data.cycles * 1e9 / data.cycles_ns if data.cycles_ns > 0 else None
        return Rate(real=real, proxy=1000 / device.mean if device is not None and device.mean > 0 else None)

    def _collided(self) -> Collided | None:
        """None where no iteration counts, or where no neighbour has any."""
        shared = self.data.shared
        if not shared.n or not self.data.phases:
            return None
        split = split_blocks(self.data.solo.rounds, shared.rounds)
        sample = make_sample(shared.collided, split=split)
        figures = {
            field: quantile_estimate(sample, QUANTILES[field], self.confidence, "none met a neighbour's")
            for field in ("p50", "p95", "p99")
        }
        return Collided(n=shared.met, share=shared.met / shared.n, **figures)

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
            for left_out in (make_sample(self.data.side(side).left_out_device, split=False),)
        )
        return reference_table(alone, together)


def _samples(side: SideData, split: bool) -> dict[Clock, Sample | None]:
    """Samples of the three clocks; response is the very object of service where all due times are submissions."""
    service = make_sample(side.service, split=split, lost=side.lost)
    closed = all(a is b for (_, a), (_, b) in zip(side.response, side.service, strict=True))
    return {
        "response": service if closed else make_sample(side.response, split=split, lost=side.lost),
        "service": service,
        "device": make_sample(told_device(side.device), split=split, lost=side.lost),
    }


def _copied(side: SideData) -> SideData:
    """The side with arrays of its own, since samples sort them in place; equal arrays stay one."""
    mine: dict[int, FloatArray] = {}

    def copies(values: list[tuple[int, FloatArray]]) -> list[tuple[int, FloatArray]]:
        return [(number, mine.setdefault(id(ms), ms.copy())) for number, ms in values]

    return replace(side, response=copies(side.response), service=copies(side.service), device=copies(side.device))


def _slo(p99_ms: float | None, response: ClockSummary) -> SloResult | None:
    if p99_ms is None:
        return None
    return SloResult(p99_ms=p99_ms, solo=_kept(response.solo.p99, p99_ms), shared=_kept(response.shared.p99, p99_ms))


def _kept(p99: Estimate, limit_ms: float) -> Literal["kept", "broken", "undetermined"]:
    if p99.lo is None or p99.hi is None:
        return "undetermined"
    return "kept" if p99.hi <= limit_ms else "broken" if p99.lo > limit_ms else "undetermined"


def _tail(sample: Sample) -> TailCurve:
    """Values at log-spaced tail fractions in every unit, thinned, each with its exact pooled fraction."""
    fractions = np.concatenate([np.linspace(1, 0.1, 100), np.geomspace(0.1, 1 / sample.n, TAIL_POINTS - 100)])
    values = np.concatenate(
        [
            unit[np.clip(np.floor((1 - fractions) * len(unit)).astype(np.int64), 0, len(unit) - 1)]
            for unit in sample.units
        ]
    )
    values = np.unique(values)
    slower = np.array([len(u) - u.searchsorted(values, side="left") for u in sample.units]).sum(axis=0) / sample.n
    if len(values) > TAIL_POINTS:  # nearest to the wanted fractions, the maximum always among them
        picked = np.unique(np.searchsorted(-slower, -fractions).clip(0, len(values) - 1))
        picked = np.unique(np.append(picked[: TAIL_POINTS - 1], len(values) - 1))
        values, slower = values[picked], slower[picked]
    return TailCurve(ms=values.astype(np.float64), fraction_slower=slower)


def _joined(points: list[OverTime]) -> OverTime:
    def column(name: str, dtype: type) -> NDArray[Any]:
        arrays = [getattr(part, name) for part in points]
        return np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)

    return OverTime(
        t_s=column("t_s", np.float64),
        service_ms=column("service_ms", np.float64),
        device_ms=column("device_ms", np.float64),
        block=column("block", np.int64),
        shared=column("shared", np.bool_),
    )


def _spans(run: RunData) -> tuple[BlockSpan, ...]:
    origin = origin_ns(run)
    return tuple(
        BlockSpan(
            block=block.index,
            condition=block.condition,
            round=block.round,
            start_s=(block.start_ns - origin) / 1e9,
            end_s=(block.end_ns - origin) / 1e9,
            valid=block.valid,
        )
        for block in run.blocks
    )
