"""What forecasts are made from: profiles, a fingerprint, a run, and how much to simulate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import TypedDict

from msgspec.structs import replace

from kts import files
from kts.app.handle import Run, load
from kts.errors import DataError, UsageError
from kts.model.mode import CPU_SCHEDULER, MIG, MPS, STREAMS, TIME_SLICING
from kts.model.plan import PROGRAM
from kts.model.provenance import Material, material
from kts.physics.alone import service_ms
from kts.physics.files import PROFILE_SUFFIX, decode_fingerprint, decode_profile
from kts.physics.fitted import hosts_profiled, in_mode, model_error
from kts.physics.forecast import ModelError
from kts.physics.predict import Effort
from kts.physics.profiling import recalibrated
from kts.physics.recorded import check_sample, mix_seconds, profile_of, solo
from kts.physics.side_by_side import are_side_by_side
from kts.physics.values import IN_LINE, Fingerprint, Gpu, Interval, Profile
from kts.stats.steadiness import since_ns
from kts.store import fingerprints, origin

AnyProfile = str | Path | Profile
"""A file, a folder of ``*.profile.json``, or what `kts.profile` returned."""
DEFAULT_SECONDS = 600.0
_DEFAULTS = (CPU_SCHEDULER, TIME_SLICING)


class Given(TypedDict, total=False):
    """What `predict` and `whatif` are given besides mixes."""

    profiles: AnyProfile | Sequence[AnyProfile]
    """How each tenant behaves alone."""
    from_run: str | Path | Run | None
    """How fast each tenant's host is, from its solo blocks; single bursts where there is no profile."""
    fingerprint: str | Path | Fingerprint | None
    """How the GPU is shared. Default: what `kts.probe` kept of it."""
    assume: tuple[float, float, float] | None
    """Instead of a fingerprint: slice, cost of a switch, cost of yielding (ms)."""
    deadlines_ms: Mapping[str, float]
    """By tenant."""
    seconds: float | None
    """Length of the run that the bands are for, per mix. Default: as long as ``from_run``, else 600."""
    seed: int
    """Of every draw."""
    model_error: float | None
    """Relative error of the model itself. Default: as fitted for such a device."""
    mode: str
    """How the device is shared. Default: as the run was, or in turns as the fingerprint has them. ``mps``, ``streams``:
    kernels stand in line, those of programs under MPS run side by side: first models. Of a run in several modes: which
    of them."""


