"""`kts check`: a gate for CI. Are SLOs kept, and has a tail got worse?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

import kts
from kts import app
from kts.cli.options import Json
from kts.cli.output import fields, present, say
from kts.errors import FAILED, INCONCLUSIVE, UsageError
from kts.model.gate import Gate

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
        float, typer.Option(min=0, max=10, help="How much worse is tolerated, as a share: 0.05 is 5 %.")
    ] = 0.05,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.")] = None,
    summary: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append Markdown. Default: $GITHUB_STEP_SUMMARY, where that is set."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Gate: are SLOs kept, has a tail got worse?

    kts check RUN: the SLOs of its experiment. kts check NEW --against OLD: has the shared p99 got worse by more than
    --tolerance? Exits with 0 (pass), 8 (fail) or 9 (inconclusive: the data do not decide).
    """
    if not runs:
        raise UsageError("which run shall be checked?", "kts check RUN, or kts check NEW --against OLD")
    result = kts.check(list(runs), list(against or ()), slo=_limits(slo or []), tolerance=tolerance)
    _tell(result, junit, summary, as_json=as_json)


def _tell(result: Gate, junit: Path | None, summary: Path | None, *, as_json: bool) -> None:
    """Shows and writes the result, and exits with its code."""
    body = {"judgement": result.judgement, "sentence": result.sentence, "more_s": result.more_s, **fields(result)}
    present(result, as_json=as_json, body=body)
    if junit is not None:
        say(f"wrote {app.write_junit(result, junit)}")
    if place := summary or os.environ.get("GITHUB_STEP_SUMMARY"):
        app.append_summary(result, place)
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
