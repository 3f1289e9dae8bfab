"""Who is beside a run, and how its own slots are, by the pods and their node. Pure: Kubernetes JSON in, looks out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from kts.errors import SetupError
from kts.k8s.objects import Object, podstate, quantity
from kts.k8s.objects.names import LABEL_ROLE, LABEL_RUN
from kts.model.neighbours import Look, Seen

HEALTHY = "Healthy"
MOST_SEEN = 100
"""Neighbours that are kept of one look."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Which run it is, and what it shares: a ``resource`` of its ``node``, or a ``claim`` in its ``namespace``."""

    run: str
    namespace: str
    node: str
    resource: str = ""
    claim: str = ""


def look(pods: Iterable[Object], scope: Scope, *, by: str, every_ns: int, node: Object | None = None) -> Look:
    """What one list of pods shows, of ``scope.node`` or of more; ``node``: the node itself, where it may be read."""
    there = [pod for pod in pods if (pod.get("spec") or {}).get("nodeName") == scope.node and not podstate.ended(pod)]
    own = [pod for pod in there if _is_own(pod, scope)]
    others = [seen for pod in there if not _is_own(pod, scope) and (seen := _neighbour(pod, scope))]
    slots = [seen for pod in own for seen in _unhealthy(pod)]
    slots += lost_slots(node, scope.resource) if node is not None else []
    return Look(
        by=by, every_ns=every_ns, node=scope.node, others=tuple(others[:MOST_SEEN]), slots=tuple(slots[:MOST_SEEN])
    )


def lost_slots(node: Object, resource: str) -> list[Seen]:
    """That the node has more of the resource than it may give: the device plugin calls the others unhealthy."""
    status = node.get("status") or {}
    have, give = (_count(status.get(kind) or {}, resource) for kind in ("capacity", "allocatable"))
    if not resource or have is None or give is None or give >= have:
        return []
    return [Seen(who=f"node {podstate.name(node)}", what=f"{give} of {have} {resource} allocatable")]


def _count(amounts: Object, resource: str) -> int | None:
    try:
        return quantity.count(amounts[resource], resource) if resource in amounts else None
    except SetupError:
        return None


def _is_own(pod: Object, scope: Scope) -> bool:
    return podstate.labelled(pod, LABEL_RUN) == scope.run and pod["metadata"].get("namespace") == scope.namespace


def _neighbour(pod: Object, scope: Scope) -> Seen | None:
    """A pod that shares what the run measures: a holder of the resource or of the claim, or another run's tenant."""
    holds = []
    amount = podstate.requested(pod, scope.resource) if scope.resource else 0
    if amount:
        holds.append(f"{amount} {scope.resource}")
    namespace = str(pod["metadata"].get("namespace", ""))
    claims = [one.get("resourceClaimName") for one in (pod.get("spec") or {}).get("resourceClaims") or ()]
    if scope.claim and namespace == scope.namespace and scope.claim in claims:
        holds.append(f"claim {scope.claim}")
    if podstate.labelled(pod, LABEL_ROLE) == "tenant" and (run := podstate.labelled(pod, LABEL_RUN)):
        holds.append(f"a tenant of run {run}")
    if not holds:
        return None
    return Seen(who=f"{namespace}/{podstate.name(pod)}", what=", ".join(holds), device=",".join(podstate.gpus(pod)))


def _unhealthy(pod: Object) -> Iterator[Seen]:
    """Devices of a tenant's pod that the kubelet does not call healthy; none where it tells nothing."""
    if not podstate.tenant(pod):
        return
    for device, health in podstate.health(pod):
        if health not in ("", HEALTHY):
            yield Seen(who=f"tenant {podstate.tenant(pod)}", what=f"{device} {health}", device=device.split("::")[0])
