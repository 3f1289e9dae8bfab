"""The pictures that were drawn."""

from __future__ import annotations

from collections.abc import Iterator

from kts.report.document import PAGE, Element, Heading, paragraph
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[Element]:
    """All of them, headline first."""
    yield Heading("In pictures", "pictures", media=PAGE)
    yield from report.figures
    if not report.figures:
        yield paragraph("None were drawn.", media=PAGE)
