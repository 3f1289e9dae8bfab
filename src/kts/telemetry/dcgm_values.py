"""What an answer of dcgm-exporter says, and of whom: of a GPU, of a MIG instance of it, of a pod's processes. Pure.

The exporter names a GPU's values after the pods that share it, a copy for each (``--kubernetes-virtual-gpus``) or
the last one's alone: they are the GPU's. Since 4.6 there is one exception: beside a line of GPU_UTIL without a pod,
those with one are what NVML says of that pod's own processes, and 0 where the exporter cannot see them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from kts.telemetry.exposition import lines
from kts.telemetry.source import plausible

FIELDS = {
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": ("graphics_active_ratio", 1.0),
    "DCGM_FI_PROF_SM_ACTIVE": ("sm_active_ratio", 1.0),
    "DCGM_FI_PROF_SM_OCCUPANCY": ("sm_occupancy_ratio", 1.0),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("tensor_active_ratio", 1.0),
    "DCGM_FI_PROF_DRAM_ACTIVE": ("dram_active_ratio", 1.0),
    "DCGM_FI_DEV_GPU_UTIL": ("gpu_busy_ratio", 0.01),
    "DCGM_FI_DEV_MEM_COPY_UTIL": ("memory_busy_ratio", 0.01),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_mhz", 1.0),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock_mhz", 1.0),
    "DCGM_FI_DEV_POWER_USAGE": ("power_w", 1.0),
}
"""Field of DCGM to our metric, and the factor between them."""

PROFILING = frozenset(metric for field, (metric, _) in FIELDS.items() if "_PROF_" in field)
"""Means over the exporter's interval; the others are momentary."""
OF_THE_WHOLE_GPU = frozenset({"sm_clock_mhz", "memory_clock_mhz", "power_w"})
"""Also on the lines of a MIG instance."""
PER_POD = "gpu_busy_ratio"
PROCESS_METRIC = "process_sm_ratio"
"""What a pod's own lines of `PER_POD` are."""

INSTANCE = "gpu_i_id"
PROFILE = "gpu_i_profile"
PROCESS = ("pid", "process_name")
POD = ("exported_pod", "pod", "pod_name")
"""Prometheus calls the exporter's own pod ``pod`` and the line's ``exported_pod``."""

_PREFIX = "DCGM_FI_"
_BLANKS = (2**31 - 16, 2.0**47, 2**63 - 16)
"""DCGM_INT32_BLANK, DCGM_FP64_BLANK and DCGM_INT64_BLANK; 1 to 3 above: not found, not supported, not permitted."""
_BLANK_WITHIN = 1e-6
"""Relative: float32 and %g round them. No field of ours is anywhere near."""


@dataclass(frozen=True)
class Target:
    """Whose values are looked for: the GPU ``uuid``, or its MIG instance (GPU_I_ID)."""

    uuid: str
    instance: str = ""


@dataclass
class ToldValues:
    """Metric to value of the target; ``tenants``: pod to the share of the SMs' time that its own processes had.

    ``stamps_ns``: CLOCK_REALTIME, of metrics whose lines tell a time. ``impossible``: values that no device can have,
    as they came.
    """

    device: dict[str, float] = field(default_factory=dict)
    pods: dict[str, float] = field(default_factory=dict)
    stamps_ns: dict[str, int] = field(default_factory=dict)
    impossible: list[str] = field(default_factory=list)


def told(text: str, target: Target) -> ToldValues:
    """What ``text`` says of ``target``. Lines of processes and of other instances, blanks and impossible values are
    left out. Where the copies for pods differ and no line is without a pod, nothing is the device's."""
    found = ToldValues()
    by_pod: dict[str, dict[str, set[float]]] = {}
    pod_labels = POD if "exported_pod" not in text else POD[:1]
    for line in lines(text, lambda line: target.uuid in line and _field(line) in FIELDS):
        metric, factor = FIELDS[_field(line.name)]
        if (
            line.labels.get("uuid") != target.uuid
            or line.labels.get(INSTANCE, "") != target.instance
            or any(line.labels.get(name) for name in PROCESS)
            or math.isnan(line.value)
            or _is_blank(line.value)
        ):
            continue
        value = plausible(metric, line.value * factor)
        if value is None:
            found.impossible.append(f"{line.name} {line.value:.12g}")
            continue
        pod = next((line.labels[name] for name in pod_labels if line.labels.get(name)), "")
        by_pod.setdefault(metric, {}).setdefault(pod, set()).add(value)
        if line.stamp_ns is not None:
            found.stamps_ns[metric] = max(line.stamp_ns, found.stamps_ns.get(metric, line.stamp_ns))
    for metric, of in by_pod.items():
        of_device = of.get("") or set().union(*of.values())
        if len(of_device) == 1:
            (found.device[metric],) = of_device
    shares = by_pod.get(PER_POD, {})
    if "" in shares:
        found.pods = {pod: min(values) for pod, values in shares.items() if pod and len(values) == 1}
    return found


def gpus(text: str) -> dict[str, dict[str, str]]:
    """UUID of each GPU that ``text`` tells of to its MIG instances that it tells of: GPU_I_ID to profile; and ``""``
    where it has lines of the whole GPU."""
    found: dict[str, dict[str, str]] = {}
    for line in lines(text, lambda line: _field(line).startswith(_PREFIX)):
        if uuid := line.labels.get("uuid"):
            found.setdefault(uuid, {})[line.labels.get(INSTANCE, "")] = line.labels.get(PROFILE, "")
    return found


def words(of: Mapping[str, Mapping[str, str]]) -> str:
    """`gpus` for a message, on one line."""
    if not of:
        return "no GPU"
    return ", ".join(
        uuid if "" in parts else f"{uuid} ({', '.join(f'MIG instance {i} {p}'.strip() for i, p in parts.items())} only)"
        for uuid, parts in sorted(of.items())
    )


def _field(line: str) -> str:
    """The name of the field that a line, or a sample's name, is of; in lower case with ``--use-old-namespace``."""
    return line.partition("{")[0].strip(" \t").upper().removesuffix("_TOTAL")


def _is_blank(value: float) -> bool:
    return any(abs(value - blank) <= blank * _BLANK_WITHIN for blank in _BLANKS)
