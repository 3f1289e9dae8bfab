"""`kts validate`: a prediction held against a measured run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from kts.cli.options import Json, NoFigures, RunDirectory
from kts.errors import UsageError

_HASH = re.compile(r"[0-9a-f]{64}")


def validate(
    prediction: Annotated[Path, typer.Argument(help="A file that kts predict --out wrote.", show_default=False)],
    directory: RunDirectory,
    *,
    sealed: Annotated[
        str | None,
        typer.Option(
            metavar="HASH",
            help="The sha256 that was published before the run, or a file that holds it; exit code 7 where it does not "
            "hold.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write validation.json and plots/ here.", show_default=False)
    ] = None,
    no_figures: NoFigures = False,
    as_json: Json = False,
) -> None:
    """Score a prediction against a run.

    Errors of the prediction and of simpler rules, how often the bands hold, and whether it was sealed before the run.
    """
    from msgspec.structs import replace

    from kts import __version__, files
    from kts.cli.output import console, print_json, say
    from kts.errors import RefusalError
    from kts.model.provenance import sha256
    from kts.physics.files import decode_prediction
    from kts.physics.sealing import check
    from kts.physics.validate import score
    from kts.report.forecasts import print_score
    from kts.store import open_run, origin

    raw = files.read(prediction, "give a file that kts predict --out wrote")
    run = open_run(directory)
    given = decode_prediction(raw, str(prediction))
    seal = check(given, sha256(raw), _hash(sealed), run.info, origin.of_run(directory))
    found = replace(score(given, run), seal=seal)
    if out is not None:
        from kts.report.writing import write_score

        label = ", ".join(sorted({worker.device.label for worker in run.info.workers})) or "unknown device"
        for path in write_score(found, out, label, __version__, figures=not no_figures):
            say(f"wrote {path}")
    if as_json:
        print_json(found)
    print_score(found, console(stderr=as_json))
    if sealed is not None and not seal.sealed:
        raise RefusalError(seal.sentence, "hold against the run a prediction whose hash was published before it began")


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
