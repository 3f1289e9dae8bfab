"""`kts watch` brought to a cluster, and taken away again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from kts.errors import SetupError
from kts.k8s.cluster.api import Api, Forbidden, Missing, Unavailable
from kts.k8s.cluster.creation import create_namespace
from kts.k8s.objects import Object, podstate, watching
from kts.k8s.objects.names import WATCH
from kts.k8s.objects.watching import MANAGED, SELECTED, WatchSettings

READY_S = 120.0
GONE_S = 90.0
"""For its pods to take their probes away, and end."""
_PAUSE_S = 0.5
_LINES = 5

Clock = Callable[[], float]
Pause = Callable[[float], None]


class WatchedNodes(NamedTuple):
    """How many of the nodes that are to be watched are."""

    nodes: int
    ready: int


def install(
    api: Api,
    settings: WatchSettings,
    *,
    now: Clock = time.monotonic,
    pause: Pause = time.sleep,
    within_s: float = READY_S,
) -> WatchedNodes:
    """Makes the objects be there as the settings have them, and waits until each node's pod serves.

    SetupError, with what its pod said last, where one cannot; what was made stays, for whoever looks.
    """
    for obj in watching.render(settings):
        if obj["kind"] == "Namespace":
            create_namespace(api, obj, pause)
        api.apply(obj)
    if not settings.asks:  # of an installation that asked
        _delete_roles(api, settings.namespace)
    deadline = now() + within_s
    while True:
        state = _state(api, settings.namespace)
        if state is not None and state.ready >= state.nodes > 0:
            return state
        late = now() >= deadline
        if state is not None and (state.nodes or late):
            _refuse(api, settings.namespace, state, late=late)
        if late:
            raise SetupError("the cluster does not look at the DaemonSet", "check that its controllers run")
        pause(_PAUSE_S)


def remove(
    api: Api, namespace: str, *, now: Clock = time.monotonic, pause: Pause = time.sleep, within_s: float = GONE_S
) -> bool:
    """Takes all of it away, its namespace too where `install` made that; False if there was nothing.

    The pods end first, and take their probes out of the kernel. SetupError naming those that are left.
    """
    there = api.delete("DaemonSet", WATCH, namespace)
    deadline = now() + within_s
    while left := api.list("Pod", namespace, SELECTED):
        if now() >= deadline:
            names = ", ".join(podstate.name(pod) for pod in left)
            raise SetupError(f"still there after {within_s:.0f} s: {names}", "is their node well? then the same again")
        pause(_PAUSE_S)
    there |= api.delete("ServiceAccount", WATCH, namespace)
    there |= _delete_roles(api, namespace)
    found = api.get("Namespace", namespace)
    if found is not None and MANAGED.items() <= (found["metadata"].get("labels") or {}).items():
        there |= api.delete("Namespace", namespace)
    return there


def _delete_roles(api: Api, namespace: str) -> bool:
    name, there = watching.cluster_name(namespace), False
    with contextlib.suppress(Forbidden):  # who may not delete what gives rights did not make it
        there |= api.delete("ClusterRoleBinding", name)
        there |= api.delete("ClusterRole", name)
    return there


def _state(api: Api, namespace: str) -> WatchedNodes | None:
    """None until the DaemonSet's controller has looked at it as it is now."""
    found = api.get("DaemonSet", WATCH, namespace)
    status = (found or {}).get("status") or {}
    if found is None or status.get("observedGeneration") != found["metadata"].get("generation"):
        return None
    fresh = min(int(status.get(kind, 0)) for kind in ("numberReady", "updatedNumberScheduled"))
    return WatchedNodes(int(status.get("desiredNumberScheduled", 0)), fresh)


def _refuse(api: Api, namespace: str, state: WatchedNodes, *, late: bool) -> None:
    """SetupError for what waiting does not mend, and for everything once it is late."""
    if not state.nodes:
        raise SetupError(
            "no node is to be watched: none has a label that says GPU", "name them: --node-selector KEY=VALUE"
        )
    pods = api.list("Pod", namespace, SELECTED)
    for pod in pods:
        if found := podstate.hopeless(pod):
            raise SetupError(*found)
        if any(status.get("restartCount") for status in podstate.container_statuses(pod)):
            node = (pod.get("spec") or {}).get("nodeName", "")
            raise SetupError(
                f"on node {node} kts watch ends: {_last_words(api, pod, namespace)}", "see docs/watch-rights.md"
            )
    if not pods and (told := _events(api, namespace)):
        raise SetupError(f"no pod is made: {told}", "the namespace must allow Pod Security level privileged")
    if late:
        waiting = ", ".join(podstate.name(pod) for pod in pods if not podstate.ready(pod)) or "no pod is there"
        raise SetupError(
            f"{state.ready} of {state.nodes} nodes are watched: {waiting}",
            f"kubectl --namespace {namespace} describe pods; kts k8s watch remove takes it away",
        )


def _last_words(api: Api, pod: Object, namespace: str) -> str:
    try:
        text = b"".join(api.logs(podstate.name(pod), namespace, tail=_LINES, previous=True)).decode(errors="replace")
    except (Missing, Forbidden, Unavailable) as error:
        return f"its log cannot be had ({error.what})"
    return " ".join(text.split()) or "it said nothing"


def _events(api: Api, namespace: str) -> str:
    """Why the DaemonSet's controller can make no pod; empty where nobody tells."""
    fields = {"involvedObject.kind": "DaemonSet", "involvedObject.name": WATCH, "reason": "FailedCreate"}
    try:
        found = api.list("Event", namespace, fields=fields)
    except Forbidden:
        return ""
    return str(found[-1].get("message", "")) if found else ""
