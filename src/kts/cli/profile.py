"""`kts profile`: how each tenant of an experiment behaves alone, in a file that can be shared."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kts.cli.experiments import complete_name
from kts.cli.options import Json
from kts.errors import SetupError, UsageError

if TYPE_CHECKING:
    from kts.model.plan import Plan, Tenant
    from kts.model.provenance import Material
    from kts.physics.values import Profile

SUFFIX = ".profile.json"


def profile(
    experiment: Annotated[
        str,
        typer.Argument(
            help="An experiment file, or a name from `kts experiments`.",
            autocompletion=complete_name,
            show_default=False,
        ),
    ],
    *,
    tenant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this tenant; may be repeated. Default: all.", show_default=False),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Of each tenant without a tracer, and again with one.")
    ] = 20.0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the profiles go. Default: profiles/NAME.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace profiles that are already there.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cuda or cpu.", show_default=False)] = None,
    library: Annotated[str | None, typer.Option(help="auto, torch, cupy or numpy.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Profile each tenant alone: launches, durations, host time.

    One after the other, each at its own pacing. `kts predict --profiles DIR` says from them what mixes will do.
    """
    from kts.cli.output import console, print_json, say
    from kts.model.provenance import material
    from kts.plan import build
    from kts.report.profiles import print_profiles
    from kts.spec import load, override

    changes: dict[str, object] = {
        key: value for key, value in (("device", device), ("library", library)) if value is not None
    }
    source = load(experiment)
    loaded = source.experiment
    plan = build(override(loaded, changes) if changes else loaded)
    text = material("experiment", plan.name, source.text.encode())
    tenants = _chosen(_one_of_each(plan, {key: spec.replicas for key, spec in loaded.tenants.items()}), tenant)
    folder = out or Path("profiles") / plan.name
    _refuse_to_overwrite([folder / f"{one.name}{SUFFIX}" for one in tenants], overwrite=overwrite)
    if not sys.platform.startswith("linux"):
        raise SetupError(f"measuring needs Linux (this is {sys.platform})", "profile on Linux, predict anywhere")
    made = []
    for number, one in enumerate(tenants, start=1):
        say(f"profiling {one.name} ({number}/{len(tenants)})")
        made.append(_profile(one, plan, seconds, folder, text))
    if as_json:
        print_json(made)
    print_profiles(made, console(stderr=as_json))


def _profile(tenant: Tenant, plan: Plan, seconds: float, folder: Path, experiment: Material) -> Profile:
    """Profiles one tenant and writes it at once: who stops in between keeps what is done."""
    from msgspec.structs import replace

    from kts import __version__
    from kts.backends.alone import record_alone
    from kts.cli.output import say
    from kts.files import encode
    from kts.model.provenance import canonical, material
    from kts.physics.profiling import profile_of_recording
    from kts.report.writing import write_file
    from kts.store import origin
    from kts.wire.recording import Request

    with tempfile.TemporaryDirectory(prefix="kts-profile-") as scratch:
        request = Request(tenant=tenant, device=plan.device, seconds=seconds)
        recording, notes = record_alone(request, Path(scratch))
    for note in notes:
        say(f"note: {note}")
    asked = material("tenant", tenant.name, canonical(request))
    made = replace(
        profile_of_recording(recording, tenant, __version__),
        created_ns=time.time_ns(),
        provenance=origin.here().of([experiment, asked]),
    )
    say(f"wrote {write_file(folder / f'{tenant.name}{SUFFIX}', encode(made))}")
    return made


def _one_of_each(plan: Plan, replicas: dict[str, int]) -> list[Tenant]:
    """The plan's tenants, but of replicas one alone, under the name in the file: they differ in seeds only."""
    import msgspec

    from kts.spec.models import replica_names

    first = {replica_names(key, count)[0]: key for key, count in replicas.items()}
    found = [one for one in plan.tenants if one.name in first]
    return [msgspec.structs.replace(one, name=first[one.name]) for one in found]


def _chosen(tenants: list[Tenant], names: list[str] | None) -> list[Tenant]:
    known = [one.name for one in tenants]
    for name in names or ():
        if name not in known:
            raise UsageError(f"--tenant: no tenant {name!r}", f"there are: {', '.join(known)}")
    return [one for one in tenants if not names or one.name in names]


def _refuse_to_overwrite(files: list[Path], *, overwrite: bool) -> None:
    there = [file for file in files if file.exists()]
    if there and not overwrite:
        raise UsageError(f"{there[0]} is there already", "give another --out, or --overwrite")
