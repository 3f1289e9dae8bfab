"""How each tenant of an experiment behaves alone."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from msgspec.structs import replace

from kts import __version__
from kts.app.plans import Asked, planned
from kts.app.printing import Say, elements, silent
from kts.errors import SetupError, UsageError
from kts.files import encode
from kts.model.masking import kept
from kts.model.plan import Plan, Tenant
from kts.model.provenance import Material, canonical, material
from kts.physics.files import PROFILE_SUFFIX
from kts.physics.profiling import profile_of_recording
from kts.physics.values import Profile
from kts.report.document import Element
from kts.report.profiles import profiles_elements
from kts.report.writing import write_file
from kts.spec import LoadedExperiment
from kts.spec.models import replica_names
from kts.store import origin
from kts.wire.recording import Recording, Request

Record = Callable[[Request], tuple[Recording, list[str]]]
"""Runs a tenant alone: what it recorded, and what a reader of it must know."""


def _elements(made: list[Profile]) -> Iterable[Element]:
    """Of profiles; a list of anything else is nothing that kts returned."""
    known = all(isinstance(one, Profile) for one in made)
    return profiles_elements(made) if known else elements.dispatch(object)(made)


elements.register(list, _elements)


def profile(
    experiment: Asked,
    out: str | Path | None = None,
    *,
    tenants: Sequence[str] = (),
    seconds: float = 20.0,
    overwrite: bool = False,
    device: str | None = None,
    library: str | None = None,
    say: Say = silent,
) -> list[Profile]:
    """Launches, durations and host time of each tenant alone, one after the other, each at its own pacing.

    ``experiment``: as `kts.run` takes it. ``out``: the folder of the files, one per tenant; by default
    ``profiles/NAME``. ``tenants``: only these. ``seconds``: of each tenant without a tracer, and again with one.
    ``overwrite``: replace profiles that are there. UsageError, SpecError, SetupError for what cannot be measured here.
    """
    changes = {key: value for key, value in (("device", device), ("library", library)) if value is not None}
    loaded, plan = planned(experiment, changes)
    return profiles_of(
        loaded, plan, partial(_recorded_here, plan), out, tenants=tenants, seconds=seconds, overwrite=overwrite, say=say
    )


def profiles_of(
    loaded: LoadedExperiment,
    plan: Plan,
    record: Record,
    out: str | Path | None,
    *,
    tenants: Sequence[str],
    seconds: float,
    overwrite: bool,
    say: Say,
) -> list[Profile]:
    """As `profile`, each tenant recorded by ``record``."""
    text = material("experiment", plan.name, loaded.text.encode())
    replicas = {key: tenant.replicas for key, tenant in loaded.experiment.tenants.items()}
    chosen = _chosen(_one_of_each(plan, replicas), tenants)
    folder = Path("profiles") / plan.name if out is None else Path(out)
    _refuse_to_overwrite([folder / f"{one.name}{PROFILE_SUFFIX}" for one in chosen], overwrite=overwrite)
    made = []
    for number, one in enumerate(chosen, start=1):
        say(f"profiling {one.name} ({number}/{len(chosen)})")
        made.append(_profile(Request(tenant=one, device=plan.device, seconds=seconds), record, text, say))
        # Written at once: who stops in between keeps what is done.
        say(f"wrote {write_file(folder / f'{one.name}{PROFILE_SUFFIX}', encode(made[-1]))}")
    return made


def _recorded_here(among: Plan, request: Request) -> tuple[Recording, list[str]]:
    if not sys.platform.startswith("linux"):
        raise SetupError(f"measuring needs Linux (this is {sys.platform})", "profile on Linux, predict anywhere")
    from kts.backends.alone import record_alone  # needs Linux

    with tempfile.TemporaryDirectory(prefix="kts-profile-") as scratch:
        return record_alone(request, Path(scratch), among)


def _profile(request: Request, record: Record, experiment: Material, say: Say) -> Profile:
    recording, notes = record(request)
    for note in notes:
        say(f"note: {note}")
    asked = material("tenant", request.tenant.name, canonical(replace(request, tenant=kept(request.tenant))))
    return replace(
        profile_of_recording(recording, request.tenant, __version__),
        created_ns=time.time_ns(),
        provenance=origin.here().of([experiment, asked]),
    )


def _one_of_each(plan: Plan, replicas: Mapping[str, int]) -> list[Tenant]:
    """The plan's tenants, but of replicas one alone, under the name in the file: they differ in seeds only."""
    first = {replica_names(key, count)[0]: key for key, count in replicas.items()}
    return [msgspec.structs.replace(one, name=first[one.name]) for one in plan.tenants if one.name in first]


def _chosen(tenants: list[Tenant], names: Sequence[str]) -> list[Tenant]:
    there = [one.name for one in tenants]
    for name in names:
        if name not in there:
            raise UsageError(f"--tenant: no tenant {name!r}", f"there are: {', '.join(there)}")
    return [one for one in tenants if not names or one.name in names]


def _refuse_to_overwrite(paths: list[Path], *, overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise UsageError(f"{there[0]} is there already", "give another --out, or --overwrite")
