"""`kts selfcheck`: is what kts says true? With simulated runs, whose truth is known."""

from __future__ import annotations

from typing import Annotated

import typer

import kts
from kts.cli.options import Json
from kts.cli.output import present, say
from kts.errors import KtsError, UsageError


def selfcheck(
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Runs on a simulated GPU, whose true DF99 is known.")
    ] = False,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pairs and repetitions: half a minute.")] = False,
    repetitions: Annotated[
        int | None, typer.Option(min=1, help="Runs per pair. Default: 300, or 5 with --quick.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first run of each pair; the others follow it.", min=0)] = 1,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core; 1 with --quick.")] = None,
    as_json: Json = False,
) -> None:
    """Check the whole way from plan to verdict.

    Simulated pairs whose true DF99 is known, through the real schedule, stop rule and analysis. Exits with 1 if a
    figure is off by more than chance explains.
    """
    if not simulated:
        raise UsageError(
            "the instrument itself cannot be checked yet, only the way from plan to verdict",
            "kts selfcheck --simulated",
        )
    result = kts.selfcheck(quick=quick, repetitions=repetitions, seed=seed, jobs=jobs, say=say)
    present(result, as_json=as_json)
    if not result.passed:
        raise typer.Exit(KtsError.exit_code)
