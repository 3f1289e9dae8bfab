"""Neighbours on a real cluster: the run holds who was there, whoever followed it; and that nobody looked, if so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import helpers_cluster
from tests.helpers_cli import kts, start
from tests.helpers_cluster import GPU, NEEDS_KUBECTL, on_a_cluster
from tests.helpers_wait import until

from kts.k8s.cluster.api import Api
from kts.k8s.objects.names import CONDUCTOR_ACCOUNT, LABEL_RUN
from kts.k8s.objects.runnames import conductor_name

NAMESPACE = "kts-e2e-neighbours"
ROUNDS = 1000
RULES = Path(__file__).parents[3] / "deploy" / "rbac.yaml"
ROLE = "kts-conductor-e2e-neighbours"
pytestmark = [
    *on_a_cluster(),
    NEEDS_KUBECTL,
]


def experiment(folder: Path) -> Path:
    """Two tenants that take a second a block, in more rounds than any test waits for."""
    path = folder / "small.yaml"
    names = "".join(f"  t{i}: {{workload: fft, size: 32, think_ms: 4, iterations: {200 * ROUNDS}}}\n" for i in range(2))
    path.write_text(f"name: small\nrounds: {ROUNDS}\nprecision: null\ntenants:\n{names}", encoding="utf-8")
    return path


def kubectl(*arguments: str, given: object = None) -> str:
    """Its output."""
    return helpers_cluster.kubectl("--namespace", NAMESPACE, *arguments, given=given)


def account() -> list[dict[str, Any]]:
    """What deploy/rbac.yaml grants the conductor's pod, in the tests' namespace."""
    made = []
    for obj in yaml.safe_load_all(RULES.read_text(encoding="utf-8")):
        if obj["metadata"]["name"] != CONDUCTOR_ACCOUNT:
            continue
        if obj["kind"] == "ServiceAccount":
            obj["metadata"]["namespace"] = NAMESPACE
        else:
            obj["metadata"]["name"] = ROLE
        if obj["kind"] == "ClusterRoleBinding":
            obj["roleRef"]["name"] = ROLE
            obj["subjects"][0]["namespace"] = NAMESPACE
        made.append(obj)
    return made


@pytest.fixture
def api() -> Iterator[Api]:
    """The cluster, with an empty namespace, which is gone afterwards."""
    kubectl("create", "namespace", NAMESPACE)
    api = Api.connect()
    try:
        yield api
    finally:
        api.close()
        kubectl("delete", "clusterrole,clusterrolebinding", ROLE, "--ignore-not-found")
        kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=180s")


def left_alone(folder: Path) -> str:
    """The ID of a run whose kts was killed as soon as its pods were there."""
    image = os.environ.get("KTS_E2E_IMAGE")
    process = start(
        *("run", experiment(folder), "--on", "k8s", "--namespace", NAMESPACE, "--device", "cpu"),
        *("--extra", "cpu", "--out", folder / "lost", "--no-figures", *(["--image", image] if image else [])),
    )
    try:
        assert process.stderr is not None
        return next(line.split()[1] for line in process.stderr if line.startswith("run "))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def attached(run: str, out: Path) -> tuple[dict[str, Any], str]:
    """The neighbours of a run that was told to end, and its report."""
    kubectl("exec", conductor_name(run), "--", "sh", "-c", "kill 1")
    done = kts("attach", run, "--namespace", NAMESPACE, "--out", out, "--no-figures")
    assert done.returncode == 5, done.stderr
    info = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert (info["outcome"]["kind"], "SIGTERM" in info["outcome"]["reason"]) == ("incomplete", True)
    return info["neighbours"], (out / "results.md").read_text(encoding="utf-8")


def blocks(run: str) -> int:
    """How many have ended, by the conductor's own word."""
    command = ["exec", conductor_name(run), "--", "grep", "-c", "block-ended", f"/var/lib/kts/{run}/events.jsonl"]
    done = subprocess.run(["kubectl", "--namespace", NAMESPACE, *command], capture_output=True, text=True, check=False)
    return int(done.stdout.strip() or 0)


def stranger(api: Api, run: str) -> None:
    """A pod of somebody's comes, holds a slot for two looks and three blocks, and goes."""
    (pod,) = [p for p in api.list("Pod", NAMESPACE, {LABEL_RUN: run}) if p["metadata"]["name"] == conductor_name(run)]
    container = {
        "name": "c",
        "image": pod["spec"]["containers"][0]["image"],
        "imagePullPolicy": "Never",
        "command": ["sleep", "600"],
        "resources": {"limits": {GPU: "1"}},
    }
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    meta = {"name": "stranger", "namespace": NAMESPACE}
    kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/stranger", "--timeout=120s")
    seen = blocks(run)
    until(lambda: blocks(run) >= seen + 6, "blocks are measured")
    kubectl("delete", "pod", "stranger", "--wait=true")


@pytest.mark.parametrize("looks", [True, False], ids=["account", "no account"])
def test_who_came_and_went_while_no_kts_followed(looks: bool, tmp_path: Path, api: Api) -> None:
    """Else a figure of a GPU that was not the run's alone would pass for a clean one."""
    if looks:
        for obj in account():
            kubectl("apply", "-f", "-", given=obj)
    run = left_alone(tmp_path)
    until(lambda: blocks(run) >= 1, "blocks are measured")
    came_ns = time.time_ns()
    stranger(api, run)
    went_ns = time.time_ns()
    pods = api.list("Pod", NAMESPACE, {LABEL_RUN: run})
    mounted = {p["metadata"]["name"] for p in pods for v in p["spec"]["volumes"] if "projected" in v}
    assert mounted == ({conductor_name(run)} if looks else set())
    known, report = attached(run, tmp_path / "out")
    named = f"Uninvited neighbour {NAMESPACE}/stranger (1 {GPU}) on node"
    assert (named in report) == looks
    assert ("nobody looked for uninvited neighbours for" in report) == (not looks)
    found = [one for one in known["others"] if one["who"] == f"{NAMESPACE}/stranger"]
    assert bool(found) == looks
    for one in found:
        assert came_ns <= one["from_ns"] <= one["to_ns"] <= went_ns
        assert one["by"] == "the conductor's pod"
    times = json.loads((tmp_path / "out" / "cluster.json").read_text(encoding="utf-8"))["times_s"]
    assert 0 <= times["overhead"] < times["wall"]