@dataclass(frozen=True)
class Inputs:
    """What was given, read and checked. ``made_from``: fingerprint, profiles and run, hashed."""

    profiles: dict[str, Profile]
    fingerprint: Fingerprint
    run: Run | None
    effort: Effort
    error: ModelError
    made_from: tuple[Material, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """Modes without turns in which these tenants can share the GPU and of which there is a model. A program is no
        thread of one process."""
        if self.fingerprint.gpu.kind != "cuda":
            return ()
        return (MPS,) if self._programs else tuple(IN_LINE)

    def in_mode(self, mode: str) -> Inputs:
        """The same tenants where the GPU is shared in this mode. UsageError where there is no model of it."""
        if mode == self.fingerprint.mode:
            return self
        if mode not in self.lines:
            if mode == STREAMS and (programs := ", ".join(self._programs)):
                raise UsageError(f"--mode {mode}: {programs} cannot be a thread of one process", "leave it out")
            known = ", ".join((self.fingerprint.mode, *self.lines))
            raise UsageError(f"--mode {mode}: there is no model of it here", f"there is one of {known}")
        shared = self.fingerprint.in_mode(mode)
        return replaced(self, fingerprint=shared, error=self._error_in(shared))

    def error_without_turns(self, modes: Iterable[str]) -> ModelError | None:
        """In the bands of those of ``modes`` that have no turns; None if all have."""
        shared = (self.fingerprint.in_mode(mode) for mode in modes)
        return next((self._error_in(one) for one in shared if one.in_line), None)

    def _error_in(self, shared: Fingerprint) -> ModelError:
        return in_mode(self.error, shared, side_by_side=are_side_by_side(shared, self.profiles))

    @property
    def has_programs(self) -> bool:
        """Whether a tenant is somebody's own program."""
        return bool(self._programs)

    @property
    def _programs(self) -> list[str]:
        return [name for name, profile in self.profiles.items() if profile.workload == PROGRAM]

    def mix(self, given: str | Sequence[str]) -> tuple[str, ...]:
        """``fft+gemm*2``, or names, as names. UsageError for an unknown one."""
        return parse_mix(given, self.profiles)


def basis(given: Given) -> Inputs:
    """UsageError where something is missing or given twice, DataError for files that cannot be read."""
    mode = given.get("mode", "")
    whole = None if (measured := given.get("from_run")) is None else load(measured)
    run = None if whole is None else whole.shared_as(mode)
    read = list(_profiles(given.get("profiles", ())))
    profiles = _named(read, run, given.get("deadlines_ms", {}))
    for name, profile in profiles.items():
        check_sample(f"profile of {name}", service_ms(profile.iterations))
    device = next(iter(profiles.values())).gpu
    fingerprint, seen = _fingerprint(given.get("fingerprint"), given.get("assume"), device, run)
    made_from = [*seen, *(used for _, used in read)]
    if whole is not None:
        made_from += origin.of_run(whole.directory, whole.info.created_ns or None)
    relative = given.get("model_error")
    error = _fitted(fingerprint, profiles, run) if relative is None else ModelError(relative=relative, source="given")
    found = Inputs(
        profiles=profiles,
        fingerprint=fingerprint,
        run=run,
        effort=Effort(seconds=given.get("seconds") or _measured_seconds(run), seed=given.get("seed", 0)),
        error=error,
        made_from=tuple(made_from),
    )
    if run is not None and run is not whole:
        mode = run.info.sharing.likely
    return found.in_mode(mode) if mode else found


def _fitted(fingerprint: Fingerprint, profiles: Mapping[str, Profile], run: Run | None) -> ModelError:
    """That of such tenants on such a device. Of programs' hosts a run's solo blocks tell more than profiles do."""
    error = model_error(fingerprint, side_by_side=are_side_by_side(fingerprint, profiles))
    programs = any(profile.workload == PROGRAM for profile in profiles.values())
    return hosts_profiled(error) if programs and run is None and fingerprint.gpu.kind == "cuda" else error


def parse_mix(given: str | Sequence[str], profiles: Mapping[str, Profile]) -> tuple[str, ...]:
    """``fft+gemm*2``, or names, as names. UsageError for an unknown one."""
    names: list[str] = []
    for part in given.split("+") if isinstance(given, str) else given:
        name, star, times = part.strip().partition("*")
        if star and not (times.isdecimal() and 1 <= int(times) <= 64):
            raise UsageError(f"mix {given!r}: {part!r} is no name with a number", "write fft+gemm, or fft*3+gemm")
        check_name(name, profiles)
        names += [name] * (int(times) if star else 1)
    return tuple(names)


def check_name(name: str, profiles: Mapping[str, Profile]) -> None:
    """UsageError where there is no such profile."""
    if name not in profiles:
        raise UsageError(f"no profile of {name!r}", f"there are: {', '.join(profiles)}")


def _profiles(given: AnyProfile | Sequence[AnyProfile]) -> Iterator[tuple[Profile, Material]]:
    """Each profile, and what it was read from."""
    for one in [given] if isinstance(given, str | Path | Profile) else given:
        if isinstance(one, Profile):
            yield one, material("profile", one.tenant, files.encode(one), one.created_ns)
            continue
        for path in _expanded(Path(one)):
            raw = files.read(path, "check the path")
            profile = decode_profile(raw, str(path))
            yield profile, material("profile", profile.tenant or path.name, raw, profile.created_ns)


def _named(
    read: Sequence[tuple[Profile, Material]], run: Run | None, deadlines_ms: Mapping[str, float]
) -> dict[str, Profile]:
    """Profiles by tenant name, with host times as in ``run``'s solo blocks."""
    profiles: dict[str, Profile] = {}
    for profile, _ in read:
        if profile.tenant in profiles:
            raise UsageError(
                f"two profiles of {profile.tenant}", "give one of them another name (`tenant` in the file)"
            )
        profiles[profile.tenant] = profile
    if run is not None:
        profiles |= _of_run(run, profiles)
    if not profiles:
        raise UsageError("no profiles", "give --profiles FILE, or --from-run DIR")
    for name, deadline_ms in deadlines_ms.items():
        check_name(name, profiles)
        profiles[name] = replace(profiles[name], deadline_ms=deadline_ms)
    return profiles


def _of_run(run: Run, profiles: Mapping[str, Profile]) -> dict[str, Profile]:
    """The run's tenants: by their profile, or that of the tenant they are a replica of, else as single bursts."""
    tenants = {}
    steady_ns = since_ns(run.data)
    for tenant in run.info.plan.tenants:
        kind, dash, number = tenant.name.rpartition("-")
        profile = profiles.get(tenant.name) or (profiles.get(kind) if dash and number.isdecimal() else None)
        if profile is None:
            tenants[tenant.name] = profile_of(run.data, tenant.name, steady_ns)
            continue
        if None not in (profile.size, tenant.work.size) and profile.size != tenant.work.size:
            raise UsageError(
                f"the profile of {profile.tenant} is of size {profile.size}, "
                f"{tenant.name} in the run of {tenant.work.size}",
                "profile it again, or leave one of the two out",
            )
        alone = solo(run.data, tenant.name, steady_ns)
        if len(alone.service_ms):
            check_sample(f"{run.info.id}: {tenant.name}", alone.service_ms)
        as_in_run = replace(profile, tenant=tenant.name, arrivals=tenant.arrivals)
        tenants[tenant.name] = recalibrated(as_in_run, alone.service_ms, alone.device_ms)
    return tenants


def _fingerprint(
    given: str | Path | Fingerprint | None, assume: tuple[float, float, float] | None, gpu: Gpu, run: Run | None
) -> tuple[Fingerprint, list[Material]]:
    """As given, assumed for ``gpu``, or the one that `kts probe` kept of it; and the file it comes from, if any."""
    if given is not None and assume is not None:
        raise UsageError("--fingerprint and --assume: which of the two?", "leave one out")
    if isinstance(given, Fingerprint):
        return given, [material("fingerprint", given.gpu.uuid, files.encode(given), given.created_ns)]
    mode = _mode(gpu, run)
    if assume is not None:
        return _assumed(assume, gpu, mode), []
    turns = TIME_SLICING if mode in IN_LINE else mode  # without turns nothing is probed but what a turn has, too
    kept = fingerprints.directory(os.environ) / fingerprints.file_name(gpu.uuid, gpu.driver, turns)
    if given is None and not kept.exists():
        raise UsageError(
            f"how is {gpu.label or gpu.name or 'the device'} shared? No fingerprint of it is kept here"
            f"{'' if turns in _DEFAULTS else f' in mode {turns}'}",
            "run kts probe there, or give --fingerprint FILE or --assume SLICE,PREEMPT,YIELD (milliseconds)",
        )
    path = kept if given is None else Path(given)
    raw = files.read(path, "give a file that kts probe wrote")
    read = decode_fingerprint(raw, str(path))
    if given is None and mode != turns:
        read = read.in_mode(mode)
    if given is None and read.source != "measured":
        return read, []
    return read, [material("fingerprint", path.name, raw, read.created_ns)]


def _mode(gpu: Gpu, run: Run | None) -> str:
    """The mode in which the run was seen, if it is another than the device's default one."""
    if gpu.kind == "cpu":
        return CPU_SCHEDULER
    seen = run.info.sharing.name if run is not None else ""
    return seen if seen in (MPS, MIG) else TIME_SLICING


def _assumed(assume: tuple[float, float, float], gpu: Gpu, mode: str) -> Fingerprint:
    slice_ms, *costs_ms = assume
    if not 0 < slice_ms < float("inf") or not all(0 <= cost < float("inf") for cost in costs_ms):
        text = ",".join(f"{value:g}" for value in assume)
        raise UsageError(f"--assume {text}: a slice is above 0, a cost not below", "e.g. --assume 2.087,0.178,0.1")
    preempt_ms, yield_ms = costs_ms
    return Fingerprint(
        gpu=gpu,
        mode=mode,
        slice_ms=Interval.exact(slice_ms),
        preempt_ms=(Interval.exact(preempt_ms),),
        yield_ms=(Interval.exact(yield_ms),),
        source="assumed",
        how="given with --assume",
    )


def _measured_seconds(run: Run | None) -> float:
    measured = max(mix_seconds(run.data).values(), default=0.0) if run is not None else 0.0
    return round(measured, 1) or DEFAULT_SECONDS


def _expanded(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    inside = sorted(path.glob(f"*{PROFILE_SUFFIX}"))
    if not inside:
        raise DataError(f"{path}: no *{PROFILE_SUFFIX} in it", "give the files, or another folder")
    return inside
