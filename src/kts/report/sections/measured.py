"""With what the run was measured: versions, devices, environment, and the experiment file."""

from __future__ import annotations

from collections.abc import Iterator

from kts.model.provenance import made_by, made_from
from kts.model.reading import RunData
from kts.report import document as doc
from kts.report.sections.report import Report


def section(report: Report) -> Iterator[doc.Element]:
    """What was recorded with the run; nothing without the run."""
    if report.run is None:
        return
    yield doc.Heading("How it was measured", "measured")
    yield doc.Table(
        columns=(doc.Column("what", "name"), doc.Column("value", "name")),
        groups=(tuple(_rows(report.run)),),
        caption="Versions, devices and environment, as recorded with the run.",
    )
    if text := report.run.info.experiment.strip():
        yield doc.Details("The experiment file", text, media=doc.PAGE)


def _rows(run: RunData) -> Iterator[doc.Row]:
    info = run.info
    yield "kts", made_by(info.provenance, info.kts)
    if text := made_from(info.provenance):
        yield "made from", text
    yield "experiment", info.plan.name
    yield "design", f"{info.plan.design}, seed {info.plan.seed}"
    yield "mode", info.sharing.words()
    for number, evidence in enumerate(info.sharing.evidence):
        yield "" if number else "seen of it", evidence.words()
    yield "backend", info.backend
    yield "outcome", f"{info.outcome.kind} {info.outcome.reason}".strip()
    for worker in info.workers:
        device = worker.device
        library = f"{device.library} {device.library_version}".strip()
        cores = f", cores {', '.join(map(str, worker.cores))}" if worker.cores else ""
        driver = f", driver {device.driver}" if device.driver else ""
        stopwatch = f", stopwatch: {device.stopwatch}" if device.stopwatch else ""
        yield f"tenant {worker.tenant}", f"{device.label}, {library}{driver}{cores}{stopwatch}"
    yield from sorted(info.environment.items())
