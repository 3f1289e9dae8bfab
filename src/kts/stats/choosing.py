"""Which mode: what each comes to, side by side, and the one that holds every SLO at most throughput. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from kts.model.mode import MPS, STREAMS, TIME_SLICING, Mode
from kts.model.modes import MODES_VERSION, Choice, Energy, InModeTenant, KeptSlo, ModeResult, ModesSummary
from kts.model.reading import RunData
from kts.model.sharing_facts import TurnsKind, TurnsSeen
from kts.model.summary import Activity, ActivityMean, Estimate, Summary, TenantSummary
from kts.stats.block import gather
from kts.stats.inside import Still, stood_still
from kts.stats.modes import views
from kts.stats.pair_gate import CONFIDENCE, Recorded
from kts.stats.pairs import Rounds
from kts.stats.sample import FloatArray
from kts.stats.view import kept

_Key = TypeVar("_Key")
EQUAL = 0.02
"""Throughputs closer than this are taken for equal, and the milder tail decides."""
_PROBED: Mapping[str, TurnsKind] = {TIME_SLICING: "turns", MPS: "at-once"}
"""By the kind of a mode, what two probes see in it."""
POWER = "power_w"
"""The metric of telemetry that says what the device draws."""
ONE_DEVICE = 0.1
"""Tenants of one device were told of the same power, but for blocks in which one of them has no iterations."""


def modes_summary(
    run: RunData,
    summaries: Mapping[str, Summary],
    slo: Mapping[str, float] | None = None,
    turns: Mapping[str, TurnsSeen] | None = None,
) -> ModesSummary:
    """The modes of a run, of which at least one is shared; ``summaries``: of these, by name. ``slo``: by tenant, a
    response p99 (ms) that is promised in place of the experiment's, or besides. ``turns``: by mode, what probes saw."""
    info, alone, shared = run.info, next(iter(summaries.values())), views(run)
    results = []
    for one in info.plan.modes:
        of = summaries.get(one.mode.name)
        if of is None:
            results.append(_exclusive(one.mode, alone))
        else:
            results.append(_probed(_shared(one.mode, of, shared[one.mode.name]), (turns or {}).get(one.mode.name)))
    if slo:
        results = [promised(one, slo) for one in results]
    choice = choose(results)
    ratios = over(run, choice.best)
    results = [
        replace(
            one,
            tenants={
                name: replace(tenant, over_best=ratios.get((one.mode.name, name)))
                for name, tenant in one.tenants.items()
            },
        )
        for one in results
    ]
    return ModesSummary(
        schema=MODES_VERSION,
        run=info.id,
        experiment=info.plan.name,
        device=alone.device,
        is_gpu=alone.is_gpu,
        outcome=info.outcome.kind,
        confidence=alone.confidence,
        rounds=max(one.rounds for one in summaries.values()),
        modes=tuple(results),
        choice=_with_difference(choice, results),
        notes=tuple(dict.fromkeys(note for one in summaries.values() for note in one.notes)),
    )


def promised(one: ModeResult, slo: Mapping[str, float]) -> ModeResult:
    """The mode with these p99s (ms, by tenant) promised, in place of what was and besides."""
    tenants = {
        name: replace(tenant, slo=kept(tenant.shared_p99, slo[name]), slo_ms=slo[name]) if name in slo else tenant
        for name, tenant in one.tenants.items()
    }
    return replace(one, tenants=tenants, slos=all_kept(tenants))


def choose(modes: Sequence[ModeResult]) -> Choice:
    """Of the modes that are proven, or predicted, those that keep every SLO; of these by throughput, and where that is
    as good as equal by the mildest DF99 of the tenant that is hit most."""
    told = [one for one in modes if (one.proves or one.predicted) and one.throughput is not None]
    fit = [one for one in told if one.slos in (None, "kept")]
    if not fit:
        return _none(modes, told)
    best = _first(fit)
    rest = [one for one in fit if one is not best]
    second = _first(rest) if rest else None
    reason = f"{_promises(best)}, and the device does {best.throughput:.2f} tenants' worth of work"
    if second is not None:
        reason += f"; {second.mode.name} does {second.throughput:.2f}"
        if _equal(best, second):
            reason += f", as good as equal: its worst DF99 is {_ratio(second)}, not {_ratio(best)}"
    broken = [one.mode.name for one in told if one.slos == "broken"]
    open_ = [one.mode.name for one in told if one.slos == "undetermined"]
    for names, what in ((broken, "broken in"), (open_, "not settled in")):
        reason += f"; SLOs {what} {', '.join(names)}" if names else ""
    return Choice(
        best=best.mode.name,
        runner_up=second.mode.name if second is not None else "",
        reason=f"{reason}{_left_out(modes, told)}",
    )


