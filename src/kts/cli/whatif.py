"""`kts whatif`: the same mix with another slice, one more tenant, another rate, a faster GPU."""

from __future__ import annotations

from typing import Annotated

import typer

from kts.cli.forecast_options import (
    Assume,
    Deadline,
    FingerprintFile,
    FromRun,
    ModelErrorOption,
    Profiles,
    Seconds,
    Seed,
)
from kts.cli.options import Json
from kts.errors import UsageError


def whatif(
    mix: Annotated[
        str | None,
        typer.Argument(metavar="[MIX]", help="Tenants together: fft+gemm. Default: all of them.", show_default=False),
    ] = None,
    *,
    profiles: Profiles = None,
    from_run: FromRun = None,
    fingerprint: FingerprintFile = None,
    assume: Assume = None,
    time_slice: Annotated[
        list[float] | None,
        typer.Option("--slice", metavar="MS", min=0.001, help="Another slice; may be repeated.", show_default=False),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="One more tenant of that profile; may be repeated.", show_default=False),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FACTOR", help="Everybody, or one, so many times as often, e.g. 0.5.", show_default=False
        ),
    ] = None,
    faster: Annotated[
        list[float] | None,
        typer.Option(metavar="SPEED", min=0.01, help="A GPU so many times as fast.", show_default=False),
    ] = None,
    deadline: Deadline = None,
    seconds: Seconds = None,
    seed: Seed = 0,
    model_error: ModelErrorOption = None,
    as_json: Json = False,
) -> None:
    """Predict a mix as it is, and as it would be.

    Each option is a question of its own; all are answered with the same draws.
    """
    from kts.cli.forecast_options import (
        effort_of,
        model_error_of,
        parse_mix,
        rates,
        read_fingerprint,
        read_profiles,
    )
    from kts.cli.output import console, print_json
    from kts.physics.whatif import Question, what_if
    from kts.report.forecasts import print_answers
    from kts.store import open_run

    run = open_run(from_run) if from_run is not None else None
    known = read_profiles(profiles, run, deadline)
    mark = read_fingerprint(fingerprint, assume, next(iter(known.values())).gpu)
    names = parse_mix(mix, known) if mix is not None else tuple(known)
    now = Question("as it is", names, known, mark)
    questions = [
        now,
        *(now.with_slice(ms) for ms in time_slice or ()),
        *(now.one_more(parse_mix(name, known)[0]) for name in add or ()),
        *(now.at_rate(factor, name) for name, factor in rates(rate, known)),
        *(now.on_faster_gpu(speed) for speed in faster or ()),
    ]
    if len(questions) == 1:
        raise UsageError("what if what?", "give --slice, --add, --rate or --faster; kts predict says what is")
    error = model_error_of(model_error, mark.gpu)
    effort = effort_of(seconds, seed, run)
    answers = what_if(questions, effort, error)
    if as_json:
        print_json(
            {"model_error": error, "confidence": effort.confidence, "seconds": effort.seconds, "answers": answers}
        )
    print_answers(answers, effort.confidence, effort.seconds, error, console(stderr=as_json))
