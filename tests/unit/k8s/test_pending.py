"""What a pod waits for, in the cluster's own words, and that no wait is without an end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from kts.k8s.cluster.api import Api, Forbidden, Unavailable
from kts.k8s.follow.waits import Waits
from kts.k8s.objects import pending
from kts.k8s.objects.names import LABEL_JOB, LABEL_ROLE, LABEL_TENANT
from kts.k8s.objects.settings import ClusterSettings

GPU = "nvidia.com/gpu"
Object = dict[str, Any]
SETTINGS = ClusterSettings(node="n1")
NO_GPU = f"0/1 nodes are available: 1 Insufficient {GPU}."


def pod(name: str = "t0", *, node: str = "", why: str = "", phase: str = "Pending", **spec: Any) -> Object:
    """A tenant's pod, or the conductor's; ``why``: it has no place."""
    labels = {LABEL_ROLE: "conductor"} if name == "conductor" else {LABEL_TENANT: name, LABEL_JOB: f"job-{name}"}
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {**({"nodeName": node} if node else {}), **spec},
        "status": {"phase": phase, "conditions": [unplaced] if why else []},
    }


def waiting(reason: str) -> Object:
    """A pod whose container waits for that reason."""
    made = pod(node="n1")
    made["status"]["containerStatuses"] = [{"state": {"waiting": {"reason": reason, "message": "as it is"}}}]
    return made


def event(name: str, reason: str, message: str, *, kind: str = "Pod", normal: bool = False, at: str = "01") -> Object:
    """An event of an object."""
    return {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": kind, "name": name},
        "type": "Normal" if normal else "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": f"2026-01-01T00:00:{at}Z",
    }


class Cluster:
    """Events, as they are now; None: they may not be read."""

    def __init__(self, *events: Object) -> None:
        self.events: list[Object] | None = list(events)
        self.asked = 0

    def list(self, kind: str, namespace: str) -> list[Object]:
        assert (kind, namespace) == ("Event", "kts")
        self.asked += 1
        if self.events is None:
            raise Forbidden("not allowed")
        return self.events


def over(
    pods: Mapping[str, Object], cluster: Cluster, settings: ClusterSettings = SETTINGS, jobs: tuple[str, ...] = ()
) -> tuple[float, str, str]:
    """(after how many seconds of looking each second a wait is over, what is said, the remedy)."""
    waits = Waits(cast(Api, cluster), settings)
    for job in jobs:
        waits.expect(job)
    for second in range(10_000):
        waits.look(pods, (), 100.0 + second)
        if waits.over is not None:
            return second, waits.over.what, waits.over.remedy
    raise AssertionError("this wait never ends")


MOUNT = 'MountVolume.SetUp failed for volume "x" : configmap "gone" not found'
REFUSED = 'Error creating: pods "kts-r-t0-" is forbidden: '
CASES: dict[str, tuple[Object | None, list[Object], float, str, str]] = {
    "no slot": (pod(why=NO_GPU), [], 6, NO_GPU, "doctor"),
    "cpu": (pod(why="1 Insufficient cpu."), [], 6, "no place for tenant t0: 1 Insufficient cpu", "--pod-cpu"),
    "taint": (
        pod(why="1 node(s) had untolerated taint {dedicated: ml}."), [], 6, "untolerated", "--toleration dedicated=ml",
    ),
    "bare taint": (pod(why="1 node(s) had untolerated taint(s) {gpu}."), [], 6, "gpu", "--toleration gpu"),
    "selector": (pod(why="didn't match Pod's node affinity/selector."), [], 6, "affinity", "--node-selector"),
    "volume claim": (pod(why='persistentvolumeclaim "p" not found.'), [], 6, "not found", "--pod-template"),
    "conductor": (pod("conductor", why="1 Insufficient memory."), [], 6, "no place for the conductor", "--pod-memory"),
    "told by an event": (pod(), [event("t0", "FailedScheduling", "no nodes")], 6, "no nodes", "doctor"),
    "scheduling gate": (pod(schedulingGates=[{"name": "q"}]), [], 6, "scheduling gate q", "--wait"),
    "nothing told": (pod(), [], 45, "no scheduler has said anything of pod t0", "default-scheduler"),
    "DRA claim": (pod(resourceClaims=[{"resourceClaimName": "c"}]), [], 45, "ResourceClaim c", "get resourceclaim"),
    "mount": (pod(node="n1"), [event("t0", "FailedMount", MOUNT)], 10, f"FailedMount: {MOUNT}", "cluster.json"),
    "sandbox": (pod(node="n1"), [event("t0", "FailedCreatePodSandBox", "no cni")], 10, "no cni", "cluster.json"),
    "node silent": (pod(node="n1"), [], 60, "does not start on node n1", "describe node n1"),
    "pull": (
        pod(node="n1"), [event("t0", "Pulling", 'Pulling image "big"', normal=True)], 300, "does not end", "registry",
    ),
    "image": (waiting("ErrImageNeverPull"), [], 6, "ErrImageNeverPull: as it is", "kts k8s image"),
    "runtime class": (
        None, [event("job-t0", "FailedCreate", f'{REFUSED}RuntimeClass "x" not found', kind="Job")], 6,
        'RuntimeClass "x" not found', "--runtime-class",
    ),
    "account": (
        None, [event("job-t0", "FailedCreate", f'{REFUSED}serviceaccount "default" not found', kind="Job")],
        45, 'serviceaccount "default" not found', "serviceaccount",
    ),
    "suspended": (
        None, [event("job-t0", "Suspended", "Job suspended", kind="Job", normal=True)], 6, "Job suspended", "--wait",
    ),
    "job silent": (None, [], 45, "no event says why", "kube-controller-manager"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_wait_ends_in_its_time_with_the_clusters_words_and_what_to_do(case: str) -> None:
    """Else a run would wait for minutes for what the cluster has refused long ago."""
    one, events, within_s, what, remedy = CASES[case]
    pods, jobs = ({one["metadata"]["name"]: one}, ()) if one else ({}, ("job-t0",))
    took_s, told, todo = over(pods, Cluster(*events), jobs=jobs)
    assert within_s <= took_s <= within_s + 2
    assert what in told
    assert remedy in todo


def test_a_reason_that_changes_all_the_time_is_limited_as_well() -> None:
    """Else a pod whose reason comes and goes would be waited for without an end."""
    waits, second = Waits(cast(Api, Cluster()), SETTINGS), 0
    while waits.over is None:
        waits.look({"t0": pod(why=NO_GPU if second % 2 else "")}, (), float(second))
        second += 1
    assert second - 1 == SETTINGS.join_s == pending.start_s(SETTINGS)


def test_pods_that_run_have_ended_or_are_gone_wait_for_nothing() -> None:
    """Else a run would be ended that goes well."""
    cluster = Cluster()
    waits = Waits(cast(Api, cluster), SETTINGS)
    waits.expect("job-a")
    there = {"a": pod("a", node="n1", phase="Running"), "b": pod("b", phase="Succeeded"), "c": pod("c", why=NO_GPU)}
    for second in range(1000):
        waits.look(there, ("c",), float(second))
    assert (waits.over, waits.words(), cluster.asked) == (None, "", 0)


def test_wait_allows_a_pod_without_a_place_its_time_and_no_other() -> None:
    """Else `--wait` would not wait, or would hide what no free slot mends."""
    patient = ClusterSettings(node="n1", wait_s=90)
    assert over({"t0": pod(why=NO_GPU)}, Cluster(), patient)[0] == 90
    assert over({"t0": waiting("ErrImageNeverPull")}, Cluster(), patient)[0] == 6


def test_what_the_autoscaler_says_is_told_while_the_pod_waits() -> None:
    """Else a user could not tell a node that is on its way from one that never comes."""
    cluster = Cluster(
        event("t0", "TriggeredScaleUp", "pod triggered scale-up: [{pool 0->1 (max: 3)}]", normal=True, at="09"),
        event("t0", "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached", normal=True),
    )
    waits = Waits(cast(Api, cluster), ClusterSettings(wait_s=600))
    for second in range(5):
        waits.look({"t0": pod(why=f"{NO_GPU} preemption: 0/1 nodes are available: no.")}, (), float(second))
    assert waits.words() == f"pod t0: {NO_GPU[:-1]}; autoscaler: pod triggered scale-up: [{{pool 0->1 (max: 3)}}]"


def test_a_conductor_that_follows_the_tenants_is_not_blamed_for_their_lack_of_a_place() -> None:
    """Else the consequence would be told in place of the reason."""
    free = ClusterSettings()
    both = {"conductor": pod("conductor", why="didn't match pod affinity rules"), "t0": pod(why=NO_GPU)}
    assert over(both, Cluster(), free)[1] == f"no place for tenant t0: {NO_GPU}"
    placed = {**both, "t0": pod(node="n1", phase="Running")}
    assert over(placed, Cluster(), free)[1].startswith("no place for the conductor")
    alone = {"conductor": both["conductor"]}
    assert over(alone, Cluster(), free)[0] == 6
    refused = Cluster(event("job-t0", "FailedCreate", "exceeded quota: q", kind="Job"))
    assert "exceeded quota" in over(alone, refused, free, ("job-t0",))[1]


def test_an_outage_of_the_api_server_does_not_count() -> None:
    """Else a run would be ended for a state that nobody saw."""
    waits = Waits(cast(Api, Cluster()), SETTINGS)
    for now in (0.0, 100.0):
        waits.look({"t0": pod(why=NO_GPU)}, (), now)
    assert waits.over is None


def test_events_that_may_not_be_read_are_no_error_and_a_server_that_is_away_is_told() -> None:
    """Else the least rights would not suffice, or an outage would pass for silence."""
    silent = Cluster()
    silent.events = None
    assert over({}, silent, jobs=("job-t0",))[1].endswith("no event says why")

    class Away(Cluster):
        def list(self, kind: str, namespace: str) -> list[Object]:
            raise Unavailable(f"{kind} {namespace}")

    with pytest.raises(Unavailable):
        over({}, Away(), jobs=("job-t0",))
