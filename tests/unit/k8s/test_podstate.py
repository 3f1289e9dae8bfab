"""What a pod's JSON means: a wrong reading here would blame the wrong thing, or wait for what never comes."""

from __future__ import annotations

from typing import Any

from kts.k8s.objects import podstate
from kts.k8s.objects.names import APP, LABEL_APP, LABEL_ROLE, LABEL_RUN, LABEL_TENANT

GPU = "nvidia.com/gpu"


def pod(run: str = "r1", tenant: str = "fft", *, slots: str = "", **status: Any) -> dict[str, Any]:
    """A tenant's pod on node n."""
    labels = {LABEL_APP: APP, LABEL_RUN: run, LABEL_ROLE: "tenant", LABEL_TENANT: tenant}
    resources = {"requests": {GPU: slots}, "limits": {GPU: slots}} if slots else {}
    return {
        "metadata": {"name": f"kts-{run}-{tenant}", "namespace": "kts", "labels": labels},
        "spec": {"nodeName": "n", "containers": [{"name": "worker", "resources": resources}]},
        "status": status,
    }


def container(**state: Any) -> list[dict[str, Any]]:
    """One container's status."""
    return [{"name": "worker", "state": state}]


def test_a_missing_image_is_hopeless_and_a_starting_container_is_not() -> None:
    """Else a run would wait for minutes, or be given up while it starts."""
    never = podstate.hopeless(
        pod(phase="Pending", containerStatuses=container(waiting={"reason": "ErrImageNeverPull"}))
    )
    assert never is not None
    assert "ErrImageNeverPull" in never[0]
    assert podstate.hopeless(pod(containerStatuses=container(waiting={"reason": "ContainerCreating"}))) is None


def test_the_schedulers_words_are_given_only_while_there_is_no_place() -> None:
    """Else "no free slot" would come late, or for pods that have one."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": f"Insufficient {GPU}"}
    assert podstate.unschedulable(pod(phase="Pending", conditions=[condition])) == f"Insufficient {GPU}"
    assert podstate.unschedulable(pod(phase="Pending", conditions=[{**condition, "status": "True"}])) == ""


def test_the_device_is_known_without_its_slot() -> None:
    """Else two tenants on one GPU would seem to be on two."""
    status = container(running={})
    status[0]["allocatedResourcesStatus"] = [{"name": GPU, "resources": [{"resourceID": "GPU-a::2"}]}]
    assert podstate.gpus(pod(phase="Running", containerStatuses=status)) == ("GPU-a",)


def test_a_finished_pod_holds_no_slot() -> None:
    """Else slots that are free would count as used."""
    assert podstate.requested(pod(slots="1", phase="Running"), GPU) == 1
    assert podstate.requested(pod(slots="1", phase="Succeeded"), GPU) == 0
