"""The pods of tenants whose programs run in images of their own, and what is said where these do not start."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from kts.k8s.objects import Object, classic_jobs, manifests, pending, podend, podstate
from kts.k8s.objects.names import LABEL_TENANT
from kts.k8s.objects.settings import ClusterSettings
from kts.plan import build
from kts.spec.loader import load_text

TEXT = """\
name: own
device: DEVICE
tenants:
  mine: {workload: command, image: "registry.example/team/own:1", command: [/own, "$(A)"], workdir: /w, env: {A: $B}}
  fft: {workload: fft, size: 64}
"""


def pods(device: str = "cuda", text: str = TEXT, **settings: Any) -> dict[str, Object]:
    """Specs of the tenants' pods, by tenant."""
    plan = build(load_text(text.replace("DEVICE", device), source="x").experiment)
    wanted = ClusterSettings(**settings)
    objects = [obj for _, stage in _stages(plan, wanted) for obj in stage if obj["kind"] == "Job"]
    for obj in objects:
        kubernetes_validate.validate(obj, "1.31", strict=True)
    return {podstate.tenant(obj): obj["spec"]["template"] for obj in objects}


def _stages(plan: Any, settings: ClusterSettings) -> list[tuple[str, list[Object]]]:
    created = "2026-01-01T00:00:00Z"
    return classic_jobs.stages(plan, run="r", token="t", settings=settings, experiment_text="", created=created)


def by_name(template: Object) -> dict[str, Object]:
    """Its containers."""
    spec = template["spec"]
    return {one["name"]: one for one in (*spec.get("initContainers", ()), *spec["containers"])}


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_restricted_pod_security_is_kept_and_the_image_has_its_own_user(device: str) -> None:
    """Else the run could not start where namespaces enforce it, or the program would be somebody else."""
    spec = pods(device)["mine"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert "runAsUser" not in spec["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    for name, container in by_name({"spec": spec}).items():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert ("runAsUser" in context) == (name != "program")


def test_command_and_environment_arrive_as_they_were_written() -> None:
    """Else Kubernetes would put variables of its own into them, which no run on one's own machine does."""
    program = by_name(pods()["mine"])["program"]
    assert program["command"][-3:] == ["--", "/own", "$$(A)"]
    assert program["env"] == [{"name": "A", "value": "$$B"}]
    assert (program["image"], program["workingDir"]) == ("registry.example/team/own:1", "/w")


def test_the_slot_is_the_program_s_and_the_pod_may_be_guaranteed() -> None:
    """Else the GPU would be the watcher's, or the kernel's scheduler would add to what the GPU does."""
    containers = by_name(pods()["mine"])
    gpus = {name: one["resources"]["limits"].get("nvidia.com/gpu") for name, one in containers.items()}
    assert gpus == {"bring": None, "program": "1", "worker": None}
    assert all(one["resources"]["limits"] == one["resources"]["requests"] for one in containers.values())
    assert containers["program"]["resources"]["limits"]["cpu"] == "1"
    assert "cpu" not in by_name(pods("cpu")["mine"])["worker"]["resources"]["limits"]


def test_a_template_for_the_program_is_for_the_program_alone() -> None:
    """Else a tenant of ours would get a container without an image."""
    template = {"spec": {"containers": [{"name": "program", "securityContext": {"runAsUser": 7}}]}}
    made = pods(pod_template=template)
    assert by_name(made["mine"])["program"]["securityContext"]["runAsUser"] == 7
    assert list(by_name(made["fft"])) == ["worker"]


def test_what_a_run_asks_of_a_quota_counts_each_tenant_s_own_pod() -> None:
    """Else a run would be begun that its quota does not let start."""
    plan = build(load_text(TEXT.replace("DEVICE", "cuda"), source="x").experiment)
    conductor, mine, fft = manifests.pod_specs(plan, ClusterSettings())
    assert [len(spec["containers"]) for spec in (conductor, mine, fft)] == [1, 2, 1]


def _pod(**program: Any) -> Object:
    """The pod of ``mine``, with the state of its program's container; the worker runs."""
    statuses = [{"name": "program", "state": program}, {"name": "worker", "state": {"running": {}}}]
    return {
        "metadata": {"name": "p", "namespace": "kts", "labels": {LABEL_TENANT: "mine"}},
        "spec": {**pods()["mine"]["spec"], "nodeName": "n1"},
        "status": {"phase": "Running", "containerStatuses": statuses},
    }


REFUSED = {
    "root": ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", "runAsUser: 1000"),
    "no image": ("ImagePullBackOff", "not found", "imagePullSecrets"),
    "no name": ("InvalidImageName", "couldn't parse", "check the image of tenant mine"),
    "runtime": ("CreateContainerError", "no such device", "workdir"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_image_that_does_not_start_is_named_with_what_to_do(case: str) -> None:
    """Else the remedy would be one for the worker's image, which is well."""
    reason, message, remedy = REFUSED[case]
    pod = _pod(waiting={"reason": reason, "message": message})
    wait = pending.of_pod(pod, [], ClusterSettings())
    assert wait is not None
    assert message in wait.what
    assert remedy in wait.remedy


def test_a_missing_image_of_the_worker_is_told_of_the_container_before_it() -> None:
    """Else the run would wait for its end without a reason."""
    pod = _pod(waiting={"reason": "PodInitializing"})
    waiting = {"reason": "ErrImageNeverPull", "message": "Container image is not present"}
    pod["status"]["initContainerStatuses"] = [{"name": "bring", "state": {"waiting": waiting}}]
    assert "kts k8s image" in podstate.hopeless(pod)[1]  # type: ignore[index]


def test_a_program_whose_container_ended_ends_the_tenant_and_its_reason_is_told() -> None:
    """Else the worker beside it would be waited for, and its own end be taken for the cause."""
    killed = _pod(terminated={"reason": "OOMKilled", "exitCode": 137})
    assert podstate.over(killed)
    end = podend.end_of(killed)
    assert (end.code, end.reason) == (137, "OOMKilled (exit code 137), its limit is 4Gi")
    assert "--pod-memory" in end.remedy
    absent = podend.end_of(_pod(terminated={"reason": "StartError", "exitCode": 128, "message": "no such folder"}))
    assert absent.reason == "StartError (exit code 128): no such folder"
    assert "tenant mine" in absent.remedy


def test_the_worker_s_own_end_is_told_where_the_launcher_only_followed_it() -> None:
    """Else a worker that ran out of memory would be told as a program that ended well."""
    pod = _pod(terminated={"reason": "Completed", "exitCode": 0})
    pod["status"]["containerStatuses"][1]["state"] = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    end = podend.end_of(pod)
    assert end.reason == "OOMKilled (exit code 137), its limit is 512Mi"
    assert "{name: worker," in end.remedy


def test_a_program_that_runs_leaves_its_pod_be() -> None:
    """Else every run would end at once."""
    assert not podstate.over(_pod(running={}))
    assert podstate.main_container(_pod(running={})) == "worker"
