"""`kts selfcheck`: does the instrument hold here? Or: is what kts says true, by simulated runs whose truth is known?"""

from __future__ import annotations

from typing import Annotated

import typer

import kts
from kts.cli.options import Json
from kts.cli.output import present, say
from kts.errors import KtsError, UsageError
from kts.model.plan import DeviceChoice


def selfcheck(
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Instead: runs on a simulated GPU, whose true DF99 is known.")
    ] = False,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer iterations; simulated: fewer pairs and repetitions.")
    ] = False,
    device: Annotated[DeviceChoice, typer.Option(help="Which device here.")] = "auto",
    repetitions: Annotated[
        int | None, typer.Option(min=1, help="Simulated runs per pair. Default: 300, or 5 with --quick.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Simulated: of the first run of each pair; others follow.", min=0)] = 1,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes that simulate. Default: one per core; 1 with --quick.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check the instrument on this machine, or the whole way from plan to verdict.

    Here: equal tenants must not differ, known delays must be found, clocks must be fine enough, telemetry must not
    show; about a minute. Simulated: pairs whose true DF99 is known, through the real schedule, stop rule and analysis.
    Exits with 1 if something is off by more than chance explains.
    """
    if not simulated and (repetitions, jobs) != (None, None):
        raise UsageError("--repetitions and --jobs are of simulated runs", "add --simulated, or leave them out")
    if simulated and device != "auto":
        raise UsageError("--device is of this machine", "leave out --device or --simulated")
    if simulated:
        result = kts.selfcheck(quick=quick, repetitions=repetitions, seed=seed, jobs=jobs, say=say)
        present(result, as_json=as_json)
        passed = result.passed
    else:
        here = kts.selfcheck_here(quick=quick, device=device, seed=seed, say=say)
        present(here, as_json=as_json)
        passed = here.passed
    if not passed:
        raise typer.Exit(KtsError.exit_code)
