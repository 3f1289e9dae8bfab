"""How a pod of a run ended, why, and what to do about it. Pure: Kubernetes JSON in, words out.

The cause is the first of these that tells one: the pod's own status (evicted, out of time, refused by its node), its
container (killed for memory), who meant to end it (condition DisruptionTarget), events of a pod that is gone, and the
exit code. What none of them tells is not said.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from kts.k8s.objects import Object, beside, podstate
from kts.k8s.objects.names import LABEL_JOB
from kts.k8s.objects.refusals import one_line

LONGEST_HOSTNAME = 63
KILLED = 137
"""Exit code of a pod of which nothing more is known than that it is gone."""
_DEADLINE = "the deadline comes of max_seconds: raise it in the experiment, or ask for fewer rounds"
_PRESSURE = "free some on node {node}, or choose another one: --node"
_DRAINED = (
    "see who empties node {node} (kubectl drain, an autoscaler), and run it again; autoscalers leave pods alone that "
    'have the annotation karpenter.sh/do-not-disrupt: "true" or cluster-autoscaler.kubernetes.io/safe-to-evict: '
    '"false": --pod-template'
)
_PREEMPTED = "give the run's pods a priorityClassName (--pod-template), or choose a node with more room: --node"
_TAINTED = (
    "tolerate the taint (kubectl describe node {node}; --toleration KEY:NoExecute), or choose another node: --node"
)
_NODE = "check node {node} (kubectl describe node {node}), or choose another one: --node"
_REMEDIES = {
    "DeadlineExceeded": _DEADLINE,
    "NodeLost": _NODE,
    "Terminated": "wait until node {node} is up again, or choose another one: --node",
    "NodeShutdown": "wait until node {node} is up again, or choose another one: --node",
    "UnexpectedAdmissionError": "ask for one slot per pod: the plugin allows no more",
    "EvictionByEvictionAPI": _DRAINED,
    "PreemptionByScheduler": _PREEMPTED,
    "Preempted": _PREEMPTED,
    "Preempting": _PREEMPTED,
    "DeletionByTaintManager": _TAINTED,
    "TaintManagerEviction": _TAINTED,
    "DeletionByDeviceTaintManager": "a DeviceTaintRule keeps pods off the device: choose another claim: --claim",
    "DeletionByPodGC": "node {node} is gone: run it again on another one",
    "TerminationByKubelet": _NODE,
    "NodeNotReady": _NODE,
}
"""By the reason of a pod's status, of its condition DisruptionTarget, or of an event."""
_TELLING = ("Evicted", "Preempted", "Preempting", "TaintManagerEviction", "DeadlineExceeded", "NodeNotReady")
"""Reasons of events that tell why a pod was ended, the strongest first."""
_OWN_LIMIT = re.compile(r"exceeded its local ephemeral storage limit|exceeds the total limit|exceeds the limit")


class PodEnd(NamedTuple):
    """``reason`` for people, e.g. ``OOMKilled (exit code 137)`` or ``Evicted: ...``; ``remedy``: what to do now."""

    code: int
    reason: str
    remedy: str


