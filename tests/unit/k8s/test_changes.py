"""What a tenant's pod has that its run did not ask for: what is overlooked here is taken for sharing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kts.k8s.objects import manifests
from kts.k8s.objects.changes import changes
from kts.k8s.objects.settings import ClusterSettings
from kts.plan import build
from kts.spec import load_text

Object = dict[str, Any]
TEXT = "name: x\ndevice: DEVICE\ntenants:\n  a: {workload: fft}\n  b: {workload: fft}\n"
SETTINGS = ClusterSettings(node="n1", runtime_class="nvidia")
RANGED = {"kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu limit for container worker"}


def asked(device: str = "cpu", settings: ClusterSettings = SETTINGS) -> Object:
    """The spec of a tenant's pod."""
    return manifests.pod_specs(build(load_text(TEXT.replace("DEVICE", device), source="x").experiment), settings)[1]


def made(spec: Object, change: Callable[[Object], None], **annotations: str) -> Object:
    """The pod that a cluster makes of it, on the node that was asked for."""
    got = copy.deepcopy(spec) | {"nodeName": "n1", "schedulerName": "default-scheduler", "dnsPolicy": "ClusterFirst"}
    change(got)
    return {"metadata": {"name": "p", "annotations": annotations}, "spec": got}


def limit(**amounts: str) -> Callable[[Object], None]:
    """A change of the worker's limits."""
    return lambda spec: spec["containers"][0]["resources"]["limits"].update(amounts)


def sidecar(spec: Object) -> None:
    """What a mesh adds."""
    spec["containers"].append({"name": "istio-proxy", "image": "proxy"})


def native_sidecar(spec: Object) -> None:
    """The same, as Kubernetes has it since 1.29."""
    spec["initContainers"] = [{"name": "vault", "restartPolicy": "Always"}, {"name": "init-that-ends"}]


def preload(spec: Object) -> None:
    """What a plugin that slices GPUs by itself adds."""
    spec["containers"][0]["env"].append({"name": "LD_PRELOAD", "value": "/libvgpu.so"})


def elsewhere(spec: Object) -> None:
    """A selector that a policy adds, on a pod that was not placed by name."""
    spec["nodeSelector"], spec["nodeName"] = {"pool": "cheap"}, "n2"


CASES: dict[str, tuple[str, Callable[[Object], None], list[str]]] = {
    "a limit on the CPU device": ("cpu", limit(cpu="500m"), ["cpu limit 500m, not asked for"]),
    "a limit below what was asked": ("cuda", limit(cpu="500m"), ["cpu limit 500m instead of 1"]),
    "more than was asked": ("cuda", limit(cpu="2"), ["cpu limit 2 instead of 1"]),
    "another memory limit": ("cpu", limit(memory="256Mi"), ["memory limit 256Mi instead of 512Mi"]),
    "a limit of something else": (
        "cpu",
        limit(**{"ephemeral-storage": "1Gi"}),
        ["ephemeral-storage limit 1Gi, not asked for"],
    ),
    "the same, written otherwise": ("cuda", limit(cpu="1000m"), []),
    "a sidecar": ("cpu", sidecar, ["container istio-proxy, not asked for"]),
    "a native sidecar": ("cpu", native_sidecar, ["container vault, not asked for"]),
    "a library before all others": ("cuda", preload, ["environment variable LD_PRELOAD=/libvgpu.so, not asked for"]),
    "another runtime": (
        "cuda",
        lambda spec: spec.update(runtimeClassName="gvisor"),
        ["RuntimeClass gvisor instead of nvidia"],
    ),
    "other nodes": ("cuda", elsewhere, ["node selector pool=cheap instead of none"]),
    "a selector that holds on the run's own node": ("cuda", lambda spec: spec.update(nodeSelector={"a": "b"}), []),
    "a mirror's image": (
        "cpu",
        lambda spec: spec["containers"][0].update(image="mirror/kts:v1"),
        ["image mirror/kts:v1 instead of localhost/kts-worker:v1"],
    ),
    "a volume": ("cpu", lambda spec: spec["volumes"].append({"name": "token"}), []),
}


@pytest.mark.parametrize("case", CASES)
def test_each_change_that_reaches_the_measurement_is_named_and_no_other(case: str) -> None:
    """Else a throttled tenant would be called a shared one, or every run on that cluster be in doubt."""
    device, change, expected = CASES[case]
    spec = asked(device)
    assert changes(spec, made(spec, change)) == expected


def test_what_a_limit_range_says_of_itself_is_told() -> None:
    """Else nobody would know whom to ask."""
    spec = asked()
    (only,) = changes(spec, made(spec, limit(cpu="500m"), **RANGED))
    assert only == "cpu limit 500m, not asked for (LimitRanger plugin set: cpu limit for container worker)"


def test_requests_that_kubernetes_takes_from_limits_are_as_asked() -> None:
    """Else every template with limits alone would be in doubt."""
    template = {"spec": {"containers": [{"name": "worker", "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}]}}
    spec = asked(settings=ClusterSettings(pod_template=template))

    def default(got: Object) -> None:
        got["containers"][0]["resources"]["requests"]["hugepages-2Mi"] = "4Mi"

    assert changes(spec, made(spec, default)) == []
