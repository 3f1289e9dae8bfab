"""What doctor says of a cluster: too much hope costs a failed run, too much worry a run that was never tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from kts.app.plans import planned
from kts.errors import SetupError
from kts.k8s.cluster.api import Api, Forbidden, Unavailable, _error
from kts.k8s.cluster.preflight import can_start, check
from kts.k8s.objects.names import DEFAULT_IMAGE
from kts.k8s.objects.needs import UNKNOWN, Need
from kts.k8s.objects.permissions import HELPFUL, NEEDED, RBAC
from kts.k8s.objects.settings import ClusterSettings

GPU = "nvidia.com/gpu"
SETTINGS = ClusterSettings()
PLAN = planned("name: x\ntenants:\n  a: {workload: fft}\n  b: {workload: fft}\n", {"device": "cuda"})[1]


class Cluster(Api):
    """A cluster that has all a run needs, with changes."""

    def __init__(self, **changes: Any) -> None:
        self.server, self.namespace = "https://server", "default"
        self.gitversion: str = changes.pop("version", "v1.34.2+k3s1")
        self.forbidden: set[str] = set(changes.pop("forbidden", ()))
        self.admits: Callable[[dict[str, Any]], dict[str, Any]] = changes.pop("admits", lambda obj: obj)
        self.refused: Callable[..., bool] = changes.pop("refused", lambda *_: False)
        self.objects: dict[str, list[dict[str, Any]]] = {
            "Namespace": [{"metadata": {"name": "kts"}}],
            "Node": [node()],
            "Pod": [],
            "RuntimeClass": [{"metadata": {"name": "nvidia"}, "handler": "nvidia"}],
            "ResourceClaim": [],
            "ResourceQuota": [],
            **changes,
        }

    def version(self) -> str:
        if self.gitversion == "away":
            raise Unavailable("https://server cannot be reached: refused", "check that the cluster is up")
        return self.gitversion

    def user(self) -> str:
        return "ann"

    def create(self, obj: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        assert dry_run, "doctor must change nothing"
        return self.admits(obj)

    def list(self, kind: str, namespace: str | None = None, labels: object = None) -> list[dict[str, Any]]:  # noqa: ARG002
        if kind in self.forbidden:
            raise Forbidden(f"not allowed: {kind}")
        return self.objects[kind]

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:  # noqa: ARG002
        return next((obj for obj in self.list(kind) if obj["metadata"]["name"] == name), None)

    def allowed(self, verb: str, group: str, resource: str, namespace: str = "", subresource: str = "") -> bool:  # noqa: ARG002
        if "SelfSubjectAccessReview" in self.forbidden:
            raise Forbidden("not allowed")
        return not self.refused(verb, f"{resource}/{subresource}".rstrip("/"), namespace)


def node(name: str = "n1", slots: str = "4", **labels: str) -> dict[str, Any]:
    """A Ready node with one GPU in four slots; ``labels`` without their prefix, ``_`` for ``-``."""
    told = {"count": "1", "replicas": "4", "sharing-strategy": "time-slicing"}
    told |= {key.replace("_", "-"): value for key, value in labels.items()}
    return {
        "metadata": {"name": name, "labels": {f"{GPU}.{key}": value for key, value in told.items() if value}},
        "spec": {},
        "status": {
            "allocatable": {GPU: slots} if slots != "0" else {},
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": [{"names": [DEFAULT_IMAGE]}],
        },
    }


def holder(count: str) -> dict[str, Any]:
    """A pod of somebody else that holds slots."""
    containers = [{"resources": {"requests": {GPU: count}}}]
    return {
        "metadata": {"name": "llm", "namespace": "prod"},
        "spec": {"nodeName": "n1", "containers": containers},
        "status": {"phase": "Running"},
    }


def look(settings: ClusterSettings = SETTINGS, wanted: int = 2, **changes: Any) -> dict[str, Need]:
    """Checks by name; of several of one name the worst."""
    worst = sorted(
        check(Cluster(**changes), settings, wanted, PLAN), key=lambda c: ("ok", "note", "missing").index(c.status)
    )
    return {one.name: one for one in worst}


def test_a_cluster_that_has_everything_is_all_ok() -> None:
    """Else a user would look for faults that are not there."""
    checks = check(Cluster(), SETTINGS, 4, PLAN)
    assert {one.status for one in checks} == {"ok"}
    assert can_start(checks)


@pytest.mark.parametrize(
    ("major", "minor", "driver", "status"),
    [("9", "0", "580", "ok"), ("7", "5", "595", "ok"), ("6", "1", "580", "note"), ("9", "0", "570", "note")],
)
def test_a_gpu_or_driver_too_old_for_the_images_torch_is_told_before_the_run(
    major: str, minor: str, driver: str, status: str
) -> None:
    """Else every tenant would end with 'no kernel image is available', after minutes of loading."""
    labels = {"nvidia.com/gpu.compute.major": major, "nvidia.com/gpu.compute.minor": minor}
    told = node()
    told["metadata"]["labels"] |= {**labels, "nvidia.com/cuda.driver-version.major": driver}
    found = look(Node=[told])["GPU"]
    assert (found.status, f"compute capability {major}.{minor}, driver {driver}" in found.found) == (status, True)
    assert ("--extra cupy" in found.remedy) == (status == "note")
    own = msgspec.structs.replace(SETTINGS, image="registry.example/mine:1")
    assert look(own, Node=[told])["GPU"].status == "ok"


def test_who_acts_is_said() -> None:
    """Else a user who lacks rights would not see that it is as another one."""
    assert look()["API server"].found == "https://server, Kubernetes v1.34.2+k3s1, as ann"


def test_a_server_that_is_away_is_the_only_thing_said() -> None:
    """Else one cause would look like ten."""
    (only,) = check(Cluster(version="away"), SETTINGS, 2, PLAN)
    assert (only.name, only.status) == ("API server", "missing")
    assert "check that the cluster is up" in only.remedy


@pytest.mark.parametrize(
    ("version", "status"), [("v1.31.0", "ok"), ("v1.30.9-eks-1", "note"), ("v2.0.0", "ok"), ("?", "note")]
)
def test_versions_are_compared_as_numbers(version: str, status: str) -> None:
    """Else 1.9 would be newer than 1.31, or an unknown version would end in a traceback."""
    assert look(version=version)["API server"].status == status


@pytest.mark.parametrize("lacks", [(v, one.words([v]).split()[1]) for one in NEEDED for v in one.verbs], ids=" ".join)
def test_each_permission_that_is_missing_is_named(lacks: tuple[str, str]) -> None:
    """Else a run would fail half-way for a permission nobody was told of."""
    found = look(refused=lambda verb, what, namespace: (verb, what, namespace) == (*lacks, "kts"))["permissions"]
    assert (found.status, found.remedy) == ("missing", RBAC)
    assert found.found == f"in namespace kts you may not: {' '.join(lacks)}"


def test_what_doctor_asks_for_is_what_the_project_tells_administrators_to_grant() -> None:
    """Else its own remedy would not satisfy it, or would grant what nobody looks for."""
    text = (Path(__file__).parents[3] / "deploy" / "rbac.yaml").read_text(encoding="utf-8")
    rules = next(one["rules"] for one in yaml.safe_load_all(text) if one["kind"] == "Role")
    granted = {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}
    assert {(one.group, one.words([v]).split()[1], v) for one in NEEDED for v in one.verbs} == granted


def test_a_run_can_do_without_what_is_outside_its_namespace() -> None:
    """Else users of shared clusters would be told to ask for rights that no run needs."""
    found = check(
        Cluster(forbidden={"Node", "Pod"}, refused=lambda _v, _w, namespace: not namespace), SETTINGS, 2, PLAN
    )
    notes = [one.found for one in found if one.name == "permissions" and one.status == "note"]
    assert len(notes) == len(HELPFUL)
    assert can_start(found)


def test_what_may_not_be_read_is_never_guessed() -> None:
    """Else free slots would be promised that others hold."""
    kinds = {"Node", "Pod", "RuntimeClass", "ResourceQuota", "Namespace", "SelfSubjectAccessReview"}
    found = look(forbidden=kinds, admits=forbid)
    assert {name for name, one in found.items() if UNKNOWN in one.found} == found.keys() - {"API server"}
    assert {one.status for name, one in found.items() if name != "API server"} == {"note"}
    assert look(Namespace=[], forbidden={"SelfSubjectAccessReview"})["namespace"].status == "note"
    slots = look(forbidden={"Pod"})["slots"]
    assert (slots.status, slots.found) == ("note", f"node n1 offers 4; in use {UNKNOWN}")


def test_slots_that_cannot_suffice_are_missing_even_if_pods_may_not_be_read() -> None:
    """Else the one thing that is certain would be called unknown."""
    assert look(wanted=5, forbidden={"Pod"})["slots"].status == "missing"


def test_taken_slots_are_missing_and_their_holder_is_named() -> None:
    """Else the user would not know whom to ask."""
    slots = look(Pod=[holder("3")])["slots"]
    assert slots.status == "missing"
    assert "3 of 4 slots in use by prod/llm" in slots.found
    busy_and_plain = look(Pod=[holder("4")], Node=[node("a-plain-one", slots="0"), node()])["slots"]
    assert "node n1: 4 of 4" in busy_and_plain.found


def test_no_node_with_the_resource_is_missing() -> None:
    """Else the scheduler would be the first to say so, after the user waited."""
    assert "no node offers nvidia.com/gpu" in look(Node=[node(slots="0")])["node"].found
    assert look(ClusterSettings(node="other"))["node"].status == "missing"
    lost = node()
    lost["status"]["conditions"][0]["status"] = "Unknown"
    assert look(Node=[lost])["node"].status == "missing"


def test_a_taint_that_is_not_tolerated_comes_with_the_option_that_tolerates_it() -> None:
    """Else pods would stay Pending on the very common tainted GPU node."""
    tainted = node()
    tainted["spec"]["taints"] = [{"key": "sku", "value": "gpu", "effect": "NoSchedule"}]
    assert look(Node=[tainted])["node"].remedy == "--toleration sku=gpu:NoSchedule"
    tolerant = ClusterSettings(tolerations=({"key": "sku", "operator": "Exists"},))
    assert look(tolerant, Node=[tainted])["node"].status == "ok"


def test_the_taint_that_is_named_as_the_resource_is_tolerated_by_all_pods_of_a_run() -> None:
    """Else the conductor, which asks for no slot, would be kept off the nodes that admit its tenants (GKE)."""
    tainted = node()
    tainted["spec"]["taints"] = [{"key": GPU, "value": "present", "effect": "NoSchedule"}]
    assert look(Node=[tainted])["node"].status == "ok"
    assert look(ClusterSettings(resource="example.com/gpu"), Node=[tainted])["node"].status != "ok"


def forbid(obj: dict[str, Any]) -> dict[str, Any]:
    """What a server says to who may not create it."""
    raise _error(403, "POST x", f'User "ann" cannot create resource "{obj["kind"]}" in API group ""')


def refuse(obj: dict[str, Any]) -> dict[str, Any]:
    """What a server says whose LimitRange is smaller than a tenant."""
    if obj["kind"] == "Pod" and obj["metadata"]["labels"].get("kts.dev/tenant"):
        raise _error(403, "POST x", "maximum cpu usage per Container is 500m, but limit is 1")
    return obj


def throttle(obj: dict[str, Any]) -> dict[str, Any]:
    """What a server makes of a pod where a webhook sets CPU limits."""
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(obj))
    for container in made.get("spec", {}).get("containers", ()):
        container["resources"]["limits"]["cpu"] = "500m"
    return made


def test_a_dry_run_tells_what_the_cluster_would_say_of_the_very_objects() -> None:
    """Else a run would be the first to meet a LimitRange, a policy or a webhook."""
    assert look()["admission"].status == "ok"
    refused = look(admits=refuse)["admission"]
    assert (refused.status, "Pod of tenant: refused: maximum cpu usage" in refused.found) == ("missing", True)
    assert "--pod-cpu" in refused.remedy
    altered = look(admits=throttle)["admission"]
    assert (altered.status, "cpu limit 500m instead of 1" in altered.found) == ("note", True)


def test_a_namespace_that_goes_away_is_missing() -> None:
    """Else a run would be refused object by object."""
    going = {"metadata": {"name": "kts"}, "status": {"phase": "Terminating"}}
    assert look(Namespace=[going])["namespace"].status == "missing"


QUOTAS = {
    "requests.nvidia.com/gpu": "1",
    "limits.cpu": "2",
    "requests.memory": "8Gi",
    "pods": "2",
    "count/pods": "2",
    "count/jobs.batch": "1",
    "configmaps": "0",
    "count/secrets": "0",
}


@pytest.mark.parametrize("key", QUOTAS)
def test_each_kind_of_quota_that_is_too_small_is_named(key: str) -> None:
    """Else a run would find out pod by pod."""
    status = {"hard": {key: QUOTAS[key]}, "used": {key: "0"}}
    quota = {"metadata": {"name": "q"}, "spec": {"hard": status["hard"]}, "status": status}
    found = look(ClusterSettings(cpu="2"), ResourceQuota=[quota])["quota"]
    assert (found.status, f"quota q: {key}" in found.found) == ("missing", True)


SHARING = {
    "two GPUs": ({"count": "2"}, "note", "different GPUs"),
    "not shared": ({"replicas": "1", "sharing_strategy": "none"}, "note", "not shared"),
    "mps": ({"sharing_strategy": "mps"}, "note", "by MPS"),
    "no labels": ({"count": "", "replicas": "", "sharing_strategy": ""}, "note", "unknown"),
    "no count": ({"count": ""}, "note", "number of GPUs not told"),
    "odd count": ({"count": "two"}, "ok", "two GPUs"),
}


@pytest.mark.parametrize(("labels", "status", "told"), SHARING.values(), ids=SHARING)
def test_how_the_plugin_shares_is_told(labels: dict[str, str], status: str, told: str) -> None:
    """Else two tenants on two GPUs would be measured as neighbours."""
    sharing = look(Node=[node(**labels)])["sharing"]
    assert sharing.status == status
    assert told in sharing.found


def test_several_gpus_come_with_all_three_ways_out() -> None:
    """Else a user who cannot change the plugin would be stuck."""
    remedy = look(Node=[node(count="8")])["sharing"].remedy
    assert all(way in remedy for way in ("--node", "sharedDevicesAllocationPolicy: packed", "--claim"))


def test_a_missing_runtime_class_stops_a_run_and_none_asked_for_does_not() -> None:
    """Else pods would be refused one by one, or clusters without the class could not be used."""
    assert look(ClusterSettings(runtime_class="nvidia"), RuntimeClass=[])["runtime class"].status == "missing"
    assert look(RuntimeClass=[])["runtime class"].status == "note"
    assert look(ClusterSettings(runtime_class=""), RuntimeClass=[])["runtime class"].status == "ok"


def test_a_missing_image_is_a_note() -> None:
    """Else a run that builds or pulls its image would not be tried."""
    assert look(ClusterSettings(image="registry.example/x:1"))["image"].status == "note"


def test_a_missing_namespace_is_missing_only_if_a_run_may_not_create_it() -> None:
    """Else the first run would be forbidden, or fail at its first object."""
    assert look(Namespace=[])["namespace"].status == "ok"
    refused = look(Namespace=[], refused=lambda verb, what, _n: (verb, what) == ("create", "namespaces"))["namespace"]
    assert (refused.status, refused.remedy) == ("missing", "kubectl create namespace kts")


def test_the_level_of_pod_security_is_told() -> None:
    """Else an administrator could not see why own pod templates are refused."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    assert "level restricted" in look(Namespace=[{"metadata": {"name": "kts", "labels": labels}}])["namespace"].found


def test_a_claim_takes_the_place_of_slots() -> None:
    """Else a cluster with DRA and no device plugin could not be used."""
    settings = ClusterSettings(resource="", claim="shared")
    assert look(settings, Node=[node(slots="0")])["claim"].status == "missing"
    there = look(settings, Node=[node(slots="0")], ResourceClaim=[{"metadata": {"name": "shared"}}])
    assert {one.status for one in there.values()} == {"ok"}


def test_a_refusal_of_the_server_is_told_from_other_errors() -> None:
    """Else what may not be read would look like a broken cluster."""
    assert isinstance(_error(403, "GET x", "no"), Forbidden)
    assert not isinstance(_error(400, "GET x", "no"), Forbidden)
    assert issubclass(Forbidden, SetupError)
