"""What a run asks for by name is looked at before anything is created: a wait for what never comes costs minutes."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from kts import sharing
from kts.errors import SetupError, UsageError
from kts.k8s.cluster import asked, creation
from kts.k8s.cluster.api import Api, Forbidden, Unavailable
from kts.k8s.objects import quotas
from kts.k8s.objects.settings import ClusterSettings
from kts.model.plan import Plan
from kts.plan import build
from kts.spec import load_text

GPU = "nvidia.com/gpu"
READY = {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {GPU: "4"}}
NODE = {"metadata": {"name": "n1"}, "spec": {}, "status": READY}
NVIDIA = {"metadata": {"name": "nvidia"}, "handler": "nvidia"}


class Cluster:
    """What a run looks at before it begins; ``forbidden`` kinds may not be read."""

    def __init__(self, *forbidden: str, **objects: list[dict[str, Any]]) -> None:
        self.forbidden = forbidden
        self.objects = {"Node": [NODE], "Pod": [], "RuntimeClass": [NVIDIA], **objects}

    def list(self, kind: str, namespace: str | None = None) -> list[dict[str, Any]]:
        del namespace
        if kind in self.forbidden:
            raise Forbidden(f"not allowed: {kind}", "rbac")
        return self.objects.get(kind, [])

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        del namespace
        return next((obj for obj in self.list(kind) if obj["metadata"]["name"] == name), None)


def plan(device: str = "cuda") -> Plan:
    """Two tenants."""
    tenants = "tenants: {a: {workload: fft, size: 32, iterations: 9}, b: {workload: gemm, size: 32, iterations: 9}}"
    return build(load_text(f"name: small\ndevice: {device}\n{tenants}\n", source="test").experiment)


def quota(name: str = "team", used: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A ResourceQuota as its controller has counted it."""
    return {"metadata": {"name": name}, "spec": spec, "status": {"hard": spec["hard"], "used": used or {}}}


def prepared(
    cluster: Cluster, settings: ClusterSettings, device: str = "cuda"
) -> tuple[ClusterSettings, tuple[str, ...]]:
    """What a run would be made with."""
    return creation.prepared(cast(Api, cluster), plan(device), settings)


@pytest.mark.parametrize(
    ("given", "there", "asked_for", "noted"),
    [(None, True, "nvidia", False), (None, False, "", True), ("", True, "", False), ("nvidia", True, "nvidia", False)],
)
def test_the_runtime_class_is_nvidia_where_it_is_there_and_none_elsewhere(
    given: str | None, there: bool, asked_for: str, noted: bool
) -> None:
    """Else clusters whose default runtime is NVIDIA's could only be used by those who know an option's empty value."""
    settings, notes = prepared(Cluster(RuntimeClass=[NVIDIA] if there else []), ClusterSettings(runtime_class=given))
    assert settings.runtime_class == asked_for
    assert (asked.DEFAULT_RUNTIME in notes) == noted


REFUSED = [
    (ClusterSettings(runtime_class="nope"), {}, "there is no RuntimeClass nope", "--runtime-class"),
    (ClusterSettings(claim="nope", resource=""), {}, "there is no ResourceClaim nope in namespace kts", "create it"),
    (
        ClusterSettings(),
        {"ResourceQuota": [quota(hard={f"requests.{GPU}": "0"})]},
        "quota team: requests.nv",
        "describe",
    ),
    (
        ClusterSettings(),
        {"ResourceQuota": [quota(hard={"pods": "2"})]},
        "0 of 2 in use, the run asks for 3",
        "describe",
    ),
    (ClusterSettings(), {"ResourceQuota": [quota(hard={"limits.memory": "9Gi"})]}, "the run asks for", "smaller"),
    (ClusterSettings(), {"ResourceQuota": [quota(hard={"cpu": "3"}, used={"cpu": "950m"})]}, "cpu: 950m of 3", "quota"),
]


@pytest.mark.parametrize(("settings", "objects", "what", "remedy"), REFUSED)
def test_what_the_cluster_lacks_is_refused_before_anything_is_created(
    settings: ClusterSettings, objects: dict[str, Any], what: str, remedy: str
) -> None:
    """Else the run would wait for pods that nobody will ever make."""
    with pytest.raises(SetupError, match=what) as error:
        prepared(Cluster(**objects), settings)
    assert remedy in error.value.remedy


