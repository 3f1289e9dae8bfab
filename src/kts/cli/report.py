"""`kts report`: from a run directory, or a directory of logs, to tables, figures and pages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kts.cli.options import Json, NoFigures, RunDirectory
from kts.errors import DataError, SetupError

if TYPE_CHECKING:
    from kts.model.reading import RunData
    from kts.stats import Analysis

_FIGURES = (".png", ".svg")


def report(
    directory: RunDirectory,
    out: Annotated[
        Path | None, typer.Option(help="Write the report here. Default: into DIR itself.", show_default=False)
    ] = None,
    no_figures: NoFigures = False,
    trim: Annotated[
        int, typer.Option(min=0, help="Leave out the first N iterations of each log, as warm-up (logs only).")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Report a run directory or KTS_APP logs.

    A run that was killed is reported as far as it came.
    """
    from kts.stats import analyse
    from kts.store import open_run

    run = open_run(directory, trim)
    if not has_figures(run):
        raise DataError(
            f"{directory}: nothing to report: {_why_nothing(run)}", "measure again; what the workers said is in logs/"
        )
    analysis = analyse(run)
    show(run, analysis, out or directory, figures=not no_figures, as_json=as_json, must_write=out is not None)


def has_figures(run: RunData) -> bool:
    """True if at least one block may be analysed."""
    return any(block.valid for block in run.blocks)


def _why_nothing(run: RunData) -> str:
    return run.info.outcome.reason or "no block was finished"


def show(
    run: RunData,
    analysis: Analysis,
    directory: Path,
    *,
    figures: bool,
    as_json: bool,
    must_write: bool = True,
    failed: bool = False,
) -> None:
    """Writes the report into ``directory`` and prints the summary.

    Where the directory cannot be written it only prints; SetupError then, except where it need not be
    written (``must_write`` False). ``failed``: an error follows and is the JSON document on stdout.
    """
    from kts.cli.output import console, print_json, say
    from kts.report import print_summary, write

    written: list[Path] = []
    problem: SetupError | None = None
    try:
        if not must_write:
            _check_writable(directory)
        written = write(run, analysis, directory, figures=figures)
    except SetupError as error:
        problem = error
    fatal = problem if must_write else None
    if as_json and not failed and not fatal:
        print_json(analysis.summary)
    print_summary(analysis.summary, console(stderr=as_json))
    for line in _where(written):
        say(line)
    if fatal:
        raise fatal
    if problem:
        say(f"note: {problem.what}; --out DIR writes the report elsewhere")


def _where(written: list[Path]) -> list[str]:
    """Where to look: each page and table, and the folder of the figures."""
    pages = sorted(path for path in written if path.suffix not in _FIGURES)
    folders = Counter(path.parent for path in written if path.suffix in _FIGURES)
    shown = [str(path) for path in pages] + [f"{folder}/ ({count} figures)" for folder, count in folders.items()]
    return [f"wrote {item}" for item in shown]


def _check_writable(directory: Path) -> None:
    """SetupError if nothing can be written there: known before the figures are drawn."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=directory):
            return
    except OSError as error:
        raise SetupError(f"{directory} cannot be written ({error.strerror or error})") from error