def over(run: RunData, best: str) -> dict[tuple[str, str], Estimate]:
    """By mode and tenant, its p99 in the full house over that in the mode ``best``, round by round; of the other modes.

    Simultaneous intervals (Bonferroni): all hold at once with `CONFIDENCE`. Empty where ``best`` shares nothing.
    """
    arms = {one.mode.name: one for one in run.info.plan.modes if one.mixes}
    others = [name for name in arms if name != best]
    if best not in arms or not others:
        return {}
    house = run.info.plan.in_mode(best).full_house
    recorded = Recorded(run.info.plan)
    gather(run, [recorded])

    def rounds(mode: str, tenant: str) -> dict[int, FloatArray]:
        return dict(recorded.kept.get((arms[mode].tenants[tenant], arms[mode].mixes[house.name]), []))

    pairs = {}
    for mode in others:
        for tenant in house.tenants:
            sides = rounds(best, tenant), rounds(mode, tenant)
            both = sorted(sides[0].keys() & sides[1].keys())
            pairs[mode, tenant] = Rounds(*([side[number] for number in both] for side in sides))
    return together(pairs)


def together(pairs: Mapping[_Key, Rounds]) -> dict[_Key, Estimate]:
    """Of each pair B's p99 over A's, in intervals that all hold at once with `CONFIDENCE`."""
    return {key: one.interval((1 - CONFIDENCE) / 2 / len(pairs)) for key, one in pairs.items()}


def differs(ratio: Estimate) -> bool:
    """Whether a difference is shown: the interval excludes 1."""
    return ratio.lo is not None and ratio.hi is not None and not ratio.lo <= 1 <= ratio.hi


def _with_difference(choice: Choice, results: Sequence[ModeResult]) -> Choice:
    """Says of the runner-up whether its tails are shown to differ from those of the best."""
    by_name = {one.mode.name: one for one in results}
    second = by_name.get(choice.runner_up)
    ratios = {} if second is None else {n: t.over_best for n, t in second.tenants.items() if t.over_best is not None}
    if not ratios or second is None:
        return choice
    apart = [name for name, one in ratios.items() if differs(one)]
    if apart:
        told = ", ".join(f"{name} {ratios[name].estimate:.2f} times" for name in apart)
        return replace(choice, reason=f"{choice.reason}; p99 in {choice.runner_up}: {told} as long")
    if _equal(by_name[choice.best], second):
        return replace(choice, reason=f"{choice.reason}; no difference between the two is shown")
    return choice


def worst_df99(one: ModeResult) -> float:
    """Of the tenant that is hit most; infinite where a DF99 is refused."""
    values = [tenant.df99.estimate for tenant in one.tenants.values()]
    return max((float("inf") if value is None else value for value in values), default=float("inf"))


def _none(modes: Sequence[ModeResult], told: Sequence[ModeResult]) -> Choice:
    if not told:
        missing = [one.mode.name for one in modes if not one.proves]
        why = f"no mode is proven with figures: {', '.join(missing)}" if missing else "no mode has a throughput"
        return Choice(best="", runner_up="", reason=why, kind="unproven")
    settled = all(one.slos == "broken" for one in told)
    why = "every mode breaks an SLO" if settled else "no mode is sure to keep every SLO"
    states = "; ".join(f"{one.mode.name}: {_misses(one)}" for one in told)
    return Choice(
        best="",
        runner_up="",
        reason=f"{why} ({states}){_left_out(modes, told)}",
        kind="broken" if settled else "undetermined",
    )


def _left_out(modes: Sequence[ModeResult], told: Sequence[ModeResult]) -> str:
    unproven = [one.mode.name for one in modes if one not in told and not (one.proves or one.predicted)]
    empty = [one.mode.name for one in modes if one not in told and one.mode.name not in unproven]
    text = f"; not proven, so not considered: {', '.join(unproven)}" if unproven else ""
    return f"{text}; without a throughput, so not considered: {', '.join(empty)}" if empty else text


def _promises(best: ModeResult) -> str:
    without = [name for name, tenant in best.tenants.items() if tenant.slo is None]
    if len(without) == len(best.tenants):
        return "no tenant has an SLO, so throughput decides"
    return f"it keeps every SLO ({', '.join(without)} without one)" if without else "it keeps every SLO"


def _misses(one: ModeResult) -> str:
    """Which SLOs it breaks, or else may break."""
    worst: KeptSlo = "broken" if one.slos == "broken" else "undetermined"
    parts = []
    for name, tenant in one.tenants.items():
        if tenant.slo == worst:
            p99 = tenant.shared_p99
            figure = "refused" if p99.estimate is None else f"{p99.estimate:.3g} ms"
            parts.append(f"{name} p99 {figure}" + (f", promised {tenant.slo_ms:g}" if tenant.slo_ms else ""))
    return f"{worst} for {', '.join(parts)}"


