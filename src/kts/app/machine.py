"""What can be measured on this machine or on a cluster, and what to do about the rest."""

from __future__ import annotations

import sys

from kts.app.exporter import exporter_here
from kts.app.finding import told_through
from kts.app.images import extra_from, planned_in_pods
from kts.errors import SetupError
from kts.k8s.cluster import preflight
from kts.k8s.cluster.api import Api
from kts.k8s.cluster.exporters import find
from kts.k8s.objects.exporters import AUTO
from kts.k8s.objects.needs import Need, Status
from kts.k8s.objects.settings import ClusterSettings
from kts.report.sections.activity import source_name
from kts.telemetry.choice import probe
from kts.worker.clocks import scheduled_ns
from kts.worker.detect import choose, cpu_model, cuda_devices, cuda_driver, installed
from kts.worker.environment import LIBRARIES, governor, library_version, load_average, usable_cores
from kts.worker.tracing.build import library
from kts.worker.tracing.cupti import cupti

MOST_ASKED = 4
"""Exporters of a cluster that doctor asks."""


def local_checks(dcgm: str = "") -> tuple[list[Need], list[Need]]:
    """(the devices of this machine, everything else that matters here). ``dcgm``: URL of an exporter to ask, or
    ``auto``: look for one."""
    return _devices(), [_system(), _cores(), *_libraries(), *_tracer(), _governor(), _load(), *_telemetry(dcgm)]


_RUN = """\
name: doctor
tenants:
  t0: {workload: fft}
  t1: {workload: fft}
"""


def cluster_checks(
    settings: ClusterSettings, tenants: int, *, context: str | None = None, extra: str = "torch"
) -> tuple[list[Need], bool]:
    """(what a cluster offers a run, as this user sees it; whether a run of so many tenants can start). ``extra``: the
    variant of its image."""
    plan = planned_in_pods(_RUN, {}, extra_from(extra))[1]
    api = Api.connect(context)
    try:
        checks = list(preflight.check(api, settings, tenants, plan))
        if settings.dcgm:
            checks += _exporters(api, settings)
    finally:
        api.close()
    return checks, preflight.can_start(checks)


def _exporters(api: Api, settings: ClusterSettings) -> list[Need]:
    """The exporters that a run could scrape, asked through port-forward; an address is the conductor's pod's affair."""
    name = "DCGM exporter"
    if settings.dcgm != AUTO:
        return [Need(name, "note", f"{settings.dcgm} is asked from the conductor's pod, not from here")]
    try:
        found, where = find(api, settings.namespace)
    except SetupError as error:
        return [Need(name, "note", error.what, error.remedy)]
    on_node = [one for one in found if settings.node in ("", one.node)]
    if not on_node:
        on = f" on node {settings.node}" if settings.node else ""
        return [
            Need(
                name,
                "note",
                f"none runs{on} (looked in {where})",
                "install dcgm-exporter there, or give an address; a run goes on without",
            )
        ]
    rows = [Need(name, *told_through(api, one)) for one in on_node[:MOST_ASKED]]
    more = len(on_node) - len(rows)
    return [*rows, Need(name, "note", f"{more} more run; --node asks that of one node")] if more else rows


def _devices() -> list[Need]:
    driver = cuda_driver()
    gpus = "; ".join(f"{gpu.name}, {gpu.memory_bytes / 2**30:.0f} GiB" for gpu in driver.devices)
    cpu = Need("device cpu", "ok", "one core shared by all tenants, labelled as such; needs numpy only")
    if not driver.devices:
        remedy = "install the NVIDIA driver, and give the container the GPU; without one, device cpu is used"
        return [Need("device cuda", "missing", driver.problem, remedy), cpu]
    try:
        library = choose("cuda", "auto")[1]
    except SetupError as error:
        return [Need("device cuda", "missing", f"{gpus}; {error.what}", error.remedy), cpu]
    return [Need("device cuda", "ok", f"{gpus}; CUDA {driver.cuda_version}, through {library}"), cpu]


def _telemetry(dcgm: str) -> list[Need]:
    """What a run could sample here, asked of the sources themselves."""
    rows = []
    if gpus := cuda_devices():
        with exporter_here(dcgm, [gpu.uuid for gpu in gpus]) as exporter:
            readings = probe(gpus[0].uuid, *exporter)
        for state, values in readings:
            name = f"telemetry {source_name(state.source)}"
            found = ", ".join(
                f"{metric} {values[metric]:.3g}" if metric in values else metric for metric in state.metrics
            )
            note = f" ({state.note})" if state.note else ""
            rows.append(Need(name, "note" if state.missing else "ok", state.missing or f"{found}{note}"))
    else:
        rows.append(Need("telemetry GPU", "note", "no GPU to ask NVML, GPM or DCGM about"))
    told = scheduled_ns()[0] is not None
    waits = "and how long they wait for one" if told else "not how long they wait for one: this kernel does not tell"
    return [
        *rows,
        Need("telemetry host", "ok" if told else "note", f"how many threads of a tenant run on a core, {waits}"),
    ]


def _system() -> Need:
    if sys.platform.startswith("linux"):
        return Need("system", "ok", f"Linux, Python {sys.version.split()[0]}")
    return Need("system", "missing", f"{sys.platform}: measuring needs Linux; reporting runs anywhere")


def _cores() -> Need:
    count = len(usable_cores())
    found = f"{count} usable ({cpu_model()})"
    if count == 1:
        return Need("cores", "note", found, "a second core keeps kts itself off the tenants' core")
    if count < 3:
        return Need("cores", "note", found, "3 or more give each of two tenants on a GPU a core of its own")
    return Need("cores", "ok", f"{found}: up to {count - 1} tenants on a GPU get a core of their own")


def _libraries() -> list[Need]:
    needed = bool(cuda_devices())
    rows = []
    for name in LIBRARIES:
        if installed(name):
            rows.append(Need(name, "ok", library_version(name) or "installed"))
        else:
            remedy = f"pip install 'kube-timeslice-profiler[{name}]'" if needed else ""
            rows.append(Need(name, "missing" if needed else "note", "not installed (only a GPU needs it)", remedy))
    return rows


def _tracer() -> list[Need]:
    """What seeing the launches and waits of a program takes: a library of ours, and CUPTI."""
    ours, theirs = library(), cupti()
    needed: Status = "missing" if cuda_devices() else "note"
    rows = [Need("tracer", "ok", f"its library: {ours.path}")]
    if ours.path is None:
        rows = [Need("tracer", needed, ours.why, "install a C compiler (gcc or clang), with its C headers")]
    if theirs.path is None:
        why, _, remedy = theirs.why.partition("; ")
        return [*rows, Need("CUPTI", needed, f"{why} (only programs on a GPU need it)", remedy)]
    return [*rows, Need("CUPTI", "ok", f"{theirs.path}")]


def _governor() -> Need:
    found = governor()
    if found in ("", "performance"):
        return Need("governor", "ok", found or "not offered by this system")
    return Need("governor", "note", found, "cpupower frequency-set -g performance makes CPU figures steadier")


def _load() -> Need:
    found = load_average()
    busy = float(found.split()[0]) if found else 0.0
    if busy > 0.5 * len(usable_cores()):
        return Need("load", "note", f"load average {found}", "other programs disturb tails; stop them before measuring")
    return Need("load", "ok", f"load average {found}" if found else "not told by this system")
