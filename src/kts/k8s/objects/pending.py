"""Why a pod has not started, or a Job has no pod, and how long that may last. Pure: Kubernetes JSON in, words out.

The limits of a run's waits for its pods, all of them. A reason that the cluster tells is final soon, since waiting
seldom mends it; the longer limits are for a cluster that tells nothing. Each begins anew when what a pod waits for
changes; `start_s` holds for all together. Waits of a run that has begun: `kts.k8s.follow.session`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from kts.k8s.objects import Object, podstate
from kts.k8s.objects.refusals import one_line, refusal
from kts.k8s.objects.settings import ClusterSettings

STUCK_S = 6.0
"""A pod that cannot start, has no place, or is not made, with the cluster's own reason: a slot of a run that just ended
is free again sooner, and so is a Secret that the node has not seen yet."""
MOUNT_S = 10.0
"""A container that is not created, with the node's own reason: a volume, a sandbox. The node tries again by itself."""
PLACE_S = 45.0
"""A pod of which the scheduler tells nothing: after an outage of the API server it may ask again after 30 s only."""
NO_POD_S = 45.0
"""A Job without a pod, of which its controller tells nothing: after an outage of the API server that takes a while."""
FOLLOWER_S = 120.0
"""A pod of a fleet without a place, which only follows a run, and for which there may be one soon."""
LACKING_S = 10.0
"""An object of the run that is not there: another kts may be about to make it."""
CREATE_S = 60.0
"""A container that is not created, of which the node tells nothing."""

_EVENTS = "cluster.json holds the events"
_SCALERS = ("TriggeredScaleUp", "NotTriggerScaleUp", "Nominated")
"""Events of cluster-autoscaler and Karpenter on pods without a place."""
_NOISE = re.compile(r"[ ,.]*(?:no new claims to deallocate|preemption: ).*")
"""What the scheduler adds of what it would not help to evict."""
_TAINT = re.compile(r"untolerated taint(?:\(s\))? \{(?P<key>[^:}\s]+):? ?(?P<value>[^}]*)\}")


class Wait(NamedTuple):
    """``kind``: a limit begins anew when it changes; ``what`` happens, and the ``remedy`` once it lasted ``limit_s``;
    ``short``: the same for a line that is shown meanwhile. ``place``: a free slot or a new node would end it."""

    kind: str
    what: str
    remedy: str
    limit_s: float
    short: str = ""
    place: bool = False


def start_s(settings: ClusterSettings) -> float:
    """Within which every pod must run once it is there, whatever it waits for meanwhile."""
    return float(settings.join_s + settings.wait_s)


def of_pod(pod: Object, events: Sequence[Object], settings: ClusterSettings) -> Wait | None:
    """None for a pod that runs, ran, or is being deleted. ``events``: of the namespace, as far as they may be read."""
    if never := podstate.hopeless(pod):
        return Wait("failed", *never, limit_s=STUCK_S, short=never[0])
    if podstate.phase(pod) != "Pending" or podstate.over(pod):
        return None
    mine = events_of(events, "Pod", podstate.name(pod))
    if pod["spec"].get("nodeName"):
        return _creating(pod, mine, settings)
    return _placeless(pod, mine, settings)


def of_job(job: str, events: Sequence[Object], settings: ClusterSettings) -> Wait:
    """Of a Job that has no pod."""
    mine = events_of(events, "Job", job)
    told = _last(mine, "FailedCreate")
    if not told and (suspended := _last(mine, "Suspended")):
        remedy = "whoever suspends it lets it go, e.g. a queue; wait for that with --wait"
        what = f"Job {job} has no pod: {suspended}"
        return Wait("suspended", what, remedy, max(STUCK_S, settings.wait_s), suspended, place=True)
    if not told:
        controllers = "see whether the cluster's kube-controller-manager runs"
        return Wait("no pod", f"Job {job} has no pod, and no event says why", controllers, NO_POD_S)
    why = refusal(told, settings.namespace)
    limit_s = NO_POD_S if why and why.passes else STUCK_S
    return Wait("no pod, told", f"Job {job} has no pod: {told}", why.remedy if why else _EVENTS, limit_s, told)


def of_lacking(name: str) -> Wait:
    """Of what a run cannot do without and is not there."""
    what = f"{name} is not there: it was never made, or is deleted"
    return Wait("lacking", what, "begin the run anew; what was fetched before is kept", LACKING_S, "it is not there")


