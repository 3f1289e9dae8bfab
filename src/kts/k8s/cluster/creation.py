"""Making and removing a run's objects in a cluster, whatever its design."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import msgspec

from kts.errors import SetupError
from kts.k8s.cluster import asked
from kts.k8s.cluster.api import Api, Conflict, Forbidden, Missing, NotYet, Unavailable
from kts.k8s.cluster.exporters import with_exporter
from kts.k8s.objects import Object, egress, manifests, podstate, sharingmode, slots
from kts.k8s.objects.names import CONDUCTOR_ACCOUNT, LABEL_RUN
from kts.k8s.objects.settings import ClusterSettings
from kts.model.mode import SharingMode
from kts.model.plan import Plan

FRESH_S = 15.0
"""For a new namespace to become usable."""
KINDS = ("ConfigMap", "Job", "Pod", "Secret", "Service", "NetworkPolicy")
"""What a run may be made of."""
GONE_S = 120.0
"""For deleted objects to be gone: only a Job's controller lets its pods go, and after an outage of the API server it
takes up to a minute to come back."""
SLOW_S = 5.0
LOOK_S = 2.0
"""Between looks for a free slot."""
FORCED_S = 1.2
"""After which a pod that is to go in a hurry is not asked any more."""
_PAUSE_S = 0.25


def prepared(
    api: Api,
    plan: Plan,
    settings: ClusterSettings,
    *,
    told: Callable[[str], None] = lambda _: None,
    now: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[ClusterSettings, tuple[str, ...]]:
    """(the settings with RuntimeClass, node, exporter and account chosen, what readers of the run must know of that).

    Creates nothing. SetupError for what the run asks for and the cluster lacks: RuntimeClass, claim, quota, slots; the
    last only after ``settings.wait_s``, of which ``told`` is given a line.
    """
    settings, runtime_class = asked.chosen_runtime_class(api, settings)
    quota = asked.quota(api, settings.namespace, asked.of_run(plan, settings))
    asked.refuse([runtime_class, *asked.claim(api, settings), quota])
    notes = (runtime_class.found,) if runtime_class.found == asked.DEFAULT_RUNTIME else ()
    chosen = with_account(api, placed(api, len(plan.tenants), settings, told=told, now=now, pause=pause))
    return with_exporter(api, chosen), notes


def placed(
    api: Api,
    tenants: int,
    settings: ClusterSettings,
    *,
    told: Callable[[str], None],
    now: Callable[[], float],
    pause: Callable[[float], None],
) -> ClusterSettings:
    """The settings with a node that has room, and what is left of ``wait_s``.

    Where nodes may not be listed the scheduler decides; and where none offers enough slots but ``wait_s`` allows for
    one that is yet to come: pods that wait for a place make an autoscaler add it. SetupError if there is no room.
    """
    if settings.claim:
        return settings
    deadline, said = now() + settings.wait_s, ""
    while True:
        left_s = max(0.0, deadline - now())
        waiting = msgspec.structs.replace(settings, wait_s=round(left_s))
        try:
            nodes = api.list("Node")
            rooms = slots.rooms(nodes, api.list("Pod"), settings)
            return msgspec.structs.replace(waiting, node=slots.choose(rooms, tenants, settings, nodes))
        except Forbidden:
            return waiting
        except SetupError as error:  # no room, or in the midst of waiting a server that is away
            away = isinstance(error, Unavailable)
            if left_s <= 0 or (away and not said):
                raise
            if not away and not slots.are_busy(rooms, tenants):
                told(f"waiting up to {left_s:.0f} s for a node that is yet to come: {error.what}")
                return waiting
            if error.what != said:
                said = error.what
                told(f"waiting up to {left_s:.0f} s: {said}")
        pause(min(LOOK_S, left_s))


def shared(api: Api, plan: Plan, settings: ClusterSettings) -> SharingMode:
    """How the run is to share its device, with what the node it is placed on, or its claim, says of that.

    What may not be read says nothing. SetupError where that is another mode than was asked for.
    """
    mode = _told(api, plan, settings)
    sharingmode.check_as_asked(mode, plan, settings)
    return mode


def _told(api: Api, plan: Plan, settings: ClusterSettings) -> SharingMode:
    mode = sharingmode.asked(plan, settings)
    if plan.device == "cpu":
        return mode
    with contextlib.suppress(SetupError):
        if settings.claim and (claim := api.get("ResourceClaim", settings.claim, settings.namespace)):
            return mode.also(sharingmode.by_claim(claim, time.time_ns()))
        if settings.node and settings.resource and (node := api.get("Node", settings.node)):
            return mode.also(sharingmode.by_node(node, settings.resource, time.time_ns()))
    return mode


def with_account(api: Api, settings: ClusterSettings) -> ClusterSettings:
    """The settings with the account by which the conductor's pod sees its neighbours, if the namespace has it."""
    if settings.service_account:
        return settings
    try:
        there = api.get("ServiceAccount", CONDUCTOR_ACCOUNT, settings.namespace) is not None
    except Forbidden:
        there = False
    return msgspec.structs.replace(settings, service_account=CONDUCTOR_ACCOUNT) if there else settings


