"""`kts explain`: why sharing cost what it did, the slowest iterations, and what would change it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import kts
from kts import app
from kts.cli.forecast_options import three
from kts.cli.options import Json, NoFigures, RunDirectory
from kts.cli.output import present, say, told_first


def explain(
    directory: RunDirectory,
    *,
    tenant: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this one; may be repeated. Default: all.")
    ] = None,
    mix: Annotated[
        str | None, typer.Option(metavar="MIX", help="Tenants that ran together: fft+gemm. Default: the largest mix.")
    ] = None,
    mode: Annotated[
        str, typer.Option(metavar="MODE", help="Of a run in several modes: which. Default: the first.")
    ] = "",
    worst: Annotated[int, typer.Option(min=0, max=20, help="Show that many of each tenant's slowest iterations.")] = 10,
    profiles: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Predict changes from this profile, or folder of *.profile.json; may be repeated. Default: from the "
            "run's solo blocks.",
        ),
    ] = None,
    fingerprint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="How the GPU is shared. Default: what kts probe kept of it.")
    ] = None,
    assume: Annotated[
        str | None,
        typer.Option(
            metavar="SLICE,PREEMPT,YIELD",
            help="Instead of a fingerprint: slice and switch costs in ms, e.g. 2.087,0.178,0.1.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write explain.html, explain.md and plots here.")
    ] = None,
    no_figures: NoFigures = False,
    as_json: Json = False,
) -> None:
    """Say why it cost that, and what would change it.

    Causes of the added time with the data that show them, the slowest iterations with who was in flight meanwhile, and
    predictions of other slices and of neighbours paced or moved away. Of what kts watch kept: whom each waits for.
    """
    if app.is_watch(directory):
        present(app.explain_watch(directory, tenant or ()), as_json=as_json, body=app.load_watch(directory).summary)
        return
    with told_first(as_json=as_json) as tell:
        kts.explain(
            directory,
            out,
            tenants=tenant or (),
            mix=mix,
            mode=mode,
            worst=worst,
            profiles=profiles or (),
            fingerprint=fingerprint,
            assume=None if assume is None else three(assume),
            figures=not no_figures,
            say=say,
            tell=tell,
        )
