"""What the device did meanwhile.

Each figure says whether it is of the device, whoever used it, or of the tenant alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.summary import Activity, ActivityRole, Summary
from kts.model.telemetry import Scope
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report

_NOTE = (
    "Means over the tenant's iterations, weighted with time. Samples last longer than most iterations: they say what "
    'went on around them. "device": whoever used it; "tenant": the tenant alone. Covered: share of the iterations\' '
    "time that samples cover."
)

_NAMES: dict[ActivityRole, str] = {
    "sm": "SM active",
    "dram": "DRAM active",
    "process-sm": "SM time of its process",
    "cpu-run": "on the CPU core",
    "cpu-wait": "waiting for the CPU core",
}
_NVML_NAMES: dict[ActivityRole, str] = {"sm": "any kernel ran", "dram": "memory accessed"}
_SOURCES = {
    "gpm": "NVML GPM",
    "dcgm": "DCGM",
    "nvml": "NVML",
    "nvml-process": "NVML per process",
    "nvml-xid": "NVML Xid",
    "schedstat": "schedstat",
    "host": "host",
    "cores": "CPU cores",
}


def section(report: Report) -> Iterator[doc.Element]:
    """SM, DRAM and CPU activity per tenant, solo and shared, each marked device or tenant."""
    of = {name: tenant.activity or () for name, tenant in report.summary.tenants.items()}
    if groups := tuple(rows for name, figures in of.items() if (rows := tuple(_rows(name, figures)))):
        yield doc.Heading("What the device did", media=doc.MARKDOWN)
        yield doc.Table(
            columns=(
                doc.Column("tenant", "subject", fold=0),
                doc.Column("activity", "name", fold=0),
                doc.Column("solo"),
                doc.Column("shared"),
                doc.Column("of", "word"),
                doc.Column("source", "word", from_width=cells.FULL_COLUMNS),
                doc.Column("covered solo", media=doc.FILES),
                doc.Column("shared", media=doc.FILES),
            ),
            groups=groups,
            caption=f"What the device did. {_NOTE}",
            once=1,
        )
        yield doc.paragraph(_NOTE, media=doc.MARKDOWN)
    for tenant, figures in of.items():
        yield doc.Data(tenant, tuple(datum for figure in figures for datum in _data(figure)))


def _rows(tenant: str, figures: Sequence[Activity]) -> Iterator[doc.Row]:
    for figure in figures:
        if figure.role:
            yield (
                tenant,
                name(figure.role, figure.source),
                cells.percent(figure.solo.mean),
                cells.percent(figure.shared.mean),
                figure.scope,
                source_name(figure.source),
                f"{100 * figure.solo.covered:.0f} %",
                f"{100 * figure.shared.covered:.0f} %",
            )


def _data(of: Activity) -> Iterator[doc.Datum]:
    figure = f"{of.source}:{of.scope}:{of.metric}"
    for side, mean in (("solo", of.solo), ("shared", of.shared)):
        yield _sampled(side, figure, mean.mean, of.unit)
        yield _sampled(side, f"{figure}:block_mean", mean.block_mean, of.unit)
        yield doc.Datum("", side, f"{figure}:covered", mean.covered, "fraction")
    for block in of.blocks:
        yield _sampled(f"{block.condition} block {block.block}", figure, block.mean, of.unit)


def _sampled(condition: str, figure: str, value: float | None, unit: str) -> doc.Datum:
    return doc.Datum("", condition, figure, value, unit, refused="no sample covers it" if value is None else "")


def name(role: ActivityRole, source: str) -> str:
    """What the figure is called; NVML's utilisation is not called activity of SMs or memory."""
    return (_NVML_NAMES if source == "nvml" else _NAMES).get(role) or _NAMES.get(role, role)


def source_name(source: str) -> str:
    """The source as people know it."""
    return _SOURCES.get(source, source)


def sources(summary: Summary) -> list[str]:
    """Which sources were not there and why, and what a reader must know of the others; one line each."""
    states = summary.telemetry or ()
    missing: dict[str, list[str]] = {}
    for state in states:
        if state.missing:
            missing.setdefault(state.missing, []).append(source_name(state.source))
    lines = [f"not there: {', '.join(names)}: {why}" for why, names in missing.items()]
    return lines + [f"{source_name(state.source)}: {state.note}" for state in states if state.note]


def title(role: ActivityRole, source: str, scope: Scope, subject: str) -> str:
    """Over a panel: what is drawn, and of whom."""
    whom = "device" if scope == "device" else f"tenant {subject}"
    return f"{name(role, source)} ({whom}, {source_name(source)})"


def words(summary: Summary) -> str:
    """The figures as a sentence, for those who cannot see the picture."""
    parts = [
        f"{tenant} {name(figure.role, figure.source)} ({figure.scope}) {cells.percent(figure.solo.mean)} solo, "
        f"{cells.percent(figure.shared.mean)} shared"
        for tenant, of in summary.tenants.items()
        for figure in of.activity or ()
        if figure.role
    ]
    return "; ".join(parts) + "."
