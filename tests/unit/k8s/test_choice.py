"""What `kts choose` says to write into a cluster: as its readers take it, and honest about what it does not give."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from kts.k8s.objects.choice import CONTAINER, DRIVER, HAMI, KAI, PLUGIN, cluster_lines
from kts.k8s.objects.pluginconfig import sharing_of
from kts.model import mode as modes
from kts.model.mode import Mode
from kts.model.modes import ClusterLines
from kts.sharing import mps

NEWEST = str(kubernetes_validate.latest_version())
KINDS = (
    modes.EXCLUSIVE,
    modes.TIME_SLICING,
    modes.MPS,
    modes.MIG,
    modes.STREAMS,
    modes.CPU_SCHEDULER,
)
REPLICATED = {
    "renameByDefault": bool,
    "failRequestsGreaterThanOne": bool,
    "resources": [{"name": str, "replicas": int, "rename": str, "devices": object}],
}
PLUGIN_KEYS = {
    "version": str,
    "flags": {"migStrategy": str, "failOnInitError": bool, "plugin": object},
    "resources": object,
    "sharing": {"timeSlicing": REPLICATED, "mps": REPLICATED},
    "imex": object,
}
"""Of NVIDIA/k8s-device-plugin, api/config/v1: config.go, flags.go, sharing.go, replicas.go."""
GPU_CONFIG_KEYS = {
    "apiVersion": "resource.nvidia.com/v1beta1",
    "kind": "GpuConfig",
    "sharing": {
        "strategy": str,
        "timeSlicingConfig": {"interval": str},
        "mpsConfig": {
            "defaultActiveThreadPercentage": int,
            "defaultPinnedDeviceMemoryLimit": str,
            "defaultPerDevicePinnedMemoryLimit": object,
        },
    },
}
"""Of NVIDIA/k8s-dra-driver-gpu, api/nvidia.com/resource/v1beta1: gpuconfig.go, sharing.go."""
ANNOTATIONS = {
    "gpu-fraction": ("0.5", "0.33", "0.02"),
    "nvidia.com/vgpu-mode": ("hami-core", "mig"),
    "hami.io/gpu-scheduler-policy": ("binpack",),
}
"""Those that KAI Scheduler and HAMi document, with values that they take."""


def fits(value: Any, known: Any, place: str = "") -> None:
    """Go's decoders are strict here: an unknown key, or a value of another kind, is an error."""
    if known is object:
        return
    if isinstance(known, dict):
        assert isinstance(value, dict), place
        assert set(value) <= set(known), place
        for key, one in value.items():
            fits(one, known[key], f"{place}.{key}")
    elif isinstance(known, list):
        for one in value:
            fits(one, known[0], f"{place}[]")
    elif isinstance(known, str):
        assert value == known, place
    else:
        assert type(value) is known, place


def of(mode: Mode, title: str, tenants: int = 3) -> tuple[Any, str]:
    """What is to be copied there, read; and its notes."""
    lines = next(one for one in cluster_lines(mode, tenants) if one.title == title)
    return yaml.safe_load(lines.text), " ".join(lines.notes)


def mode(kind: str, percent: int | None = None, memory: int | None = None, above: str = "") -> Mode:
    return Mode(name="x", kind=kind, threads_percent=percent, memory_mib=memory, above=above)


