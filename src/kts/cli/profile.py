"""`kts profile`: how each tenant of an experiment behaves alone, in a file that can be shared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

import kts
from kts import app
from kts.cli.cluster_options import Context, RunPlace
from kts.cli.experiments import complete_name
from kts.cli.options import Json
from kts.cli.output import present, say
from kts.errors import UsageError

_PLACES = ("local", "k8s")


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
    on: Annotated[
        str, typer.Option(help="local: on this machine; k8s: in a pod of a cluster.", metavar="BACKEND")
    ] = "local",
    device: Annotated[str | None, typer.Option(help="auto, cuda or cpu.")] = None,
    library: Annotated[str | None, typer.Option(help="auto, torch, cupy or numpy.")] = None,
    context: Context = None,
    place: RunPlace,
    as_json: Json = False,
) -> None:
    """Profile each tenant alone: launches, durations, host time.

    One after the other, each at its own pacing. `kts predict --profiles DIR` says from them what mixes will do.
    """
    if on not in _PLACES:
        raise UsageError(f"--on: no backend {on!r}", f"known: {', '.join(_PLACES)}")
    if on == "k8s":
        given = {key: value for key, value in (("device", device), ("library", library)) if value is not None}
        made = app.profile_on_cluster(
            experiment,
            place.run_settings(telemetry=True, dcgm=""),
            out,
            tenants=tenant or (),
            seconds=seconds,
            image=place.image,
            extra=place.extra,
            context=context,
            overwrite=overwrite,
            say=say,
            **cast("app.Changes", given),
        )
    else:
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
