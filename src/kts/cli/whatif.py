"""`kts whatif`: the same mix with another slice, one more tenant, another rate, a faster GPU, another mode."""

from __future__ import annotations

from typing import Annotated

import typer

import kts
from kts.cli.forecast_options import Forecast, pair, positive
from kts.cli.options import Json
from kts.cli.output import present


def whatif(
    mix: Annotated[
        str | None, typer.Argument(metavar="[MIX]", help="Tenants together: fft+gemm. Default: all of them.")
    ] = None,
    *,
    forecast: Forecast,
    time_slice: Annotated[
        list[float] | None, typer.Option("--slice", metavar="MS", min=0.001, help="Another slice; may be repeated.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="One more tenant of that profile; may be repeated.")
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FACTOR", help="Everybody, or one, so many times as often, e.g. 0.5."),
    ] = None,
    faster: Annotated[
        list[float] | None, typer.Option(metavar="SPEED", min=0.01, help="A GPU so many times as fast.")
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(metavar="MODE", help="Shared as mps or streams: a first model; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict a mix as it is, and as it would be.

    Each option is a question of its own; all are answered with the same draws.
    """
    answers = kts.whatif(
        mix,
        slices_ms=time_slice or (),
        add=add or (),
        rates=[_rate(text) for text in rate or ()],
        faster=faster or (),
        modes=mode or (),
        **forecast.given(),
    )
    present(answers, as_json=as_json)


def _rate(text: str) -> tuple[str | None, float]:
    """``0.5`` for everybody, ``fft=0.5`` for one."""
    return pair(text, "--rate") if "=" in text else (None, positive(text, "--rate"))