def _shared(mode: Mode, found: Summary, run: RunData) -> ModeResult:
    sharing = run.info.sharing
    processes = {(worker.hostname, worker.pid) for worker in run.info.workers}
    still = stood_still(run) if mode.kind == STREAMS else {}
    apart = mode.kind == STREAMS and len(processes) > 1
    shown = found.mode if sharing.proven or not sharing.name else f"{found.mode}, as told and not seen"
    tenants = {name: _tenant(one, still.get(name)) for name, one in found.tenants.items()}
    throughput = work(tenants)
    return ModeResult(
        mode=mode,
        shown=f"asked for {STREAMS}, but its tenants were in {len(processes)} processes" if apart else shown,
        proves=sharing.proven and sharing.name == mode.kind and not apart,
        tenants=tenants,
        throughput=throughput,
        slos=all_kept(tenants),
        doubts=tuple(
            dict.fromkeys([*(one.text for one in found.warnings), *(one.doubt for one in still.values() if one.doubt)])
        ),
        energy=_energy(found, throughput, alone=False),
    )


def _probed(one: ModeResult, turns: TurnsSeen | None) -> ModeResult:
    """Not proven where probes saw the opposite of what was asked for, whatever else was seen."""
    if turns is None:
        return one
    if turns.kind in ("unclear", "not-looked"):
        return replace(one, doubts=(*one.doubts, turns.words()))
    if turns.kind == _PROBED.get(one.mode.kind, turns.kind):
        return replace(one, shown=f"{one.shown}; {turns.words()}")
    return replace(one, proves=False, shown=f"asked for {one.mode.kind}, not proven: {turns.words()}")


def _tenant(one: TenantSummary, still: Still | None) -> InModeTenant:
    alone, shared = one.throughput.solo.real, one.throughput.shared.real
    return InModeTenant(
        alone_p99=one.response.solo.p99,
        shared_p99=one.response.shared.p99,
        df99=one.response.df.p99,
        progress=shared / alone if alone and shared is not None else None,
        goodput=one.goodput.shared if one.goodput is not None else None,
        slo=one.slo.shared if one.slo is not None else None,
        stood_still=None if still is None else still.share,
        slo_ms=one.slo.p99_ms if one.slo is not None else None,
    )


def _exclusive(mode: Mode, alone: Summary) -> ModeResult:
    """A device for each: what a tenant does alone is what it does."""
    one = Estimate(estimate=1.0, lo=1.0, hi=1.0)
    tenants = {
        name: InModeTenant(
            alone_p99=tenant.response.solo.p99,
            shared_p99=tenant.response.solo.p99,
            df99=one,
            progress=1.0,
            goodput=tenant.goodput.solo if tenant.goodput is not None else None,
            slo=tenant.slo.solo if tenant.slo is not None else None,
            slo_ms=tenant.slo.p99_ms if tenant.slo is not None else None,
        )
        for name, tenant in alone.tenants.items()
    }
    return ModeResult(
        mode=mode,
        shown="each tenant alone, in this run's solo blocks",
        proves=True,
        tenants=tenants,
        throughput=1.0,
        slos=all_kept(tenants),
        energy=_energy(alone, 1.0, alone=True),
    )


def _energy(of: Summary, throughput: float | None, *, alone: bool) -> Energy | None:
    """None without a throughput, without power of every tenant's device, and where tenants shared more than one."""
    told = [_power(one, alone=alone) for one in of.tenants.values()]
    known = [(watts, source) for watts, source in told if watts is not None]
    if not throughput or not known or len(known) < len(told):
        return None
    each = [watts for watts, _ in known]
    mean = sum(each) / len(each)
    if not alone and max(each) - min(each) > ONE_DEVICE * mean:
        return None
    return Energy(watts=mean, joules=mean / throughput, source=known[0][1])


def _power(one: TenantSummary, *, alone: bool) -> tuple[float | None, str]:
    """Of the tenant's device, mean over whole blocks (W), and who told. NVML before others."""
    activity: Sequence[Activity] = one.activity or ()
    told = sorted((each for each in activity if each.metric == POWER), key=lambda each: each.source != "nvml")
    for each in told:
        mean: ActivityMean = each.solo if alone else each.shared
        if mean.block_mean is not None:
            return mean.block_mean, each.source
    return None, ""


def work(tenants: Mapping[str, InModeTenant]) -> float | None:
    """The sum of their progress; None where one is not known."""
    progress = [one.progress for one in tenants.values() if one.progress is not None]
    return sum(progress) if len(progress) == len(tenants) else None


def all_kept(tenants: Mapping[str, InModeTenant]) -> KeptSlo | None:
    """Whether all SLOs are kept; None without any."""
    asked = [one.slo for one in tenants.values() if one.slo is not None]
    if not asked:
        return None
    return "broken" if "broken" in asked else "undetermined" if "undetermined" in asked else "kept"


def _first(modes: Sequence[ModeResult]) -> ModeResult:
    most = max(modes, key=lambda one: one.throughput or 0.0)
    return min((one for one in modes if _equal(one, most)), key=worst_df99)


def _equal(one: ModeResult, other: ModeResult) -> bool:
    a, b = one.throughput or 0.0, other.throughput or 0.0
    return abs(a - b) <= EQUAL * max(a, b)


def _ratio(one: ModeResult) -> str:
    value = worst_df99(one)
    return "refused" if value == float("inf") else f"{value:.2f}"
