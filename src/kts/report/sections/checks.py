"""What was checked of the run: how many passed, and each with its figure and what a failed one means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kts.model.checks import TITLES, Check, Outcome
from kts.report import document as doc
from kts.report.sections.report import Report
from kts.shown import first_few

WORDS: dict[Outcome, str] = {"passed": "passed", "failed": "failed", "not-applicable": "not applicable"}
TONES: dict[Outcome, doc.Tone] = {"passed": "", "failed": "strong", "not-applicable": "quiet"}
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
            doc.Column("outcome", "word"),
            doc.Column("figure", "sentence"),
            doc.Column("which means", "sentence"),
        ),
        groups=tuple(tuple(_rows(code, same)) for code, same in by_code.items()),
        media=doc.FILES,
    )
    yield doc.Table(
        columns=(doc.Column("check", "subject"), doc.Column("outcome", "word"), doc.Column("said", "sentence")),
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
            yield _title(code), _outcome("failed"), _figure(one), _means(one)
    passed, other = ([one for one in checks if one.outcome == outcome] for outcome in ("passed", "not-applicable"))
    if passed:
        cautions = " ".join(one.text for one in passed if one.caution)
        yield _title(code), _outcome("passed"), first_few([*map(_figure, passed)], NAMED), cautions
    for reason in dict.fromkeys(one.text.removeprefix(f"{one.tenant}: ") for one in other):
        yield _title(code), _outcome("not-applicable"), "", reason


def _figure(one: Check) -> str:
    return f"{one.tenant} {one.figure}".strip()


def _means(one: Check) -> str:
    if one.lowers:
        return "lowers the verdict"
    if one.off is None:
        return "by how much a figure is off is not known"
    return f"off by up to {100 * one.off:.{0 if one.off > 0.0995 else 1}f} %"


def _title(code: str) -> str:
    return TITLES.get(code, code)


def _outcome(outcome: Outcome) -> doc.Cell:
    return doc.Cell(WORDS[outcome], TONES[outcome])


def _datum(one: Check) -> doc.Datum:
    refused = "" if one.outcome == "passed" else one.text
    return doc.Datum("", one.outcome, f"check:{one.code}", one.off, "share", refused=refused)
