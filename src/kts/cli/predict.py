"""`kts predict`: what mixes of profiled tenants will do, before anyone runs them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from kts.model.reading import RunData
    from kts.physics.values import Profile


def predict(
    mix: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MIX]...", help="Tenants together: fft+gemm, fft*3+gemm. Default: all of them.", show_default=False
        ),
    ] = None,
    *,
    profiles: Profiles = None,
    from_run: FromRun = None,
    fingerprint: FingerprintFile = None,
    assume: Assume = None,
    all_mixes: Annotated[
        bool, typer.Option("--all-mixes", help="Every pair, triple and quad of the profiles.")
    ] = False,
    deadline: Deadline = None,
    in_order: Annotated[
        bool,
        typer.Option(
            "--in-order",
            help="The tenants of a MIX open the device in the order given. Default: the bands are for any order.",
        ),
    ] = False,
    seconds: Seconds = None,
    seed: Seed = 0,
    model_error: ModelErrorOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the prediction here, for kts validate.", show_default=False),
    ] = None,
    seal: Annotated[
        bool,
        typer.Option(
            "--seal", help="With --out: write FILE.sha256, too, to be published before the run; kts validate --sealed."
        ),
    ] = False,
    save_profiles: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the profiles here, to be shared.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict latencies and DF of mixes, with bands.

    From a profile of each tenant alone and what the GPU's sharing costs; nothing is run.
    """
    from msgspec.structs import replace

    from kts import __version__
    from kts.cli import made_from
    from kts.cli.forecast_options import effort_of, model_error_of, profile_files, read_fingerprint, read_profiles
    from kts.cli.output import console, print_json, say
    from kts.files import encode
    from kts.physics.predict import Predictor
    from kts.report.forecasts import print_prediction
    from kts.report.writing import write_file
    from kts.store import open_run, origin

    if seal and out is None:
        raise UsageError("--seal: of which file?", "add --out FILE")
    run = open_run(from_run) if from_run is not None else None
    known = read_profiles(profiles, run, deadline)
    mark = read_fingerprint(fingerprint, assume, next(iter(known.values())).gpu)
    wanted, as_run, lengths = _mixes(mix, known, run, all_mixes), False, None
    if run is not None and from_run is not None and not mix and not all_mixes:
        lengths = _lengths(wanted, run) if seconds is None else None
        wanted, as_run = _in_opening_order(wanted, from_run)
    predictor = Predictor(
        known,
        mark,
        effort_of(seconds, seed, run),
        model_error_of(model_error, mark.gpu),
        order_known=in_order or as_run,
    )
    used = made_from.of_prediction(profile_files(profiles), fingerprint, mark, from_run, run)
    now = time.time_ns()
    prediction = replace(
        predictor.predict(wanted, seconds=lengths, kts=__version__, notes=_notes(known)),
        created_ns=now,
        provenance=origin.here().of(used),
    )
    if save_profiles is not None:
        for name, profile in known.items():
            saved = replace(
                profile,
                created_ns=now,
                provenance=origin.here().of(made_from.of_saved_profile(profile, used)),
            )
            say(f"wrote {write_file(save_profiles / f'{name}.profile.json', encode(saved))}")
    if out is not None:
        content = encode(prediction)
        say(f"wrote {write_file(out, content)}")
        if seal:
            _seal(out, content)
    if as_json:
        print_json(prediction)
    print_prediction(prediction, console(stderr=as_json))


def _seal(file: Path, content: bytes) -> None:
    """Writes what sha256sum would, beside the file, and says it."""
    from kts.cli.output import say
    from kts.model.provenance import sha256
    from kts.report.writing import write_file

    found = sha256(content)
    path = write_file(file.with_name(f"{file.name}.sha256"), f"{found}  {file.name}\n".encode())
    say(f"wrote {path}")
    say(f"sealed: {found}")
    say("publish this hash before the run begins; afterwards: kts validate FILE DIR --sealed HASH")


def _mixes(
    given: list[str] | None, profiles: dict[str, Profile], run: RunData | None, every: bool
) -> list[tuple[str, ...]]:
    from kts.cli.forecast_options import parse_mix
    from kts.physics.predict import all_mixes

    if given and every:
        raise UsageError("mixes and --all-mixes", "give one of both")
    if given:
        return [parse_mix(text, profiles) for text in given]
    if every:
        if len(profiles) < 2:
            raise UsageError("--all-mixes needs at least two profiles", "give more of them")
        return all_mixes(list(profiles))
    measured = [mix.tenants for mix in run.info.plan.mixes] if run is not None else []
    return measured or [tuple(profiles)]


def _lengths(mixes: list[tuple[str, ...]], run: RunData) -> list[float] | None:
    """How long the run measured each; None where that is not known of all."""
    from kts.physics.recorded import mix_seconds

    found = mix_seconds(run)
    lengths = [round(found.get("+".join(mix), 0.0), 1) for mix in mixes]
    return lengths if lengths and min(lengths) > 0 else None


def _in_opening_order(mixes: list[tuple[str, ...]], directory: Path) -> tuple[list[tuple[str, ...]], bool]:
    """The mixes in the order in which the run's tenants opened the device, and whether that is known."""
    from kts.store.opening import opening_order

    order = opening_order(directory)
    if not {name for mix in mixes for name in mix} <= set(order):
        return mixes, False
    return [tuple(sorted(mix, key=order.index)) for mix in mixes], True


def _notes(profiles: dict[str, Profile]) -> list[str]:
    single = [name for name, profile in profiles.items() if profile.method == "burst"]
    if not single:
        return []
    return [f"Single bursts: {', '.join(single)}. Right for long kernels; many small launches need a trace of them."]
