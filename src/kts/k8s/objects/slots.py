"""Which node has room for a run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kts.errors import SetupError
from kts.k8s.objects import Object, offers, podstate, taints
from kts.k8s.objects.names import GPU
from kts.k8s.objects.settings import ClusterSettings
from kts.shown import first_few

CORDONED = "cordoned"
_NAMED = 3


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """One node: ``slots`` it offers of the resource, ``used`` of them, ``by`` whom (namespace/pod)."""

    node: str
    slots: int
    used: int
    by: tuple[str, ...] = ()
    others: str = ""
    """All accelerators of the node, for people; empty if there are none."""
    taints: tuple[str, ...] = ()
    """Those that the run's pods do not tolerate."""
    maker: offers.Provider | None = None
    """Who makes the slots, if not NVIDIA's device plugin."""

    @property
    def free(self) -> int:
        """Slots that nobody holds."""
        return self.slots - self.used

    def words(self) -> str:
        """For people."""
        held = f" by {first_few(self.by, 6)}" if self.by else ""
        return f"node {self.node}: {self.used} of {self.slots} slots in use{held}"


def rooms(nodes: Sequence[Object], pods: Sequence[Object], settings: ClusterSettings) -> list[Room]:
    """The nodes that the settings allow and that are in service, the roomiest first."""
    found = []
    for node in _allowed(nodes, settings):
        if out_of_service(node):
            continue
        name = node["metadata"]["name"]
        there = [pod for pod in pods if pod.get("spec", {}).get("nodeName") == name]
        holders = [pod for pod in there if settings.resource and podstate.requested(pod, settings.resource)]
        found.append(
            Room(
                node=name,
                slots=offers.offered(node, [settings.resource])[1],
                used=sum(podstate.requested(pod, settings.resource) for pod in holders),
                by=tuple(f"{pod['metadata'].get('namespace')}/{podstate.name(pod)}" for pod in holders),
                others=offers.words(node),
                taints=tuple(taints.untolerated(node, settings)),
                maker=offers.of_node(node),
            )
        )
    return sorted(found, key=lambda room: (-room.free, room.node))


def choose(found: Sequence[Room], wanted: int, settings: ClusterSettings, nodes: Sequence[Object] = ()) -> str:
    """The node to run ``wanted`` tenants on, one without taints rather than another. SetupError, with who holds the
    slots, if none has room; if there is none at all, with why none of ``nodes``, of which ``found`` are, is one."""
    if not found:
        raise _none_fits(nodes, settings)
    found = sorted(found, key=lambda room: (room.free < wanted, bool(room.taints)))
    if not settings.resource:
        return found[0].node
    if not any(room.slots for room in found):
        raise _none_offers(found, settings.resource)
    best = next(room for room in found if room.slots)
    if best.free >= wanted:
        return best.node
    if max(room.slots for room in found) >= wanted:
        remedy = "wait until they are free (--wait), or choose another node with --node"
    elif best.maker is not None:
        remedy = f"offer more slots, {best.maker.setting}, or run fewer tenants"
    else:
        more = "" if settings.resource.startswith(GPU) else f" --resource {settings.resource}"
        remedy = f"offer more slots: kts k8s time-slicing --replicas {wanted}{more}, or run fewer tenants"
    raise SetupError(f"no free slot for {wanted - best.free} of {wanted} tenants; {best.words()}", remedy)


def are_busy(found: Sequence[Room], wanted: int) -> bool:
    """True where a node offers enough slots for ``wanted`` tenants, and others hold some of them."""
    return any(room.slots >= wanted for room in found)


def _none_offers(rooms: Sequence[Room], resource: str) -> SetupError:
    """No node has the resource: because it is called otherwise there, or because there is none."""
    there = "; ".join(room.others for room in rooms if room.others)
    if there:
        return SetupError(
            f"no node offers {resource}: {there}",
            "ask for what is offered: --resource NAME; kts computes on NVIDIA GPUs alone",
        )
    return SetupError(
        f"no node offers {resource}",
        "install NVIDIA's device plugin; where sharing renames the resource: --resource nvidia.com/gpu.shared",
    )


def _none_fits(nodes: Sequence[Object], settings: ClusterSettings) -> SetupError:
    """No node is allowed, or in service."""
    labels = ",".join(f"{key}={value}" for key, value in settings.node_selector.items())
    called = f"called {settings.node}" if settings.node else ""
    which = " and ".join(filter(None, (called, labels and f"labelled {labels}")))
    if not (allowed := _allowed(nodes, settings)):
        return SetupError(
            f"there is no node{f' {which}' if which else ''}",
            "kubectl get nodes --show-labels lists them; correct --node or --node-selector",
        )
    why = {podstate.name(node): out_of_service(node) for node in allowed}
    told = first_few([f"{name} is {reason}" for name, reason in why.items()], _NAMED, "; ")
    cordoned = next((name for name, reason in why.items() if reason == CORDONED), None)
    remedy = f"kubectl uncordon {cordoned}, if it may be used" if cordoned else "kubectl describe node says why"
    return SetupError(f"no node{f' {which}' if which else ''} is in service: {told}", remedy)


def _allowed(nodes: Sequence[Object], settings: ClusterSettings) -> list[Object]:
    """The nodes that the settings name."""
    wanted = dict(settings.node_selector).items()
    named = [node for node in nodes if settings.node in ("", podstate.name(node))]
    return [node for node in named if wanted <= (node["metadata"].get("labels") or {}).items()]


def out_of_service(node: Object) -> str:
    """Why no pod may be placed on the node; empty if some may."""
    conditions = node.get("status", {}).get("conditions") or ()
    ready: Object = next((c for c in conditions if c.get("type") == "Ready"), {})
    if ready.get("status") != "True":
        told = " ".join(str(ready.get("message") or ready.get("reason") or "").split())
        return f"not Ready{f': {told}' if told else ''}"
    return CORDONED if node.get("spec", {}).get("unschedulable") else ""
