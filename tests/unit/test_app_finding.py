"""`--dcgm auto` on this machine: what is looked for, in which order, and what is said."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.helpers_telemetry import OTHER_UUID, UUID, Exporter, exporter, recorded

from kts.app import finding
from kts.app.exporter import exporter_here, exporter_in_pods, exporter_url
from kts.errors import SetupError, UsageError

NOBODY = "http://127.0.0.1:9/metrics"


@pytest.fixture
def served() -> Iterator[Exporter]:
    with exporter() as found:
        yield found


class Cluster:
    """One node, and an exporter's pod on it whose address nobody here reaches."""

    server = "https://cluster"
    namespace = "default"

    def __init__(self, node: dict[str, Any], *, ip: str = "127.0.0.1", port: int = 9) -> None:
        self.node, self.closed = node, False
        self.ip, self.port = ip, port

    def list(self, kind: str, *_: Any) -> list[dict[str, Any]]:
        if kind == "Node":
            return [{"metadata": {"name": "elsewhere"}}, self.node]
        container = {"ports": [{"name": "metrics", "containerPort": self.port}]}
        return [
            {
                "metadata": {"name": f"exporter-{node}", "namespace": "gpu-operator"},
                "spec": {"nodeName": node, "containers": [container]},
                "status": {"phase": "Running", "podIP": self.ip},
            }
            for node in ("elsewhere", self.node["metadata"]["name"])
        ]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Puts this machine into a cluster (None: none); nobody listens at port 9400 here."""
    machine_id = tmp_path / "machine-id"
    machine_id.write_text("0123abcd\n")
    monkeypatch.setattr(finding, "LOCAL", NOBODY)
    monkeypatch.setattr(finding, "MACHINE_ID", machine_id)

    def put(cluster: Cluster | None, forwards_to: int | None = None) -> list[str]:
        opened: list[str] = []

        def connect() -> Cluster:
            if cluster is None:
                raise SetupError("no kubeconfig", "make one")
            return cluster

        @contextmanager
        def forwarded(_: Any, namespace: str, pod: str, port: int) -> Iterator[int]:
            if forwards_to is None:
                raise SetupError("not allowed: pods/portforward", "ask")
            opened.append(f"{namespace}/{pod}:{port}")
            yield forwards_to
            opened.append("over")

        monkeypatch.setattr(finding.Api, "connect", connect)
        monkeypatch.setattr(finding, "forwarded", forwarded)
        return opened

    return put


NODE = {"metadata": {"name": "n1"}, "status": {"nodeInfo": {"machineID": "0123abcd"}}}


def test_what_listens_here_is_taken_first(served: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a workstation would need a cluster to find its own exporter."""
    monkeypatch.setattr(finding, "LOCAL", served.url)
    with exporter_here("auto", [UUID]) as found:
        assert found == (served.url, "")


def test_this_nodes_exporter_is_reached_at_its_pods_address(served: Exporter, place: Any) -> None:
    """Else the samples would take the way through the API server without need."""
    opened = place(Cluster(NODE, port=served.port))
    with exporter_here("auto", [UUID]) as found:
        assert found.url == served.url
    assert opened == []


@pytest.mark.parametrize(
    "node",
    [
        NODE,
        {"metadata": {"name": socket.gethostname()}},
        {"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": socket.gethostname()}}},
    ],
    ids=["machine-id", "name", "label"],
)
def test_else_through_a_port_forward_for_as_long_as_it_is_needed(
    served: Exporter, place: Any, node: dict[str, Any]
) -> None:
    """Else a NetworkPolicy before the exporter would hide it, or the way stay open after the run."""
    cluster = Cluster(node)
    opened = place(cluster, forwards_to=served.port)
    with exporter_here("auto", [UUID]) as found:
        assert found.url == served.url
        assert opened == [f"gpu-operator/exporter-{node['metadata']['name']}:9"]
        assert not cluster.closed
    assert opened[-1] == "over"
    assert cluster.closed


def test_another_machines_exporter_is_not_asked(served: Exporter, place: Any) -> None:
    """Else another node's GPU would be taken for this one's."""
    opened = place(Cluster({"metadata": {"name": "n1"}}), forwards_to=served.port)
    with exporter_here("auto", [UUID]) as found:
        assert found.url == ""
        assert "no node of https://cluster is this machine" in found.missing
    assert opened == []


def test_an_exporter_of_another_gpu_is_refused(served: Exporter, place: Any) -> None:
    """Else a container that bears its host's name would get another GPU's values."""
    served.text = recorded("4.4-virtual-gpus.prom")
    place(Cluster(NODE), forwards_to=served.port)
    with exporter_here("auto", [OTHER_UUID]) as found:
        assert found.url == ""
        assert f"it tells of {UUID}" in found.missing


def test_a_mig_device_is_of_whatever_gpu_the_exporter_here_has(
    served: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else MIG would never find its exporter: the lines bear the GPU's UUID."""
    monkeypatch.setattr(finding, "LOCAL", served.url)
    served.text = recorded("3.3-mig.prom")
    with exporter_here("auto", ["MIG-1"]) as found:
        assert found.url == served.url


def test_with_nothing_there_one_line_says_what_was_tried(place: Any) -> None:
    """Else the user would not know what to set up, or the run would end for it."""
    place(None)
    with exporter_here("auto", [UUID]) as found:
        assert found.url == ""
        assert found.missing.startswith(f"--dcgm auto: {NOBODY}: ")
        assert found.missing.endswith("no cluster to look in: no kubeconfig")
    place(Cluster(NODE))
    with exporter_here("auto", [UUID]) as found:
        assert "through port-forward: not allowed: pods/portforward" in found.missing
        assert "\n" not in found.missing
    with exporter_here("auto", []) as found:
        assert found.missing == "--dcgm auto: no GPU here to ask about"


def test_doctor_says_what_an_exporter_of_the_cluster_tells_of(served: Exporter, place: Any) -> None:
    """Else one would learn only in a run whether the exporter has the GPU."""
    cluster: Any = Cluster(NODE)
    place(cluster, forwards_to=served.port)
    one = finding.find(cluster, "kts")[0][-1]
    status, said = finding.told_through(cluster, one)
    assert status == "ok"
    assert UUID in said
    served.status = 401
    assert finding.told_through(cluster, one) == ("note", "gpu-operator/exporter-n1 on node n1: HTTP 401 Unauthorized")


def test_what_is_given_is_checked_before_anything_starts() -> None:
    """Else a wrong address would be learnt of after the run, or a password be in a pod's spec."""
    assert exporter_url("auto") == exporter_in_pods("auto") == "auto"
    assert exporter_url("http://me:secret@node") == "http://me:secret@node"
    for wrong in (lambda: exporter_url("ftp://node"), lambda: exporter_url("auto", telemetry=False)):
        with pytest.raises(UsageError):
            wrong()
    with pytest.raises(UsageError) as caught:
        exporter_in_pods("http://me:s3cret@node")
    assert "s3cret" not in str(caught.value)
    with exporter_here("http://node", []) as found:
        assert found == ("http://node", "")
