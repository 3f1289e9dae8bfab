"""One experiment on many nodes: real kts, conductors and workers as processes, Kubernetes in memory behind HTTP.

Simulated are the nodes, which are all this machine, and the Job's controller."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.helpers_cli import errors, kts, start
from tests.helpers_fleet_here import FleetHere, node
from tests.helpers_wait import until

from kts.model.fleet import Fleet
from kts.store import fleetfile, open_run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measuring needs Linux"),
]

TEXT = """\
name: small
rounds: 2
precision: null
tenants:
  a: {workload: fft, size: 32, think_ms: 1, iterations: ITERATIONS}
  b: {workload: fft, size: 32, think_ms: 1, iterations: ITERATIONS}
"""
NODES = [
    node("n1", pool="gpu"),
    node("n2", pool="gpu"),
    node("n3", 1, pool="gpu"),
    node("n4", pool="gpu", ready=False),
    node("n5", 0, pool="gpu"),
    node("n6", pool="gpu", cordoned=True),
    node("other", pool="cpu"),
]


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[FleetHere]:
    with FleetHere(tmp_path / "cluster", NODES) as cluster:
        yield cluster


def arguments(tmp_path: Path, *more: str, iterations: int = 400, out: str = "out") -> list[str]:
    """Of `kts run`."""
    path = tmp_path / "small.yaml"
    path.write_text(TEXT.replace("ITERATIONS", str(iterations)), encoding="utf-8")
    here = ["--image", "worker:v1", "--full-image", "kts:v1", "--out", str(tmp_path / out), "--no-figures"]
    fixed = ["--on", "k8s", "--device", "cpu", "--extra", "cpu", "--runtime-class", "", "--no-telemetry"]
    return ["run", str(path), *fixed, *here, *more]


def states(fleet: Fleet) -> dict[str, str]:
    """By node."""
    return {one.node: one.state for one in fleet.nodes}


def when_measuring(tmp_path: Path) -> Callable[[], bool]:
    """Whether the first node's copy has a block."""

    def holds() -> bool:
        try:
            return len(json.loads((tmp_path / "out/nodes/n1/run.json").read_bytes())["blocks"]) > 0
        except (OSError, ValueError):
            return False

    return holds


def ended(process: subprocess.Popen[str]) -> str:
    """What it said on stderr, once it has ended."""
    return process.communicate(timeout=400)[1]


def test_every_node_that_can_be_is_measured_and_one_that_fails_costs_itself_alone(
    cluster: FleetHere, tmp_path: Path
) -> None:
    """Else a fleet would stop at its first bad node, or its table would not say why one is missing."""
    done = kts(*arguments(tmp_path, "--nodes", "pool=gpu", "--at-once", "2"), KUBECONFIG=str(cluster.kubeconfig))
    assert done.returncode == 4, done.stderr
    fleet = fleetfile.read(tmp_path / "out")
    assert states(fleet) == {
        "n1": "complete", "n2": "complete", "n3": "failed", "n4": "skipped", "n5": "skipped", "n6": "skipped"
    }  # fmt: skip
    assert errors(done)[0].startswith("4 of 6 nodes are not complete (n3 failed, n4 skipped, n5 skipped, n6 skipped)")
    said = " ".join(done.stdout.split())
    assert "n3: failed: no free slot for 1 of 2 tenants; node n3: 0 of 1 slots in use" in said
    assert "n4: skipped: not Ready: no word" in said
    assert "n5: skipped: offers no nvidia.com/gpu" in said
    assert "n6: skipped: cordoned" in said
    for name in ("n1", "n2"):
        run = open_run(tmp_path / "out/nodes" / name)
        assert (run.info.id, run.info.outcome.kind, run.damage) == (name, "complete", ())
        cluster_json = json.loads((tmp_path / "out/nodes" / name / "cluster.json").read_bytes())
        assert {pod["node"] for pod in cluster_json["pods"]} == {name}
    assert not (tmp_path / "out/nodes/n3").exists()
    assert cluster.most_at_once == 2
    assert [key for key in cluster.objects if key[0] != "Event"] == []
    again = kts("report", tmp_path / "out", "--no-figures")
    assert again.stdout == done.stdout


