"""Which run, on which device, and how it was measured."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.provenance import Provenance, made_by
from kts.model.summary import Summary
from kts.report import cells
from kts.report import document as doc
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[doc.Element]:
    """The device's honest label first: a CPU never poses as a GPU."""
    summary, how = report.summary, _how(report.summary)
    label = doc.Cell(cells.device_label(summary), "badge" if summary.is_gpu else "warning")
    yield doc.Paragraph((doc.Cell(summary.run, "strong"), doc.Cell("  on  "), label), media=doc.TERMINAL)
    yield doc.paragraph(how, "quiet", media=doc.TERMINAL)
    if isinstance(summary.provenance, Provenance):
        yield doc.paragraph(f"kts {made_by(summary.provenance)}", "quiet", media=doc.TERMINAL)
    yield doc.paragraph(f"Run {summary.run}: {how}.", media=doc.MARKDOWN)
    yield doc.Paragraph((label, doc.Cell(" "), doc.Cell(f"Run {summary.run}: {how}", "quiet")), media=doc.PAGE)


def _how(summary: Summary) -> str:
    """One line: design, rounds, mode, backend, headline clock, confidence."""
    drift = " without drift" if cells.dimmed(summary) else ""
    rounds = "1 round" if summary.rounds == 1 else f"{summary.rounds} rounds"
    return (
        f"{summary.design} design, {rounds}, {summary.mode}, backend {summary.backend}, "
        f"headline clock {summary.headline_clock}, {100 * summary.confidence:g} % intervals{drift}, "
        f"outcome {summary.outcome}"
    )
