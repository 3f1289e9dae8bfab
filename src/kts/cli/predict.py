"""`kts predict`: what mixes of profiled tenants will do, before anyone runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import kts
from kts.cli.forecast_options import Forecast
from kts.cli.options import Json
from kts.cli.output import say, told_first
from kts.errors import UsageError


def predict(
    mix: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MIX]...", help="Tenants together: fft+gemm, fft*3+gemm. Default: all of them."),
    ] = None,
    *,
    forecast: Forecast,
    all_mixes: Annotated[
        bool, typer.Option("--all-mixes", help="Every pair, triple and quad of the profiles.")
    ] = False,
    in_order: Annotated[
        bool,
        typer.Option(
            "--in-order",
            help="The tenants of a MIX open the device in the order given. Default: the bands are for any order.",
        ),
    ] = False,
    mode: Annotated[
        str,
        typer.Option(metavar="MODE", help="How the GPU is shared: mps or streams (a first model). Default: in turns."),
    ] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the prediction here, for kts validate.")
    ] = None,
    seal: Annotated[
        bool,
        typer.Option(
            "--seal", help="With --out: write FILE.sha256, too, to be published before the run; kts validate --sealed."
        ),
    ] = False,
    save_profiles: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the profiles here, to be shared.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict latencies and DF of mixes, with bands.

    From a profile of each tenant alone and what the GPU's sharing costs; nothing is run.
    """
    if seal and out is None:
        raise UsageError("--seal: of which file?", "add --out FILE")
    given = forecast.given()
    given["mode"] = mode
    with told_first(as_json=as_json) as tell:
        kts.predict(
            mix or (),
            every_mix=all_mixes,
            in_order=in_order,
            out=out,
            seal=seal,
            save_profiles=save_profiles,
            say=say,
            tell=tell,
            **given,
        )
