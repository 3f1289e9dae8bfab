"""`kts run --design classic --on k8s` on a real cluster: Jobs block by block, their logs, and nothing that is lost.

KTS_E2E_IMAGE names a worker image that the cluster has; without it the image is built and loaded. KTS_CLUSTER_FAULTS
(a command that restarts the kubelet) and KTS_CLUSTER_STATE (the folder with the kubelet's config, etc/kubelet.yaml)
are for the test that makes the node rotate its logs.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helpers_cli import kts, start
from tests.helpers_cluster import has_plugin, on_a_cluster, tells_devices
from tests.helpers_wait import until

from kts.k8s.cluster.api import Api
from kts.k8s.cluster.creation import KINDS
from kts.k8s.objects.names import APP, LABEL_APP
from kts.store import open_run

NAMESPACE = "kts-e2e-classic"
BREAKING = ("KTS_CLUSTER_FAULTS", "KTS_CLUSTER_STATE")
pytestmark = on_a_cluster()
SMALL = """\
name: small
design: classic
tenants:
  fft: {workload: fft, target_ms: 1, think_ms: 5, iterations: 500}
  gemm: {workload: gemm, size: 160, think_ms: 5, jitter: 0, iterations: 500}
"""
CHATTY = """\
name: chatty
design: classic
tenants:
  fft: {workload: fft, size: 32, think_ms: 0.6, jitter: 0, iterations: 20000}
  gemm: {workload: gemm, size: 32, think_ms: 0.6, jitter: 0, iterations: 20000}
