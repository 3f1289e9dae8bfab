"""From a run to tables, figures and pages."""

from __future__ import annotations

from pathlib import Path

from kts.app.handle import Run, load


def report(run: str | Path | Run, out: str | Path | None = None, *, figures: bool = True, trim: int = 0) -> list[Path]:
    """Writes the report of a run or of a directory of logs, as `Run.report` does; returns the paths."""
    return load(run, trim=trim).report(out, figures=figures)
