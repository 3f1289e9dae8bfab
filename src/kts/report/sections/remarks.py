"""What limits the figures: refusals, what came otherwise than foretold, cautions, telemetry that was not there, notes,
damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kts.report import cells, foretold
from kts.report import document as doc
from kts.report.sections import activity, latency, mixes
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[doc.Element]:
    """A list each; nothing for those that have no line."""
    summary = report.summary
    refused = [*latency.refusals(summary), *mixes.refusals(summary)]
    yield from doc.listed("Refused (-)", refused, "-", in_files="Refused figures", key="refused")
    if summary.foretold:
        lines = map(foretold.otherwise, summary.foretold.otherwise)
        yield from doc.listed("Foretold, and came otherwise", lines, "*", key="foretold")
    yield from doc.listed("Cautions", (cells.about(c.tenant, c.text) for c in summary.warnings), "!")
    yield from doc.listed("Telemetry", activity.sources(summary), "*")
    yield from doc.listed("Notes", summary.notes, "*")
    for element in doc.listed("What could not be read", report.run.damage if report.run else (), "!", key="damage"):
        yield replace(element, media=doc.FILES)
