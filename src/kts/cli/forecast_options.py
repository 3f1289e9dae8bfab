"""What predict and whatif have in common: profiles, a fingerprint, how much to simulate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kts.errors import DataError, UsageError

if TYPE_CHECKING:
    from kts.model.reading import RunData
    from kts.physics.forecast import ModelError
    from kts.physics.predict import Effort
    from kts.physics.values import Fingerprint, Gpu, Profile

Profiles = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A profile, or a folder of *.profile.json; may be repeated.", show_default=False),
]
FromRun = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Take from this run's solo blocks how fast each tenant's host is, and single bursts where there is no "
        "profile.",
        show_default=False,
    ),
]
FingerprintFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="How the GPU is shared. Default: what kts probe kept of it.", show_default=False),
]
Assume = Annotated[
    str | None,
    typer.Option(
        metavar="SLICE,PREEMPT,YIELD",
        help="Instead of a fingerprint: slice and switch costs in ms, e.g. 2.087,0.178,0.1.",
        show_default=False,
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        min=1,
        help="Length of the run that the bands are for, per mix. Default: as long as --from-run has of each, else 600.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of every draw.")]
ModelErrorOption = Annotated[
    float | None,
    typer.Option(
        "--model-error",
        min=0,
        max=1,
        help="Relative error of the model itself, to widen the bands by. Default: as fitted for GPUs, by kind of "
        "tenant; 0 on a CPU.",
        show_default=False,
    ),
]
Deadline = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=MS", help="A tenant's deadline; may be repeated.", show_default=False),
]


def read_profiles(given: list[Path] | None, run: RunData | None, deadlines: list[str] | None) -> dict[str, Profile]:
    """Profiles by tenant name, with host times as in ``run``'s solo blocks. UsageError where there is none, or two of
    one name."""
    from msgspec.structs import replace

    from kts import files
    from kts.physics.files import decode_profile

    found: dict[str, Profile] = {}
    read = [decode_profile(files.read(path, "check the path"), str(path)) for path in profile_files(given)]
    for profile in read:
        if profile.tenant in found:
            raise UsageError(
                f"two profiles of {profile.tenant}", "give one of them another name (`tenant` in the file)"
            )
        found[profile.tenant] = profile
    if run is not None:
        found |= _of_run(run, found)
    if not found:
        raise UsageError("no profiles", "give --profiles FILE, or --from-run DIR")
    for name, value in _pairs(deadlines, "--deadline"):
        _known(name, found)
        found[name] = replace(found[name], deadline_ms=value)
    return found


def _of_run(run: RunData, known: dict[str, Profile]) -> dict[str, Profile]:
    """The run's tenants: by their profile, or that of the tenant they are a replica of, else as single bursts."""
    from msgspec.structs import replace

    from kts.physics.profiling import recalibrated
    from kts.physics.recorded import profile_of, solo

    found = {}
    for tenant in run.info.plan.tenants:
        kind, dash, number = tenant.name.rpartition("-")
        profile = known.get(tenant.name) or (known.get(kind) if dash and number.isdecimal() else None)
        if profile is None:
            found[tenant.name] = profile_of(run, tenant.name)
            continue
        if None not in (profile.size, tenant.work.size) and profile.size != tenant.work.size:
            raise UsageError(
                f"the profile of {profile.tenant} is of size {profile.size}, "
                f"{tenant.name} in the run of {tenant.work.size}",
                "profile it again, or leave one of the two out",
            )
        alone = solo(run, tenant.name)
        as_in_run = replace(profile, tenant=tenant.name, arrivals=tenant.arrivals)
        found[tenant.name] = recalibrated(as_in_run, alone.service_ms, alone.device_ms)
    return found


