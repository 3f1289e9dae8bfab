"""`kts choose`: which mode to take, and how a cluster is set to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

import kts
from kts import app
from kts.cli.forecast_options import Forecast
from kts.cli.options import Json, NoFigures
from kts.cli.output import console, present, say
from kts.errors import FAILED, INCONCLUSIVE, UsageError
from kts.model.modes import ChoiceKind, Chosen

CODES: dict[ChoiceKind, int] = {"chosen": 0, "broken": FAILED, "undetermined": INCONCLUSIVE, "unproven": INCONCLUSIVE}


def choose(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[X]",
            help="A run in several modes. Or an experiment: it is measured in modes first; with --profiles it is "
            "predicted, or a mix of their names (fft+gemm).",
        ),
    ] = None,
    *,
    modes: Annotated[
        str,
        typer.Option(metavar="A,B,...", help="Which to measure or predict. Default: those that this machine allows."),
    ] = "",
    slo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TENANT.p99=MS", help="A promise in place of the experiment's, or besides. Again for more."
        ),
    ] = None,
    forecast: Forecast,
    out: Annotated[Path | None, typer.Option(help="The run directory. Default: runs/TIME-NAME.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")] = False,
    max_seconds: Annotated[float | None, typer.Option(help="Measure no longer than this.")] = None,
    device: Annotated[str | None, typer.Option(help="Of an experiment: auto, cuda or cpu.")] = None,
    no_figures: NoFigures = False,
    as_json: Json = False,
) -> None:
    """Say which way to share, and how to set it in a cluster.

    The mode that keeps every SLO at most throughput, the runner-up, the reason, and the lines for a cluster. Exits with
    0 (chosen), 8 (every mode breaks an SLO) or 9 (the data do not decide, or prove no mode).
    """
    limits = _limits(slo or [])
    given = {"max_seconds": max_seconds, "device": device}
    changes = cast("app.Changes", {key: value for key, value in given.items() if value is not None})
    measures = bool(out or overwrite or changes)
    if forecast.profiles or forecast.from_run:
        if measures:
            raise UsageError("--out, --overwrite, --max-seconds and --device are to measure", "leave --profiles out")
        _tell(kts.predict_choice(what, modes=modes, slo=limits, **forecast.given()), as_json=as_json)
        return
    if forecast != Forecast():
        raise UsageError("options of a prediction, but no --profiles", "kts choose X --profiles DIR, or leave them out")
    if what is None:
        raise UsageError("choose of what?", "kts choose RUN, kts choose EXPERIMENT, or kts choose --profiles DIR")
    if Path(what).is_dir():
        if measures or modes:
            raise UsageError(f"{what} is a run: nothing is measured anew", "leave --modes, --out and their like out")
        _tell(kts.choose(what, slo=limits), as_json=as_json)
        return
    run = app.run_to_choose(
        what, out, modes=modes, overwrite=overwrite, progress=console(stderr=True), say=say, **changes
    )
    _tell_measured(run, limits, figures=not no_figures, as_json=as_json)


def _tell_measured(run: kts.Run, limits: dict[str, float], *, figures: bool, as_json: bool) -> None:
    """What there is of a run that was just measured; then its outcome decides the exit code, if it is none to use."""
    say(f"wrote {run.directory}")
    if run.failure is not None:
        if run.has_figures:
            kts.show(kts.choose(run, slo=limits), console(stderr=as_json))
        raise run.failure
    chosen = kts.choose(run, slo=limits)
    present(chosen, as_json=as_json)
    run.report(figures=figures, say=say)
    _leave(chosen)


def _tell(chosen: Chosen, *, as_json: bool) -> None:
    present(chosen, as_json=as_json)
    _leave(chosen)


def _leave(chosen: Chosen) -> None:
    if code := CODES[chosen.modes.choice.kind]:
        raise typer.Exit(code)


def _limits(words: list[str]) -> dict[str, float]:
    """Milliseconds by tenant. UsageError for what is no p99 of one."""
    limits = {}
    for word in words:
        key, _, text = word.partition("=")
        tenant, _, quantile = key.rpartition(".")
        try:
            limits[tenant] = float(text)
        except ValueError:
            quantile = ""
        if not tenant or quantile != "p99" or not 0 < limits[tenant] < float("inf"):
            raise UsageError(f"--slo {word}: must be TENANT.p99=MS", "for example --slo fft.p99=25")
    return limits
