"""dcgm-exporters in a cluster: which pods are some, and which is the run's node's."""

from __future__ import annotations

from typing import Any

import pytest

from kts.k8s.cluster.api import Api, Forbidden, Unavailable
from kts.k8s.cluster.exporters import find, with_exporter
from kts.k8s.objects.exporters import AUTO, SELECTORS, exporters
from kts.k8s.objects.settings import ClusterSettings

CHART = {"name": "exporter", "ports": [{"name": "metrics", "containerPort": 9400}]}


def pod(name: str, node: str, *, namespace: str = "gpu-operator", ip: str = "10.0.0.7", **spec: Any) -> dict[str, Any]:
    """One that runs."""
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "containers": [CHART], **spec},
        "status": {"phase": "Running", "podIP": ip},
    }


class Cluster(Api):
    """Its pods by selector; ``closed``: namespaces that this user may not list, None for all at once."""

    def __init__(self, *pods: dict[str, Any], closed: tuple[str | None, ...] = (), away: bool = False) -> None:
        self.pods, self.closed, self.away = pods, closed, away
        self.services: list[dict[str, Any]] = []

    def list(self, kind: str, namespace: str | None = None, labels: Any = None) -> list[dict[str, Any]]:
        if kind == "Service":
            return [one for one in self.services if one["metadata"]["namespace"] == namespace]
        assert kind == "Pod"
        assert set(labels) <= set(SELECTORS)
        if self.away:
            raise Unavailable("the server cannot be reached", "wait")
        if namespace in self.closed or "*" in self.closed:
            raise Forbidden("not allowed", "ask")
        return [one for one in self.pods if namespace in {None, one["metadata"]["namespace"]}]


def settings(**given: Any) -> ClusterSettings:
    """Of a run that looks for its exporter."""
    return ClusterSettings(dcgm=AUTO, **given)


@pytest.mark.parametrize(
    ("spec", "ip", "url"),
    [
        ({}, "10.0.0.7", "http://10.0.0.7:9400/metrics"),
        ({"hostNetwork": True}, "192.168.1.5", "http://192.168.1.5:9400/metrics"),
        ({}, "fd00::7", "http://[fd00::7]:9400/metrics"),
        ({"containers": [{"name": "x"}]}, "10.0.0.7", "http://10.0.0.7:9400/metrics"),
        (
            {"containers": [{"ports": [{"containerPort": 8443}]}, {"ports": [{"containerPort": 9400}]}]},
            "10.0.0.7",
            "http://10.0.0.7:9400/metrics",
        ),
        (
            {"containers": [{"ports": [{"containerPort": 9400}, {"name": "metrics", "containerPort": 9401}]}]},
            "10.0.0.7",
            "http://10.0.0.7:9401/metrics",
        ),
        (
            {"containers": [{**CHART, "livenessProbe": {"httpGet": {"scheme": "HTTPS"}}}]},
            "10.0.0.7",
            "https://10.0.0.7:9400/metrics",
        ),
    ],
    ids=["pod", "host-network", "ipv6", "no-ports", "sidecar", "named", "tls"],
)
def test_an_exporters_address_is_read_from_its_pod(spec: dict[str, Any], ip: str, url: str) -> None:
    """Else the conductor would ask a sidecar, or the wrong port."""
    (found,) = exporters([pod("e", "n1", ip=ip, **spec)])
    assert found.url == url


def test_pods_that_do_not_run_or_were_seen_twice_are_left_out() -> None:
    """Else a rollout's old pod would be scraped."""
    going = pod("going", "n1")
    going["metadata"]["deletionTimestamp"] = "now"
    pending = pod("pending", "n1")
    pending["status"] = {"phase": "Pending"}
    assert [one.pod for one in exporters([going, pending, pod("b", "n1"), pod("a", "n1"), pod("b", "n1")])] == [
        "a",
        "b",
    ]


def test_the_exporter_of_the_runs_node_is_taken() -> None:
    """Else another node's GPU would be scraped, and be missing by its UUID."""
    cluster = Cluster(pod("a", "n1", ip="10.0.0.1"), pod("b", "n2", ip="10.0.0.2"))
    assert with_exporter(cluster, settings(node="n2")).dcgm == "http://10.0.0.2:9400/metrics"


def service(address: str, *, local: bool = False, port: Any = "metrics", **selector: str) -> dict[str, Any]:
    """One in the operator's namespace."""
    ports = [{"port": 8080, "targetPort": 1}, {"port": 9400, "targetPort": port}]
    policy = {"internalTrafficPolicy": "Local" if local else "Cluster"}
    spec = {"clusterIP": address, "selector": selector, "ports": ports, **policy}
    return {"metadata": {"name": "s", "namespace": "gpu-operator"}, "spec": spec}


def test_the_exporters_service_is_the_way_to_the_pod_after_it() -> None:
    """Else an exporter's update in the middle of a run would be its end: the next pod has another address."""
    one = pod("a", "n1")
    one["metadata"]["labels"] = {"app": "nvidia-dcgm-exporter", "x": "y"}
    cluster = Cluster(one)
    app = "nvidia-dcgm-exporter"
    cluster.services = [service("None", app=app), service("10.1.0.1", app="other"), service("10.1.0.2")]
    assert with_exporter(cluster, settings(node="n1")).dcgm == "http://10.0.0.7:9400/metrics"
    cluster.services += [service("10.1.0.3", app=app), service("fd00::9", local=True, port=9400, app=app)]
    chosen = with_exporter(cluster, settings(node="n1"))
    assert chosen.dcgm == "http://10.0.0.7:9400/metrics http://[fd00::9]:9400/metrics"


@pytest.mark.parametrize(
    ("cluster", "node", "why"),
    [
        (Cluster(pod("a", "n1")), "n2", "no dcgm-exporter runs on node n2, but on n1 (looked in all namespaces)"),
        (Cluster(), "", "no dcgm-exporter runs (looked in all namespaces)"),
        (Cluster(pod("a", "n1"), pod("b", "n2")), "", "give --node"),
        (Cluster(away=True), "n1", "cannot be reached"),
        (Cluster(closed=("*",)), "n1", "may list no pods"),
    ],
    ids=["elsewhere", "none", "several", "away", "forbidden"],
)
def test_a_run_goes_on_without_one_and_says_what_was_tried(cluster: Cluster, node: str, why: str) -> None:
    """Else a run would end for want of what is only beside it, or nobody would know why it is not there."""
    chosen = with_exporter(cluster, settings(node=node))
    assert chosen.dcgm == ""
    assert chosen.dcgm_missing.startswith("--dcgm auto: ")
    assert why in chosen.dcgm_missing


def test_the_usual_namespaces_are_asked_where_not_all_may_be() -> None:
    """Else a user with rights in one namespace would have to give the address by hand."""
    cluster = Cluster(pod("a", "n1"), closed=(None, "kts", "monitoring"))
    found, where = find(cluster, "kts")
    assert [one.name for one in found] == ["gpu-operator/a"]
    assert "gpu-operator" in where
    assert "monitoring" not in where


def test_an_address_that_was_given_is_left_alone() -> None:
    """Else a run would list pods that it does not need."""
    given = ClusterSettings(dcgm="http://node:9400/metrics")
    assert with_exporter(Cluster(away=True), given) == given
