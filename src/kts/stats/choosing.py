"""Which mode: what each comes to, side by side, and the one that holds every SLO at most throughput. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from kts.model.mode import CPU_SCHEDULER, EXCLUSIVE, MIG, MPS, STREAMS, TIME_SLICING, Mode
from kts.model.modes import MODES_VERSION, Choice, DecidedBy, InModeTenant, KeptSlo, ModeResult, ModesSummary
from kts.model.reading import RunData
from kts.model.sharing_facts import TurnsKind, TurnsSeen
from kts.model.summary import Estimate, Summary, TenantSummary
from kts.stats.apart import ModesApart, differs
from kts.stats.energy import energy
from kts.stats.inside import Still, stood_still
from kts.stats.modes import views
from kts.stats.view import kept
from kts.units import ratio_texts

EQUAL = 0.02
"""Less than this of its throughput nobody would give for a milder tail's sake: throughputs that are sure to be closer
count as equal. Where no interval tells (a prediction, one round), so do those that are closer by their figures."""
LIKELY = 0.05
"""More work than this by the figures, which rounds do not show: the simpler mode would most likely cost it."""
SIMPLEST = (EXCLUSIVE, TIME_SLICING, CPU_SCHEDULER, MPS, STREAMS, MIG)
"""Kinds of modes in the order in which one is named where nothing speaks for another: first that which needs less set
up and keeps its tenants further apart. Of one kind that with fewer settings, then that which was asked for first."""
_PROBED: Mapping[str, TurnsKind] = {TIME_SLICING: "turns", MPS: "at-once"}
"""By the kind of a mode, what two probes see in it."""
_NO_WORK = "no shared mode has a throughput: it takes every tenant's rate alone"


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
    apart = ModesApart(run, summaries)
    results = [_by_itself(apart, one, alone.confidence) for one in results]
    choice = choose(results, apart)
    best = next((one for one in results if one.mode.name == choice.best), None)
    results = [_over_best(apart, one, best) for one in results]
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
        choice=choice,
        notes=tuple(dict.fromkeys(note for one in summaries.values() for note in one.notes)),
    )


def promised(one: ModeResult, slo: Mapping[str, float]) -> ModeResult:
    """The mode with these p99s (ms, by tenant) promised, in place of what was and besides."""
    tenants = {
        name: replace(tenant, slo=kept(tenant.shared_p99, slo[name]), slo_ms=slo[name]) if name in slo else tenant
        for name, tenant in one.tenants.items()
    }
    return replace(one, tenants=tenants, slos=all_kept(tenants))


def choose(modes: Sequence[ModeResult], apart: ModesApart | None = None) -> Choice:
    """Of the modes that are proven, or predicted, those that keep every SLO; of these the one with most work, of those
    that are not shown to do less the one with the mildest tail. Of those whose tails are not shown to differ either the
    one that does more by figures `LIKELY` apart, else the simplest. ``apart``: what the rounds show; without it figures
    stand for themselves."""
    told = [one for one in modes if (one.proves or one.predicted) and one.throughput is not None]
    fit = [one for one in told if one.slos in (None, "kept")]
    if all(one.mode.kind == EXCLUSIVE for one in told) and any(one.proves and one not in told for one in modes):
        told, fit = [], []  # work of a tenant that has no rate alone: nothing to hold the exclusive use against
    if not fit:
        return _none(modes, told)
    rule = _Rule(apart, [one.mode for one in modes])
    best = rule.best(fit)
    rest = [one for one in fit if one is not best]
    second = rule.best(rest) if rest else None
    by = rule.by(best, second) if second is not None else ""
    reason = f"{_promises(best, by)}, and the device does {best.throughput:.2f} tenants' worth of work"
    if second is not None:
        reason += f"; {second.mode.name} does {second.throughput:.2f}{rule.reason(best, second)}"
    broken = [one.mode.name for one in told if one.slos == "broken"]
    open_ = [one.mode.name for one in told if one.slos == "undetermined"]
    for names, what in ((broken, "broken in"), (open_, "not settled in")):
        reason += f"; SLOs {what} {', '.join(names)}" if names else ""
    return Choice(
        best=best.mode.name,
        runner_up=second.mode.name if second is not None else "",
        reason=f"{reason}{_left_out(modes, told)}",
        by=by,
    )


class _Rule:
    """How two modes are held against each other. ``asked``: all, in that order."""

    def __init__(self, apart: ModesApart | None, asked: Sequence[Mode]) -> None:
        self._apart, self._asked = apart, [one.name for one in asked]

    def best(self, modes: Sequence[ModeResult]) -> ModeResult:
        """The one that no other is shown to exceed, in work, then in mildness, nor is likely to in work; of several
        the simplest."""
        most = [one for one in modes if not any(self.more(other, one) for other in modes)] or modes
        mildest = [one for one in most if not any(self.milder(other, one) for other in most)] or most
        likely = [one for one in mildest if not any(self.likely_more(other, one) for other in mildest)]
        return min(likely, key=lambda one: self._place(one.mode))

    def by(self, best: ModeResult, second: ModeResult) -> DecidedBy:
        """What speaks for the best."""
        if self.more(best, second):
            return "work"
        if self.milder(best, second):
            return "tail"
        return "likely" if self.likely_more(best, second) else "order"

    def more(self, one: ModeResult, other: ModeResult) -> bool:
        """Whether ``one`` is shown to do more work, and not just to be equal within `EQUAL`."""
        ratio = self._work(one, other)
        if ratio is None or ratio.lo is None or ratio.hi is None:
            return _exceeds(one, other, EQUAL)
        return ratio.lo > 1 and not _within(ratio)

    def likely_more(self, one: ModeResult, other: ModeResult) -> bool:
        """Whether ``one`` does more work by the figures, by `LIKELY` or more."""
        return _exceeds(one, other, LIKELY)

    def milder(self, one: ModeResult, other: ModeResult) -> bool:
        """Whether the tail of the tenant that is hit most is shown to be shorter in ``one``; of tenants whose DF99 is
        known in both. Round by round where it is the same tenant and rounds tell, else the DF99s must not overlap."""
        mine, theirs = _hit_most(one, other), _hit_most(other, one)
        if not mine or not theirs or not _df99(one, mine) < _df99(other, theirs):
            return False
        if self._apart is None:
            return True
        ratio = self._apart.p99s(other.mode.name, one.mode.name).get(theirs)
        if mine == theirs and ratio is not None and ratio.lo is not None:
            return ratio.lo > 1
        ends = one.tenants[mine].df99.hi, other.tenants[theirs].df99.lo
        return ends[0] is not None and ends[1] is not None and ends[0] < ends[1]

    def reason(self, best: ModeResult, second: ModeResult) -> str:
        """What the second does of the best's work, and what decided between the two."""
        ratio, by = self._work(second, best), self.by(best, second)
        text = ""
        if ratio is not None and ratio.estimate is not None and ratio.lo is not None and ratio.hi is not None:
            times, lo, hi = ratio_texts(ratio.estimate, ratio.lo, ratio.hi)
            text = f", {times} times as much ({lo}-{hi})"
            if by != "work":
                text += f", equal to within {100 * EQUAL:g} %" if _within(ratio) else ", so no difference is shown"
        elif by not in ("work", "likely"):
            text = ", as good as equal by these figures"
        if by == "likely":
            text += f"; by the figures {best.mode.name} does more, which decides where nothing is shown"
        elif by == "tail":
            worst = [(_hit_most(one, other), one) for one, other in ((best, second), (second, best))]
            told = [f"{_df99(one, name):.2f} ({name})" for name, one in worst]
            text += f"; the milder tail decides: the worst DF99 is {told[0]}, not {told[1]}"
        elif by == "order":
            alike = self._place(best.mode)[:2] == self._place(second.mode)[:2]
            why = "the one asked for first" if alike else "the simpler one"
            text += "; the tail that is hit most is not shown to differ either: the two are not told apart, and "
            text += f"{best.mode.name} is named as {why}"
        if by != "work" and (unknown := [name for name in best.tenants if not _known(name, best, second)]):
            text += f"; of {', '.join(unknown)} no DF99 is known"
        p99s = self._apart.p99s(second.mode.name, best.mode.name) if self._apart is not None else {}
        longer = [f"{name} {one.estimate:.2f} times" for name, one in p99s.items() if differs(one)]
        return f"{text}; p99 in {second.mode.name}: {', '.join(longer)} as long" if longer else text

    def _work(self, one: ModeResult, other: ModeResult) -> Estimate | None:
        return self._apart.work(one.mode.name, other.mode.name) if self._apart is not None else None

    def _place(self, mode: Mode) -> tuple[int, int, int]:
        kind = SIMPLEST.index(mode.kind) if mode.kind in SIMPLEST else len(SIMPLEST)
        settings = (mode.threads_percent, mode.memory_mib, mode.chunks, mode.above or None, mode.first or None)
        return kind, sum(one is not None for one in settings), self._asked.index(mode.name)


