"""`kts schema`: the JSON Schemas of what goes in and what comes out."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kts.cli.options import Json
from kts.errors import UsageError


def schema(
    what: Annotated[str, typer.Argument(help="experiment or summary.", metavar="[experiment|summary]")] = "experiment",
    as_json: Json = False,  # noqa: ARG001 - the output is JSON with and without
) -> None:
    """Print a JSON Schema: experiment files, or summary.json."""
    from kts.cli.output import print_plain_json

    known = {"experiment": _experiment, "summary": _summary}
    if what not in known:
        raise UsageError(f"no schema of {what!r}", f"known: {', '.join(known)}")
    print_plain_json(known[what]())


def _experiment() -> dict[str, Any]:
    from kts.spec import json_schema

    return json_schema()


def _summary() -> dict[str, Any]:
    from kts.report import summary_schema

    return summary_schema()