"""
ROTATIONS = 4
"""At least as many must happen, or the test shows nothing."""


def options(*more: str | Path) -> list[str | Path]:
    """Where to run."""
    image = os.environ.get("KTS_E2E_IMAGE")
    place = ["--on", "k8s", "--namespace", NAMESPACE, "--device", "cpu", "--extra", "cpu", "--no-figures"]
    return [*place, *(["--image", image] if image else []), *more]


def written(folder: Path, text: str) -> Path:
    """The text as an experiment file."""
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def content(directory: Path, name: str = "run.json") -> Any:
    """A JSON file of the run directory."""
    return json.loads((directory / name).read_text(encoding="utf-8"))


@pytest.fixture
def api() -> Iterator[Api]:
    """The cluster; the test fails if it leaves anything there."""
    api = Api.connect()
    yield api
    left = [f"{kind}/{o['metadata']['name']}" for kind in KINDS for o in api.list(kind, NAMESPACE, {LABEL_APP: APP})]
    api.close()
    assert left == []


def test_solo_solo_shared_end_to_end(tmp_path: Path, api: Api) -> None:
    """Else it would be another design, its proof would prove nothing, or its logs would not hold the figures."""
    done = kts("run", written(tmp_path, SMALL), *options("--out", tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    info, cluster = content(tmp_path / "out"), content(tmp_path / "out", "cluster.json")
    assert (info["backend"], info["outcome"]["kind"], info["plan"]["design"]) == ("k8s", "complete", "classic")
    assert [(b["condition"], b["valid"], b["counts"]) for b in info["blocks"]] == [
        ("solo-fft", True, {"fft": 500}),
        ("solo-gemm", True, {"gemm": 500}),
        ("shared-fft+gemm", True, {"fft": 500, "gemm": 500}),
    ]
    assert info["plan"]["tenants"][0]["work"]["size"] > 0  # found in the first block, and used in the last
    proven = cluster["gpus"]
    assert proven.keys() == {"fft", "gemm"}
    told = {"worker": has_plugin(api), "kubelet": has_plugin(api) and tells_devices()}
    for source, tells in told.items():
        assert len({gpu for entry in proven.values() for gpu in entry[source]}) == 1 or not tells
    assert all(entry["agree"] for entry in proven.values()) or not all(told.values())
    assert len(cluster["pods"]) == 5  # the conductor's, too
    assert {c["image"] for pod in cluster["pods"] for c in pod["containers"]} != set()
    again = kts("report", tmp_path / "out" / "logs", "--no-figures", "--json")
    assert again.returncode == 0, again.stderr
    ours, theirs = content(tmp_path / "out", "summary.json"), json.loads(again.stdout)
    damage = open_run(tmp_path / "out" / "logs").damage
    assert [text for text in damage if not text.startswith("conductor.log: ")] == []
    for name in ("fft", "gemm"):
        for clock in ("response", "device"):
            assert ours["tenants"][name][clock]["solo"] == theirs["tenants"][name][clock]["solo"]
            shared, known = (found["tenants"][name][clock]["shared"] for found in (ours, theirs))
            assert known["p50"]["estimate"] == pytest.approx(shared["p50"]["estimate"], rel=0.01)


def test_a_line_that_is_lost_costs_nothing_but_the_line(tmp_path: Path, api: Api) -> None:
    """Else figures would depend on what a node's log happened to keep."""
    del api
    shell = "python3 -m kts.worker \"$@\" | sed -u '/,v1,GEMM,7,/d'"
    template = {"spec": {"containers": [{"name": "worker", "command": ["/bin/sh", "-c", shell, "sh"]}]}}
    (tmp_path / "template.yaml").write_text(yaml.safe_dump(template), encoding="utf-8")
    done = kts(
        *("run", written(tmp_path, SMALL)),
        *options("--pod-template", tmp_path / "template.yaml", "--out", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    info = content(tmp_path / "out")
    assert [(b["valid"], set(b["counts"].values())) for b in info["blocks"]] == [(True, {500})] * 3
    log = open_run(tmp_path / "out" / "logs")
    assert any("gemm-solo-gemm.log" in text and "missing" in text for text in log.damage), log.damage


@pytest.mark.usefixtures("api")
def test_ctrl_c_keeps_what_was_measured_and_leaves_nothing(tmp_path: Path) -> None:
    """Else stopping a run would cost it, or leave pods on the GPU."""
    process = start("run", written(tmp_path, SMALL), *options("--out", tmp_path / "out"))
    until(lambda: blocks(tmp_path / "out") >= 1, "blocks are measured", living=process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 130, errors
    info = content(tmp_path / "out")
    assert (info["outcome"]["kind"], info["blocks"][0]["valid"]) == ("interrupted", True)


@pytest.mark.usefixtures("api")
def test_a_run_whose_kts_was_killed_is_listed_and_attach_runs_the_rest(tmp_path: Path) -> None:
    """Else a closed laptop would cost the measurement."""
    process = start("run", written(tmp_path, SMALL), *options("--out", tmp_path / "lost"))
    assert process.stderr is not None
    run = next(line.split()[1] for line in process.stderr if line.startswith("run "))
    until(lambda: blocks(tmp_path / "lost") >= 1, "blocks are measured", living=process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    listed = kts("runs", "--on", "k8s", "--namespace", NAMESPACE).stdout
    assert run in listed
    assert "of 3" in listed
    seen = kts("collect", run, "--namespace", NAMESPACE, "--out", tmp_path / "seen", "--no-figures")
    assert content(tmp_path / "seen")["blocks"][0]["valid"], seen.stderr
    done = kts("attach", run, "--namespace", NAMESPACE, "--out", tmp_path / "found", "--no-figures")
    assert done.returncode == 0, done.stderr
    info = content(tmp_path / "found")
    assert (info["outcome"]["kind"], [b["valid"] for b in info["blocks"]]) == ("complete", [True] * 3)


@pytest.fixture
def small_logs() -> Iterator[Path]:
    """The node rotates each log once it is 1 MiB, looking every 3 s; where its pods' logs are. As before afterwards."""
    config = Path(os.environ["KTS_CLUSTER_STATE"]) / "etc" / "kubelet.yaml"
    before = config.read_text(encoding="utf-8")
    changed = {**yaml.safe_load(before), "containerLogMaxSize": "1Mi", "containerLogMonitorInterval": "3s"}
    try:
        config.write_text(yaml.safe_dump(changed), encoding="utf-8")
        restart_kubelet()
        yield Path(changed["podLogsDir"])
    finally:
        config.write_text(before, encoding="utf-8")
        restart_kubelet()


def restart_kubelet() -> None:
    """Restarts it, and waits until the node offers its GPUs again."""
    subprocess.run([*shlex.split(os.environ["KTS_CLUSTER_FAULTS"]), "restart-kubelet"], check=True, capture_output=True)
    api = Api.connect()
    asked = time.time()
    try:
        until(lambda: any(is_ready(node, asked) for node in api.list("Node")), "the node is ready")
    finally:
        api.close()


def is_ready(node: dict[str, Any], since: float) -> bool:
    """True once the node has said, after ``since``, that it is ready and has at least two slots."""
    from datetime import datetime

    status = node["status"]
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    heard = datetime.fromisoformat(ready["lastHeartbeatTime"].replace("Z", "+00:00")).timestamp()
    slots = int(status["allocatable"].get("nvidia.com/gpu", 0))
    return ready["status"] == "True" and heard >= since and slots >= 2


@pytest.mark.usefixtures("api")
@pytest.mark.skipif(not all(map(os.environ.get, BREAKING)), reason=f"changes the node: needs {' and '.join(BREAKING)}")
def test_no_record_of_a_chatty_tenant_is_lost_where_the_log_is_rotated(tmp_path: Path, small_logs: Path) -> None:
    """Else records would be missing wherever a log grows larger than the node keeps."""
    process = start("run", written(tmp_path, CHATTY), *options("--out", tmp_path / "out"))
    rotated: set[Path] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            rotated.update(small_logs.glob(f"{NAMESPACE}_*/worker/0.log.2*-*[0-9]"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        _, errors = process.communicate(timeout=400)
    finally:
        over.set()
        watcher.join()
    assert process.returncode == 0, errors
    assert len(rotated) >= ROTATIONS
    info = content(tmp_path / "out")
    assert [(b["valid"], set(b["counts"].values())) for b in info["blocks"]] == [(True, {20000})] * 3
    assert open_run(tmp_path / "out").damage == ()


def blocks(directory: Path) -> int:
    """Blocks that are over."""
    try:
        return len(content(directory)["blocks"])
    except (OSError, ValueError):
        return 0
