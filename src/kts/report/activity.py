"""What the device did meanwhile, as rows and lines for every kind of report. Pure.

Each figure says whether it is of the device, whoever used it, or of the tenant alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import Activity, ActivityRole, Summary
from kts.model.telemetry import Scope
from kts.report import cells

HEADS = ("tenant", "activity", "solo", "shared", "of", "source", "covered solo", "shared")
NOTE = (
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
    "schedstat": "schedstat",
}


def name(role: ActivityRole, source: str) -> str:
    """What the figure is called; NVML's utilisation is not called activity of SMs or memory."""
    return (_NVML_NAMES if source == "nvml" else _NAMES).get(role) or _NAMES.get(role, role)


def source_name(source: str) -> str:
    """The source as people know it."""
    return _SOURCES.get(source, source)


def shown(summary: Summary) -> Iterator[tuple[str, Activity]]:
    """(tenant, figure) of all that have a role."""
    for tenant, of in summary.tenants.items():
        for figure in of.activity or ():
            if figure.role:
                yield tenant, figure


def rows(summary: Summary) -> list[list[str]]:
    """Rows under `HEADS`."""
    return [
        [
            tenant,
            name(figure.role, figure.source),
            cells.percent(figure.solo.mean),
            cells.percent(figure.shared.mean),
            figure.scope,
            source_name(figure.source),
            f"{100 * figure.solo.covered:.0f} %",
            f"{100 * figure.shared.covered:.0f} %",
        ]
        for tenant, figure in shown(summary)
    ]


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
        for tenant, figure in shown(summary)
    ]
    return "; ".join(parts) + "."
