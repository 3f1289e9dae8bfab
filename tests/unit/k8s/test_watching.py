"""`kts watch` on a cluster: what is rendered, how it is put there and taken away, and what events say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.helpers_cli import errors, kts_here

from kts.errors import SetupError
from kts.k8s.cluster import podevents
from kts.k8s.cluster.api import Api, Forbidden
from kts.k8s.follow import watching as follow
from kts.k8s.objects import watching
from kts.k8s.objects.names import WATCH
from kts.k8s.objects.watching import WatchSettings
from kts.watch.calls import WatchedProcess
from kts.watch.live import Happened

COMMITTED = Path(__file__).parents[3] / "deploy" / "watch" / "daemonset.yaml"
KUBERNETES = "1.34"
Object = dict[str, Any]


def settings(**given: Any) -> WatchSettings:
    return WatchSettings(image="localhost/kts:v1", **given)


def pod_of(objects: list[Object]) -> Object:
    (found,) = (one for one in objects if one["kind"] == "DaemonSet")
    return dict(found["spec"]["template"]["spec"])


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"names": "kubelet", "trust_kubelet": True, "events": True, "namespace": "gpu-watch"},
        {"names": "none", "runtime_class": "", "node_selector": {"disktype": "ssd"}, "create_namespace": False},
    ],
)
def test_every_object_is_one_that_kubernetes_takes(given: dict[str, Any]) -> None:
    """Else `kubectl apply` of what is rendered would fail, or drop a misspelt field."""
    for obj in watching.render(settings(**given)):
        kubernetes_validate.validate(obj, KUBERNETES, strict=True)


def test_who_asks_nobody_has_no_token_and_no_role() -> None:
    """Else the pod that sees all processes of a node would hold a credential that it does not need."""
    objects = watching.render(settings())
    assert {one["kind"] for one in objects} == {"Namespace", "ServiceAccount", "DaemonSet"}
    assert pod_of(objects)["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ({"names": "kubelet"}, [("nodes/pods", "get")]),
        ({"events": True}, [("events", "create")]),
        ({"names": "kubelet", "events": True}, [("nodes/pods", "get"), ("events", "create")]),
    ],
)
def test_each_choice_has_its_one_rule(given: dict[str, Any], rules: list[tuple[str, str]]) -> None:
    """Else a choice would not work, or grant what another needs."""
    objects = watching.render(settings(**given))
    (role,) = (one for one in objects if one["kind"] == "ClusterRole")
    assert [(*rule["resources"], *rule["verbs"]) for rule in role["rules"]] == rules
    assert pod_of(objects)["automountServiceAccountToken"] is True


def test_the_pod_is_not_privileged_and_writes_only_to_tracefs() -> None:
    """Else watching would need more than it says in docs/watch-rights.md."""
    spec = pod_of(watching.render(settings(names="kubelet", events=True)))
    (container,) = spec["containers"]
    rights = container["securityContext"]
    assert not rights.get("privileged")
    assert rights["capabilities"] == {"drop": ["ALL"], "add": ["SYS_PTRACE"]}
    assert {"hostNetwork", "hostIPC"}.isdisjoint(spec)
    host = {one["name"]: one["hostPath"]["path"] for one in spec["volumes"] if "hostPath" in one}
    assert host == {"tracing": "/sys/kernel/tracing", "logs": "/var/log/containers"}
    writable = {one["name"] for one in container["volumeMounts"] if not one.get("readOnly")}
    assert writable == {"tracing", "tmp"}


def test_two_namespaces_that_watch_do_not_take_each_other_s_rights() -> None:
    """Else removing one would leave the other without names."""
    assert watching.cluster_name("kts-watch") != watching.cluster_name("other")


def test_the_committed_daemonset_is_what_is_rendered() -> None:
    """Else who applies deploy/watch/daemonset.yaml would get another one. Write it anew by the command in its head."""
    text = COMMITTED.read_text(encoding="utf-8")
    done = kts_here("k8s", "watch", "render", "--image", "localhost/kts:v1")
    assert done.returncode == 0, done.stderr
    assert list(yaml.safe_load_all(text)) == list(yaml.safe_load_all(done.stdout))


def test_the_pod_monitor_finds_the_daemonset_s_pods() -> None:
    """Else a Prometheus operator would scrape nothing, or take figures for kts watch's own."""
    monitor = yaml.safe_load(COMMITTED.with_name("podmonitor.yaml").read_text(encoding="utf-8"))
    (daemonset,) = (one for one in watching.render(settings()) if one["kind"] == "DaemonSet")
    template = daemonset["spec"]["template"]
    assert monitor["metadata"]["namespace"] == daemonset["metadata"]["namespace"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert endpoint["honorLabels"] is True


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--names", "magic"), "--names: 'magic' is none"),
        (("--pull-policy", "Sometimes"), "--pull-policy: 'Sometimes' is none"),
        (("--trust-kubelet",), "--trust-kubelet: the kubelet is not asked"),
        (("--node-selector", "gpu"), "--node-selector: 'gpu' is not KEY=VALUE"),
        (("--namespace", "A"), "--namespace: 'A' is not for Kubernetes"),
    ],
)
def test_a_wrong_option_is_named(options: tuple[str, ...], words: str) -> None:
    """Else it would be refused by the cluster, in other words, or be ignored."""
    done = kts_here("k8s", "watch", "render", "--image", "localhost/kts:v1", *options)
    assert done.returncode == 2
    assert words in errors(done)[0]


