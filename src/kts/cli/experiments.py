"""`kts experiments`: the ready-made experiments."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kts import app
from kts.cli.options import Json
from kts.cli.output import print_plain_json


def complete_name(incomplete: str) -> list[tuple[str, str]]:
    """(name, description) of the ready-made experiments that begin so, for the shell."""
    return [(name, text) for name, text in app.experiments().items() if name.startswith(incomplete)]


def experiments(
    name: Annotated[
        str | None, typer.Argument(help="Print the YAML of this one.", autocompletion=complete_name)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the ready-made experiments, or print one."""
    if name is not None:
        text = app.experiment_text(name)
        if as_json:
            print_plain_json({"name": name, "yaml": text})
        else:
            sys.stdout.write(text)
        return
    there = app.experiments()
    if as_json:
        print_plain_json([{"name": key, "description": text} for key, text in there.items()])
        return
    width = max(map(len, there))
    for key, text in there.items():
        sys.stdout.write(f"{key:<{width}}  {text}\n")
