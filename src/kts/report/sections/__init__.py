"""The sections of a run's report, one file each: pure functions from a `Report` to elements of a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kts.model.provenance import made_by
from kts.model.reading import RunData
from kts.model.summary import Summary
from kts.report import cells
from kts.report.document import CSV, EVERYWHERE, FILES, MARKDOWN, PAGE, TERMINAL, Document, Element, Figure, Media
from kts.report.sections import (
    activity,
    beside,
    causes,
    checks,
    cluster,
    latency,
    measured,
    mixes,
    pictures,
    promises,
    rates,
    reference,
    remarks,
    run,
    steady,
    verdicts,
)
from kts.report.sections.report import Report, Section

OUTLINE: tuple[tuple[Section, Media], ...] = (
    (run.section, EVERYWHERE),
    (cluster.section, TERMINAL),
    (beside.section, EVERYWHERE),
    (verdicts.section, FILES),
    (causes.section, FILES),
    (steady.section, PAGE),
    (latency.section, EVERYWHERE),
    (mixes.section, PAGE),
    (rates.section, EVERYWHERE),
    (promises.section, MARKDOWN),
    (mixes.section, TERMINAL | MARKDOWN | CSV),
    (activity.section, EVERYWHERE),
    (steady.section, TERMINAL),
    (causes.section, TERMINAL | CSV),
    (promises.section, TERMINAL),
    (verdicts.section, TERMINAL),
    (steady.section, MARKDOWN),
    (pictures.section, MARKDOWN),
    (reference.section, FILES),
    (promises.section, PAGE),
    (pictures.section, PAGE),
    (remarks.section, EVERYWHERE),
    (checks.section, EVERYWHERE),
    (cluster.section, FILES),
    (measured.section, FILES),
)
"""Section and media, in order. Some stand elsewhere in a file than in a terminal, whose last lines are read first."""

DETAILS: frozenset[Section] = frozenset({latency.section, rates.section, activity.section, verdicts.section})
"""What a terminal leaves to the files where the run is about one tenant, which `beside` tells in one table."""


def run_document(summary: Summary, of: RunData | None = None, figures: Sequence[Figure] = ()) -> Document:
    """The report of a run as a document. Without the run itself it lacks what only files say."""
    report = Report(summary, of, tuple(figures))
    elements: list[Element] = []
    for section, everywhere in OUTLINE:
        media = everywhere - TERMINAL if summary.subject and section in DETAILS else everywhere
        elements += (replace(element, media=element.media & media) for element in section(report))
    return Document(
        elements=tuple(elements),
        title=f"{summary.experiment} on {cells.device_label(summary)}",
        heading=f"{summary.experiment}: what sharing cost",
        footer=f"Measured with kts {made_by(of.info.provenance, of.info.kts)}; run {summary.run}" if of else "",
    )
