"""What a pod's status means for a run. Pure: Kubernetes JSON in, words out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from kts.k8s.objects import Object, quantity
from kts.k8s.objects.names import LABEL_BLOCK, LABEL_ROLE, LABEL_TENANT

LONGEST_HOSTNAME = 63
HOPELESS = {
    "ErrImageNeverPull": "load the image on the node: kts k8s image; or let it be pulled: --pull-policy IfNotPresent",
    "ErrImagePull": "check the image's name and the registry's credentials",
    "ImagePullBackOff": "check the image's name and the registry's credentials",
    "InvalidImageName": "check --image",
    "CreateContainerConfigError": "see kubectl describe pod",
    "CreateContainerError": "see kubectl describe pod; a missing runtime handler looks like this",
    "RunContainerError": "see kubectl describe pod",
}
"""Reasons for which a container waits that waiting does not mend, and what does."""


class PodExit(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's pod that ended: ``reason`` for people, e.g. ``OOMKilled (exit code 137)`` or ``Evicted: ...``.

    ``block``: the only one that it was for, if that is so; ``hostname``: as its worker sees it.
    """

    tenant: str
    code: int
    reason: str
    block: int | None = None
    hostname: str = ""


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
    statuses = _container_statuses(pod)
    return phase(pod) == "Running" and bool(statuses) and all(status.get("ready") for status in statuses)


def over(pod: Object) -> bool:
    """True once it has ended, or is being deleted."""
    return ended(pod) or "deletionTimestamp" in pod["metadata"]


def ended(pod: Object) -> bool:
    """True once none of its processes is left."""
    return phase(pod) in ("Succeeded", "Failed")


def exit_of(pod: Object) -> PodExit | None:
    """How a tenant's pod ended, in words; None while it has not."""
    if not over(pod) or not tenant(pod):
        return None
    code, reason = _container_end(pod)
    status = pod.get("status") or {}
    if status.get("reason"):
        told = " ".join(str(status.get("message", "")).split())
        reason = f"{status['reason']}{': ' + told if told else ''}"
    elif disruption := _condition(pod, "DisruptionTarget"):
        reason = f"{disruption.get('reason')}: {disruption.get('message')}"
    elif "deletionTimestamp" in pod["metadata"] and phase(pod) == "Running":
        code, reason = 143, "its pod is being deleted"
    return told_of(pod, code, f"pod {name(pod)}: {reason or f'exit code {code}'}")


def told_of(pod: Object, code: int, reason: str) -> PodExit:
    """That a tenant's pod ended so."""
    hostname = ((pod.get("spec") or {}).get("hostname") or name(pod))[:LONGEST_HOSTNAME].rstrip("-.")
    return PodExit(tenant=tenant(pod), code=code, reason=reason, block=block(pod), hostname=hostname)


def block(pod: Object) -> int | None:
    """Index of the block that the pod is for; None where it is for all of them."""
    text = labelled(pod, LABEL_BLOCK)
    return int(text) if text.isascii() and text.isdecimal() else None


def hopeless(pod: Object) -> tuple[str, str] | None:
    """(what, remedy) for a pod that will never start; None if it may."""
    for status in _container_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in HOPELESS:
            told = " ".join(str(waiting.get("message", "")).split())
            what = f"pod {name(pod)} cannot start: {waiting['reason']}{': ' + told if told else ''}"
            return what, HOPELESS[waiting["reason"]]
    if phase(pod) == "Failed" and pod["status"].get("reason") == "UnexpectedAdmissionError":
        told = str(pod["status"].get("message", ""))
        return f"pod {name(pod)} was refused by its node: {told}", "ask for one slot per pod: the plugin allows no more"
    return None


def unschedulable(pod: Object) -> str:
    """Why the scheduler finds no place, in its words; empty if it has one or has not looked yet."""
    condition = _condition(pod, "PodScheduled")
    if phase(pod) != "Pending" or not condition or condition.get("status") != "False":
        return ""
    return str(condition.get("message", "")) if condition.get("reason") == "Unschedulable" else ""


def gpus(pod: Object) -> tuple[str, ...]:
    """UUIDs of the devices that the kubelet says it gave the pod (without the slot's number); empty if it does not."""
    return tuple(sorted({device.split("::")[0] for device, _ in health(pod)}))


def health(pod: Object) -> list[tuple[str, str]]:
    """(device with its slot's number, ``Healthy``, ``Unhealthy``, ``Unknown`` or nothing) of all that the kubelet says
    it gave the pod; empty if it does not."""
    given = [
        item
        for status in _container_statuses(pod)
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


def age_s(obj: Mapping[str, Any], now_s: float) -> float:
    """Seconds since the object was created, by the API server's clock against ours."""
    return max(0.0, now_s - created_s(obj))


def created_s(obj: Mapping[str, Any]) -> float:
    """When the object was created, by the API server's clock; whole seconds since the epoch."""
    return datetime.fromisoformat(obj["metadata"]["creationTimestamp"].replace("Z", "+00:00")).timestamp()


def _container_statuses(pod: Object) -> list[Object]:
    return list((pod.get("status") or {}).get("containerStatuses") or ())


def _container_end(pod: Object) -> tuple[int, str]:
    for status in _container_statuses(pod):
        ended = (status.get("state") or {}).get("terminated")
        if ended:
            code, reason = int(ended.get("exitCode", 1)), str(ended.get("reason", ""))
            return code, f"{reason} (exit code {code})" if reason not in ("", "Error", "Completed") else ""
    return 1, ""


def _condition(pod: Object, kind: str) -> Object | None:
    return next((c for c in (pod.get("status") or {}).get("conditions") or () if c.get("type") == kind), None)
