"""Other ways to offer GPUs are named as what they are, and never taken for no GPU at all."""

from __future__ import annotations

from typing import Any

import pytest

from kts.errors import SetupError
from kts.k8s.objects import offers, slots
from kts.k8s.objects.settings import ClusterSettings

GPU = "nvidia.com/gpu"
MIG = "nvidia.com/mig-1g.10gb"


def node(amounts: dict[str, str], *, image: str = "Ubuntu", **told: dict[str, str]) -> dict[str, Any]:
    """A Ready node called n that offers these amounts."""
    return {
        "metadata": {"name": "n", **told},
        "status": {
            "allocatable": {"cpu": "8", "memory": "1Gi", "rdma/hca": "63", **amounts},
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"osImage": image},
        },
    }


def daemonset(name: str, image: str = "example/x:1") -> dict[str, Any]:
    """A DaemonSet in namespace system."""
    spec = {"containers": [{"image": image}]}
    return {"metadata": {"name": name, "namespace": "system"}, "spec": {"template": {"spec": spec}}}


GKE_LABELS = {"cloud.google.com/gke-accelerator": "nvidia-l4", "cloud.google.com/gke-gpu-sharing-strategy": "mps"}
ELSEWHERE = {
    "gke by its plugin": (node({GPU: "4"}), [daemonset("nvidia-gpu-device-plugin-large-ubuntu")], "GKE", "node-pools"),
    "gke by labels": (node({GPU: "4"}, labels=GKE_LABELS), [], "GKE", "max-shared-clients-per-gpu"),
    "hami": (node({GPU: "10"}), [daemonset("hami-device-plugin")], "HAMi", "deviceSplitCount"),
    "hami by its image": (
        node({GPU: "10"}),
        [daemonset("gpu-nvidia-device-plugin", "docker.io/projecthami/hami:v2.5.0")],
        "HAMi",
        "deviceSplitCount",
    ),
    "hami by its notes": (
        node({GPU: "10"}, annotations={"hami.io/node-nvidia-register": "GPU-1,10"}),
        [],
        "HAMi",
        "deviceSplitCount",
    ),
    "bottlerocket": (
        node({f"{GPU}.shared": "8"}, image="Bottlerocket OS 1.39.1 (aws-k8s-1.32-nvidia)"),
        [],
        "Bottlerocket",
        "settings.kubelet-device-plugins.nvidia",
    ),
    "amd": (node({"amd.com/gpu": "8"}), [daemonset("amdgpu-device-plugin-daemonset")], "AMD", "8 amd.com/gpu"),
    "intel": (node({"gpu.intel.com/i915": "2"}), [daemonset("intel-gpu-plugin")], "Intel", "gpu.intel.com/i915"),
    "by hand": (node({GPU: "4"}), [daemonset("node-exporter")], "something else", "second device plugin"),
}


@pytest.mark.parametrize(("there", "sets", "who", "said"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_whoever_makes_the_slots_is_named_with_where_their_number_is_set(
    there: dict[str, Any], sets: list[dict[str, Any]], who: str, said: str
) -> None:
    """Else users would be told to install a plugin that fights with the one they have."""
    found = offers.elsewhere([node({}), there], sets)
    assert found is not None
    what, remedy = found
    assert who in what
    assert said in f"{what} {remedy}"


def test_no_accelerator_is_no_other_plugin() -> None:
    """Else a cluster without GPUs would be said to have them."""
    assert offers.elsewhere([node({}), node({GPU: "0"})], [daemonset("hami-device-plugin")]) is None


@pytest.mark.parametrize("name", [MIG, f"{GPU}.shared", "amd.com/gpu"])
def test_what_a_node_offers_instead_is_said_before_a_run(name: str) -> None:
    """Else a node full of MIG devices would be called one without a GPU."""
    rooms = slots.rooms([node({GPU: "0", name: "7"})], [], ClusterSettings())
    with pytest.raises(SetupError, match=f"no node offers {GPU}: node n offers 7 {name}") as error:
        slots.choose(rooms, 2, ClusterSettings())
    assert "--resource" in error.value.remedy
    assert slots.choose(slots.rooms([node({name: "7"})], [], of := ClusterSettings(resource=name)), 2, of) == "n"


def test_too_few_slots_are_raised_where_they_are_made() -> None:
    """Else the remedy would be a command that refuses to work there."""
    rooms = slots.rooms([node({GPU: "1"}, labels=GKE_LABELS)], [], ClusterSettings())
    with pytest.raises(SetupError, match="no free slot for 1 of 2") as error:
        slots.choose(rooms, 2, ClusterSettings())
    assert "max-shared-clients-per-gpu" in error.value.remedy
    assert "kts k8s time-slicing" not in error.value.remedy


def test_nvidias_plugin_on_gke_is_nvidias() -> None:
    """Else its config could not be changed where its owner chose it."""
    labels = {**GKE_LABELS, "cloud.google.com/gke-no-default-nvidia-gpu-device-plugin": "true"}
    assert offers.of_node(node({GPU: "4"}, labels=labels)) is None


@pytest.mark.parametrize(
    ("labels", "resource", "strategy", "replicas"),
    [
        ({f"{GPU}.sharing-strategy": "mps", f"{GPU}.replicas": "2"}, GPU, "mps", "2"),
        ({f"{GPU}.sharing-strategy": "mps", f"{GPU}.replicas": "2"}, f"{GPU}.shared", "mps", "2"),
        ({f"{GPU}.sharing-strategy": "none", f"{MIG}.sharing-strategy": "time-slicing"}, MIG, "time-slicing", ""),
        ({"cloud.google.com/gke-gpu-sharing-strategy": "time-sharing"}, GPU, "time-slicing", ""),
        ({**GKE_LABELS, "cloud.google.com/gke-max-shared-clients-per-gpu": "3"}, GPU, "mps", "3"),
        ({}, GPU, "", ""),
    ],
)
def test_labels_tell_how_a_device_is_shared(
    labels: dict[str, str], resource: str, strategy: str, replicas: str
) -> None:
    """Else a run on a node that shares by MPS would be called time-slicing."""
    told = offers.told(node({}, labels=labels), resource)
    assert (told.strategy, told.replicas) == (strategy, replicas)
