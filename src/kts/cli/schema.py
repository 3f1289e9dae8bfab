"""`kts schema`: the JSON Schemas of what goes in and what comes out."""

from __future__ import annotations

from typing import Annotated

import typer

from kts import app
from kts.cli.options import Json
from kts.cli.output import print_plain_json


def schema(
    what: Annotated[str, typer.Argument(help="experiment or summary.", metavar="[experiment|summary]")] = "experiment",
    as_json: Json = False,  # noqa: ARG001 - the output is JSON with and without
) -> None:
    """Print a JSON Schema: experiment files, or summary.json."""
    print_plain_json(app.schema(what))