class Nodes(Api):
    """A cluster in memory. ``status``: of the DaemonSet; ``pods``: which are there; ``log``: of each."""

    def __init__(self, **status: int) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.status, self.pods, self.events = status, list[Object](), list[Object]()
        self.deleted: list[str] = []
        self.log, self.now_s, self.roles_refused = b"", 0.0, False

    def apply(self, obj: Object) -> Object:
        obj = {**obj, "metadata": {**obj["metadata"], "generation": 1}}
        if obj["kind"] == "DaemonSet":
            obj["status"] = {"observedGeneration": 1, **self.status}
        self.objects[obj["kind"], obj["metadata"]["name"]] = obj
        return obj

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        assert not dry_run
        return self.apply(obj)

    def get(self, kind: str, name: str, namespace: str = "") -> Object | None:
        del namespace
        return {} if kind == "ServiceAccount" and name == "default" else self.objects.get((kind, name))

    def list(self, kind: str, namespace: Any = None, labels: Any = None, *, fields: Any = None) -> list[Object]:
        del namespace, labels, fields
        return self.events if kind == "Event" else self.pods

    def delete(self, kind: str, name: str, namespace: str = "", *, grace_s: int | None = None) -> bool:
        del namespace, grace_s
        if self.roles_refused and kind.startswith("ClusterRole"):
            raise Forbidden("not allowed")
        if self.objects.pop((kind, name), None) is None:
            return False
        self.deleted.append(kind)
        return True

    def logs(
        self, pod: str, namespace: str, *, tail: int | None = None, container: str = "", previous: bool = False
    ) -> Any:
        del pod, namespace, tail, container
        return iter([self.log] if previous else [])

    def pause(self, s: float) -> None:
        self.now_s += s
        if self.now_s > 5:
            self.pods = []

    def install(self, **given: Any) -> follow.WatchedNodes:
        return follow.install(self, settings(**given), now=lambda: self.now_s, pause=self.pause)

    def remove(self) -> bool:
        return follow.remove(self, "kts-watch", now=lambda: self.now_s, pause=self.pause)


def pod(**state: Any) -> Object:
    container = {"name": "watch", "restartCount": 0, **state}
    return {
        "metadata": {"name": "kts-watch-x", "labels": {}},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "containerStatuses": [container]},
    }