def with_egress(api: Api, plan: Plan, settings: ClusterSettings, run: str) -> ClusterSettings:
    """The settings with what the namespace's policies leave the run's pods to reach; what may not be read says
    nothing."""
    policies: list[Object] = []
    with contextlib.suppress(Forbidden, Missing):
        policies = api.list("NetworkPolicy", settings.namespace)
    shut = any(egress.isolated(policies, labels) for labels in manifests.pod_labels(plan, settings, run))
    return msgspec.structs.replace(settings, egress=settings.egress or shut)


def create_namespace(api: Api, obj: Object, pause: Callable[[float], None] = time.sleep) -> None:
    """Creates the namespace, if it is not there, and waits until pods may be made in it.

    Kubernetes makes a namespace's service account a moment later; a Job's controller that comes too early waits 10 s.
    """
    name = podstate.name(obj)
    if api.get("Namespace", name) is not None:
        return
    with contextlib.suppress(Conflict):
        api.create(obj)
    deadline = time.monotonic() + FRESH_S
    with contextlib.suppress(Forbidden):
        while api.get("ServiceAccount", "default", name) is None and time.monotonic() < deadline:
            pause(_PAUSE_S)


def create(api: Api, obj: Object, pause: Callable[[float], None] = time.sleep) -> None:
    """Creates it; what passes by itself is waited for: a namespace without its service account, and a quota that is
    not counted yet."""
    deadline = time.monotonic() + FRESH_S
    while True:
        try:
            api.create(obj)
            return
        except NotYet:
            if time.monotonic() > deadline:
                raise
        pause(_PAUSE_S)


def clean(
    api: Api,
    run: str,
    namespace: str,
    *,
    told: Callable[[str], None] | None = None,
    now: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
    within_s: float = GONE_S,
    hurried: bool = False,
) -> int:
    """Deletes everything that bears the run's label, and waits until it is gone; how many objects there were.

    A server that is away for a moment is waited for. ``told``: is given a line if it takes long. ``hurried``: pods
    get 1 s to end by themselves, and those that do not run, or need longer, none. SetupError naming what is left after
    ``within_s``; Unavailable if the server is still away then.
    """
    labels = {LABEL_RUN: run}
    seen: set[tuple[str, str, int | None]] = set()
    began = now()
    while True:
        late = now() - began > within_s
        try:
            left = [(kind, obj) for kind in KINDS for obj in api.list(kind, namespace, labels)]
            if not left:
                return len({(kind, name) for kind, name, _ in seen})
            names = ", ".join(f"{kind} {podstate.name(obj)}" for kind, obj in left)
            if late:
                raise SetupError(
                    f"still there after {within_s:.0f} s: {names}", f"kts clean {run} again, or kubectl delete"
                )
            for kind, obj in left:
                grace_s = _grace_s(obj, now() - began) if hurried and kind == "Pod" else None
                step = kind, podstate.name(obj), grace_s
                if step not in seen:
                    api.delete(kind, podstate.name(obj), namespace, grace_s=grace_s)
                    seen.add(step)
        except Unavailable as error:
            if late:
                raise
            names = error.what
        if told is not None and now() - began > SLOW_S:
            told(f"waiting for the cluster to remove the run's objects: {names}")
            told = None
        pause(_PAUSE_S)


def _grace_s(pod: Object, spent_s: float) -> int:
    """For a pod that is to go in a hurry to end by itself; with 0 the API server forgets it, and its node ends it."""
    return 1 if podstate.phase(pod) == "Running" and spent_s < FORCED_S else 0