def _placeless(pod: Object, events: Sequence[Object], settings: ClusterSettings) -> Wait:
    """A pod that has no node."""
    name, limit_s = podstate.name(pod), max(STUCK_S, float(settings.wait_s))
    if gates := [gate["name"] for gate in pod["spec"].get("schedulingGates") or ()]:
        what = f"pod {name} is held back by the scheduling gate {', '.join(gates)}"
        remedy = "whoever set it lets the pod go, e.g. a queue; wait for that with --wait"
        return Wait("gated", what, remedy, limit_s, what, place=True)
    if why := one_line(podstate.unschedulable(pod)) or _last(events, "FailedScheduling"):
        scaler = "".join(f"; autoscaler: {text}" for text in [_last(events, *_SCALERS)] if text)
        who = podstate.tenant(pod)
        what = f"no place for {f'tenant {who}' if who else 'the conductor'}: {why}{scaler}"
        return Wait("no place", what, _place_remedy(why), limit_s, f"{_NOISE.sub('', why)}{scaler}", place=True)
    claims = [str(claim.get("resourceClaimName", "")) for claim in pod["spec"].get("resourceClaims") or ()]
    needs = f", which asks for the ResourceClaim {', '.join(claims)}" if claims else ""
    scheduler = pod["spec"].get("schedulerName", "default-scheduler")
    remedy = (
        f"see whether that claim is there: kubectl get resourceclaim --namespace {settings.namespace}"
        if claims
        else f"see whether the scheduler {scheduler} runs"
    )
    what = f"no scheduler has said anything of pod {name}{needs}"
    return Wait("unseen", what, remedy, PLACE_S, what)


def _creating(pod: Object, events: Sequence[Object], settings: ClusterSettings) -> Wait:
    """A pod that has a node, on which its container does not run yet."""
    name, node = podstate.name(pod), pod["spec"]["nodeName"]
    latest = max(events, key=_time, default=None)
    if latest is not None and latest.get("type") == "Warning" and latest.get("reason") != "FailedScheduling":
        reason, told = str(latest.get("reason", "")), said(latest)
        template = reason in ("FailedMount", "FailedAttachVolume") and settings.pod_template
        remedy = "correct the volume that it names: --pod-template" if template else f"mend what it names; {_EVENTS}"
        return Wait("node tells", f"pod {name} cannot start: {reason}: {told}", remedy, MOUNT_S, f"{reason}: {told}")
    if latest is not None and latest.get("reason") == "Pulling":
        what = f"pod {name}: {one_line(str(latest.get('message', '')))}, and that does not end"
        remedy = "check the registry and the node's way to it; a longer time: --join-seconds"
        return Wait("pulling", what, remedy, start_s(settings), f"pulling {_image_of(latest, settings)}")
    what = f"pod {name} does not start on node {node}, and no event says why"
    return Wait("creating", what, f"see whether the node is well: kubectl describe node {node}", CREATE_S)


def _image_of(pulling: Object, settings: ClusterSettings) -> str:
    """The image that an event speaks of: a program's own, or the worker's."""
    named = re.search(r'"([^"]+)"', str(pulling.get("message", "")))
    return named[1] if named else settings.image


def hides_taint(why: str) -> bool:
    """Whether the scheduler speaks of a taint and does not name it, as from 1.34 on."""
    return "untolerated taint" in why and not _TAINT.search(why)


def _place_remedy(why: str) -> str:
    """What to do about the scheduler's words."""
    remedies = [f"--toleration {m['key']}{'=' + m['value'] if m['value'] else ''}" for m in _TAINT.finditer(why)]
    if "Insufficient cpu" in why:
        remedies.append("ask for less with --pod-cpu")
    if "Insufficient memory" in why:
        remedies.append("ask for less with --pod-memory")
    if "node affinity/selector" in why:
        remedies.append("check --node, --node-selector and --pod-template")
    if "persistentvolumeclaim" in why:
        remedies.append("correct --pod-template")
    if "resourceclaim" in why or "cannot allocate all claims" in why:
        remedies.append("check --claim")
    return "; ".join(dict.fromkeys(remedies)) or "see what the scheduler says; kts doctor --on k8s"


def events_of(events: Sequence[Object], kind: str, name: str) -> list[Object]:
    """Those of ``events`` that are about this object."""
    involved = ((event, event.get("involvedObject") or {}) for event in events)
    return [event for event, of in involved if (of.get("kind"), of.get("name")) == (kind, name)]


def _last(events: Sequence[Object], *reasons: str) -> str:
    """The message of the latest event of one of these reasons; empty if there is none."""
    latest = max((event for event in events if event.get("reason") in reasons), key=_time, default={})
    return said(latest)


def said(event: Object) -> str:
    """An event's message, in one line; empty if there is none."""
    return one_line(str(event.get("message", "")))


def _time(event: Object) -> str:
    """Of its last occurrence; RFC 3339 in UTC, so that the text has the order of time."""
    series = event.get("series") or {}
    told = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(told or event["metadata"].get("creationTimestamp", ""))
