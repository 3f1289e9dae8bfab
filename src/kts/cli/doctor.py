"""`kts doctor`: what can be measured on this machine or on a cluster, and what to do about the rest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kts import app
from kts.cli.cluster_options import PANEL, Context, Place
from kts.cli.options import Dcgm, Json
from kts.errors import SetupError, UsageError

if TYPE_CHECKING:
    from kts.k8s.cluster.preflight import Need, Status
    from kts.k8s.objects.settings import ClusterSettings

PLACES = ("local", "k8s")


def doctor(
    *,
    on: Annotated[str, typer.Option(help="local: this machine; k8s: a cluster.", metavar="BACKEND")] = "local",
    tenants: Annotated[int, typer.Option(help="Tenants that a run would have.", min=1, rich_help_panel=PANEL)] = 2,
    context: Context = None,
    place: Place,
    dcgm: Dcgm = "",
    as_json: Json = False,
) -> None:
    """Say what can be measured here, and what is missing."""
    if on not in PLACES:
        raise UsageError(f"--on: no backend {on!r}", f"known: {', '.join(PLACES)}")
    if on == "local":
        _here(as_json, app.exporter_url(dcgm))
        return
    _on_cluster(place.settings(), context, tenants, as_json)


def _here(as_json: bool, dcgm: str) -> None:
    """This machine."""
    devices, checks = _devices(), [*_checks(), *_telemetry(dcgm)]
    usable = sys.platform.startswith("linux") and any(device.status != "missing" for device in devices)
    if as_json:
        _print({"can_measure": usable, "devices": devices, "checks": checks})
    else:
        _show([*devices, *checks], _conclusion(usable, devices))
    if not usable:
        raise typer.Exit(SetupError.exit_code)


def _on_cluster(settings: ClusterSettings, context: str | None, tenants: int, as_json: bool) -> None:
    """A cluster, as this user sees it."""
    from kts.k8s.cluster import preflight
    from kts.k8s.cluster.api import Api

    api = Api.connect(context)
    try:
        checks = preflight.check(api, settings, tenants)
    finally:
        api.close()
    usable = preflight.can_start(checks)
    if as_json:
        _print({"can_measure": usable, "checks": checks})
    elif usable:
        _show(checks, f"A run of {tenants} tenants can start: kts run demo --on k8s")
    else:
        _show(checks, f"A run of {tenants} tenants cannot start here yet.")
    if not usable:
        raise typer.Exit(SetupError.exit_code)


def _print(found: dict[str, object]) -> None:
    import msgspec

    from kts.cli.output import print_plain_json

    print_plain_json(msgspec.to_builtins(found))


def _show(rows: Sequence[Need], conclusion: str) -> None:
    width = max(12, *(len(row.name) for row in rows))
    for row in rows:
        sys.stdout.write(f"{row.status:<8} {row.name:<{width}} {row.found}\n")
        if row.remedy:
            sys.stdout.write(f"{'':<{width + 9}} try: {row.remedy}\n")
    sys.stdout.write(f"\n{conclusion}\n")


def _check(name: str, status: Status, found: str, remedy: str = "") -> Need:
    """Loads what a check is made of only now, so that `kts --help` stays fast."""
    from kts.k8s.cluster.preflight import Need

    return Need(name, status, found, remedy)


def _conclusion(usable: bool, devices: Sequence[Need]) -> str:
    if not usable:
        return "Nothing can be measured here; `kts report` and `kts compare` work on runs made elsewhere."
    if devices[0].status == "missing":
        return "This machine can measure sharing of one CPU core (not of a GPU): kts run demo"
    return "This machine can measure sharing of its GPU: kts run demo"


def _devices() -> list[Need]:
    from kts.worker.detect import choose, cuda_driver

    driver = cuda_driver()
    gpus = "; ".join(f"{gpu.name}, {gpu.memory_bytes / 2**30:.0f} GiB" for gpu in driver.devices)
    cpu = _check("device cpu", "ok", "one core shared by all tenants, labelled as such; needs numpy only")
    if not driver.devices:
        remedy = "install the NVIDIA driver, and give the container the GPU; without one, device cpu is used"
        return [_check("device cuda", "missing", driver.problem, remedy), cpu]
    try:
        library = choose("cuda", "auto")[1]
    except SetupError as error:
        return [_check("device cuda", "missing", f"{gpus}; {error.what}", error.remedy), cpu]
    return [_check("device cuda", "ok", f"{gpus}; CUDA {driver.cuda_version}, through {library}"), cpu]


def _checks() -> list[Need]:
    return [_system(), _cores(), *_libraries(), _governor(), _load()]


def _telemetry(dcgm: str) -> list[Need]:
    """What a run could sample here, asked of the sources themselves."""
    from kts.report.sections.activity import source_name
    from kts.telemetry.choice import probe
    from kts.worker.clocks import scheduled_ns
    from kts.worker.detect import cuda_devices

    rows = []
    if gpus := cuda_devices():
        for state, values in probe(gpus[0].uuid, dcgm):
            name = f"telemetry {source_name(state.source)}"
            found = ", ".join(
                f"{metric} {values[metric]:.3g}" if metric in values else metric for metric in state.metrics
            )
            note = f" ({state.note})" if state.note else ""
            rows.append(_check(name, "note" if state.missing else "ok", state.missing or f"{found}{note}"))
    else:
        rows.append(_check("telemetry GPU", "note", "no GPU to ask NVML, GPM or DCGM about"))
    told = scheduled_ns()[0] is not None
    found = "share of time on a core, and waiting for one" if told else "this kernel does not tell it"
    return [*rows, _check("telemetry schedstat", "ok" if told else "note", found)]


def _system() -> Need:
    if sys.platform.startswith("linux"):
        return _check("system", "ok", f"Linux, Python {sys.version.split()[0]}")
    return _check("system", "missing", f"{sys.platform}: measuring needs Linux; reporting runs anywhere")


def _cores() -> Need:
    from kts.worker.detect import cpu_model
    from kts.worker.environment import usable_cores

    count = len(usable_cores())
    found = f"{count} usable ({cpu_model()})"
    if count == 1:
        return _check("cores", "note", found, "a second core keeps kts itself off the tenants' core")
    if count < 3:
        return _check("cores", "note", found, "3 or more give each of two tenants on a GPU a core of its own")
    return _check("cores", "ok", f"{found}: up to {count - 1} tenants on a GPU get a core of their own")


def _libraries() -> list[Need]:
    from kts.worker.detect import cuda_devices, installed
    from kts.worker.environment import LIBRARIES, library_version

    needed = bool(cuda_devices())
    rows = []
    for name in LIBRARIES:
        if installed(name):
            rows.append(_check(name, "ok", library_version(name) or "installed"))
        else:
            remedy = f"pip install 'kube-timeslice-profiler[{name}]'" if needed else ""
            rows.append(_check(name, "missing" if needed else "note", "not installed (only a GPU needs it)", remedy))
    return rows


def _governor() -> Need:
    from kts.worker.environment import governor

    found = governor()
    if found in ("", "performance"):
        return _check("governor", "ok", found or "not offered by this system")
    return _check("governor", "note", found, "cpupower frequency-set -g performance makes CPU figures steadier")


def _load() -> Need:
    from kts.worker.environment import load_average, usable_cores

    found = load_average()
    busy = float(found.split()[0]) if found else 0.0
    if busy > 0.5 * len(usable_cores()):
        return _check(
            "load", "note", f"load average {found}", "other programs disturb tails; stop them before measuring"
        )
    return _check("load", "ok", f"load average {found}" if found else "not told by this system")
