"""Writes a report into a directory: the only module of this package that touches files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kts import files
from kts.errors import SetupError
from kts.model.reading import RunData
from kts.report.markdown import results_md
from kts.report.page import page
from kts.report.tables import summary_csv, summary_json

if TYPE_CHECKING:
    from kts.physics.validate import Score
    from kts.report.figures import Figure
    from kts.stats.series import Analysis

PLOTS = "plots"


def write(run: RunData, analysis: Analysis, directory: Path, *, figures: bool = True) -> list[Path]:
    """Writes summary.json, summary.csv, results.md, report.html and, with ``figures``, plots/*.png and *.svg.

    Returns the written paths. Each file is replaced as a whole or not at all. SetupError where
    the directory cannot be written or the disk is full.
    """
    summary = analysis.summary
    drawn = _draw(run, analysis) if figures else []
    contents: dict[str, bytes] = {
        "summary.json": summary_json(summary).encode(),
        "summary.csv": summary_csv(summary).encode(),
        "results.md": results_md(run, summary, [(f.name, f.alt) for f in drawn], PLOTS).encode(),
        "report.html": page(run, summary, drawn).encode(),
    }
    for figure in drawn:
        contents |= {f"{PLOTS}/{name}": content for name, content in figure.rendered().items()}
    try:
        return [_replace(directory / name, content) for name, content in contents.items()]
    except OSError as error:
        raise SetupError(
            f"cannot write the report to {directory}: {error.strerror or error}",
            "free space on that disk, or give a directory you may write to",
        ) from error


def write_file(path: Path, content: bytes) -> Path:
    """Replaces one file as a whole or not at all. SetupError where it cannot be written."""
    try:
        return _replace(path, content)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}", "give a path you may write to") from error


def write_score(score: Score, directory: Path, device: str, kts_version: str, *, figures: bool = True) -> list[Path]:
    """Writes validation.json and, with ``figures``, plots/prediction in both themes. Returns the paths."""
    contents = {"validation.json": files.encode(score)}
    if figures:
        from kts.report.charts_forecast import draw_score

        drawn = draw_score(score, device, kts_version)
        contents |= {f"{PLOTS}/{name}": content for name, content in drawn.rendered().items()}
    return [write_file(directory / name, content) for name, content in contents.items()]


def _draw(run: RunData, analysis: Analysis) -> list[Figure]:
    from kts.report.figures import draw

    return draw(analysis, run.info.kts)


def _replace(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, content, durably=False)
    return path
