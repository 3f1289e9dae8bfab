"""`kts check`: a gate for CI. Are SLOs kept, and has a tail got worse?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, cast

import typer

import kts
from kts import app
from kts.cli.options import Json
from kts.cli.output import console, present, say
from kts.errors import FAILED, INCONCLUSIVE, KtsError, UsageError
from kts.model.gate import TOLERANCE, Gate

_CODES = {"pass": 0, "fail": FAILED, "inconclusive": INCONCLUSIVE}


def check(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Run directories, or logs.")] = None,
    *,
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="TENANT.p99=MS", help="A limit in place of the experiment's, or besides. Again for more."),
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="An older run to be no worse than. Again for more of them.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, max=10, help="How much worse is tolerated, as a share. Default: 0.05, 5 %.")
    ] = None,
    pair: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Two experiments, measured in turns in one run: is B's tail worse than A's?"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The pair's run directory. Default: runs/TIME-pair-NAME.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")] = False,
    max_seconds: Annotated[float | None, typer.Option(help="Measure a pair no longer than this. Default: A's.")] = None,
    device: Annotated[str | None, typer.Option(help="Of a pair: auto, cuda or cpu.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of a pair: measure nothing, say which tails its time could decide.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    summary: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append Markdown. Default: $GITHUB_STEP_SUMMARY, where that is set."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Gate: are SLOs kept, has a tail got worse?

    kts check RUN: the SLOs of its experiment. kts check NEW --against OLD: has the shared p99 got worse by more than
    --tolerance? kts check --pair A.yaml B.yaml measures both, in turns, until that is decided. Exits with 0 (pass), 8
    (fail) or 9 (inconclusive: the data do not decide).
    """
    tolerated = TOLERANCE if tolerance is None else tolerance
    if pair is not None:
        if runs or slo or against:
            raise UsageError("--pair measures two experiments: no RUN, --slo or --against", "leave them out")
        given = {"max_seconds": max_seconds, "device": device}
        changes = cast("app.Changes", {key: value for key, value in given.items() if value is not None})
        if dry_run:
            present(app.preview_pair(*pair, tolerance=tolerated, **changes), as_json=as_json)
            return
        run = kts.check_pair(
            *pair, out, tolerance=tolerated, overwrite=overwrite, progress=console(stderr=True), **changes
        )
        say(f"wrote {run.directory}")
        _tell(kts.check(run), junit, summary, as_json=as_json, failure=run.failure)
        return
    if out or overwrite or max_seconds or device or dry_run:
        raise UsageError("--out, --overwrite, --max-seconds, --device, --dry-run are for a pair", "--pair A B")
    if not runs:
        raise UsageError("which run shall be checked?", "kts check RUN, or kts check NEW --against OLD")
    if tolerance is not None and not against:
        raise UsageError("--tolerance is for --against and --pair", "an SLO has a limit of its own; leave it out")
    result = kts.check(list(runs), list(against or ()), slo=_limits(slo or []), tolerance=tolerated)
    _tell(result, junit, summary, as_json=as_json)


def _tell(
    result: Gate, junit: Path | None, summary: Path | None, *, as_json: bool, failure: KtsError | None = None
) -> None:
    """Shows and writes the result, and exits with its code."""
    if failure is None:
        present(result, as_json=as_json)
    else:  # which is the JSON document on stdout
        kts.show(result, console(stderr=as_json))
    if junit is not None:
        say(f"wrote {app.write_junit(result, junit)}")
    if place := summary or os.environ.get("GITHUB_STEP_SUMMARY"):
        app.append_summary(result, place)
    if failure is not None:
        raise failure
    if code := _CODES[result.judgement]:
        raise typer.Exit(code)


def _limits(words: list[str]) -> dict[str, float]:
    """Milliseconds by TENANT.QUANTILE. UsageError for what is not of that form."""
    limits = {}
    for word in words:
        key, equals, text = word.partition("=")
        try:
            limits[key] = float(text)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"--slo {word}: must be TENANT.p99=MS", "for example --slo fft.p99=25")
    return limits
