"""Writes a report into a directory: the only module of this package that touches files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kts import files
from kts.errors import SetupError
from kts.model.reading import RunData
from kts.report import markdown, page, sheet
from kts.report.fleet import fleet_document
from kts.report.gate import pair_document
from kts.report.sections import run_document

if TYPE_CHECKING:
    from kts.model.fleet_summary import FleetSummary
    from kts.model.gate import Gate
    from kts.model.summary import Summary
    from kts.physics.explained import Explanation
    from kts.physics.validate import Score
    from kts.report.document import Document, Figure
    from kts.stats.series import Analysis


def write(run: RunData, analysis: Analysis, directory: Path, *, figures: bool = True) -> list[Path]:
    """Writes summary.json, summary.csv, results.md, report.html and, with ``figures``, plots/*.png and *.svg.

    Returns the written paths. Each file is replaced as a whole or not at all. SetupError where
    the directory cannot be written or the disk is full.
    """
    summary = analysis.summary
    drawn: list[Figure] = []
    if figures:
        from kts.report.figures import draw  # loads what draws

        drawn = draw(analysis, run.info.kts)
    report = run_document(summary, run, drawn)
    contents: dict[str, bytes] = {
        "summary.json": files.encode(summary),
        **_texts(report),
    }
    for figure in drawn:
        contents |= _pictures(figure)
    try:
        return [_replace(directory / name, content) for name, content in contents.items()]
    except OSError as error:
        raise SetupError(
            f"cannot write the report to {directory}: {error.strerror or error}",
            "free space on that disk, or give a directory you may write to",
        ) from error


def write_gate(gate: Gate, summary: Summary, run: RunData, directory: Path) -> list[Path]:
    """Writes gate.json, summary.csv, results.md and report.html of a run that measured a pair. Returns the paths.
    SetupError where the directory cannot be written."""
    contents = {"gate.json": files.encode(gate), **_texts(pair_document(gate, summary, run))}
    return [write_file(directory / name, content) for name, content in contents.items()]


def write_fleet(fleet: FleetSummary, directory: Path, kts_version: str, *, figures: bool = True) -> list[Path]:
    """Writes fleet-summary.json, summary.csv, results.md, report.html and, with ``figures``, plots/fleet. Returns the
    paths. SetupError where the directory cannot be written."""
    drawn = []
    if figures:
        from kts.report.charts_fleet import draw as draw_fleet  # loads what draws

        drawn = [figure for figure in (draw_fleet(fleet, kts_version),) if figure is not None]
    report = fleet_document(fleet, drawn, kts_version)
    contents: dict[str, bytes] = {"fleet-summary.json": files.encode(fleet), **_texts(report)}
    for figure in drawn:
        contents |= _pictures(figure)
    return [write_file(directory / name, content) for name, content in contents.items()]


def _texts(report: Document) -> dict[str, bytes]:
    """A document in each medium that is a file."""
    return {
        "summary.csv": sheet.render(report).encode(),
        "results.md": markdown.render(report).encode(),
        "report.html": page.render(report).encode(),
    }


def write_file(path: Path, content: bytes) -> Path:
    """Replaces one file as a whole or not at all. SetupError where it cannot be written."""
    try:
        return _replace(path, content)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}", "give a path you may write to") from error


def write_explanation(of: Explanation, directory: Path, *, figures: bool = True) -> list[Path]:
    """Writes explain.md, explain.html and, with ``figures``, plots of waterfalls and timelines. Returns the paths.
    SetupError where the directory cannot be written."""
    from kts.report.explaining import explanation_document

    drawn: list[Figure] = []
    if figures:
        from kts.report.charts_moments import draw as draw_explanation  # loads what draws

        drawn = draw_explanation(of)
    document = explanation_document(of, drawn)
    contents = {"explain.md": markdown.render(document).encode(), "explain.html": page.render(document).encode()}
    for figure in drawn:
        contents |= _pictures(figure)
    return [write_file(directory / name, content) for name, content in contents.items()]


def write_score(score: Score, directory: Path, device: str, kts_version: str, *, figures: bool = True) -> list[Path]:
    """Writes validation.json and, with ``figures``, plots/prediction in both themes. Returns the paths."""
    contents = {"validation.json": files.encode(score)}
    if figures:
        from kts.report.charts_forecast import draw_score

        contents |= _pictures(draw_score(score, device, kts_version))
    return [write_file(directory / name, content) for name, content in contents.items()]


def _pictures(figure: Figure) -> dict[str, bytes]:
    from kts.report.figures import rendered

    return {f"{markdown.PLOTS}/{name}": content for name, content in rendered(figure).items()}


def _replace(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, content, durably=False)
    return path
