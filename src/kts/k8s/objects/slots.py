"""Which node has room for a run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kts.errors import SetupError
from kts.k8s.objects import Object, podstate
from kts.k8s.objects.settings import ClusterSettings


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """One node: ``slots`` it offers of the resource, ``used`` of them, ``by`` whom (namespace/pod)."""

    node: str
    slots: int
    used: int
    by: tuple[str, ...] = ()

    @property
    def free(self) -> int:
        """Slots that nobody holds."""
        return self.slots - self.used

    def words(self) -> str:
        """For people."""
        held = f" by {', '.join(self.by[:6])}{' ...' if len(self.by) > 6 else ''}" if self.by else ""
        return f"node {self.node}: {self.used} of {self.slots} slots in use{held}"


def rooms(nodes: Sequence[Object], pods: Sequence[Object], settings: ClusterSettings) -> list[Room]:
    """The nodes that the settings allow and that are Ready, the roomiest first."""
    found = []
    for node in nodes:
        if not _fits(node, settings):
            continue
        name = node["metadata"]["name"]
        there = [pod for pod in pods if pod.get("spec", {}).get("nodeName") == name]
        holders = [pod for pod in there if settings.resource and podstate.requested(pod, settings.resource)]
        found.append(
            Room(
                node=name,
                slots=int(node.get("status", {}).get("allocatable", {}).get(settings.resource, 0)),
                used=sum(podstate.requested(pod, settings.resource) for pod in holders),
                by=tuple(f"{pod['metadata'].get('namespace')}/{podstate.name(pod)}" for pod in holders),
            )
        )
    return sorted(found, key=lambda room: (-room.free, room.node))


def choose(found: Sequence[Room], wanted: int, settings: ClusterSettings) -> str:
    """The node to run ``wanted`` tenants on. SetupError, with who holds the slots, if none has room."""
    if not found:
        raise SetupError(
            f"no node is Ready{f' and called {settings.node}' if settings.node else ''} that the settings allow",
            "kubectl get nodes; check --node, --node-selector and --toleration",
        )
    if not settings.resource:
        return found[0].node
    if not any(room.slots for room in found):
        raise SetupError(
            f"no node offers {settings.resource}",
            "install NVIDIA's device plugin; where sharing renames the resource: --resource nvidia.com/gpu.shared",
        )
    best = next(room for room in found if room.slots)
    if best.free >= wanted:
        return best.node
    if max(room.slots for room in found) < wanted:
        remedy = f"offer more slots: kts k8s time-slicing --replicas {wanted}, or run fewer tenants"
    else:
        remedy = "wait until they are free, or choose another node with --node"
    raise SetupError(f"no free slot for {wanted - best.free} of {wanted} tenants; {best.words()}", remedy)


def _fits(node: Object, settings: ClusterSettings) -> bool:
    labels = node["metadata"].get("labels") or {}
    wanted = dict(settings.node_selector)
    if settings.node and node["metadata"]["name"] != settings.node:
        return False
    ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in node["status"].get("conditions") or ())
    cordoned = bool(node.get("spec", {}).get("unschedulable"))
    return ready and not cordoned and all(labels.get(key) == value for key, value in wanted.items())
