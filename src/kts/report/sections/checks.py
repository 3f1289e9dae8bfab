"""What was checked of the run: how many passed, and each with its figure and what a failed one means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.checks import TITLES, Check, Outcome
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report

WORDS: dict[Outcome, str] = {"passed": "passed", "failed": "failed", "not-applicable": "not applicable"}
TONES: dict[Outcome, doc.Tone] = {"passed": "no-change", "failed": "worse", "not-applicable": "quiet"}
NAMED = 4
"""Tenants whose figures stand in one cell."""
_NOTE = (
    "A failed check lowers the verdict, or says by how much a figure may be off. What each asks, how, and against "
    "which limit: docs/checks.md."
)


def section(report: Report) -> Iterator[doc.Element]:
    """Files have a row per check, pages every sentence on demand, a terminal one line; cautions tell what failed."""
    checks = report.summary.checks or ()
    if not checks:
        return
    by_code = {code: same for code in codes(checks) if (same := [one for one in checks if one.code == code])}
    yield doc.paragraph(f"Checks: {counted(checks)}.", media=doc.TERMINAL)
    yield doc.Heading("Checks", "checks", media=doc.FILES)
    yield doc.paragraph(f"{counted(checks)}. {_NOTE}", media=doc.FILES)
    yield doc.Table(
        columns=(
            doc.Column("check", "subject"),
            doc.Column("outcome", "name"),
            doc.Column("of", "name"),
            doc.Column("figure", "sentence"),
            doc.Column("means", "sentence"),
        ),
        groups=tuple(tuple(_rows(code, same)) for code, same in by_code.items()),
        media=doc.FILES,
    )
    yield doc.Table(
        columns=(doc.Column("check", "subject"), doc.Column("outcome", "name"), doc.Column("said", "sentence")),
        groups=(tuple((_title(one.code), _outcome(one.outcome), one.text) for one in checks),),
        folded="Every check in words",
        media=doc.PAGE,
    )
    for tenant in dict.fromkeys(one.tenant for one in checks):
        data = tuple(_datum(one) for one in checks if one.tenant == tenant)
        yield doc.Data(tenant, data, several=not tenant)


def codes(checks: Sequence[Check]) -> list[str]:
    """Those of the table in its order, then those that another kts wrote."""
    return list(dict.fromkeys((*TITLES, *(one.code for one in checks))))


def counted(checks: Sequence[Check]) -> str:
    """``12 passed, 1 failed (drift), 2 not applicable``: checks, whatever the number of tenants."""
    of: dict[Outcome, list[str]] = {outcome: [] for outcome in WORDS}
    for code in codes(checks):
        if there := {one.outcome for one in checks if one.code == code}:
            of["failed" if "failed" in there else "passed" if "passed" in there else "not-applicable"].append(code)
    failed = f" ({', '.join(of['failed'])})" if of["failed"] else ""
    return f"{len(of['passed'])} passed, {len(of['failed'])} failed{failed}, {len(of['not-applicable'])} not applicable"


def _rows(code: str, checks: Sequence[Check]) -> Iterator[doc.Row]:
    """A row per failure, then one per other outcome, whose tenants stand together."""
    for one in checks:
        if one.outcome == "failed":
            yield _title(code), _outcome("failed"), one.tenant or "the run", one.figure, _means(one)
    for outcome in ("passed", "not-applicable"):
        if same := [one for one in checks if one.outcome == outcome]:
            yield _title(code), _outcome(outcome), *_together(same)


def _together(checks: Sequence[Check]) -> tuple[str, str, str]:
    """(of whom, figures, what it means) of several checks of one outcome."""
    whom = list(dict.fromkeys(one.tenant for one in checks))
    more = f" and {len(whom) - NAMED} more" if whom[NAMED:] else ""
    of = "the run" if whom == [""] else ", ".join(name or "the run" for name in whom[:NAMED]) + more
    if checks[0].outcome == "not-applicable":
        return of, checks[0].text.removeprefix(f"{checks[0].tenant}: "), ""
    figures = ", ".join(f"{one.tenant} {one.figure}".strip() for one in checks[:NAMED])
    return of, figures, " ".join(one.text for one in checks if one.caution)


def _means(one: Check) -> str:
    if one.lowers:
        return "lowers the verdict"
    return "by how much a figure is off is not known" if one.off is None else f"off by up to {cells.percent(one.off)}"


def _title(code: str) -> str:
    return TITLES.get(code, code)


def _outcome(outcome: Outcome) -> doc.Cell:
    return doc.Cell(WORDS[outcome], TONES[outcome])


def _datum(one: Check) -> doc.Datum:
    refused = "" if one.outcome == "passed" else one.text
    return doc.Datum("", one.outcome, f"check:{one.code}", one.off, "share", refused=refused)
