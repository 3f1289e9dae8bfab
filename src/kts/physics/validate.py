"""A prediction held against a measured run: errors per tenant, how often the bands hold, simpler rules beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec
import numpy as np

from kts.errors import RefusalError
from kts.model.provenance import Provenance
from kts.model.reading import RunData
from kts.physics.forecast import Band, Figures, Plain, Prediction, TenantForecast
from kts.physics.predict import plain
from kts.physics.recorded import Measured, gpu_of, measured, mix_seconds
from kts.physics.sealing import Seal
from kts.stats.quantiles import QUANTILES, refusal

SCORED: tuple[str, ...] = ("mean", "p50", "p95", "p99")
MODEL = "prediction"
"""The prediction's own name among the rules."""

ScoredClock = Literal["response", "device"]


class FigureScore(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: milliseconds, ``error`` = predicted / measured - 1. ``inside``: the band holds what was measured."""

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


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What `kts validate` says. ``errors``: clock, then rule, then figure; the prediction's own rule is `MODEL`.

    ``predicted_by``, ``measured_by``: provenance of both, where they have one. ``seal``: set by the command.
    """

    run: str
    confidence: float
    tenants: tuple[TenantScore, ...]
    errors: dict[str, dict[str, dict[str, ErrorSummary]]]
    coverage: dict[str, dict[str, Coverage]]
    notes: tuple[str, ...] = ()
    predicted_by: Provenance | None = None
    measured_by: Provenance | None = None
    seal: Seal | None = None


def score(prediction: Prediction, run: RunData) -> Score:
    """Every tenant of every mix that was both predicted and measured. RefusalError if there is none.

    Mixes are matched by the names of their tenants. p99 and the other quantiles are compared only where the
    measurement would have an interval for them.
    """
    found = measured(run)
    tenants = tuple(
        _tenant(mix, name, clock, forecast, them[name])
        for mix, them in found.items()
        for forecasts in (_predicted(prediction, them),)
        if forecasts is not None
        for name, forecast in forecasts.items()
        for clock in _clocks(them[name])
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
        errors={clock: _errors(tenants, clock) for clock in ("response", "device")},
        coverage={clock: _coverage(tenants, clock) for clock in ("response", "device")},
        notes=tuple(_doubts(prediction, run)),
        predicted_by=prediction.provenance,
        measured_by=run.info.provenance,
    )


def _names(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _predicted(prediction: Prediction, them: Mapping[str, Measured]) -> dict[str, TenantForecast] | None:
    return next((mix.tenants for mix in prediction.mixes if set(mix.tenants) == set(them)), None)


def _clocks(them: Measured) -> tuple[ScoredClock, ...]:
    with_device = len(them.device_ms) and bool(np.isfinite(them.device_ms).all())
    return ("response", "device") if with_device else ("response",)


def _tenant(mix: str, name: str, clock: ScoredClock, forecast: TenantForecast, them: Measured) -> TenantScore:
    values = them.response_ms if clock == "response" else them.device_ms
    predicted: Figures = getattr(forecast, clock)
    real = plain(values, 1)
    figures, skipped = [], {}
    for figure in SCORED:
        p = QUANTILES.get(figure)
        reason = "no iterations" if not len(values) else refusal(len(values), p, 0.95) if p is not None else ""
        band, truth = getattr(predicted, figure), getattr(real, figure)
        if not reason and band.value is None:
            reason = "not predicted"
        if reason:
            skipped[figure] = reason
            continue
        rules = forecast.baselines if clock == "response" else {}
        figures.append(
            FigureScore(
                figure=figure,
                measured=truth,
                predicted=band,
                error=band.value / truth - 1,
                inside=None if band.lo is None else bool(band.lo <= truth <= band.hi),
                rules={rule: value / truth - 1 for rule, value in _of(rules, figure)},
            )
        )
    return TenantScore(
        mix=mix, tenant=name, clock=clock, iterations=len(values), figures=tuple(figures), skipped=skipped
    )


def _of(baselines: Mapping[str, Plain], figure: str) -> Iterator[tuple[str, float]]:
    for rule, figures in baselines.items():
        value = getattr(figures, figure)
        if value is not None:
            yield rule, value


def _errors(tenants: tuple[TenantScore, ...], clock: ScoredClock) -> dict[str, dict[str, ErrorSummary]]:
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


def _coverage(tenants: tuple[TenantScore, ...], clock: ScoredClock) -> dict[str, Coverage]:
    found: dict[str, list[bool]] = {}
    for tenant in tenants:
        for item in tenant.figures if tenant.clock == clock else ():
            if item.inside is not None:
                found.setdefault(item.figure, []).append(item.inside)
    return {name: Coverage(n=len(them), inside=sum(them)) for name, them in found.items()}


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
    if mark.mode != run.info.mode:
        yield f"the fingerprint is of mode {mark.mode}, the run of {run.info.mode}"
    lengths = {frozenset(mix.tenants): mix.seconds or prediction.seconds for mix in prediction.mixes}
    for mix, seconds in mix_seconds(run).items():
        meant = lengths.get(frozenset(mix.split("+")))
        if meant is not None and not 0.7 <= seconds / meant <= 1.4:
            yield f"the bands are for {meant:.0f} s of each mix, {mix} was measured for {seconds:.0f} s"
    if prediction.model_error.source == "none":
        yield "the bands hold nothing for the error of the model itself"
