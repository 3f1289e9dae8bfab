"""`kts experiments`: the ready-made experiments."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from kts.cli.options import Json


def complete_name(incomplete: str) -> list[tuple[str, str]]:
    """(name, description) of the ready-made experiments that begin so, for the shell."""
    from kts.spec import catalog

    return [(name, text) for name, text in catalog() if name.startswith(incomplete)]


def experiments(
    name: Annotated[
        str | None,
        typer.Argument(help="Print the YAML of this one.", autocompletion=complete_name, show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the ready-made experiments, or print one."""
    from kts.cli.output import print_plain_json
    from kts.spec import catalog, ready_made_text

    if name is not None:
        text = ready_made_text(name)
        if as_json:
            print_plain_json({"name": name, "yaml": text})
        else:
            sys.stdout.write(text)
        return
    found = catalog()
    if as_json:
        print_plain_json([{"name": key, "description": text} for key, text in found])
        return
    width = max(len(key) for key, _ in found)
    for key, text in found:
        sys.stdout.write(f"{key:<{width}}  {text}\n")