def test_what_may_not_be_read_is_no_reason_to_refuse() -> None:
    """Else a user with the least rights could not run at all."""
    everything = Cluster("RuntimeClass", "ResourceClaim", "ResourceQuota", "Node", "Pod")
    settings, notes = prepared(everything, ClusterSettings())
    assert (settings.runtime_class, settings.node, notes) == ("nvidia", "", ())
    prepared(everything, ClusterSettings(claim="mine", resource="", runtime_class="nope"))


@pytest.mark.parametrize(
    "fits",
    [
        quota(hard={"pods": "3", f"requests.{GPU}": "2", "requests.cpu": "2100m", "limits.cpu": "2"}),
        quota(hard={"pods": "0"}, scopes=["BestEffort"]),
        quota(hard={"pods": "0"}, scopeSelector={"matchExpressions": []}),
        quota(hard={"persistentvolumeclaims": "0", "pods": "three"}),
    ],
)
def test_a_quota_with_room_or_for_other_pods_or_of_no_number_refuses_nothing(fits: dict[str, Any]) -> None:
    """Else a run would be refused that the cluster takes."""
    prepared(Cluster(ResourceQuota=[fits]), ClusterSettings())


def test_an_init_container_counts_where_it_asks_for_more_than_the_containers_together() -> None:
    """Else a pod template's init container would pass here and be refused by the quota."""
    some = {"resources": {"requests": {"cpu": "1"}}}
    spec = {"containers": [some, some], "initContainers": [{"resources": {"limits": {"cpu": "3", "memory": "1Ki"}}}]}
    amounts = quotas.asked([spec, spec])
    assert {key: int(amounts[key]) for key in ("cpu", "requests.cpu", "limits.cpu", "memory", "pods")} == {
        "cpu": 6, "requests.cpu": 6, "limits.cpu": 6, "memory": 2048, "pods": 2,
    }  # fmt: skip


def holder(name: str = "theirs") -> dict[str, Any]:
    """A pod of somebody else that holds three slots."""
    requests = {"resources": {"requests": {GPU: "3"}}}
    return {
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"nodeName": "n1", "containers": [requests]},
        "status": {"phase": "Running"},
    }


def waited(
    cluster: Cluster, settings: ClusterSettings, steps: dict[int, Any]
) -> tuple[ClusterSettings, float, list[str]]:
    """(the settings of the run, after how many seconds, what was said); ``steps``: what happens in the nth pause."""
    clock, said, count = [1000.0], list[str](), [0]

    def pause(seconds: float) -> None:
        clock[0] += seconds
        count[0] += 1
        steps.get(count[0], lambda: None)()

    api = cast(Api, cluster)
    done, _ = creation.prepared(api, plan(), settings, told=said.append, now=lambda: clock[0], pause=pause)
    return done, clock[0] - 1000.0, said


def test_wait_waits_for_a_slot_outside_of_the_cluster_and_says_who_holds_it() -> None:
    """Else a run would hold some of its slots while it waits for the others, or wait in silence."""
    cluster = Cluster(Pod=[holder()])
    done, took_s, said = waited(cluster, ClusterSettings(wait_s=60), {3: cluster.objects["Pod"].clear})
    assert (done.node, took_s, done.wait_s) == ("n1", 6.0, 54)
    assert said == ["waiting up to 60 s: no free slot for 1 of 2 tenants; node n1: 3 of 4 slots in use by prod/theirs"]


def test_wait_ends_with_the_usual_refusal() -> None:
    """Else it would wait for ever, or not say why."""
    with pytest.raises(SetupError, match=r"no free slot for 1 of 2 tenants.*prod/theirs"):
        waited(Cluster(Pod=[holder()]), ClusterSettings(wait_s=7), {})


@pytest.mark.parametrize("nodes", [[], [{**NODE, "status": {**READY, "allocatable": {}}}]])
def test_wait_leaves_the_node_to_the_scheduler_where_none_offers_enough(nodes: list[dict[str, Any]]) -> None:
    """Else no pod would be there for which an autoscaler adds a node."""
    done, took_s, said = waited(Cluster(Node=nodes), ClusterSettings(wait_s=60), {})
    assert (done.node, took_s, done.wait_s) == ("", 0.0, 60)
    assert "waiting up to 60 s for a node that is yet to come: " in said[0]
    assert "no node" in said[0]
    with pytest.raises(SetupError, match="no node"):
        waited(Cluster(Node=nodes), ClusterSettings(), {})


