"""kts in a pod of its own image: deploy/cronjob.yaml runs once, and its gate is red.

KTS_E2E_FULL=1 builds that image, which takes minutes and 800 MB.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml
from tests.helpers_cli import KTS
from tests.helpers_cluster import NEEDS_KUBECTL, on_a_cluster

DEPLOY = Path(__file__).parents[3] / "deploy"
NAMESPACE = "kts-e2e-weekly"
IMAGE = "localhost/kts:e2e"
EXPERIMENT = """\
name: weekly
rounds: 2
precision: null
tenants:
  fft: {workload: fft, size: 64, think_ms: 2, iterations: 400, slo: {p99_ms: 0.001}}
  gemm: {workload: gemm, size: 64, think_ms: 2, iterations: 400}
"""
pytestmark = [
    *on_a_cluster("KTS_E2E_FULL"),
    NEEDS_KUBECTL,
]


def kubectl(*arguments: str, given: str | None = None) -> str:
    """What it prints; the test fails if it does."""
    command = ["kubectl", "--namespace", NAMESPACE, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects() -> list[Any]:
    """What deploy/ holds, in the test's namespace, with cluster-wide names and a small experiment of its own."""
    files = ("rbac.yaml", "in-cluster.yaml", "cronjob.yaml")
    found = [obj for name in files for obj in yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8"))]
    for obj in found:
        meta = obj["metadata"]
        if obj["kind"].startswith("ClusterRole"):
            meta["name"] += "-e2e-weekly"
        if obj["kind"] == "ClusterRoleBinding":
            obj["roleRef"]["name"] += "-e2e-weekly"
        if obj["kind"] == "Namespace":
            meta["name"] = NAMESPACE
        if "namespace" in meta:
            meta["namespace"] = NAMESPACE
        for subject in obj.get("subjects", ()):
            if subject["kind"] == "ServiceAccount":
                subject["namespace"] = NAMESPACE
        if obj["kind"] == "ConfigMap":
            obj["data"]["experiment.yaml"] = EXPERIMENT
        if obj["kind"] == "CronJob":
            spec = obj["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            for container in (*spec["initContainers"], *spec["containers"]):
                container["image"] = IMAGE
            # No cluster of the tests provides storage.
            spec["volumes"] = [v if v["name"] != "runs" else {"name": "runs", "emptyDir": {}} for v in spec["volumes"]]
    return [obj for obj in found if obj["kind"] != "PersistentVolumeClaim"]


def test_a_weekly_run_lands_on_its_volume_fails_its_gate_and_leaves_nothing() -> None:
    """Else kts could not be run from within a cluster, or a broken promise would pass as a success."""
    loading = [*KTS, "k8s", "image", "--full", "--extra", "cpu", "--tag", IMAGE]
    loaded = subprocess.run(loading, capture_output=True, text=True, timeout=280, check=False)
    assert (loaded.returncode, loaded.stdout) == (0, f"{IMAGE}\n"), loaded.stderr
    made = objects()
    try:
        kubectl("apply", "-f", "-", given=yaml.safe_dump_all(made))
        kubectl("create", "job", "--from=cronjob/kts-weekly", "now")
        kubectl("wait", "--for=condition=failed", "--timeout=180s", "job/now")
        measured = kubectl("logs", "job/now", "-c", "measure")
        assert (
            kubectl("logs", "job/now", "-c", "gate") == "RED fft: response p99 is not within 0.001 ms when shared\n"
        ), measured
        code = "{.items[0].status.containerStatuses[0].state.terminated.exitCode}"
        assert kubectl("get", "pod", "-l", "job-name=now", "-o", f"jsonpath={code}") == "1"
        assert "/runs/now-" in measured
        assert kubectl("get", "configmap,secret,service,networkpolicy,job,pod", "-l", "kts.dev/run", "-o", "name") == ""
    finally:
        for obj in made:
            if obj["kind"].startswith("ClusterRole"):
                kubectl("delete", obj["kind"].lower(), obj["metadata"]["name"], "--ignore-not-found")
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s")