def pod_of(fragment: dict[str, Any]) -> dict[str, Any]:
    """A pod with what was given of it, so that Kubernetes' schema can judge it."""
    container = {"name": "c", "image": "i", **{key: fragment[key] for key in ("env", "resources") if key in fragment}}
    spec = {"containers": [container], **fragment.get("spec", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", **fragment.get("metadata", {})}, "spec": spec}


@pytest.mark.parametrize("tenants", [2, 3, 50])
@pytest.mark.parametrize("one", [*map(mode, KINDS), mode(modes.MPS, 20), mode(modes.MPS, 33, 8192, "fft")], ids=str)
def test_whoever_reads_the_lines_takes_them(one: Mode, tenants: int) -> None:
    """Else a user would copy what the plugin, the driver or the API server refuses."""
    for lines in cluster_lines(one, tenants):
        value = yaml.safe_load(lines.text)
        if lines.title == PLUGIN:
            fits(value, PLUGIN_KEYS)
        elif value is None:
            assert lines.notes, "neither a line nor a reason"
        elif "kind" in value:
            kubernetes_validate.validate(value, NEWEST, strict=True)
            for config in value["spec"].get("devices", {}).get("config", ()):
                assert config["opaque"]["driver"] == "gpu.nvidia.com"
                fits(config["opaque"]["parameters"], GPU_CONFIG_KEYS)
        else:
            kubernetes_validate.validate(pod_of(value), NEWEST, strict=True)
            for key, text in value.get("metadata", {}).get("annotations", {}).items():
                assert text in ANNOTATIONS[key]


def test_every_mode_that_a_run_can_have_has_lines_or_a_reason() -> None:
    """Else a choice would end in a KeyError."""
    for kind in KINDS:
        assert cluster_lines(mode(kind), 2)


def test_time_slicing_has_a_slot_for_each_tenant() -> None:
    value, notes = of(mode(modes.TIME_SLICING), PLUGIN)
    text = next(one.text for one in cluster_lines(mode(modes.TIME_SLICING), 3) if one.title == PLUGIN)
    assert sharing_of(text).replicas == 3
    assert value["sharing"]["timeSlicing"]["failRequestsGreaterThanOne"] is True
    assert "kts k8s time-slicing --replicas 3" in notes
    parameters = of(mode(modes.TIME_SLICING), DRIVER)[0]["spec"]["devices"]["config"][0]["opaque"]["parameters"]
    assert parameters["sharing"] == {"strategy": "TimeSlicing", "timeSlicingConfig": {"interval": "Default"}}
    hami, said = of(mode(modes.TIME_SLICING), HAMI)
    assert hami["metadata"]["annotations"]["nvidia.com/vgpu-mode"] == "hami-core"
    assert "nvidia.com/gpumem-percentage: 33" in said, "without it the first pod takes all memory"


@pytest.mark.parametrize(
    ("percent", "said"),
    [
        (None, "and no limit of them was measured: take the claim below, or measure mps:33 first"),
        (50, "and 50 % of the threads was measured: take the claim below, or measure mps:33 first"),
        (33, "the share of threads that was measured"),
        (20, "the environment below lowers the threads to the 20 %"),
    ],
)
def test_where_the_plugin_gives_another_mps_than_was_measured_it_is_said(percent: int | None, said: str) -> None:
    """Else a choice for MPS without limits would become one with a third of the threads, unmeasured."""
    value, notes = of(mode(modes.MPS, percent), PLUGIN)
    assert value["sharing"] == {"mps": {"resources": [{"name": "nvidia.com/gpu", "replicas": 3}]}}
    assert said in notes


def test_the_settings_of_mps_that_were_measured_are_those_that_are_set() -> None:
    """Each variable is the one with which kts measured it: else a cluster would have another mode."""
    one = mode(modes.MPS, 20, 8192, "fft")
    lines = {each.title: each for each in cluster_lines(one, 3)}
    env = {each["name"]: each["value"] for each in yaml.safe_load(lines[CONTAINER].text)["env"]}
    assert env == mps.variables(one, "gemm")
    assert 'is "0" for fft' in " ".join(lines[CONTAINER].notes)
    assert mps.variables(one, "fft")[mps.PRIORITY] == "0"
    sharing = yaml.safe_load(lines[DRIVER].text)["spec"]["devices"]["config"][0]["opaque"]["parameters"]["sharing"]
    limits = {"defaultActiveThreadPercentage": 20, "defaultPinnedDeviceMemoryLimit": "8192Mi"}
    assert sharing == {"strategy": "MPS", "mpsConfig": limits}
    free = {each.title: each for each in cluster_lines(mode(modes.MPS), 3)}
    assert CONTAINER not in free
    assert "mpsConfig" not in free[DRIVER].text
    assert yaml.safe_load(free[KAI].text)["spec"]["volumes"][0]["hostPath"]["path"] == "/tmp/nvidia-mps"


def test_static_partitions_are_not_said_to_be_had_from_the_plugin_or_the_driver() -> None:
    for title in (PLUGIN, DRIVER):
        assert "it is not that mode" in of(Mode(name="x", kind=modes.MPS, chunks=4), title)[1]


def test_what_no_cluster_sets_says_so_and_sets_nothing() -> None:
    for kind, why in ((modes.STREAMS, "one process"), (modes.CPU_SCHEDULER, "no GPU")):
        (lines,) = cluster_lines(mode(kind), 2)
        assert isinstance(lines, ClusterLines)
        assert lines.text == ""
        assert why in lines.notes[0]
