"""`kts report`: from a run directory, or a directory of logs, to tables, figures and pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import kts
from kts import app
from kts.cli.options import Json, NoFigures, RunDirectory
from kts.cli.output import console, print_json, say, shown_at_last, shown_to
from kts.errors import KtsError, SetupError

_FIGURES = (".png", ".svg")


def report(
    directory: RunDirectory,
    out: Annotated[Path | None, typer.Option(help="Write the report here. Default: into DIR itself.")] = None,
    no_figures: NoFigures = False,
    trim: Annotated[
        int, typer.Option(min=0, help="Leave out the first N iterations of each log, as warm-up (logs only).")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Report a run directory or KTS_APP logs.

    A run that was killed is reported as far as it came. Of a fleet (kts run --nodes) by node. Of what kts watch --out
    kept, who pays and who makes whom wait.
    """
    if app.is_watch(directory):
        show(app.load_watch(directory), out, figures=not no_figures, as_json=as_json)
        return
    if app.is_fleet(directory):
        show(app.load_fleet(directory), out, figures=not no_figures, as_json=as_json)
        return
    run = kts.load(directory, trim=trim)
    run.check_figures()
    show(run, out, figures=not no_figures, as_json=as_json)


def show_measured(run: kts.Run, *, figures: bool, as_json: bool) -> None:
    """Reports what there is of a run that was just measured, and then lets its outcome decide the exit code.

    Without pictures where somebody wants to go: these take seconds, and can be had later.
    """
    failure = run.failure
    figures = figures and run.outcome.kind != "interrupted"
    try:
        if failure is None or run.has_figures:
            show(run, run.directory, figures=figures, as_json=as_json, failed=failure is not None)
    except (KtsError, OSError):  # also a stdout that has gone, with the terminal or before it
        if failure is None:
            raise
    if failure is not None:
        raise failure
    if run.outcome.kind != "complete":
        say(f"{run.outcome.kind}: {run.outcome.reason}")
        say(f"  try: {run.outcome.remedy}")


def show_fleet(fleet: app.FleetRun, *, figures: bool, as_json: bool) -> None:
    """Reports what there is of a fleet that was just measured, and then lets its outcome decide the exit code."""
    failure = fleet.failure
    show(fleet, fleet.directory, figures=figures, as_json=as_json, failed=failure is not None)
    if failure is not None:
        raise failure


def show(
    run: kts.Run | app.FleetRun | app.WatchRun,
    out: Path | None,
    *,
    figures: bool,
    as_json: bool,
    failed: bool = False,
) -> None:
    """Prints the summary, and writes the report into ``out``: who ends it while it draws has the figures.

    Where ``out`` cannot be written it only prints, and SetupError follows; not so without one, as the run's own
    directory need not be writable. ``failed``: an error follows and is the JSON document on stdout.
    """
    written: Sequence[Path] = ()
    problem: SetupError | None = None
    people = console(stderr=as_json)
    unprinted = shown_to(people, run)  # its reader or its terminal may be gone; the report is for whoever comes later
    try:
        written = run.report(out, figures=figures, say=say)
    except SetupError as error:
        problem = error
    unprinted = shown_at_last(people, unprinted)
    fatal = problem if out is not None else None
    if as_json and not failed and not fatal and not unprinted:
        print_json(run.result if isinstance(run, kts.Run) else run.summary)
    for line in _where(written):
        say(line)
    if fatal:
        raise fatal
    if unprinted:
        raise unprinted
    if problem:
        say(f"note: {problem.what}; --out DIR writes the report elsewhere")


def _where(written: Sequence[Path]) -> list[str]:
    """Where to look: each page and table, and the folder of the figures."""
    pages = sorted(path for path in written if path.suffix not in _FIGURES)
    folders = Counter(path.parent for path in written if path.suffix in _FIGURES)
    shown = [str(path) for path in pages] + [f"{folder}/ ({count} figures)" for folder, count in folders.items()]
    return [f"wrote {item}" for item in shown]
