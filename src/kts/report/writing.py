"""Writes a report into a directory: the only module of this package that touches files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kts import files
from kts.errors import SetupError
from kts.model.reading import RunData
from kts.report import markdown, page, sheet
from kts.report.fleet import fleet_document
from kts.report.gate import pair_document
from kts.report.sections import run_document
from kts.report.watching import watch_document

if TYPE_CHECKING:
    from kts.model.fleet_summary import FleetSummary
    from kts.model.gate import Gate
    from kts.model.modes import ModesSummary
    from kts.model.summary import Summary
    from kts.physics.explained import Explanation
    from kts.physics.validate import Score
    from kts.report.document import Document, Figure
    from kts.stats.series import Analysis
    from kts.watch.live import WatchNow

Say = Callable[[str], None]


def write(
    run: RunData, analysis: Analysis, directory: Path, *, figures: bool = True, say: Say = lambda _: None
) -> list[Path]:
    """Writes summary.json, summary.csv, results.md, report.html and, with ``figures``, plots/*.png and *.svg.

    Returns the written paths. Each file is replaced as a whole or not at all, and all but plots are there before the
    first is drawn. ``say`` is told of pictures that could not be drawn. SetupError where the directory cannot be
    written or the disk is full.
    """
    summary = analysis.summary
    data = {"summary.json": files.encode(summary)}

    def draw() -> list[Figure]:
        from kts.report.figures import draw as draw_run  # loads what draws

        return draw_run(analysis, run.info.kts)

    return _write(directory, data, lambda drawn: run_document(summary, run, drawn), draw if figures else None, say)


def write_gate(gate: Gate, summary: Summary, run: RunData, directory: Path) -> list[Path]:
    """Writes gate.json, summary.csv, results.md and report.html of a run that measured a pair. Returns the paths.
    SetupError where the directory cannot be written."""
    return _write(directory, {"gate.json": files.encode(gate)}, lambda _: pair_document(gate, summary, run))


def write_modes(
    modes: ModesSummary, run: RunData, directory: Path, *, figures: bool = True, say: Say = lambda _: None
) -> list[Path]:
    """Writes modes.json, summary.csv, results.md, report.html and, with ``figures``, plots/modes of a run in several
    modes. Returns the paths; ``say`` and errors as of `write`."""
    from kts.report.modes import modes_document

    def draw() -> list[Figure]:
        from kts.report.charts_modes import draw as draw_modes  # loads what draws

        return draw_modes(modes, run.info.kts)

    data = {"modes.json": files.encode(modes)}
    return _write(directory, data, partial(modes_document, modes, run), draw if figures else None, say)


def write_fleet(
    fleet: FleetSummary, directory: Path, kts_version: str, *, figures: bool = True, say: Say = lambda _: None
) -> list[Path]:
    """Writes fleet-summary.json, summary.csv, results.md, report.html and, with ``figures``, plots/fleet. Returns the
    paths; ``say`` and errors as of `write`."""

    def draw() -> list[Figure]:
        from kts.report.charts_fleet import draw as draw_fleet  # loads what draws

        return draw_fleet(fleet, kts_version)

    data = {"fleet-summary.json": files.encode(fleet)}
    document = partial(fleet_document, fleet, kts_version=kts_version)
    return _write(directory, data, document, draw if figures else None, say)


def write_explanation(
    of: Explanation, directory: Path, *, figures: bool = True, say: Say = lambda _: None
) -> list[Path]:
    """Writes explain.md, explain.html and, with ``figures``, plots of waterfalls and timelines. Returns the paths;
    ``say`` and errors as of `write`."""
    from kts.report.explaining import explanation_document

    def draw() -> list[Figure]:
        from kts.report.charts_moments import draw as draw_explanation  # loads what draws

        return draw_explanation(of)

    names = {"explain.md": markdown.render, "explain.html": page.render}
    return _write(directory, {}, partial(explanation_document, of), draw if figures else None, say, texts=names)


def write_score(
    score: Score, directory: Path, device: str, kts_version: str, *, figures: bool = True, say: Say = lambda _: None
) -> list[Path]:
    """Writes validation.json and, with ``figures``, plots/prediction in both themes. Returns the paths; ``say`` and
    errors as of `write`."""

    def draw() -> list[Figure]:
        from kts.report.charts_forecast import draw_score

        return draw_score(score, device, kts_version)

    data = {"validation.json": files.encode(score)}
    return _write(directory, data, None, draw if figures else None, say)


def write_watch(now: WatchNow, directory: Path, kts_version: str) -> list[Path]:
    """Writes summary.csv, results.md and report.html of a watch; there are no pictures. Returns the paths; SetupError
    where the directory cannot be written."""
    return _write(directory, {}, lambda _: watch_document(now, kts_version))


def write_file(path: Path, content: bytes) -> Path:
    """Replaces one file as a whole or not at all. SetupError where it cannot be written."""
    try:
        return _replace(path, content)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}", "give a path you may write to") from error


_TEXTS: Mapping[str, Callable[[Document], str]] = {
    "summary.csv": sheet.render,
    "results.md": markdown.render,
    "report.html": page.render,
}


def _write(
    directory: Path,
    data: Mapping[str, bytes],
    document: Callable[[Sequence[Figure]], Document] | None,
    draw: Callable[[], list[Figure]] | None = None,
    say: Say = lambda _: None,
    *,
    texts: Mapping[str, Callable[[Document], str]] = _TEXTS,
) -> list[Path]:
    """First data and the document without pictures, in each medium that is a file; then these, and it with them."""

    def put(contents: Mapping[str, bytes]) -> list[Path]:
        try:
            return [_replace(directory / name, content) for name, content in contents.items()]
        except OSError as error:
            raise SetupError(
                f"cannot write the report to {directory}: {error.strerror or error}",
                "free space on that disk, or give a directory you may write to",
            ) from error

    def written(drawn: Sequence[Figure]) -> list[Path]:
        if document is None:
            return []
        report = document(drawn)
        return put({name: render(report).encode() for name, render in texts.items()})

    paths = [*put(data), *written(())]
    if draw is None:
        return paths
    drawn = draw()
    pictures = {f"{markdown.PLOTS}/{name}": content for figure in drawn for name, content in figure.files}
    paths += put(pictures)
    written(drawn)
    for figure in drawn:
        if figure.undrawn:
            say(f"note: {figure.note}")
    return paths


def _replace(path: Path, content: bytes) -> Path:
    if path.parent.name == markdown.PLOTS and path.parent.is_symlink():
        path.parent.unlink()  # a folder of ours is none that a link leads to
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, content, durably=False)
    return path