def read_fingerprint(file: Path | None, assume: str | None, gpu: Gpu) -> Fingerprint:
    """From the file, assumed for ``gpu``, or the one that `kts probe` kept of it. UsageError if none is there."""
    from kts.physics.values import Fingerprint, Interval
    from kts.store.fingerprints import directory, find, read

    if file is not None and assume is not None:
        raise UsageError("--fingerprint and --assume: which of the two?", "leave one out")
    if file is not None:
        return read(file)
    mode = "cpu-scheduler" if gpu.kind == "cpu" else "time-slicing"
    if assume is None:
        if (kept := find(gpu.uuid, gpu.driver, mode, directory(os.environ))) is not None:
            return kept
        raise UsageError(
            f"how is {gpu.label or gpu.name or 'the device'} shared? No fingerprint of it is kept here",
            "run kts probe there, or give --fingerprint FILE or --assume SLICE,PREEMPT,YIELD (milliseconds)",
        )
    try:
        slice_ms, preempt_ms, yield_ms = (float(part) for part in str(assume).split(","))
    except ValueError:
        raise UsageError(f"--assume {assume}: not three numbers", "e.g. --assume 2.087,0.178,0.1") from None
    if not 0 < slice_ms < float("inf") or not 0 <= min(preempt_ms, yield_ms) <= max(preempt_ms, yield_ms) < float(
        "inf"
    ):
        raise UsageError(f"--assume {assume}: a slice is above 0, a cost not below", "e.g. --assume 2.087,0.178,0.1")
    return Fingerprint(
        gpu=gpu,
        mode=mode,
        slice_ms=Interval.exact(slice_ms),
        preempt_ms=(Interval.exact(preempt_ms),),
        yield_ms=(Interval.exact(yield_ms),),
        source="assumed",
        how="given with --assume",
    )


def effort_of(seconds: float | None, seed: int, run: RunData | None) -> Effort:
    """How much to simulate; bands for runs as long as ``run``, where there is one and nothing else is asked."""
    from kts.physics.predict import Effort
    from kts.physics.recorded import mix_seconds

    measured = max(mix_seconds(run).values(), default=0.0) if run is not None else 0.0
    return Effort(seconds=seconds or round(measured, 1) or 600.0, seed=seed)


def model_error_of(relative: float | None, gpu: Gpu) -> ModelError:
    """As given, or as it was fitted for such a device."""
    from kts.physics.fitted import model_error
    from kts.physics.forecast import ModelError

    return model_error(gpu) if relative is None else ModelError(relative=relative, source="given")


def parse_mix(text: str, profiles: dict[str, Profile]) -> tuple[str, ...]:
    """``fft+gemm*2`` as names. UsageError for an unknown one."""
    names: list[str] = []
    for part in text.split("+"):
        name, star, times = part.strip().partition("*")
        if star and not (times.isdecimal() and 1 <= int(times) <= 64):
            raise UsageError(f"mix {text!r}: {part!r} is no name with a number", "write fft+gemm, or fft*3+gemm")
        _known(name, profiles)
        names += [name] * (int(times) if star else 1)
    return tuple(names)


def rates(given: list[str] | None, profiles: dict[str, Profile]) -> list[tuple[str | None, float]]:
    """``0.5`` for everybody, ``fft=0.5`` for one."""
    found: list[tuple[str | None, float]] = []
    for text in given or ():
        if "=" in text:
            [(name, factor)] = _pairs([text], "--rate")
            _known(name, profiles)
            found.append((name, factor))
        else:
            found.append((None, _positive(text, "--rate")))
    return found


def _known(name: str, profiles: dict[str, Profile]) -> None:
    if name not in profiles:
        raise UsageError(f"no profile of {name!r}", f"there are: {', '.join(profiles)}")


def _pairs(given: list[str] | None, option: str) -> list[tuple[str, float]]:
    found = []
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{option} {text}: not NAME=NUMBER", f"e.g. {option} fft=8")
        found.append((name, _positive(value, option)))
    return found


def _positive(text: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{option} {text}: not a number above 0")
    return value


def profile_files(given: list[Path] | None) -> list[Path]:
    """The files themselves, and those of folders. DataError for a folder without any."""
    return [path for file in given or () for path in _expanded(file)]


def _expanded(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.profile.json"))
    if not found:
        raise DataError(f"{path}: no *.profile.json in it", "give the files, or another folder")
    return found
