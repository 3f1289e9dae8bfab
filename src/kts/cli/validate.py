"""`kts validate`: a prediction held against a measured run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

import kts
from kts.cli.options import Json, NoFigures, RunDirectory
from kts.cli.output import say, told_first
from kts.errors import RefusalError, UsageError

_HASH = re.compile(r"[0-9a-f]{64}")


def validate(
    prediction: Annotated[Path, typer.Argument(help="A file that kts predict --out wrote.")],
    directory: RunDirectory,
    *,
    sealed: Annotated[
        str | None,
        typer.Option(
            metavar="HASH",
            help="The sha256 that was published before the run, or a file that holds it; exit code 7 where it does not "
            "hold.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write validation.json and plots/ here.")] = None,
    no_figures: NoFigures = False,
    as_json: Json = False,
) -> None:
    """Score a prediction against a run.

    Errors of the prediction and of simpler rules, how often the bands hold, and whether it was sealed before the run.
    """
    with told_first(as_json=as_json) as tell:
        score = kts.validate(
            prediction, directory, sealed=_hash(sealed), out=out, figures=not no_figures, say=say, tell=tell
        )
    if sealed is not None and score.seal is not None and not score.seal.sealed:
        raise RefusalError(
            score.seal.sentence, "hold against the run a prediction whose hash was published before it began"
        )


def _hash(given: str | None) -> str:
    """64 digits, from a file as sha256sum writes it or as they are. UsageError for anything else."""
    if given is None:
        return ""
    text = given.strip().lower()
    if not _HASH.fullmatch(text):
        try:
            text = Path(given).read_text(encoding="ascii").split()[0].lower()
        except (OSError, UnicodeDecodeError, IndexError):
            text = ""
    if not _HASH.fullmatch(text):
        raise UsageError(f"--sealed {given}: neither a sha256 nor a file with one", "give 64 hexadecimal digits")
    return text
