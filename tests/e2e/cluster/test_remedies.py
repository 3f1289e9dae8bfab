"""Refusals and ends on a real cluster, each with its own remedy; and a pod that is not as asked is a failed check."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.helpers_cli import kts
from tests.helpers_cluster import NEEDS_KUBECTL, on_a_cluster
from tests.helpers_wait import until

from kts.app.plans import planned
from kts.k8s.cluster.api import Api, Refused
from kts.k8s.cluster.rehearsal import rehearse
from kts.k8s.objects.needs import Need
from kts.k8s.objects.refusals import refusal
from kts.k8s.objects.settings import ClusterSettings

NAMESPACE = "kts-e2e-remedies"
pytestmark = [
    *on_a_cluster(),
    NEEDS_KUBECTL,
]
PLAN = planned("name: x\ndevice: cpu\ntenants:\n  a: {workload: fft}\n  b: {workload: fft}\n", {})[1]
SETTINGS = ClusterSettings(namespace=NAMESPACE, resource="nvidia.com/gpu", runtime_class="")
ROOT = {"spec": {"securityContext": {"runAsUser": 0, "runAsNonRoot": False}}}
POLICY = """\
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: kts-e2e-remedies}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [batch], apiVersions: [v1], operations: [CREATE], resources: [jobs]}]
  validations: [{expression: "'team' in object.metadata.labels", message: needs a team}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: kts-e2e-remedies}
spec:
  policyName: kts-e2e-remedies
  validationActions: [Deny]
  matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kts-e2e-remedies}}}
"""
LIMITS = """\
apiVersion: v1
kind: LimitRange
metadata: {name: limits, namespace: kts-e2e-remedies}
spec: {limits: [{type: Container, %s}]}
"""


def kubectl(*arguments: str, given: str | None = None) -> str:
    """Its output, in the tests' namespace."""
    command = ["kubectl", "--namespace", NAMESPACE, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def api() -> Iterator[Api]:
    """The cluster, with a namespace for each test."""
    kubectl("create", "namespace", NAMESPACE)
    try:
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=120s")
        api = Api.connect()
        yield api
        api.close()
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")


def told(api: Api, words: str, settings: ClusterSettings = SETTINGS) -> str:
    """The remedies of what a dry run says, once that holds ``words``: the server learns of an object a moment later."""

    def needed() -> list[Need] | None:
        needs = rehearse(api, PLAN, settings)
        return needs if any(words in need.found for need in needs) else None

    return "\n".join(need.remedy for need in until(needed, f"a dry run says: {words}"))


def test_each_refusal_of_a_real_cluster_has_its_own_remedy_before_a_run(api: Api) -> None:
    """Else the texts that tell quotas, limits and policies apart would be those of another Kubernetes."""
    assert [need.status for need in rehearse(api, PLAN, SETTINGS)] == ["ok"]
    kubectl("create", "quota", "few", "--hard=requests.nvidia.com/gpu=0")
    assert "kubectl describe resourcequota few" in told(api, "exceeded quota: few")
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": NAMESPACE}}
    limits = {"limits": {"nvidia.com/gpu": "1"}}
    container = {"name": "worker", "image": "none", "resources": limits}
    api.create({**job, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}})
    found = refusal(failure(api), NAMESPACE)
    assert (found and found.by) == "quota"
    kubectl("delete", "job,quota", "--all")
    kubectl("apply", "--filename", "-", given=LIMITS % "max: {memory: 256Mi}")
    assert "--pod-memory" in told(api, "maximum memory usage per Container")
    kubectl("delete", "limitrange", "limits")
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    assert [need.status for need in rehearse(api, PLAN, SETTINGS)] == ["ok"]
    as_root = ClusterSettings(namespace=NAMESPACE, runtime_class="", pod_template=ROOT)
    assert "meet every level" in told(api, "violates PodSecurity", as_root)
    kubectl("apply", "--filename", "-", given=POLICY)
    try:
        assert "validatingadmissionpolicy kts-e2e-remedies" in told(api, "needs a team")
    finally:
        kubectl("delete", "--filename", "-", given=POLICY)
    kubectl("create", "--filename", "-", given=held())
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    try:
        assert "until the namespace is gone" in told(api, "being terminated")
        with pytest.raises(Refused, match="being terminated"):
            api.create({**job, "metadata": {"name": "k", "namespace": NAMESPACE}, "spec": {"template": {}}})
    finally:
        kubectl("patch", "configmap", "held", "--type=merge", "--patch", '{"metadata":{"finalizers":null}}')


def failure(api: Api) -> str:
    """What a Job's controller says of the pod that it cannot make."""

    def events() -> list[dict[str, Any]]:
        return [event for event in api.list("Event", NAMESPACE) if event.get("reason") == "FailedCreate"]

    return str(until(events, "the controller tells of it")[-1]["message"])


def held() -> str:
    """An object that keeps its namespace from being gone."""
    meta = {"name": "held", "namespace": NAMESPACE, "finalizers": ["kts.dev/held"]}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})


def run(folder: Path, tenants: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A small run in the tests' namespace."""
    path = folder / "small.yaml"
    path.write_text(f"name: small\nrounds: 4\nprecision: null\ntenants:\n{tenants}", encoding="utf-8")
    image = os.environ.get("KTS_E2E_IMAGE")
    return kts(
        *("run", path, "--on", "k8s", "--namespace", NAMESPACE, "--device", "cpu", "--extra", "cpu", *options),
        *("--out", folder / "out", "--no-figures", *(["--image", image] if image else [])),
    )


def test_a_limit_that_nobody_asked_for_is_a_failed_check(api: Api, tmp_path: Path) -> None:
    """Else being throttled would be reported as the price of sharing."""
    kubectl("apply", "--filename", "-", given=LIMITS % "default: {cpu: 500m}")
    assert "limitrange" in told(api, "cpu limit 500m, not asked for")
    fft = "{workload: fft, size: 32, think_ms: 1, iterations: 300}"
    done = run(tmp_path, f"  t0: {fft}\n  t1: {fft}\n")
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    cluster = json.loads((tmp_path / "out" / "cluster.json").read_text(encoding="utf-8"))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert {worker["cpu_limit"] for worker in info["workers"]} == {0.5}
    assert set(info["altered"]) == set(cluster["altered"]) == {"t0", "t1"}
    assert "LimitRanger plugin set" in info["altered"]["t0"][0]
    assert {"not-as-asked", "cpu-limit"} <= {warning["code"] for warning in summary["warnings"]}
    assert {tenant["verdict"]["kind"] for tenant in summary["tenants"].values()} <= {"undetermined", "refused"}


@pytest.mark.usefixtures("api")
def test_a_program_that_is_killed_for_memory_is_told_its_limit(tmp_path: Path) -> None:
    """Else its user would look for a bug in the program."""
    eater = '{workload: command, command: [python3, -c, "x = []\\nwhile True: x.append(bytearray(10**7))"]}'
    done = run(tmp_path, f"  t0: {{workload: fft, size: 32}}\n  eater: {eater}\n", "--pod-memory", "256Mi")
    assert done.returncode in (4, 5), done.stderr
    assert "256" in done.stderr
    assert "--pod-memory" in done.stderr
    assert "killed for memory" in done.stderr or "OOMKilled" in done.stderr  # the kernel's choice: cgroup v1 or v2
