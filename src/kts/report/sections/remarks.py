"""What limits the figures: refusals, cautions, telemetry that was not there, notes, damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kts.report import cells
from kts.report.document import FILES, Element, listed
from kts.report.sections import activity, latency, mixes
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[Element]:
    """A list each; nothing for those that have no line."""
    summary = report.summary
    refused = [*latency.refusals(summary), *mixes.refusals(summary)]
    yield from listed("Refused (-)", refused, "-", in_files="Refused figures", key="refused")
    yield from listed("Cautions", (cells.about(c.tenant, c.text) for c in summary.warnings), "!")
    yield from listed("Telemetry", activity.sources(summary), "*")
    yield from listed("Notes", summary.notes, "*")
    for element in listed("What could not be read", report.run.damage if report.run else (), "!", key="damage"):
        yield replace(element, media=FILES)
