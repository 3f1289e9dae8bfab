"""Who was not in one steady state while it was measured: the states, how long each lasted, and which count."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.summary import Steadiness, SteadyState, Summary
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report
from kts.units import format_duration, format_ms

KINDS = {
    "flat": "steady",
    "warm-up": "warm-up, then steady",
    "slowdown": "slows down",
    "changing": "comes and goes",
    "no-steady-state": "not steady",
}
SHOWN = 12
"""States that a table has of a tenant: the longest."""
_NOTE = (
    "Level: median duration, over that of the iterations that count under the same conditions. What a tenant did "
    "before it was steady is in no figure, nor what its neighbours did meanwhile."
)


def section(report: Report) -> Iterator[doc.Element]:
    """A row per state; nothing where every tenant was steady from the start to the end."""
    found = unsteady(report.summary)
    if not found:
        return
    yield doc.Heading("Steady state", "steady-state", media=doc.FILES)
    yield doc.Table(
        columns=(
            doc.Column("tenant", "subject", fold=0),
            doc.Column("course", "name", fold=0),
            doc.Column("from"),
            doc.Column("for"),
            doc.Column("iterations"),
            doc.Column("level"),
            doc.Column("counts", "word"),
        ),
        groups=tuple(tuple(_rows(name, one)) for name, one in found.items()),
        caption=f"Steady state. {_NOTE}",
        once=2,
    )
    yield doc.paragraph(_NOTE, media=doc.MARKDOWN)


def unsteady(summary: Summary) -> dict[str, Steadiness]:
    """By tenant, those that were not in one state all the time."""
    found = {name: tenant.steadiness for name, tenant in summary.tenants.items()}
    return {name: one for name, one in found.items() if one is not None and (one.kind != "flat" or one.unsettled)}


def words(summary: Summary) -> str:
    """The states in words, for those who cannot see the picture."""
    return " ".join(
        f"{name}, {KINDS[one.kind]}: {', then '.join(map(_words, _longest(one)))}."
        for name, one in unsteady(summary).items()
    )


def title(summary: Summary) -> str:
    """Who warms up, changes, or is never steady."""
    return "; ".join(f"{name} {_said(one)}" for name, one in unsteady(summary).items())


def _said(one: Steadiness) -> str:
    match one.kind:
        case "warm-up":
            return f"warmed up ({one.left_out} iterations left out)"
        case "no-steady-state":
            return "is not steady"
        case "flat":
            return "was not steady before its first block"
    return KINDS[one.kind]


def _rows(name: str, one: Steadiness) -> Iterator[doc.Row]:
    for state in _longest(one):
        lasted = format_ms(1e3 * (state.end_s - state.begin_s))
        counts = doc.Cell("yes") if state.counts else doc.Cell("no", "undetermined")
        begun = format_duration(state.begin_s)
        yield name, KINDS[one.kind], begun, lasted, str(state.iterations), cells.ratio(state.level), counts


def _longest(one: Steadiness) -> list[SteadyState]:
    """In order of time."""
    longest = sorted(one.states, key=lambda state: state.iterations, reverse=True)[:SHOWN]
    return sorted(longest, key=lambda state: state.begin_s)


def _words(state: SteadyState) -> str:
    out = "" if state.counts else ", left out"
    return f"{cells.ratio(state.level)} times its level for {format_ms(1e3 * (state.end_s - state.begin_s))}{out}"
