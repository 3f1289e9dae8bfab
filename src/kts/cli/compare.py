"""`kts compare`: two sides of one or several runs each, or the runs of one side together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import kts
from kts.cli.options import Json
from kts.cli.output import fields, present
from kts.errors import UsageError

WITH = "--with"
"""Stands between the two sides. It is no option of its own, so that shells may write many runs on either side of it."""
SETTINGS = {"ignore_unknown_options": True}
"""For the command: `WITH` reaches it where it stands."""


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN... [--with RUN...]",
            help="Run directories, directories of logs, or summary.json files. Two: B against A. More: those before "
            "--with are A, those after it B.",
        ),
    ],
    *,
    threshold: Annotated[
        float, typer.Option(min=0, max=10, help="A difference counts from here on, as a share: 0.05 is 5 %.")
    ] = 0.05,
    pool: Annotated[
        bool, typer.Option("--pool", help="No sides: all runs together, and how much they differ.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare two runs, or several a side, tenant by tenant.

    Says what changed by more than --threshold, and whether the data support it. kts compare A1 A2 --with B1 B2 also
    knows how much two runs of one experiment differ anyway.
    """
    sides = _sides(runs, pool=pool)
    if pool:
        present(kts.pool(sides[0]), as_json=as_json)
        return
    comparison = kts.compare(sides[0], sides[1], threshold=threshold)
    present(comparison, as_json=as_json, body={"sentence": comparison.sentence, **fields(comparison)})


def _sides(words: list[str], *, pool: bool) -> list[list[Path]]:
    """The runs of A and of B, or with ``pool`` all of them. UsageError where that is not said."""
    for word in words:
        if word.startswith("-") and word != WITH:
            raise UsageError(f"no option {word}", "kts compare --help")
    if words.count(WITH) > 1 or (pool and WITH in words):
        raise UsageError(
            f"{WITH} stands between two sides" if pool else f"{WITH} is there more than once",
            "kts compare A1 A2 --with B1 B2, or kts compare --pool R1 R2 R3",
        )
    at = words.index(WITH) if WITH in words else 1 if len(words) == 2 and not pool else len(words)
    sides = [[Path(word) for word in side if word != WITH] for side in (words[:at], words[at:])]
    given = [*sides[0], *sides[1]]
    if pool:
        sides = [given]
        if len(given) < 2:
            raise UsageError("--pool: one run alone does not tell how much runs differ", "give more of them")
    elif not all(sides):
        raise UsageError(
            f"{len(given)} run{'s' if len(given) > 1 else ''}: which are side A, and which B?",
            f"kts compare A1 A2 {WITH} B1 B2; all as one side: --pool",
        )
    return sides
