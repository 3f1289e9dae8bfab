"""A prediction held against a measured run: errors per tenant, how often the bands hold, simpler rules beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import numpy as np

from kts.errors import RefusalError
from kts.model.provenance import Provenance
from kts.model.reading import RunData
from kts.physics.forecast import Band, Figures, Plain, Prediction, TenantForecast
from kts.physics.recorded import MeasuredTenant, gpu_of, measured, mix_seconds, solo
from kts.physics.sealing import Seal
from kts.physics.summaries import plain, ratio
from kts.stats.quantiles import QUANTILES, refusal
from kts.stats.steadiness import since_ns

SCORED: tuple[str, ...] = ("mean", "p50", "p95", "p99", "p999")
MODEL = "prediction"
"""The prediction's own name among the rules."""

ScoredClock = Literal["response", "df", "device", "device_df"]
"""The two clocks in ms, and on each the ratio of shared to solo."""
CLOCKS: tuple[ScoredClock, ...] = get_args(ScoredClock)


class FigureScore(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: milliseconds or a ratio, ``error`` = predicted / measured - 1. ``inside``: the band holds what was
    measured."""

    figure: str
    measured: float
    predicted: Band
    error: float
    inside: bool | None
    rules: dict[str, float] = {}  # errors of the baselines


class TenantScore(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant in one mix on one clock. ``skipped``: figures that the measurement does not support, and why."""

    mix: str
    tenant: str
    clock: ScoredClock
    iterations: int
    figures: tuple[FigureScore, ...]
    skipped: dict[str, str] = {}
    kind: str = ""  # see kts.physics.kinds


class ErrorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Absolute relative errors of one rule for one figure, over tenants and mixes."""

    n: int
    median: float
    p90: float
    mean: float
    worst: float


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How many measured figures lie inside their bands."""

    n: int
    inside: int


class KindSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Of the tenants of one kind: errors of the prediction, and how many bands hold (None: there are none)."""

    error: ErrorSummary
    bands: Coverage | None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What `kts validate` says. ``errors``: clock, then rule, then figure; the prediction's own rule is `MODEL`.

    ``kinds``: kind of tenant, then clock, then figure. ``predicted_by``, ``measured_by``: provenance, where there is
    one. ``seal``: set by the command.
    """

    run: str
    confidence: float
    tenants: tuple[TenantScore, ...]
    errors: dict[str, dict[str, dict[str, ErrorSummary]]]
    coverage: dict[str, dict[str, Coverage]]
    kinds: dict[str, dict[str, dict[str, KindSummary]]] = {}
    notes: tuple[str, ...] = ()
    predicted_by: Provenance | None = None
    measured_by: Provenance | None = None
    seal: Seal | None = None


def score(prediction: Prediction, run: RunData, steady_ns: Mapping[str, int] | None = None) -> Score:
    """Every tenant of every mix that was both predicted and measured. RefusalError if there is none.

    Mixes are matched by the names of their tenants. p99 and the other quantiles are compared only where the
    measurement would have an interval for them. ``steady_ns``: see `kts.physics.recorded.solo`.
    """
    steady_ns = since_ns(run) if steady_ns is None else steady_ns
    found = measured(run, steady_ns)
    alone = {tenant.name: solo(run, tenant.name, steady_ns) for tenant in run.info.plan.tenants}
    tenants = tuple(
        _tenant(mix, name, clock, forecast, _Truth.of(clock, them[name], alone[name]), kind=_kind(prediction, forecast))
        for mix, them in found.items()
        for forecasts in (_predicted(prediction, them),)
        if forecasts is not None
        for name, forecast in forecasts.items()
        for clock in _clocks(them[name], alone[name])
    )
    if not tenants:
        raise RefusalError(
            f"the prediction and run {run.info.id} have no mix in common: "
            f"predicted {_names([m.name for m in prediction.mixes])}, measured {_names(list(found))}",
            "name the profiles as the run's tenants are named",
        )
    return Score(
        run=run.info.id,
        confidence=prediction.confidence,
        tenants=tenants,
        errors={clock: errors_of(tenants, clock) for clock in CLOCKS},
        coverage={clock: coverage_of(tenants, clock) for clock in CLOCKS},
        kinds={
            kind: {clock: _of_kind(tenants, kind, clock) for clock in CLOCKS}
            for kind in sorted({tenant.kind for tenant in tenants} - {""})
        },
        notes=tuple(_doubts(prediction, run)),
        predicted_by=prediction.provenance,
        measured_by=run.info.provenance,
    )


def _names(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _predicted(prediction: Prediction, them: Mapping[str, MeasuredTenant]) -> dict[str, TenantForecast] | None:
    return next((mix.tenants for mix in prediction.mixes if set(mix.tenants) == set(them)), None)


def _kind(prediction: Prediction, forecast: TenantForecast) -> str:
    used = prediction.profiles.get(forecast.profile)
    return used.kind if used is not None else ""


def _clocks(them: MeasuredTenant, alone: MeasuredTenant) -> Iterator[ScoredClock]:
    """Response, and the device where every iteration has a stopwatch; ratios where the tenant was alone, too."""
    for clock in CLOCKS:
        ratio = "df" in clock
        samples = [getattr(one, _sample(clock)) for one in ((them, alone) if ratio else (them,))]
        timed = all(len(sample) and np.isfinite(sample).all() for sample in samples)
        if timed or clock == "response":
            yield clock


def _sample(clock: ScoredClock) -> str:
    return "device_ms" if clock.startswith("device") else "response_ms"


@dataclass(frozen=True, eq=False)
class _Truth:
    """What was measured, by figure; how many iterations it rests on (of a ratio: the fewer of both sides)."""

    figures: Plain
    iterations: int

    @classmethod
    def of(cls, clock: ScoredClock, them: MeasuredTenant, alone: MeasuredTenant) -> _Truth:
        values, base = getattr(them, _sample(clock)), getattr(alone, _sample(clock))
        if "df" in clock:
            return cls(ratio(plain(values, 1), plain(base, 1)), min(len(values), len(base)))
        return cls(plain(values, 1), len(values))


def _tenant(
    mix: str, name: str, clock: ScoredClock, forecast: TenantForecast, truth: _Truth, *, kind: str
) -> TenantScore:
    predicted: Figures = getattr(forecast, clock)
    figures, skipped = [], {}
    for figure in SCORED:
        reason = _unsupported(figure, truth.iterations)
        band, real = getattr(predicted, figure), getattr(truth.figures, figure)
        if not reason and band.value is None:
            reason = "not predicted"
        if reason:
            skipped[figure] = reason
            continue
        figures.append(
            FigureScore(
                figure=figure,
                measured=real,
                predicted=band,
                error=band.value / real - 1,
                inside=None if band.lo is None else bool(band.lo <= real <= band.hi),
                rules={rule: value / real - 1 for rule, value in _rules(forecast, clock, figure)},
            )
        )
    return TenantScore(
        mix=mix,
        tenant=name,
        clock=clock,
        iterations=truth.iterations,
        figures=tuple(figures),
        skipped=skipped,
        kind=kind,
    )


def _unsupported(figure: str, iterations: int) -> str:
    p = QUANTILES.get(figure)
    if not iterations:
        return "no iterations"
    return "" if p is None else refusal(iterations, p, 0.95)


def _rules(forecast: TenantForecast, clock: ScoredClock, figure: str) -> Iterator[tuple[str, float]]:
    """What simpler rules say; they know the response only, and divide it by the same solo figure."""
    below = {"response": 1.0, "df": getattr(forecast.solo, figure)}.get(clock)
    for rule, figures in forecast.baselines.items() if below else ():
        value = getattr(figures, figure)
        if value is not None:
            yield rule, value / below


def errors_of(tenants: Sequence[TenantScore], clock: ScoredClock) -> dict[str, dict[str, ErrorSummary]]:
    """Absolute errors on one clock, by rule and figure."""
    found: dict[str, dict[str, list[float]]] = {}
    for tenant in tenants:
        for item in tenant.figures if tenant.clock == clock else ():
            for rule, error in {MODEL: item.error, **item.rules}.items():
                found.setdefault(rule, {}).setdefault(item.figure, []).append(abs(error))
    return {rule: {name: _summary(np.array(errors)) for name, errors in by.items()} for rule, by in found.items()}


def _summary(errors: np.ndarray) -> ErrorSummary:
    median, p90 = np.quantile(errors, [0.5, 0.9])
    return ErrorSummary(
        n=len(errors), median=float(median), p90=float(p90), mean=float(errors.mean()), worst=float(errors.max())
    )


def coverage_of(tenants: Sequence[TenantScore], clock: ScoredClock) -> dict[str, Coverage]:
    """How often the bands hold on one clock, by figure."""
    found: dict[str, list[bool]] = {}
    for tenant in tenants:
        for item in tenant.figures if tenant.clock == clock else ():
            if item.inside is not None:
                found.setdefault(item.figure, []).append(item.inside)
    return {name: Coverage(n=len(them), inside=sum(them)) for name, them in found.items()}


def _of_kind(tenants: Sequence[TenantScore], kind: str, clock: ScoredClock) -> dict[str, KindSummary]:
    those = [tenant for tenant in tenants if tenant.kind == kind]
    errors, held = errors_of(those, clock).get(MODEL, {}), coverage_of(those, clock)
    return {figure: KindSummary(error=errors[figure], bands=held.get(figure)) for figure in errors}


def _doubts(prediction: Prediction, run: RunData) -> Iterator[str]:
    mark, gpu = prediction.fingerprint, gpu_of(run)
    if mark.source != "measured":
        yield f"the fingerprint is {mark.source}, not measured"
    if mark.gpu.uuid and gpu.uuid and mark.gpu.uuid != gpu.uuid:
        yield f"the fingerprint is of {mark.gpu.uuid}, the run of {gpu.uuid}"
    for tenant in run.info.plan.tenants:
        used = prediction.profiles.get(tenant.name)
        if used is not None and None not in (used.size, tenant.work.size) and used.size != tenant.work.size:
            yield f"{tenant.name}: the profile is of size {used.size}, the run's is {tenant.work.size}"
    if mark.mode != run.info.sharing.name:
        yield f"the fingerprint is of mode {mark.mode}, the run of {run.info.sharing.words()}"
    lengths = {frozenset(mix.tenants): mix.seconds or prediction.seconds for mix in prediction.mixes}
    for mix, seconds in mix_seconds(run).items():
        meant = lengths.get(frozenset(mix.split("+")))
        if meant is not None and not 0.7 <= seconds / meant <= 1.4:
            yield f"the bands are for {meant:.0f} s of each mix, {mix} was measured for {seconds:.0f} s"
    if prediction.model_error.source == "none":
        yield "the bands hold nothing for the error of the model itself"