def test_it_is_installed_once_every_node_serves() -> None:
    """Else the command would end before anything is seen, or never."""
    nodes = Nodes(desiredNumberScheduled=2, updatedNumberScheduled=2, numberReady=2)
    assert nodes.install(events=True) == (2, 2)
    assert {kind for kind, _ in nodes.objects} == {
        *("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "DaemonSet")
    }


def test_rights_that_are_not_asked_for_any_more_are_taken_back() -> None:
    """Else an installation without events would still be allowed to make them."""
    nodes = Nodes(desiredNumberScheduled=1, updatedNumberScheduled=1, numberReady=1)
    nodes.install(events=True)
    nodes.install()
    assert {"ClusterRole", "ClusterRoleBinding"}.isdisjoint(kind for kind, _ in nodes.objects)
    nodes.roles_refused = True
    nodes.install()


@pytest.mark.parametrize(
    ("pods", "status", "words"),
    [
        ([pod(restartCount=1)], {}, "on node n1 kts watch ends: error: tracefs is not mounted"),
        ([pod(state={"waiting": {"reason": "ErrImageNeverPull"}})], {}, "cannot start: ErrImageNeverPull"),
        ([], {}, 'no pod is made: violates PodSecurity "baseline"'),
        ([pod()], {}, "0 of 1 nodes are watched: kts-watch-x"),
        ([], {"desiredNumberScheduled": 0}, "none has a label that says GPU"),
        ([], {"observedGeneration": 0}, "the cluster does not look at the DaemonSet"),
    ],
)
def test_what_keeps_a_node_from_being_watched_is_said(pods: list[Object], status: dict[str, int], words: str) -> None:
    """Else an administrator would wait, and then have to look by himself."""
    nodes = Nodes(**{"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": 0, **status})
    nodes.pods, nodes.log = pods, b"error: tracefs is not mounted\n"
    nodes.events = [{"message": 'violates PodSecurity "baseline"'}]
    nodes.pause = lambda s: setattr(nodes, "now_s", nodes.now_s + s)  # type: ignore[method-assign]
    with pytest.raises(SetupError) as caught:
        nodes.install()
    assert words in caught.value.what


def test_removing_waits_for_the_pods_and_leaves_nothing() -> None:
    """Else probes could stay in a node's kernel, or rights in the cluster."""
    nodes = Nodes(desiredNumberScheduled=1, updatedNumberScheduled=1, numberReady=1)
    nodes.install(events=True)
    nodes.pods = [pod()]
    assert nodes.remove()
    assert nodes.now_s > 5
    assert nodes.objects == {}
    assert nodes.deleted[0] == "DaemonSet"
    assert not nodes.remove()


def test_a_namespace_of_others_stays() -> None:
    """Else removing would take what somebody else keeps there."""
    nodes = Nodes(desiredNumberScheduled=1, updatedNumberScheduled=1, numberReady=1)
    nodes.apply({"kind": "Namespace", "metadata": {"name": "kts-watch", "labels": {"team": "a"}}})
    nodes.install(create_namespace=False)
    assert nodes.remove()
    assert list(nodes.objects) == [("Namespace", "kts-watch")]


def test_pods_that_do_not_go_are_named() -> None:
    """Else an unwell node would make the command wait for ever, or say that all is gone."""
    nodes = Nodes()
    nodes.pods = [pod()]
    nodes.pause = lambda s: setattr(nodes, "now_s", nodes.now_s + s)  # type: ignore[method-assign]
    with pytest.raises(SetupError, match="still there after 90 s: kts-watch-x"):
        nodes.remove()


PROCESS = WatchedProcess(
    number=1, pid=7, began_ticks=3, command="python3", pod_uid="u-1", pod="llm-0", namespace="a", container_name="serve"
)
NEIGHBOUR = Happened(
    at_ns=5, what="new-neighbour", unit="a/llm-0/serve", words="b/train-1 has work in flight beside it"
)


class Taken(Api):
    """An API server that takes events, or not."""

    def __init__(self) -> None:
        self.events: list[Object] = []
        self.refuses = False

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        assert not dry_run
        if self.refuses:
            raise Forbidden("not allowed: events is forbidden")
        self.events.append(obj)
        return obj


def test_an_event_is_of_the_pod_and_one_that_kubernetes_takes() -> None:
    """Else `kubectl describe pod` would not show it."""
    event = podevents.event(NEIGHBOUR, PROCESS, "n1", 1_767_225_600)
    kubernetes_validate.validate(event, KUBERNETES, strict=True)
    assert event["metadata"]["namespace"] == event["involvedObject"]["namespace"] == "a"
    assert (event["involvedObject"]["name"], event["involvedObject"]["uid"]) == ("llm-0", "u-1")
    assert event["involvedObject"]["fieldPath"] == "spec.containers{serve}"
    assert (event["reason"], event["lastTimestamp"]) == ("GpuNewNeighbour", "2026-01-01T00:00:00Z")
    assert event["source"] == {"component": WATCH, "host": "n1"}


def test_what_goes_on_is_one_event_and_what_is_refused_is_tried_again() -> None:
    """Else a pod's events would be flooded, or a right granted later would change nothing."""
    api, clock = Taken(), [0.0]
    tell = podevents.PodEvents(api, "n1", now=lambda: clock[0], wall=lambda: 0.0)
    api.refuses = True
    assert not tell.tell(NEIGHBOUR, PROCESS)
    assert tell.problem == "not allowed: events is forbidden"
    api.refuses = False
    assert tell.tell(NEIGHBOUR, PROCESS)
    assert tell.problem == ""
    assert not tell.tell(NEIGHBOUR, PROCESS)
    doubled = Happened(at_ns=6, what="tail-doubled", unit="a/llm-0/serve", words="p99 4.1 ms, was 2.0")
    assert tell.tell(doubled, PROCESS)
    clock[0] = podevents.AGAIN_S
    assert tell.tell(NEIGHBOUR, PROCESS)
    assert [one["reason"] for one in api.events] == ["GpuNewNeighbour", "GpuTailDoubled", "GpuNewNeighbour"]


def test_what_is_no_matter_of_a_pod_is_no_event() -> None:
    """Else calls that were lost would be told to whoever owns some pod, or an event would be of no pod at all."""
    api = Taken()
    tell = podevents.PodEvents(api, "n1", now=lambda: 0.0)
    assert not tell.tell(Happened(at_ns=1, what="lost-calls", unit="", words="4 calls"), PROCESS)
    assert not tell.tell(NEIGHBOUR, WatchedProcess(number=1, pid=7, began_ticks=3, command="python3"))
    assert (api.events, tell.problem) == ([], "")


def test_memory_of_what_was_told_is_bounded() -> None:
    """Else a node on which pods come and go for months would fill."""
    api = Taken()
    tell = podevents.PodEvents(api, "n1", now=lambda: 0.0)
    for n in range(podevents.MOST + 50):
        pod = WatchedProcess(number=n, pid=7, began_ticks=3, command="p", pod_uid=f"u{n}", pod="p", namespace="a")
        assert tell.tell(NEIGHBOUR, pod)
    assert len(tell._told) == podevents.MOST
