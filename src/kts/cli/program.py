"""Commands that also take a program: every word behind ``--`` is its own, whatever it looks like."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperCommand

from kts.cli.cluster_options import PANEL
from kts.errors import UsageError

if TYPE_CHECKING:
    from typer import Context

END = "--"
Program = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- PROGRAM ARGS", help="Instead of an experiment: your own program, after two dashes."),
]
ProgramImage = Annotated[
    str,
    typer.Option(
        help="Container image that the program runs in. Default: the worker's, which has no file of yours.",
        rich_help_panel=PANEL,
    ),
]


class TakesProgram(TyperCommand):
    """With the parameter ``program``: the words behind the first ``--``; None where there is none."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:  # type: ignore[override]
        """As one types it."""
        del ctx
        return ["[OPTIONS]", "EXPERIMENT | -- PROGRAM ARGS..."]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override] # typer's own click
        """As click does, up to ``--``."""
        cut = args.index(END) if END in args else None
        left = super().parse_args(ctx, args[:cut])
        if ctx.params.get("program"):
            words = [ctx.params["experiment"], *ctx.params["program"]]
            raise UsageError(
                f"{shlex.join(words)}: more than one experiment",
                f"a program goes behind two dashes: kts run -- {shlex.join(words)}",
            )
        ctx.params["program"] = None if cut is None else args[cut + 1 :]
        return left