def _exceeds(one: ModeResult, other: ModeResult, by: float) -> bool:
    """Whether it does more work by the figures, by more than that part of its own."""
    return (one.throughput or 0.0) * (1 - by) > (other.throughput or 0.0)


def _within(ratio: Estimate) -> bool:
    """Whether two are sure to be equal within `EQUAL`: two one-sided tests (Schuirmann 1987)."""
    return ratio.lo is not None and ratio.hi is not None and ratio.lo >= 1 - EQUAL and ratio.hi <= 1 / (1 - EQUAL)


def _hit_most(one: ModeResult, other: ModeResult) -> str:
    """The tenant with the worst DF99 in the mode ``one``, of those whose DF99 is known in both; empty without any."""
    known = [name for name in one.tenants if _known(name, one, other)]
    return max(known, key=lambda name: _df99(one, name), default="")


def _known(tenant: str, *modes: ModeResult) -> bool:
    """Whether its DF99 is, in each of them."""
    return all(tenant in one.tenants and one.tenants[tenant].df99.estimate is not None for one in modes)


def _df99(one: ModeResult, tenant: str) -> float:
    """Its DF99; infinite where that is refused."""
    value = one.tenants[tenant].df99.estimate
    return float("inf") if value is None else value


def _by_itself(apart: ModesApart, one: ModeResult, confidence: float) -> ModeResult:
    """With intervals of its work, its energy and its tenants' rates, each by itself."""
    name, rates = one.mode.name, apart.progress(one.mode.name, confidence)
    used = one.energy
    return replace(
        one,
        throughput_interval=None if one.throughput is None else apart.interval(name, confidence),
        energy=None if used is None else replace(used, interval=apart.joules(name, confidence)),
        tenants={
            tenant: of if of.progress is None else replace(of, progress_interval=rates.get(tenant))
            for tenant, of in one.tenants.items()
        },
    )