class PodExit(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's pod that ended, as the conductor is told.

    ``block``: the only one that it was for, if that is so; ``hostname``: as its worker sees it.
    """

    tenant: str
    code: int
    reason: str
    remedy: str = ""
    block: int | None = None
    hostname: str = ""


def exit_of(pod: Object, end: PodEnd) -> PodExit:
    """That a tenant's pod ended so."""
    hostname = ((pod.get("spec") or {}).get("hostname") or podstate.name(pod))[:LONGEST_HOSTNAME].rstrip("-.")
    return PodExit(
        tenant=podstate.tenant(pod),
        code=end.code,
        reason=f"pod {podstate.name(pod)}: {end.reason}",
        remedy=end.remedy,
        block=podstate.block(pod),
        hostname=hostname,
    )


def told(pod: Object) -> bool:
    """Whether the pod's own status tells why it ended, so that neither its events nor its log are needed."""
    return _by_status(pod) is not None


def end_of(
    pod: Object, *, events: Iterable[Object] = (), namespace_ends: bool = False, last: str = "", log: str = ""
) -> PodEnd:
    """How a pod ended that is over or gone.

    ``events``: those of the pod and of its Job. ``namespace_ends``: its namespace is being deleted. ``last``: the last
    line that it printed; empty where it printed nothing, or its log is gone. ``log``: the file that keeps what it
    printed.
    """
    return _by_status(pod) or _by_events(pod, events) or _by_deletion(pod, namespace_ends) or _by_code(pod, last, log)


def _by_status(pod: Object) -> PodEnd | None:
    status = pod.get("status") or {}
    code = _code(pod)
    reason, message = str(status.get("reason") or ""), one_line(str(status.get("message") or ""))
    if reason:
        return PodEnd(code, f"{reason}{': ' + message if message else ''}", _remedy(pod, reason, message))
    if killed := _killed_for_memory(pod):
        return killed
    condition = podstate.condition(pod, "DisruptionTarget")
    if condition and condition.get("status", "True") == "True":
        reason, message = str(condition.get("reason") or ""), one_line(str(condition.get("message") or ""))
        return PodEnd(code, f"{reason}: {message}", _remedy(pod, reason, message))
    return None


def _killed_for_memory(pod: Object) -> PodEnd | None:
    for container in podstate.container_statuses(pod):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("reason") != "OOMKilled":
            continue
        code = int(ended.get("exitCode", KILLED))
        limit = _memory_limit(pod, str(container.get("name")))
        if not limit:
            return PodEnd(code, f"OOMKilled (exit code {code}), without a limit of its own", _remedy(pod, "", "memory"))
        name = str(container.get("name"))
        return PodEnd(code, f"OOMKilled (exit code {code}), its limit is {limit}", more_memory(pod, limit, name))
    return None


def more_memory(pod: Object, limit: str, container: str = "") -> str:
    """How a user gives such a pod, or this container of it, more memory than ``limit``."""
    watches = container == beside.WORKER and podstate.has_program(pod)
    if podstate.tenant(pod) and not watches:
        return f"give tenants more than {limit}: --pod-memory"
    who = "worker" if watches else "conductor"
    return (
        f"give the {who} more than {limit}: --pod-template with "
        f"spec: {{containers: [{{name: {who}, resources: {{limits: {{memory: ...}}}}}}]}}"
    )


def _memory_limit(pod: Object, container: str) -> str:
    for one in (pod.get("spec") or {}).get("containers") or ():
        if one.get("name") == container:
            return str(((one.get("resources") or {}).get("limits") or {}).get("memory", ""))
    return ""


def _by_events(pod: Object, events: Iterable[Object]) -> PodEnd | None:
    """For a pod that was gone before its status told anything."""
    by_reason = {str(event.get("reason")): one_line(str(event.get("message") or "")) for event in events}
    for reason in _TELLING:
        if reason in by_reason:
            message = by_reason[reason]
            return PodEnd(_code(pod), f"{reason}: {message}", _remedy(pod, reason, message))
    return None


def _by_deletion(pod: Object, namespace_ends: bool) -> PodEnd | None:
    ended = podstate.ended(pod) or podstate.program_ended(pod)
    if ended and "deletionTimestamp" not in pod["metadata"]:
        return None
    namespace = str(pod["metadata"].get("namespace", ""))
    if namespace_ends:
        return PodEnd(_code(pod), f"deleted with its namespace {namespace}", "choose another namespace: --namespace")
    remedy = f"run it again, and see who deletes pods in namespace {namespace}"
    return PodEnd(_code(pod), "deleted, and no event says why", remedy)


def _by_code(pod: Object, last: str, log: str) -> PodEnd:
    """For a pod whose container ended by itself."""
    code, ended = _code(pod), _terminated(pod)
    reason, message = str(ended.get("reason") or ""), one_line(str(ended.get("message") or ""))
    name = _signal(code - 128)
    how = f"exit code {code}{f': {name}' if name else ''}"
    if reason not in ("", "Error", "Completed"):
        how = f"{reason} ({how})"
    words = message or last
    if reason in ("StartError", "ContainerCannotRun") and _program_failed(pod):
        remedy = f"check the image and the workdir of tenant {podstate.tenant(pod)}, and what --pod-template mounts"
    elif reason in ("StartError", "ContainerCannotRun"):
        remedy = "check --image, which must hold this kts, and the command, if --pod-template has one"
    else:
        remedy = f"see logs/{log} in the run directory" if last and log else "it printed nothing; see cluster.json"
    return PodEnd(code, f"{how}{': ' + words if words else ''}", remedy)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _remedy(pod: Object, reason: str, message: str) -> str:
    node = str((pod.get("spec") or {}).get("nodeName") or "NODE")
    if _OWN_LIMIT.search(message):
        return "raise its limit of ephemeral-storage (--pod-template), or the LimitRange that sets it"
    if reason in ("", "Evicted") or (reason == "TerminationByKubelet" and "low on resource" in message):
        more = "; or ask for as much as tenants use: --pod-memory"
        return _PRESSURE.format(node=node) + (more if "memory" in message.lower() and podstate.tenant(pod) else "")
    if reason.startswith("OutOf"):
        return f"wait until others leave room on node {node}, or choose another one: --node"
    return _REMEDIES.get(reason, _NODE).format(node=node)


def _terminated(pod: Object) -> Object:
    """The end of the program's own container where that failed; else of the run's container, before that of one that
    somebody added."""
    found = {
        str(status.get("name")): dict(ended)
        for status in podstate.container_statuses(pod)
        if (ended := (status.get("state") or {}).get("terminated"))
    }
    if _failed(found.get(beside.PROGRAM)):
        return found[beside.PROGRAM]
    return next((found[name] for name in ("worker", "conductor") if name in found), next(iter(found.values()), {}))


def _program_failed(pod: Object) -> bool:
    statuses = [one for one in podstate.container_statuses(pod) if one.get("name") == beside.PROGRAM]
    return any(_failed((one.get("state") or {}).get("terminated")) for one in statuses)


def _failed(ended: Object | None) -> bool:
    return bool(ended) and int((ended or {}).get("exitCode", KILLED)) != 0


def _code(pod: Object) -> int:
    return int(_terminated(pod).get("exitCode", KILLED))


def of_pod(events: Sequence[Object], pod: Object) -> list[Object]:
    """The events of a pod, and of the Job that made it."""
    names = {podstate.name(pod), podstate.labelled(pod, LABEL_JOB)}
    return [event for event in events if (event.get("involvedObject") or {}).get("name") in names]
