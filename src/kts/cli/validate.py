"""`kts validate`: a prediction held against a measured run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kts.cli.options import Json, NoFigures, RunDirectory


def validate(
    prediction: Annotated[Path, typer.Argument(help="A file that kts predict --out wrote.", show_default=False)],
    directory: RunDirectory,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write validation.json and plots/ here.", show_default=False)
    ] = None,
    no_figures: NoFigures = False,
    as_json: Json = False,
) -> None:
    """Score a prediction against a run.

    Errors of the prediction and of simpler rules, and how often the bands hold.
    """
    from kts import __version__
    from kts.cli.output import console, print_json, say
    from kts.errors import DataError
    from kts.physics.files import decode_prediction
    from kts.physics.validate import score
    from kts.report.forecasts import print_score
    from kts.store import open_run

    try:
        raw = prediction.read_bytes()
    except OSError as error:
        raise DataError(
            f"{prediction}: {error.strerror or error}", "give a file that kts predict --out wrote"
        ) from error
    run = open_run(directory)
    found = score(decode_prediction(raw, str(prediction)), run)
    if out is not None:
        from kts.report.writing import write_score

        label = ", ".join(sorted({worker.device.label for worker in run.info.workers})) or "unknown device"
        for path in write_score(found, out, label, __version__, figures=not no_figures):
            say(f"wrote {path}")
    if as_json:
        print_json(found)
    print_score(found, console(stderr=as_json))