def _over_best(apart: ModesApart, one: ModeResult, best: ModeResult | None) -> ModeResult:
    """With its work, its energy, and its tenants' rates and p99s over those in the ``best`` mode; as it is where that
    is itself, or none."""
    if best is None or best.mode.name == one.mode.name:
        return one
    name, other = one.mode.name, best.mode.name
    tails, rates, used = apart.p99s(name, other), apart.rates(name, other), one.energy
    return replace(
        one,
        throughput_over_best=None if one.throughput is None else apart.work(name, other),
        energy=None if used is None or best.energy is None else replace(used, over_best=apart.energy(name, other)),
        tenants={
            tenant: replace(of, over_best=tails.get(tenant), rate_over_best=rates.get(tenant))
            for tenant, of in one.tenants.items()
        },
    )


def _none(modes: Sequence[ModeResult], told: Sequence[ModeResult]) -> Choice:
    if not told:
        missing = [one.mode.name for one in modes if not one.proves]
        why = f"no mode is proven with figures: {', '.join(missing)}" if missing else _NO_WORK
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


def _promises(best: ModeResult, by: DecidedBy) -> str:
    """What it keeps; without any SLO, whether work alone decides."""
    without = [name for name, tenant in best.tenants.items() if tenant.slo is None]
    if len(without) == len(best.tenants):
        return "no tenant has an SLO, so throughput decides" if by == "work" else "no tenant has an SLO"
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
        energy=energy(found, throughput, alone=False),
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
        energy=energy(alone, 1.0, alone=True),
    )


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
