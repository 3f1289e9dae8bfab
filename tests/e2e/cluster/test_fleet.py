"""`kts run --nodes` on a real cluster: its nodes are measured by pods of its own, and others are told why not.

The other nodes are simulated: Node objects without a kubelet behind them, so that nothing can run there. KTS_E2E_FULL=1
builds the image of the whole kts, which takes minutes.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helpers_cli import KTS, errors, kts
from tests.helpers_cluster import NEEDS_KUBECTL, on_a_cluster

from kts.k8s.cluster.api import Api
from kts.k8s.cluster.creation import KINDS
from kts.k8s.objects.names import APP, LABEL_APP
from kts.store import fleetfile, open_run

DEPLOY = Path(__file__).parents[3] / "deploy"
NAMESPACE = "kts-e2e-fleet"
LABEL = "kts.dev/e2e-fleet"
GPU = "nvidia.com/gpu"
EXPERIMENT = """\
name: small
rounds: 2
precision: null
tenants:
  t0: {workload: fft, size: 32, think_ms: 1, iterations: 400}
  t1: {workload: fft, size: 32, think_ms: 1, iterations: 400}
"""
pytestmark = [
    *on_a_cluster(),
    NEEDS_KUBECTL,
]


def kubectl(*arguments: str, given: object = None) -> str:
    """Its output."""
    text = None if given is None else json.dumps(given)
    done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fake(name: str, slots: int, *, ready: bool = True, cordoned: bool = False) -> dict[str, Any]:
    """A Node that nobody is behind, and on which nothing may be scheduled."""
    taints = [{"key": LABEL, "value": "fake", "effect": "NoExecute"}]
    condition = {"type": "Ready", "status": "True" if ready else "False", "message": "its kubelet said goodbye"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: "fake"}},
        "spec": {"taints": taints, "unschedulable": cordoned},
        "status": {"conditions": [condition], "allocatable": {GPU: str(slots)}, "capacity": {GPU: str(slots)}},
    }


@pytest.fixture(name="fakes")
def _fakes() -> Iterator[list[str]]:
    # Kubernetes remembers when it last heard of a name, and calls a second node of that name lost at once.
    names = [f"kts-e2e-{kind}-{secrets.token_hex(3)}" for kind in ("none", "off", "silent")]
    none, off, silent = names
    nodes = [fake(none, 0), fake(off, 4, cordoned=True), fake(silent, 4, ready=False)]
    try:
        for node in nodes:
            kubectl("create", "-f", "-", given=node)
        yield names
    finally:
        kubectl("delete", "node", "--ignore-not-found", *names)


@pytest.fixture(name="account")
def _account() -> Iterator[None]:
    """The ServiceAccount of deploy/in-cluster.yaml with the rights of deploy/rbac.yaml, in a namespace of this test."""
    made = []
    for file in ("rbac.yaml", "in-cluster.yaml"):
        for obj in yaml.safe_load_all((DEPLOY / file).read_text(encoding="utf-8")):
            if obj["kind"] == "Namespace":
                obj["metadata"]["name"] = NAMESPACE
            elif "namespace" in obj["metadata"]:
                obj["metadata"]["namespace"] = NAMESPACE
            else:
                obj["metadata"]["name"] += "-e2e-fleet"
            if obj["kind"] == "ClusterRoleBinding":
                obj["roleRef"]["name"] += "-e2e-fleet"
            for subject in (one for one in obj.get("subjects", ()) if one["kind"] == "ServiceAccount"):
                subject["namespace"] = NAMESPACE
            made.append(obj)
    try:
        for obj in made:
            kubectl("apply", "-f", "-", given=obj)
        yield
    finally:
        for obj in made:
            if obj["kind"].startswith("ClusterRole"):
                kubectl("delete", obj["kind"].lower(), obj["metadata"]["name"], "--ignore-not-found")
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def arguments(tmp_path: Path, nodes: str) -> list[str]:
    """Of `kts run`."""
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT, encoding="utf-8")
    where = ["--on", "k8s", "--namespace", NAMESPACE, "--device", "cpu", "--extra", "cpu", "--nodes", nodes]
    return ["run", str(path), *where, "--out", str(tmp_path / "out"), "--no-figures"]


def test_nodes_that_cannot_be_measured_are_named_with_their_reasons(tmp_path: Path, fakes: list[str]) -> None:
    """Else a fleet would wait at a node that no pod comes up on."""
    done = kts(*arguments(tmp_path, f"{LABEL} in (fake,other)"))
    assert done.returncode == 4, done.stderr
    (said,) = errors(done)
    none, off, silent = fakes
    assert f"{none} offers no {GPU}" in said
    assert f"{off} cordoned" in said
    assert f"{silent} not Ready: its kubelet said goodbye" in said


@pytest.mark.skipif(not os.environ.get("KTS_E2E_FULL"), reason="KTS_E2E_FULL=1 builds the image of the whole kts")
@pytest.mark.usefixtures("account")
def test_a_pod_of_its_own_measures_each_node_and_nothing_is_left(tmp_path: Path, fakes: list[str]) -> None:
    """Else the fleet would be a way of measuring that is not that of one run, or a run with other rights."""
    building = [*KTS, "k8s", "image", "--full", "--extra", "cpu"]
    built = subprocess.run(building, capture_output=True, text=True, timeout=280, check=False)
    assert built.returncode == 0, built.stderr
    done = kts(*arguments(tmp_path, ""))
    fleet = fleetfile.read(tmp_path / "out")
    assert {node.node for node in fleet.nodes if node.state == "skipped"} >= set(fakes), done.stderr
    real = [node for node in fleet.nodes if node.state == "complete"]
    assert (len(real), done.returncode) == (1, 4), done.stderr
    run = open_run(tmp_path / "out" / real[0].directory)
    assert (run.info.id, run.info.outcome.kind, run.damage) == (real[0].node, "complete", ())
    api = Api.connect()
    try:
        assert [obj for kind in KINDS for obj in api.list(kind, NAMESPACE, {LABEL_APP: APP})] == []
    finally:
        api.close()