def test_a_server_that_goes_away_while_a_run_waits_is_waited_for_and_before_that_is_told() -> None:
    """Else a run that waited for an hour would end for a blink of the API server."""
    cluster = Cluster(Pod=[holder()])

    class Away(list[Any]):
        def __iter__(self) -> Any:
            raise Unavailable("away")

    steps = {1: lambda: cluster.objects.update(Pod=Away()), 2: lambda: cluster.objects.update(Pod=[])}
    assert waited(cluster, ClusterSettings(wait_s=60), steps)[0].node == "n1"
    cluster.objects["Pod"] = Away()
    with pytest.raises(Unavailable):
        waited(cluster, ClusterSettings(wait_s=60), {})


def node_that_shares(strategy: str) -> dict[str, Any]:
    return {**NODE, "metadata": {"name": "n1", "labels": {f"{GPU}.sharing-strategy": strategy}}}


def claim(strategy: str) -> dict[str, Any]:
    config = [{"opaque": {"parameters": {"sharing": {"strategy": strategy}}}}]
    return {"metadata": {"name": "c"}, "spec": {"devices": {"config": config}}}


ON_NODE, BY_CLAIM = ClusterSettings(node="n1"), ClusterSettings(resource="", claim="c")


@pytest.mark.parametrize(
    ("mode", "settings", "there"),
    [
        ("mps", ON_NODE, {"Node": [node_that_shares("mps")]}),
        ("time-slicing", ON_NODE, {"Node": [node_that_shares("time-slicing")]}),
        ("mps", BY_CLAIM, {"ResourceClaim": [claim("MPS")]}),
        ("mps", ON_NODE, {}),
    ],
)
def test_a_run_that_asks_for_the_mode_that_is_set_or_for_one_nobody_tells_of_begins(
    mode: str, settings: ClusterSettings, there: dict[str, list[dict[str, Any]]]
) -> None:
    """Else MPS on a cluster could not be asked for; and what is only told of is no proof of it."""
    found = creation.shared(cast(Api, Cluster(**there)), plan(), replace(settings, mode=mode))
    assert found.asked == mode
    assert not found.proven
    assert found.words() == (mode if there else f"asked for {mode}, not proven")


@pytest.mark.parametrize(
    ("mode", "settings", "there", "does"),
    [
        ("mps", ON_NODE, {"Node": [node_that_shares("time-slicing")]}, "sharing.mps in the device plugin's config"),
        ("time-slicing", ON_NODE, {"Node": [node_that_shares("mps")]}, "kts k8s time-slicing --replicas N --apply"),
        ("mps", BY_CLAIM, {"ResourceClaim": [claim("TimeSlicing")]}, "strategy: MPS a claim"),
    ],
)
def test_a_node_or_claim_in_another_mode_is_refused_with_how_it_is_set(
    mode: str, settings: ClusterSettings, there: dict[str, list[dict[str, Any]]], does: str
) -> None:
    """Else a run would be made under the name of a mode that the cluster is not in."""
    with pytest.raises(SetupError, match=f"--modes {mode}: the pods would share in") as error:
        creation.shared(cast(Api, Cluster(**there)), plan(), replace(settings, mode=mode))
    assert does in error.value.remedy


def test_a_cpu_core_in_a_pod_is_shared_by_its_scheduler_alone() -> None:
    with pytest.raises(SetupError, match="--modes mps on the device cpu"):
        creation.shared(cast(Api, Cluster()), plan("cpu"), replace(ON_NODE, mode="mps"))


@pytest.mark.parametrize(
    ("modes", "says"),
    [
        ("time-slicing,mps", "one way at a time"),
        ("exclusive", "nothing is shared in it"),
        ("streams", "each pod is a process of its own"),
        ("mps:50", "sets the limits of MPS"),
        ("green", "no mode 'green'"),
    ],
)
def test_what_pods_cannot_be_in_is_refused_in_a_line(modes: str, says: str) -> None:
    """Else a run in pods would measure something else than its modes say."""
    with pytest.raises(UsageError, match=says) as error:
        sharing.in_pods(modes)
    assert error.value.remedy
    assert sharing.in_pods("mps") == "mps"
