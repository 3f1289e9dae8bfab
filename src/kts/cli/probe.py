"""`kts probe`: how this GPU is shared, and who is on it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import kts
from kts import app
from kts.cli.options import Json
from kts.cli.output import console, fields, print_json, say, tell
from kts.errors import SetupError, UsageError


@dataclass(frozen=True, kw_only=True)
class WhoOptions:
    """How --who looks. Each field is an option; see `kts.cli.groups`."""

    who: Annotated[bool, typer.Option("--who", help="Say who is on the device now, and nothing else.")] = False
    looks: Annotated[int, typer.Option(help="With --who: short looks, one a second.", min=1, max=3600)] = 5
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="With --who: one watch without a break instead, which can tell periods but takes turns all the time.",
            min=0.01,
            max=600.0,
        ),
    ] = None
    fingerprint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --who: this fingerprint, not the one kept.")
    ] = None


def probe(
    *,
    look: WhoOptions,
    device: Annotated[str, typer.Option(help="auto, cuda or cpu (one core, labelled as such).")] = "auto",
    seconds: Annotated[
        float, typer.Option(help="Time to watch beside each number of neighbours.", min=0.1, max=60.0)
    ] = 0.8,
    neighbours: Annotated[int, typer.Option(help="Most neighbours of its own.", min=1, max=8)] = 4,
    anyway: Annotated[bool, typer.Option("--anyway", help="Measure although somebody is on the device.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the fingerprint here, not to the user's data.")
    ] = None,
    save_readings: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep what was seen, for --from.")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Measure nothing: use these readings.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the fingerprints kept here.")] = False,
    as_json: Json = False,
) -> None:
    """Measure how this GPU is shared, or say who is on it.

    Time slice, switch costs and timer, with intervals: a few seconds of a GPU that nobody else uses. --who takes as
    many short turns as it has looks. Neither needs any privilege, nor torch.
    """
    if sum((look.who, from_file is not None, listing)) > 1:
        raise UsageError("--who, --from and --list exclude each other", "give one of them")
    if (look.watch is not None or look.fingerprint is not None) and not look.who:
        raise UsageError("--watch and --fingerprint belong to --who", "kts probe --who --watch 2")
    if listing:
        _list(as_json)
    elif look.who:
        _who(device, look, as_json)
    else:
        quiet = as_json or not sys.stderr.isatty()
        probed = kts.probe(
            device,
            seconds=seconds,
            neighbours=neighbours,
            anyway=anyway,
            readings=from_file,
            save_readings=save_readings,
            out=out,
            say=(lambda _: None) if quiet else say,
        )
        if as_json:
            print_json({"file": str(probed.file), **fields(probed.findings)})
        else:
            kts.show(probed, console(stderr=False))
        say(f"note: {probed.problem}" if probed.problem else f"kept as {probed.file}")
        if probed.problem and (out or save_readings):
            raise SetupError(probed.problem, "give a place that you may write to")


def _who(device: str, look: WhoOptions, as_json: bool) -> None:
    presence = kts.who(device, looks=look.looks, watch_s=look.watch, fingerprint=look.fingerprint)
    if as_json:
        print_json(presence.answer)
    else:
        kts.show(presence, console(stderr=False))


def _list(as_json: bool) -> None:
    there = app.kept_fingerprints()
    if as_json:
        print_json({str(one.file): one.fingerprint or {"error": one.problem} for one in there})
        return
    for one in there:
        tell(f"{one.file.name}: {one.sentence}")
    if not there:
        tell(f"none in {app.folder()}; kts probe makes one")