def test_a_client_that_is_killed_is_attached_again_and_the_fleet_went_on(cluster: FleetHere, tmp_path: Path) -> None:
    """Else a closed laptop would cost hours of many machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        process = start(*arguments(tmp_path, "--nodes", "pool=gpu"))
    until(when_measuring(tmp_path), "a node is measured")
    process.kill()
    process.communicate()
    env = {"KUBECONFIG": str(cluster.kubeconfig)}
    (listed,) = [line for line in kts("runs", **env).stdout.splitlines() if "nodes over" in line]
    name = listed.split()[0]
    assert "of 3 nodes over" in listed
    refused = kts("collect", name, **env)
    assert (refused.returncode, "is a fleet" in refused.stderr) == (2, True)
    done = kts("attach", name, "--out", tmp_path / "out", "--no-figures", **env)
    assert states(fleetfile.read(tmp_path / "out")) | {"n4": "", "n5": "", "n6": ""} == {
        "n1": "complete", "n2": "complete", "n3": "failed", "n4": "", "n5": "", "n6": ""
    }, done.stderr  # fmt: skip
    assert cluster.most_at_once == 1
    assert [key for key in cluster.objects if key[0] != "Event"] == []


def test_ctrl_c_ends_all_runs_in_order_and_keeps_what_was_measured(cluster: FleetHere, tmp_path: Path) -> None:
    """Else stopping a fleet would cost what it has, or leave runs behind on many machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        process = start(*arguments(tmp_path, "--nodes", "pool=gpu", iterations=20_000))
    journal = tmp_path / "out/nodes/n1/records.journal"
    until(lambda: journal.exists() and journal.stat().st_size > 0, "records are fetched")
    process.send_signal(signal.SIGINT)
    said = ended(process)
    assert process.returncode == 130, said
    fleet = fleetfile.read(tmp_path / "out")
    assert states(fleet) | {"n4": "", "n5": "", "n6": ""} == {
        "n1": "interrupted", "n2": "interrupted", "n3": "interrupted", "n4": "", "n5": "", "n6": ""
    }  # fmt: skip
    by_name = {one.node: one for one in fleet.nodes}
    assert by_name["n2"].reason == "not begun: the fleet was stopped"
    run = open_run(tmp_path / "out/nodes/n1")
    assert (run.info.outcome.kind, run.damage) == ("interrupted", ())
    assert [key for key in cluster.objects if key[0] != "Event"] == []


def test_a_pod_that_is_killed_costs_its_node_and_keeps_what_was_fetched(cluster: FleetHere, tmp_path: Path) -> None:
    """Else a node that vanishes would take the others' results with it, or its own first blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        process = start(*arguments(tmp_path, "--nodes", "pool=gpu,pool!=x", iterations=3000))
    until(when_measuring(tmp_path), "a node is measured")
    cluster.process("-0-x").kill()
    said = ended(process)
    assert process.returncode == 5, said
    fleet = fleetfile.read(tmp_path / "out")
    by_name = {one.node: one for one in fleet.nodes}
    assert (by_name["n1"].state, by_name["n2"].state) == ("incomplete", "complete")
    assert by_name["n1"].reason.startswith("the pod that followed its run ended")
    run = open_run(tmp_path / "out/nodes/n1")
    assert (run.info.outcome.kind, len(run.info.blocks) >= 1) == ("incomplete", True)
    assert [key for key in cluster.objects if key[0] != "Event"] == []


def test_without_its_service_account_nothing_is_created(cluster: FleetHere, tmp_path: Path) -> None:
    """Else the Job would stand there without a pod, and not say why."""
    cluster.accounts.discard("kts")
    done = kts(*arguments(tmp_path, "--nodes", ""), KUBECONFIG=str(cluster.kubeconfig))
    assert (done.returncode, cluster.created) == (4, [])
    assert "no ServiceAccount kts in namespace kts" in done.stderr
    assert "kubectl apply -f deploy/rbac.yaml -f deploy/in-cluster.yaml" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--nodes", "pool in gpu"), 2, "is no label selector"),
        (("--nodes", "pool=none"), 4, "no node has such labels"),
        (("--nodes", "pool=gpu", "--node", "n1"), 2, "which?"),
        (("--at-once", "2"), 2, "--at-once is for runs on many nodes"),
        (("--nodes", "pool=gpu", "--overwrite"), 2, "a fleet replaces nothing"),
        (("--nodes", "pool=gpu", "--on", "local"), 2, "has no nodes"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_created(
    cluster: FleetHere, tmp_path: Path, more: tuple[str, ...], code: int, said: str
) -> None:
    """Else a typing error would cost a minute, or measure elsewhere."""
    done = kts(*arguments(tmp_path, *more), KUBECONFIG=str(cluster.kubeconfig))
    assert (done.returncode, cluster.created) == (code, [])
    assert said in errors(done)[0]
