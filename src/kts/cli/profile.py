"""`kts profile`: how each tenant of an experiment behaves alone, in a file that can be shared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import kts
from kts.cli.experiments import complete_name
from kts.cli.options import Json
from kts.cli.output import present, say


def profile(
    experiment: Annotated[
        str, typer.Argument(help="An experiment file, or a name from `kts experiments`.", autocompletion=complete_name)
    ],
    *,
    tenant: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this tenant; may be repeated. Default: all.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Of each tenant without a tracer, and again with one.")
    ] = 20.0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the profiles go. Default: profiles/NAME.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace profiles that are already there.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cuda or cpu.")] = None,
    library: Annotated[str | None, typer.Option(help="auto, torch, cupy or numpy.")] = None,
    as_json: Json = False,
) -> None:
    """Profile each tenant alone: launches, durations, host time.

    One after the other, each at its own pacing. `kts predict --profiles DIR` says from them what mixes will do.
    """
    made = kts.profile(
        experiment,
        out,
        tenants=tenant or (),
        seconds=seconds,
        overwrite=overwrite,
        device=device,
        library=library,
        say=say,
    )
    present(made, as_json=as_json)
