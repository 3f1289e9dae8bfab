"""Why sharing cost what it did: causes, the slowest iterations, and what would change it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace as with_fields
from pathlib import Path

from msgspec.structs import replace

from kts.app.handle import Run, load
from kts.app.inputs import AnyProfile, Inputs, basis
from kts.app.predictions import threads
from kts.app.printing import Say, Tell, elements, silent, untold
from kts.errors import DataError, RefusalError, UsageError
from kts.model.causes import Causes, Part
from kts.model.plan import Condition
from kts.model.summary import Latency, Summary
from kts.physics import explained
from kts.physics.explained import Explained, Foreseen
from kts.physics.recorded import mix_seconds
from kts.physics.remedies import changes, disagreement, unsupported
from kts.physics.values import Fingerprint
from kts.physics.whatif import Question, what_if
from kts.report import cells
from kts.report.cause_words import headline, of_tenant
from kts.report.explaining import explanation_elements, explanation_md
from kts.report.writing import write_explanation
from kts.stats.moments import moments
from kts.stats.pinned import pinned
from kts.stats.slowest import KEPT
from kts.stats.waited import waited

NEIGHBOURS = 3
"""Most that are asked about: those that added most."""
CONFIDENCE = 0.95


class ExplainedRun(explained.Explanation, frozen=True, kw_only=True):
    """What `explain` returns; in a notebook it shows itself."""

    def _repr_markdown_(self) -> str:
        return explanation_md(self)


elements.register(ExplainedRun, explanation_elements)


def explain(
    run: str | Path | Run,
    out: str | Path | None = None,
    *,
    tenants: Sequence[str] = (),
    mix: str | Sequence[str] | None = None,
    mode: str = "",
    worst: int = 10,
    profiles: AnyProfile | Sequence[AnyProfile] = (),
    fingerprint: str | Path | Fingerprint | None = None,
    assume: tuple[float, float, float] | None = None,
    figures: bool = True,
    say: Say = silent,
    tell: Tell = untold,
) -> ExplainedRun:
    """The causes of what company added, the slowest iterations with who was in flight meanwhile, and predictions of
    what would change it.

    ``tenants``: by default all that the run is about. ``mix``: a condition, or names of tenants that ran together, by
    default the largest. ``mode``: of a run in several modes, by default the first. ``worst``: iterations of each
    tenant, 20 at most. ``profiles``, ``fingerprint``, ``assume``: as
    `kts.predict` takes them; without profiles the run's own solo blocks stand for them, and where no fingerprint of
    the device is kept nothing is predicted. ``out``: a folder for explain.html, explain.md and, with ``figures``,
    plots; ``tell`` gets the result before these. UsageError for what is not in the run, DataError where no block may
    be analysed, SetupError where ``out`` cannot be written.
    """
    measured = load(run).shared_as(mode)
    measured.check_figures()
    if not 0 <= worst <= KEPT:
        raise UsageError(f"worst: {worst} iterations", f"0 to {KEPT} are kept")
    condition = _condition(measured, mix)
    names = _tenants(measured.summary, condition, tenants)
    bounds = {} if cells.on_cpu(measured.summary) else pinned(measured.data, condition.name, names, CONFIDENCE)
    told = tuple(replace(_explained(measured, condition, name, worst), pinned=bounds.get(name)) for name in names)
    whole = _whole(measured, condition, told)
    given = bool(profiles or fingerprint is not None or assume is not None)
    try:
        base = basis(
            {"from_run": run, "mode": mode, "profiles": profiles, "fingerprint": fingerprint, "assume": assume}
        )
    except (UsageError, RefusalError, DataError) as error:
        if given:
            raise
        remedy = f"; {error.remedy}" if error.remedy else ""
        whole = replace(whole, unforeseen=(f"nothing is predicted: {error.what}{remedy}", *_unpinned(whole)))
    else:
        whole = _foreseen(whole, measured, condition, base, say)
    tell(whole)
    if out is not None:
        for path in write_explanation(whole, Path(out), figures=figures, say=say):
            say(f"wrote {path}")
    return whole


def _condition(run: Run, mix: str | Sequence[str] | None) -> Condition:
    """The shared condition that is asked about. UsageError where it was not measured."""
    mixes = run.info.plan.mixes
    if not mixes:
        raise UsageError(f"{run.info.id}: its tenants never ran together", "there is nothing to explain")
    if mix is None:
        return mixes[-1]
    names = set(mix.split("+") if isinstance(mix, str) else mix)
    for one in mixes:
        if mix == one.name or names == set(one.tenants):
            return one
    raise UsageError(f"no mix {mix!r} in this run", f"there are: {', '.join('+'.join(one.tenants) for one in mixes)}")


def _tenants(summary: Summary, condition: Condition, asked: Sequence[str]) -> list[str]:
    there = [name for name in condition.tenants if name in summary.tenants]
    for name in asked:
        if name not in there:
            raise UsageError(f"no tenant {name!r} with figures in {condition.name}", f"there are: {', '.join(there)}")
    return [name for name in there if name in asked or not asked]


def _explained(run: Run, condition: Condition, name: str, worst: int) -> Explained:
    tenant = run.summary.tenants[name]
    causes = next((one for one in of_tenant(tenant) if one.condition == condition.name), None)
    slowest = run.analysis.series[name].slowest.get(condition.name, ())[:worst]
    return Explained(
        tenant=name,
        alone=tenant.response.solo,
        together=_together(run.summary, condition, name),
        causes=causes,
        worst=moments(run.data, name, slowest),
        threads=waited(run.data, name, condition.name),
    )


def _together(summary: Summary, condition: Condition, name: str) -> Latency:
    """Its response time in that mix."""
    mixes = {one.condition: one for one in summary.mixes or ()}
    found = mixes[condition.name].tenants[name].response if condition.name in mixes else None
    return found or summary.tenants[name].response.shared


def _whole(run: Run, condition: Condition, told: tuple[Explained, ...]) -> ExplainedRun:
    summary = run.summary
    return ExplainedRun(
        run=summary.run,
        experiment=summary.experiment,
        device=cells.device_label(summary),
        mode=summary.mode,
        condition=condition.name,
        on_cpu=cells.on_cpu(summary),
        tenants=told,
    )


def _foreseen(whole: ExplainedRun, run: Run, condition: Condition, base: Inputs, say: Say) -> ExplainedRun:
    """With what the model says of changes: no change first, and nothing more where that is not what was measured."""
    why = {one.tenant: unsupported(base.profiles[one.tenant]) for one in whole.tenants}
    seconds = mix_seconds(run.data).get("+".join(condition.tenants)) or base.effort.seconds
    effort = with_fields(base.effort, seconds=seconds)
    now = Question("", condition.tenants, base.profiles, base.fingerprint)
    asked: list[dict[str, Foreseen]] = []

    def ask(questions: Sequence[Question]) -> None:
        with threads() as pool:
            for answer in what_if(questions, effort, base.error, pool.map):
                of = answer.forecast.tenants
                asked.append({name: Foreseen(change=answer.label, p99=of[name].response.p99) for name in of})

    if not all(why.values()):
        say("predicting the mix as it is")
        ask([now])
        for one in whole.tenants:
            why[one.tenant] = why[one.tenant] or disagreement(one.together.p99, asked[0][one.tenant].p99)
    neighbours = _neighbours(whole, condition)
    questions = () if all(why.values()) else changes(now, neighbours)
    if questions:
        say(f"predicting {len(questions)} changes")
        ask(questions)
    told = tuple(
        replace(one, unforeseen=why[one.tenant])
        if why[one.tenant]
        else replace(one, foreseen=tuple(of[one.tenant] for of in asked if one.tenant in of))
        for one in whole.tenants
    )
    return replace(
        whole,
        tenants=told,
        basis=explained.Basis(
            made_from=_made_from(base, condition, {worker.device.uuid for worker in run.info.workers}),
            seconds=round(seconds, 1),
            confidence=effort.confidence,
            model_error=base.error,
            without_turns=base.error_without_turns(one.fingerprint.mode for one in questions),
        ),
        unforeseen=tuple(_unforeseen(whole, condition, neighbours)),
    )


def _neighbours(whole: ExplainedRun, condition: Condition) -> list[str]:
    """Those that added most by the causes; where these do not say, those longest in flight beside the slowest."""
    added = dict.fromkeys(condition.tenants, 0.0)
    beside = dict.fromkeys(condition.tenants, 0.0)
    for one in whole.tenants:
        for part in _parts(one.causes):
            for name, ms in part.by.items():
                added[name] = added.get(name, 0.0) + ms / (one.alone.p50.estimate or 1.0)
        for lane in (lane for moment in one.worst for lane in moment.lanes if lane.tenant != one.tenant):
            beside[lane.tenant] += lane.ms
    only = whole.tenants[0].tenant if len(whole.tenants) == 1 else ""
    neighbours = [name for name in condition.tenants if name != only]
    return sorted(neighbours, key=lambda name: (added[name], beside[name]), reverse=True)[:NEIGHBOURS]


def _unforeseen(whole: ExplainedRun, condition: Condition, neighbours: Sequence[str]) -> Iterator[str]:
    """What the model cannot say."""
    yield (
        "MIG, streams, and settings of MPS: not predicted: the model has turns, or kernels in line; kts run --modes "
        "measures them"
    )
    yield from _unpinned(whole)
    left = len(condition.tenants) - len(neighbours) - (len(whole.tenants) == 1)
    if left > 0:
        yield f"{left} more: not asked, as they added less; --tenant, or kts whatif, asks them"


def _unpinned(whole: ExplainedRun) -> Iterator[str]:
    """Of whom nothing is known of pinning."""
    if whole.on_cpu:
        yield "pinning: the device is a CPU core; a neighbour pinned to another one is a neighbour that moved away"
    elif unknown := [one.tenant for one in whole.tenants if one.pinned is None]:
        yield f"pinning {', '.join(unknown)}: not predicted: nobody measured whether the host waited for a core"


def _parts(causes: Causes | None) -> tuple[Part, ...]:
    """Of the headline figure."""
    of = None if causes is None else headline(causes)
    return of.parts if of is not None else ()


def _made_from(base: Inputs, condition: Condition, devices: Collection[str]) -> str:
    """``this run's solo blocks of fft, gemm as single bursts; sharing of NVIDIA H200, ...``."""
    bursts = [name for name in condition.tenants if base.profiles[name].method == "burst"]
    profiled = [name for name in condition.tenants if name not in bursts]
    parts = [f"profiles of {', '.join(profiled)}"] if profiled else []
    parts += [f"this run's solo blocks of {', '.join(bursts)}, each iteration a single burst"] if bursts else []
    of = base.fingerprint
    where = of.gpu.label or of.gpu.name or "the device"
    another = "" if not of.gpu.uuid or of.gpu.uuid in devices else " on another one than the run's"
    sharing = f"sharing of {where} ({of.source}{another}): {of.mode}, slice {cells.number(of.slice_ms.value)} ms"
    return "; ".join((*parts, sharing))
