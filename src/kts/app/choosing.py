"""Which mode to take, and how a cluster is set to it: from a run in modes, or from profiles as a prediction."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace as with_columns
from pathlib import Path
from typing import Literal, Unpack

from msgspec.structs import replace
from rich.console import Console

from kts import sharing
from kts.app.handle import Run, load
from kts.app.inputs import Given, Inputs, basis, check_name
from kts.app.measuring import run
from kts.app.plans import Asked, Changes, planned
from kts.app.predictions import threads
from kts.app.printing import Say, elements, silent
from kts.errors import RefusalError, UsageError
from kts.k8s.objects.choice import cluster_lines
from kts.model.mode import CPU_SCHEDULER, EXCLUSIVE, MPS, TIME_SLICING, Mode
from kts.model.modes import MODES_VERSION, Chosen, InModeTenant, ModeResult, ModesSummary
from kts.model.plan import Plan, Tenant
from kts.model.summary import Estimate
from kts.physics.fitted import hosts_told
from kts.physics.forecast import Band, MixForecast, TenantForecast
from kts.physics.predict import Predictor, numbered
from kts.physics.values import Profile
from kts.report.choosing import chosen_elements
from kts.report.forecasts import basis_lines, without_turns_words
from kts.stats import choosing
from kts.worker.detect import resolved
from kts.worker.sharing import CONTROL

elements.register(Chosen, chosen_elements)

COVERED = (TIME_SLICING, CPU_SCHEDULER)
"""Modes whose turns a fingerprint knows."""


def choose(of: str | Path | Run, *, slo: Mapping[str, float] | None = None) -> Chosen:
    """The mode to take, of those that a run has measured (`run` with ``modes``), and how a cluster is set to it.

    ``slo``: by tenant, a response p99 in ms, in place of the experiment's and besides. RefusalError for a run without
    modes, DataError for one without figures, UsageError for a tenant that is not there.
    """
    measured = load(of)
    measured.check_figures()
    modes = measured.modes_by(slo or {})
    if modes is None:
        raise RefusalError(
            f"{measured.directory}: measured no modes, so there is none to choose",
            "kts run EXPERIMENT --modes exclusive,time-slicing,mps",
        )
    return _with_lines("measured", modes)


def run_to_choose(
    experiment: Asked,
    out: str | Path | None = None,
    *,
    modes: str = "",
    overwrite: bool = False,
    progress: Console | None = None,
    say: Say = silent,
    **changes: Unpack[Changes],
) -> Run:
    """Measures an experiment in ``modes``, by default in those that this machine allows; arguments and errors as of
    `run`. ``say`` is told which, where it was left to us."""
    if not modes:
        plan = resolved(planned(experiment, changes)[1])
        modes = ",".join(default_modes(plan))
        lacks = "" if plan.device == "cpu" or MPS in modes else f"; not in MPS: {CONTROL} is not on this machine"
        say(f"measuring in {modes}{lacks}")
    return run(experiment, out, modes=modes, overwrite=overwrite, progress=progress, **changes)


def default_modes(plan: Plan) -> list[str]:
    """What to measure where nothing else is asked. MPS with the share of threads that NVIDIA's device plugin gives each
    of so many tenants, too."""
    if plan.device == "cpu":
        return [EXCLUSIVE, CPU_SCHEDULER]
    each = 100 // max((len(mix.tenants) for mix in plan.mixes), default=1)
    mps = [MPS, *([f"{MPS}:{each}"] if 1 <= each < 100 else [])]
    return [EXCLUSIVE, TIME_SLICING, *(mps if shutil.which(CONTROL) else [])]


def predict_choice(
    of: str | Path | None = None,
    *,
    modes: str = "",
    slo: Mapping[str, float] | None = None,
    **given: Unpack[Given],
) -> Chosen:
    """The mode to take, as the model has it: exclusive use, turns as the fingerprint knows them, or on a GPU MPS and
    streams without settings, by first models. Nothing is run.
    Programs' hosts are taken to be as fast as in their profiles in every mode: what they are in a run hits all modes.

    ``of``: a mix of the profiles (``fft+gemm*2``), or an experiment whose tenants are profiled; its SLOs count. By
    default all profiles together. ``modes``: those to consider. There is no model of the others, and the notes say so.
    ``slo``: as of `choose`, by tenant or by profile. ``given``: see `Given`. RefusalError for a fingerprint of a mode
    without turns; otherwise errors as of `predict`.
    """
    base = basis(given)
    device = base.fingerprint.gpu
    if base.fingerprint.mode not in COVERED:
        raise RefusalError(
            f"the fingerprint is of {base.fingerprint.mode}, and the model needs turns", "measure: kts run --modes"
        )
    mix, profiles, limits = _asked(of, base)
    limits |= _by_tenant(slo or {}, mix)
    used = {name: profiles[name] for name in mix.values()}
    base = with_columns(base, profiles=used, error=hosts_told(base.error))

    def forecast(mode: str) -> MixForecast:
        with threads() as pool:
            shared = base.fingerprint.in_mode(mode)
            return Predictor(base.profiles, shared, base.effort, base.error, each=pool.map).mix(list(mix.values()))

    in_turns = forecast(base.fingerprint.mode)
    usual = [EXCLUSIVE, TIME_SLICING, MPS] if device.kind == "cuda" else [EXCLUSIVE, CPU_SCHEDULER]
    asked = sharing.parse(modes or ",".join(usual))
    made: dict[str, Callable[[Mode], ModeResult]] = {
        EXCLUSIVE: lambda mode: _alone(mode, in_turns),
        base.fingerprint.mode: lambda mode: _together(mode, in_turns, "turns, as the fingerprint has them"),
    }
    programs = base.has_programs

    def without_turns(mode: Mode) -> ModeResult:
        return _together(mode, forecast(mode.kind), without_turns_words(mode.kind, programs=programs))

    made |= dict.fromkeys(base.lines, without_turns)
    covered = [mode for mode in asked if mode.kind in made and mode == Mode(name=mode.name, kind=mode.kind)]
    results = [choosing.promised(made[mode.kind](mode), limits) for mode in covered]
    unknown = [mode.name for mode in asked if mode not in covered]
    without = [f"no model of {name} yet: measure it (kts choose EXPERIMENT --modes {name})" for name in unknown]
    if not results:
        raise RefusalError("; ".join(without), "leave --profiles out, and it is measured")
    return _with_lines(
        "predicted",
        ModesSummary(
            schema=MODES_VERSION,
            run="",
            experiment=in_turns.name,
            device=device.label or device.name,
            is_gpu=device.kind == "cuda",
            outcome="predicted",
            confidence=base.effort.confidence,
            rounds=0,
            modes=tuple(results),
            choice=choosing.choose(results),
            notes=(
                *without,
                *basis_lines(
                    base.fingerprint,
                    base.effort.confidence,
                    base.effort.seconds,
                    base.error,
                    base.error_without_turns(mode.kind for mode in covered),
                ),
            ),
        ),
    )


def _with_lines(how: Literal["measured", "predicted"], modes: ModesSummary) -> Chosen:
    if not modes.choice.best:
        return Chosen(basis=how, modes=modes)
    best = modes.mode(modes.choice.best)
    return Chosen(basis=how, modes=modes, cluster=cluster_lines(best.mode, len(best.tenants)))


def _asked(of: str | Path | None, base: Inputs) -> tuple[dict[str, str], Mapping[str, Profile], dict[str, float]]:
    """(by tenant the profile's name, profiles by that name, p99s that an experiment promises)."""
    if of is None or _is_mix(str(of), base):
        return numbered(base.mix(str(of)) if of is not None else tuple(base.profiles)), base.profiles, {}
    plan = planned(of, {})[1]
    if not plan.mixes:
        raise UsageError(f"{of}: no tenants that run together", "give an experiment with a mix")
    house = max(plan.mixes, key=lambda mix: len(mix.tenants)).tenants
    profiles = {name: _profile_of(plan.tenant(name), base) for name in house}
    promises = {name: plan.tenant(name).slo.p99_ms for name in house}
    limits = {name: p99_ms for name, p99_ms in promises.items() if p99_ms is not None}
    return {name: name for name in house}, profiles, limits


def _is_mix(text: str, base: Inputs) -> bool:
    return all(part.partition("*")[0].strip() in base.profiles for part in text.split("+"))


def _profile_of(tenant: Tenant, base: Inputs) -> Profile:
    """By the tenant's name, or by that of the tenant it is a replica of; paced as the experiment says."""
    kind, _, number = tenant.name.rpartition("-")
    name = kind if tenant.name not in base.profiles and number.isdecimal() else tenant.name
    check_name(name, base.profiles)
    profile = base.profiles[name]
    deadline_ms = tenant.slo.deadline_ms if profile.deadline_ms is None else profile.deadline_ms
    return replace(profile, tenant=tenant.name, arrivals=tenant.arrivals, deadline_ms=deadline_ms)


def _by_tenant(slo: Mapping[str, float], mix: Mapping[str, str]) -> dict[str, float]:
    """A profile's name stands for all its tenants. UsageError for a name that is none of the mix."""
    for name in slo:
        if name not in mix and name not in mix.values():
            raise UsageError(f"no tenant {name!r} in {'+'.join(mix)}", f"there are: {', '.join(mix)}")
    return {tenant: slo.get(tenant, slo.get(name, 0.0)) for tenant, name in mix.items() if {tenant, name} & set(slo)}


def _alone(mode: Mode, forecast: MixForecast) -> ModeResult:
    """A device for each: what its profile says it does alone."""
    tenants = {
        name: InModeTenant(
            alone_p99=_exact(one.solo.p99), shared_p99=_exact(one.solo.p99), df99=_exact(1.0), progress=1.0
        )
        for name, one in forecast.tenants.items()
    }
    shown = "predicted: each tenant's own figures alone, from its profile, without a band"
    return ModeResult(mode=mode, shown=shown, proves=False, predicted=True, tenants=tenants, throughput=1.0)


def _together(mode: Mode, forecast: MixForecast, how: str) -> ModeResult:
    tenants = {name: _in_company(one) for name, one in forecast.tenants.items()}
    behind = [name for name, one in forecast.tenants.items() if one.overloaded]
    return ModeResult(
        mode=mode,
        shown=f"predicted: {how}",
        proves=False,
        predicted=True,
        tenants=tenants,
        throughput=choosing.work(tenants),
        doubts=tuple(
            f"{name} cannot keep up with its arrivals: its times grow as long as one looks" for name in behind
        ),
    )


def _in_company(one: TenantForecast) -> InModeTenant:
    missed = one.missed
    return InModeTenant(
        alone_p99=_exact(one.solo.p99),
        shared_p99=_banded(one.response.p99),
        df99=_banded(one.df.p99),
        progress=None if one.rate_hz.value is None or not one.solo_rate_hz else one.rate_hz.value / one.solo_rate_hz,
        goodput=None if missed is None else _banded(missed, rest=True),
    )


def _banded(band: Band, *, rest: bool = False) -> Estimate:
    """``rest``: of what the band leaves of 1."""
    if band.value is None or band.lo is None or band.hi is None:
        return Estimate(estimate=None, lo=None, hi=None, refused="too few iterations in the profiles")
    if rest:
        return Estimate(estimate=1 - band.value, lo=max(0.0, 1 - band.hi), hi=1 - band.lo)
    return Estimate(estimate=band.value, lo=band.lo, hi=band.hi)


def _exact(value: float | None) -> Estimate:
    refused = "" if value is not None else "too few iterations in the profile"
    return Estimate(estimate=value, lo=value, hi=value, refused=refused)
