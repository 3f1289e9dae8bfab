"""The pictures that were drawn."""

from __future__ import annotations

from collections.abc import Iterator

from kts.report import document as doc
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[doc.Element]:
    """All of them, headline first."""
    yield doc.Heading("In pictures", "pictures", media=doc.PAGE)
    yield from report.figures
    if not report.figures:
        yield doc.paragraph("None were drawn.", media=doc.PAGE)
