"""`kts watch`: who pays for sharing on this node, now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from kts import app
from kts.cli.options import Json
from kts.cli.output import console, present, say
from kts.errors import KtsError, UsageError
from kts.watch.limits import MOST_CALLS_S

HERE = "127.0.0.1:9478"


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """What is watched in place of this node, and by whose turns the model tells. Each field is an option; see
    `kts.cli.groups`."""

    recording: Annotated[
        Path | None, typer.Option("--from", metavar="RECORDING", help="Not this node: what --out kept, a file or DIR.")
    ] = None
    pace: Annotated[
        float | None,
        typer.Option(
            metavar="X", min=0, help="Of --from: its seconds per second; 0: at once. Default: 1 with --serve, else 0."
        ),
    ] = None

    fingerprint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="By whose turns DF99 is foretold. Default: what kts probe kept of each GPU."),
    ] = None

    def check(self) -> None:
        """UsageError where there is nothing to pace."""
        if self.pace is not None and self.recording is None:
            raise UsageError("--pace: of a recording", "add --from RECORDING, or leave it out")


class ServesSomewhere(TyperCommand):
    """`--serve` may stand alone: then it serves at `HERE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does, with the address where none stands."""
        for at in range(len(args) - 1, -1, -1):
            if args[at] == "--serve" and (at + 1 == len(args) or args[at + 1].startswith("-")):
                args = [*args[: at + 1], HERE, *args[at + 1 :]]
        return super().parse_args(ctx, args)


COMMAND = ServesSomewhere


def watch(
    *,
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", min=1, help="Watch so long. Default: until Ctrl-C.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep what is seen here, for kts report, kts explain and --from."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a watch that is already there.")] = False,
    replayed: ReplayOptions,
    window: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=1, max=600, help="What figures of now are about. Default: 60, or --for."),
    ] = None,
    most_calls: Annotated[
        int, typer.Option(metavar="N", min=1000, help="Calls per second beyond which whole processes are left out.")
    ] = MOST_CALLS_S,
    serve: Annotated[
        str,
        typer.Option(
            metavar="[HOST:PORT]",
            help="Instead of a table: Prometheus metrics at /metrics, a page at /. Default: 127.0.0.1:9478; :9478 is "
            "every address of this machine.",
        ),
    ] = "",
    events: Annotated[
        bool, typer.Option("--events", help="With --serve, in a cluster: what happens to a pod as an event of it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say who pays for sharing on this node, now.

    And who makes whom wait. Watches calls of all processes into the driver's library; no program is started, stopped or
    changed. Needs root, or the rights that docs/watch-rights.md lists.
    """
    replayed.check()
    if events and not serve:
        raise UsageError("--events: of a watch that is served", "add --serve")
    if serve and as_json:
        raise UsageError("--serve and --json: a table or a door?", "leave one of both out")
    if as_json and seconds is None and replayed.recording is None:
        raise UsageError("--json: one document at the end, and there is none", "add --for SECONDS")
    asked = app.WatchAsked(
        recording=replayed.recording,
        seconds=seconds,
        window_s=window,
        pace=(1.0 if serve else 0.0) if replayed.pace is None else replayed.pace,
        out=out,
        overwrite=overwrite,
        most_calls_s=most_calls,
        fingerprint=replayed.fingerprint,
    )
    if serve:
        app.serve_watch(asked, serve, say=say, events=events)
        return
    _show(asked, as_json=as_json)


def _show(asked: app.WatchAsked, *, as_json: bool) -> None:
    """A table that changes, and the last one to stay: also after Ctrl-C, and where the disk is full."""
    shown = app.screen(console(stderr=as_json), asked)
    try:
        with shown:
            app.watch(asked, shown, say=say)
    except (KeyboardInterrupt, KtsError):
        if shown.last is not None and not as_json:
            present(shown.last, as_json=False)
        raise
    present(shown.last, as_json=as_json)
