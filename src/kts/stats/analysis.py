"""From a run to its figures: one pass over the records, then everything from sorted samples."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from kts.model.checks import Check
from kts.model.foretold import Came
from kts.model.plan import Plan
from kts.model.reading import RunData
from kts.model.run import RunInfo
from kts.model.summary import SUMMARY_VERSION, Mix, MixTenant, Summary, TenantSummary
from kts.stats import cautions, neighbours
from kts.stats.activity import traces
from kts.stats.came import came
from kts.stats.checks import table
from kts.stats.gathering import Gathered
from kts.stats.over_time import block_spans, origin_ns
from kts.stats.series import Analysis, TenantSeries
from kts.stats.view import TenantView


def analyse(run: RunData, *, confidence: float = 0.95) -> Analysis:
    """Figures with ``confidence`` intervals, cautions, and the series for the pictures.

    Same run and confidence: same result. Reads every record once. Figures that the data do not
    support are refused inside the summary; nothing is raised for a run that holds too little.
    """
    info = run.info
    telemetry = run.telemetry()
    gathered = Gathered.of(run, telemetry)
    tenants: dict[str, TenantSummary] = {}
    series: dict[str, TenantSeries] = {}
    in_mixes: dict[str, dict[str, MixTenant]] = {}
    checks: list[Check] = list(table.of_run(run, gathered))
    is_gpu = bool(info.workers) and all(worker.device.kind == "cuda" for worker in info.workers)
    on_cpu = any(worker.device.kind == "cpu" for worker in info.workers)
    for name in info.plan.asked:
        view = TenantView(name, info, gathered, confidence, on_cpu=on_cpu)
        tenants[name], series[name], in_mixes[name] = view.summary, view.series(), view.mixes
        checks += table.of_tenant(view)
        del view  # its arrays can go
    labels = sorted({worker.device.label for worker in info.workers})
    mixes = _mixes(info.plan, in_mixes)
    summary = Summary(
        schema=SUMMARY_VERSION,
        run=info.id,
        experiment=info.plan.name,
        design=info.plan.design,
        device=", ".join(labels) or "unknown device",
        is_gpu=is_gpu,
        backend=info.backend,
        mode=info.sharing.words(),
        outcome=info.outcome.kind,
        confidence=confidence,
        headline_clock="response",
        rounds=len({block.round for block in run.blocks if block.valid}),
        tenants=tenants,
        warnings=tuple(table.cautions(checks)),
        notes=(*info.notes, *neighbours.notes(run), *cautions.notes(info.plan, tenants)),
        subject=info.plan.subject or UNSET,
        mixes=mixes if len(info.plan.mixes) > 1 or info.plan.subject else UNSET,
        telemetry=info.telemetry or UNSET,
        provenance=info.provenance or UNSET,
        checks=tuple(checks),
        foretold=_came(info, tenants, mixes),
    )
    activity = {name: tenant.activity or () for name, tenant in tenants.items()}
    end_ns = max((block.end_ns for block in run.blocks), default=0)
    shown = traces(telemetry, activity, origin_ns(run), end_ns) if telemetry else ()
    return Analysis(summary=summary, series=series, spans=block_spans(run), activity=shown)


def _came(info: RunInfo, tenants: dict[str, TenantSummary], mixes: tuple[Mix, ...]) -> Came | UnsetType:
    """Of what was last foretold, where something came otherwise; of a run in modes the summary of each mode says it,
    and a pair ends as soon as it is decided."""
    if not info.foretold or info.plan.modes or info.plan.pair:
        return UNSET
    found = came(info.foretold[-1], tenants, mixes, info.plan.full_house.name)
    return found if found.otherwise else UNSET


def _mixes(plan: Plan, figures: dict[str, dict[str, MixTenant]]) -> tuple[Mix, ...]:
    return tuple(
        Mix(
            condition=mix.name,
            tenants={name: figures[name][mix.name] for name in mix.tenants if name in figures},
            beside=tuple(name for name in mix.tenants if name not in figures),
        )
        for mix in plan.mixes
    )
