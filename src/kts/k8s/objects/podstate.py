"""What a pod's status means for a run, while it lives; its end: `podend`. Pure: Kubernetes JSON in, words out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kts.k8s.objects import Object, beside, quantity
from kts.k8s.objects.names import LABEL_BLOCK, LABEL_ROLE, LABEL_TENANT

HOPELESS = {
    "ErrImageNeverPull": "load the image on the node: kts k8s image; or let it be pulled: --pull-policy IfNotPresent",
    "ErrImagePull": "check the image's name and the registry's credentials",
    "ImagePullBackOff": "check the image's name and the registry's credentials",
    "InvalidImageName": "check --image",
    "CreateContainerConfigError": "correct what it names: --pod-template, or an object of the namespace",
    "CreateContainerError": "check --image and --runtime-class; a missing runtime handler looks like this",
    "RunContainerError": "check --image and --runtime-class; cluster.json holds the pod's events",
}
"""Reasons for which a container waits that waiting does not mend, and what does."""


def name(pod: Object) -> str:
    """The object's name."""
    return str(pod["metadata"]["name"])


def labelled(pod: Object, label: str) -> str:
    """The value of a label; empty if it has none."""
    return str((pod["metadata"].get("labels") or {}).get(label, ""))


def tenant(pod: Object) -> str:
    """The tenant whose pod it is; empty for the conductor's."""
    return labelled(pod, LABEL_TENANT)


def is_conductor(pod: Object) -> bool:
    """True for the conductor's pod."""
    return labelled(pod, LABEL_ROLE) == "conductor"


def phase(pod: Object) -> str:
    """Pending, Running, Succeeded, Failed or Unknown."""
    return str((pod.get("status") or {}).get("phase", "Unknown"))


def ready(pod: Object) -> bool:
    """True while its containers do what their probes ask for; without probes, while they run."""
    statuses = container_statuses(pod)
    return phase(pod) == "Running" and bool(statuses) and all(status.get("ready") for status in statuses)


def over(pod: Object) -> bool:
    """True once it has ended, or its program's container has, or it is being deleted."""
    return ended(pod) or program_ended(pod) or "deletionTimestamp" in pod["metadata"]


def program_ended(pod: Object) -> bool:
    """True once the container of a program in an image of its own has ended: the worker beside it cannot go on."""
    states = (status.get("state") or {} for status in container_statuses(pod) if status.get("name") == beside.PROGRAM)
    return any(state.get("terminated") for state in states)


def has_program(pod: Object) -> bool:
    """True where its program has a container of its own, beside the worker's."""
    return any(one.get("name") == beside.PROGRAM for one in (pod.get("spec") or {}).get("containers") or ())


def main_container(pod: Object) -> str:
    """The container of kts itself, whose log is the pod's; empty where it has none of that name."""
    names = {container.get("name") for container in (pod.get("spec") or {}).get("containers") or ()}
    return next((name for name in (beside.WORKER, "conductor") if name in names), "")


def ended(pod: Object) -> bool:
    """True once none of its processes is left."""
    return phase(pod) in ("Succeeded", "Failed")


def block(pod: Object) -> int | None:
    """Index of the block that the pod is for; None where it is for all of them."""
    text = labelled(pod, LABEL_BLOCK)
    return int(text) if text.isascii() and text.isdecimal() else None


def hopeless(pod: Object) -> tuple[str, str] | None:
    """(what, remedy) for a pod that will never start; None if it may."""
    for status in (*_statuses(pod, "initContainerStatuses"), *container_statuses(pod)):
        waiting = (status.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason in HOPELESS:
            told = " ".join(str(waiting.get("message", "")).split())
            what = f"pod {name(pod)} cannot start: {reason}{': ' + told if told else ''}"
            return what, _of_program(pod, reason, told) if status.get("name") == beside.PROGRAM else HOPELESS[reason]
    if phase(pod) == "Failed" and pod["status"].get("reason") == "UnexpectedAdmissionError":
        told = str(pod["status"].get("message", ""))
        return f"pod {name(pod)} was refused by its node: {told}", "ask for one slot per pod: the plugin allows no more"
    return None


def _of_program(pod: Object, reason: str, told: str) -> str:
    """What to do about a container of the user's own image that does not start."""
    image = f"the image of tenant {tenant(pod)}"
    if "root" in told and reason == "CreateContainerConfigError":
        as_user = "spec: {containers: [{name: program, securityContext: {runAsUser: 1000}}]}"
        return (
            f"{image} names no user, root, or one without a number: USER 1000 in it, or --pod-template with {as_user}"
        )
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        return f"check {image}, and the registry's credentials: imagePullSecrets in --pod-template"
    if reason == "InvalidImageName":
        return f"check {image}"
    return f"check {image} and its workdir, --pod-template and --runtime-class; cluster.json holds the pod's events"


def unschedulable(pod: Object) -> str:
    """Why the scheduler finds no place, in its words; empty if it has one or has not looked yet."""
    place = condition(pod, "PodScheduled")
    if phase(pod) != "Pending" or not place or place.get("status") != "False":
        return ""
    return str(place.get("message", "")) if place.get("reason") == "Unschedulable" else ""


def gpus(pod: Object) -> tuple[str, ...]:
    """UUIDs of the devices that the kubelet says it gave the pod (without the slot's number); empty if it does not."""
    return tuple(sorted({device.split("::")[0] for device, _ in health(pod)}))


def health(pod: Object) -> list[tuple[str, str]]:
    """(device with its slot's number, ``Healthy``, ``Unhealthy``, ``Unknown`` or nothing) of all that the kubelet says
    it gave the pod; empty if it does not."""
    given = [
        item
        for status in container_statuses(pod)
        for resource in status.get("allocatedResourcesStatus") or ()
        for item in resource.get("resources") or ()
    ]
    told = {str(item.get("resourceID") or ""): str(item.get("health") or "") for item in given}
    return sorted((device, state) for device, state in told.items() if device)


def requested(pod: Object, resource: str) -> int:
    """How many of an extended resource the pod holds; 0 once it has ended."""
    if ended(pod):
        return 0
    containers = (pod.get("spec") or {}).get("containers") or ()
    asked = [((c.get("resources") or {}).get("requests") or {}).get(resource, 0) for c in containers]
    return sum(quantity.count(amount, f"pod {name(pod)}, {resource}") for amount in asked)


def untried(job: Object) -> bool:
    """True for a Job of which a pod is to be made, and none was."""
    status = job.get("status") or {}
    tried = any(status.get(part) for part in ("active", "succeeded", "failed", "conditions"))
    return not (tried or job["spec"].get("suspend"))


def age_s(obj: Mapping[str, Any], now_s: float) -> float:
    """Seconds since the object was created, by the API server's clock against ours."""
    return max(0.0, now_s - created_s(obj))


def created_s(obj: Mapping[str, Any]) -> float:
    """When the object was created, by the API server's clock; whole seconds since the epoch."""
    return datetime.fromisoformat(obj["metadata"]["creationTimestamp"].replace("Z", "+00:00")).timestamp()


def container_statuses(pod: Object) -> list[Object]:
    """Of its containers, as far as the kubelet tells."""
    return _statuses(pod, "containerStatuses")


def _statuses(pod: Object, kind: str) -> list[Object]:
    return list((pod.get("status") or {}).get(kind) or ())


def condition(pod: Object, kind: str) -> Object | None:
    """The pod's condition of that type; None without one."""
    return next((c for c in (pod.get("status") or {}).get("conditions") or () if c.get("type") == kind), None)
