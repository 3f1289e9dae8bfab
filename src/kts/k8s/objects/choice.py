"""What to write where in a cluster, so that its tenants share a GPU in a mode. Pure.

The shapes are those of ``api/config/v1`` in NVIDIA/k8s-device-plugin, ``resource.nvidia.com/v1beta1`` in
NVIDIA/k8s-dra-driver-gpu, and the pods in the documentation of KAI Scheduler and HAMi. What a cluster gives otherwise
than it was measured stands in the notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from kts.k8s.objects import Object
from kts.k8s.objects.names import GPU
from kts.k8s.objects.pluginconfig import with_replicas
from kts.model.mode import CPU_SCHEDULER, EXCLUSIVE, MIG, MPS, STREAMS, TIME_SLICING, Mode
from kts.model.modes import ClusterLines

THREADS, MEMORY = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
PRIORITY = "CUDA_MPS_CLIENT_PRIORITY"
CLAIM = "shared-gpu"
PLUGIN, DRIVER = "NVIDIA's device plugin: its config", "NVIDIA's DRA driver: one claim for all pods"
CONTAINER = "Every container of a tenant"
KAI, HAMI = "KAI Scheduler: every pod", "HAMi: every pod"
_OF_THE_PLUGIN = f"Every container asks for {GPU}: 1. On a node with several GPUs pods may land on different ones."
_OF_THE_CLAIM = (
    f"Every pod has resourceClaims: [{{name: gpu, resourceClaimName: {CLAIM}}}], its container resources.claims: "
    f"[{{name: gpu}}]. kts measures it with kts run --on k8s --claim {CLAIM}."
)
_OF_KAI = "It wants a label kai.scheduler/queue. The fraction is of memory; KAI keeps nobody to it."


def cluster_lines(mode: Mode, tenants: int) -> tuple[ClusterLines, ...]:
    """For so many tenants on one GPU; of a mode that no cluster sets, why."""
    return _MADE[mode.kind](mode, tenants)


def _time_slicing(_: Mode, tenants: int) -> tuple[ClusterLines, ...]:
    slicing = {"strategy": "TimeSlicing", "timeSlicingConfig": {"interval": "Default"}}
    limits = {GPU: 1, "nvidia.com/gpumem-percentage": 100 // tenants}
    return (
        ClusterLines(
            title=PLUGIN,
            text=with_replicas("version: v1\n", tenants),
            notes=(_OF_THE_PLUGIN, f"kts k8s time-slicing --replicas {tenants} sets it on a node."),
        ),
        ClusterLines(
            title=DRIVER,
            text=_yaml(_claim(slicing)),
            notes=(
                _OF_THE_CLAIM,
                "config needs the driver's feature gate TimeSlicingSettings. Without it leave config out: pods of one "
                "claim take turns all the same.",
            ),
        ),
        ClusterLines(title=KAI, text=_yaml(_kai(tenants)), notes=(_OF_KAI,)),
        ClusterLines(
            title=HAMI,
            text=_yaml(_annotated({"nvidia.com/vgpu-mode": "hami-core", "hami.io/gpu-scheduler-policy": "binpack"})),
            notes=(
                f"Limits of its container: {_flow(limits)}, and no nvidia.com/gpucores, which would throttle it.",
                "HAMi-core stands between a program and CUDA. kts measured without it.",
            ),
        ),
    )


def _mps(mode: Mode, tenants: int) -> tuple[ClusterLines, ...]:
    settings = _limits(mode)
    sharing: Object = {"strategy": "MPS", **({"mpsConfig": settings} if settings else {})}
    plugin = {"version": "v1", "sharing": {"mps": {"resources": [{"name": GPU, "replicas": tenants}]}}}
    mounted = {"name": "mps", "hostPath": {"path": "/tmp/nvidia-mps", "type": "Directory"}}
    return (
        ClusterLines(
            title=PLUGIN,
            text=_yaml(plugin),
            notes=(_OF_THE_PLUGIN, *_plugins_limits(mode, tenants), *_partitioned(mode)),
        ),
        *_environment(mode),
        ClusterLines(
            title=DRIVER,
            text=_yaml(_claim(sharing)),
            notes=(_OF_THE_CLAIM, "It needs the driver's feature gate MPSSupport.", *_partitioned(mode)),
        ),
        ClusterLines(
            title=KAI,
            text=_yaml(_kai(tenants, {"volumes": [mounted]})),
            notes=(
                _OF_KAI,
                "Its container mounts the volume at /tmp/nvidia-mps. The node needs an MPS daemon of its own there.",
                "HAMi's documents name no MPS (hami-core and mig).",
            ),
        ),
    )


def _limits(mode: Mode) -> Object:
    """As the DRA driver takes them."""
    found: Object = {}
    if mode.threads_percent is not None:
        found["defaultActiveThreadPercentage"] = mode.threads_percent
    if mode.memory_mib is not None:
        found["defaultPinnedDeviceMemoryLimit"] = f"{mode.memory_mib}Mi"
    return found


def _environment(mode: Mode) -> tuple[ClusterLines, ...]:
    """As a client of MPS takes its settings."""
    env: dict[str, object] = {
        THREADS: mode.threads_percent,
        MEMORY: None if mode.memory_mib is None else f"0={mode.memory_mib}M",
        PRIORITY: 1 if mode.above else None,
    }
    told = [{"name": name, "value": str(value)} for name, value in env.items() if value is not None]
    if not told:
        return ()
    notes: tuple[str, ...] = ("Limits can only lower what the MPS daemon allows.",)
    if mode.above:
        notes += (f'{PRIORITY} is "0" for {mode.above}: the others are below it. It is a hint to the driver.',)
    return (ClusterLines(title=CONTAINER, text=_yaml({"env": told}), notes=notes),)


def _plugins_limits(mode: Mode, tenants: int) -> tuple[str, ...]:
    """The plugin limits every client to its part of the threads and of the memory, whatever was measured."""
    percent, gives = mode.threads_percent, 100 // tenants
    each = f"The plugin gives each of {tenants} pods {gives} % of the threads and 1/{tenants} of the memory at most"
    if percent == gives:
        threads = f"{each}: the share of threads that was measured."
    elif percent is not None and percent < gives:
        threads = f"{each}; the environment below lowers the threads to the {percent} % that were measured."
    else:
        was = "no limit of them" if percent is None else f"{percent} % of the threads"
        threads = f"{each}, and {was} was measured: take the claim below, or measure mps:{gives} first."
    if mode.memory_mib is None:
        return (threads, "No limit of memory was measured: see that every tenant fits into its part.")
    return (threads, f"Of the memory {mode.memory_mib} MiB each were measured; the environment below says so, too.")


def _partitioned(mode: Mode) -> tuple[str, ...]:
    if mode.chunks is None:
        return ()
    return (f"Static partitions of {mode.chunks} chunks were measured. Nothing here makes any: it is not that mode.",)


def _exclusive(_: Mode, tenants: int) -> tuple[ClusterLines, ...]:
    template = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "own-gpu"},
        "spec": {"spec": _devices("gpu.nvidia.com")},
    }
    return (
        ClusterLines(
            title=CONTAINER,
            text=_yaml({"resources": {"limits": {GPU: 1}}}),
            notes=(f"On nodes whose plugin config has no sharing: {tenants} GPUs in all.",),
        ),
        ClusterLines(
            title="NVIDIA's DRA driver: a claim of its own for every pod",
            text=_yaml(template),
            notes=(
                "Every pod has resourceClaims: [{name: gpu, resourceClaimTemplateName: own-gpu}], its container "
                "resources.claims: [{name: gpu}].",
            ),
        ),
    )


def _mig(_: Mode, tenants: int) -> tuple[ClusterLines, ...]:
    template = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "own-instance"},
        "spec": {"spec": _devices("mig.nvidia.com")},
    }
    return (
        ClusterLines(
            title=PLUGIN,
            text=_yaml({"version": "v1", "flags": {"migStrategy": "mixed"}}),
            notes=(
                f"The GPU needs {tenants} instances as they were measured. Every container asks for one, by the name "
                "nvidia.com/mig-... that kubectl describe node shows.",
            ),
        ),
        ClusterLines(
            title="NVIDIA's DRA driver: an instance of its own for every pod",
            text=_yaml(template),
            notes=(
                "Every pod has resourceClaims: [{name: gpu, resourceClaimTemplateName: own-instance}], its container "
                "resources.claims: [{name: gpu}].",
            ),
        ),
        ClusterLines(title=HAMI, text=_yaml(_annotated({"nvidia.com/vgpu-mode": "mig"}))),
    )


def _nothing(why: str) -> Callable[[Mode, int], tuple[ClusterLines, ...]]:
    return lambda *_: (ClusterLines(title="In a cluster", text="", notes=(why,)),)


def _claim(sharing: Object) -> Object:
    parameters = {"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig", "sharing": sharing}
    config = {"requests": ["gpu"], "opaque": {"driver": "gpu.nvidia.com", "parameters": parameters}}
    spec = _devices("gpu.nvidia.com")
    spec["devices"]["config"] = [config]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": CLAIM},
        "spec": spec,
    }


def _devices(device_class: str) -> Object:
    return {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": device_class}}]}}


def _kai(tenants: int, spec: Object | None = None) -> Object:
    fraction = f"{max(100 // tenants, 1) / 100:g}"
    return {**_annotated({"gpu-fraction": fraction}), "spec": {"schedulerName": "kai-scheduler", **(spec or {})}}


def _annotated(annotations: Mapping[str, str]) -> Object:
    return {"metadata": {"annotations": dict(annotations)}}


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False)
    return text


def _flow(value: Mapping[str, object]) -> str:
    return "{" + ", ".join(f"{key}: {one}" for key, one in value.items()) + "}"


_MADE: dict[str, Callable[[Mode, int], tuple[ClusterLines, ...]]] = {
    EXCLUSIVE: _exclusive,
    TIME_SLICING: _time_slicing,
    MPS: _mps,
    MIG: _mig,
    STREAMS: _nothing(
        "Streams are of one process: one pod runs one program that serves all tenants. Nothing sets that."
    ),
    CPU_SCHEDULER: _nothing("A CPU core is no GPU: there is nothing to set."),
}
