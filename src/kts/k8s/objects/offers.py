"""Which accelerators a node offers, through whose device plugin, and how it says that they are shared. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from kts.k8s.objects import Object, podstate, quantity
from kts.k8s.objects.names import GPU, SHARED
from kts.shown import first_few

_ACCELERATOR = re.compile(r"gpu|/mig-|cuda|i915|/xe$|gaudi|neuron|/tpu|/mlu|ascend|/npu|/dcu", re.IGNORECASE)
_GKE = "cloud.google.com/gke-"
_BOTTLEROCKET = "settings.kubelet-device-plugins.nvidia"


class Provider(msgspec.Struct, frozen=True):
    """Who makes the slots, where it is not NVIDIA's device plugin, and where their number is set."""

    who: str
    setting: str


GKE = Provider(
    "GKE's own device plugin",
    "in the node pool: gcloud container node-pools create --accelerator "
    "type=...,gpu-sharing-strategy=time-sharing,max-shared-clients-per-gpu=N",
)
HAMI = Provider("HAMi's device plugin", "in HAMi's Helm chart: --set devicePlugin.deviceSplitCount=N")
BOTTLEROCKET = Provider(
    "Bottlerocket's built-in device plugin", f"in the node's user data: {_BOTTLEROCKET}.time-slicing.replicas"
)
VOLCANO = Provider("Volcano's device plugin", "in the volcano-vgpu-device-plugin's own config")
AMD = Provider("AMD's device plugin", "in AMD's GPU operator")
INTEL = Provider("Intel's device plugin", "in Intel's plugin: -shared-dev-num")
_BY_DAEMONSET = (
    ("hami", HAMI),
    ("vgpu-device-plugin", VOLCANO),
    ("nvidia-gpu-device-plugin", GKE),
    ("amdgpu-device-plugin", AMD),
    ("intel-gpu-plugin", INTEL),
)


class ToldSharing(msgspec.Struct, frozen=True, kw_only=True):
    """What a node's labels say of how a device is shared, as text; empty: not told. ``label``: which one says so."""

    strategy: str = ""
    replicas: str = ""
    count: str = ""
    label: str = ""


def offered(node: Object, names: Iterable[str], of: str = "allocatable") -> tuple[str, int]:
    """(the name of which the node offers most, how many); the first name and 0 if it offers none."""
    amounts = (node.get("status") or {}).get(of) or {}
    where = f"node {podstate.name(node)}"
    counts = [(name, quantity.count(amounts.get(name, 0), f"{where}, {name}")) for name in names]
    return max(counts, key=lambda pair: pair[1])


def accelerators(node: Object) -> dict[str, int]:
    """What the node offers of accelerators of any maker, by resource name; nothing of which it has none."""
    names = (node.get("status") or {}).get("allocatable") or {}
    counts = dict(offered(node, [name]) for name in sorted(names) if "/" in name and _ACCELERATOR.search(name))
    return {name: count for name, count in counts.items() if count > 0}


def words(node: Object) -> str:
    """`accelerators` for people; empty if there are none."""
    kinds = ", ".join(f"{count} {name}{kind(name)}" for name, count in accelerators(node).items())
    return f"node {podstate.name(node)} offers {kinds}" if kinds else ""


def kind(resource: str) -> str:
    """What a resource is where its name alone does not tell, in brackets."""
    return " (MIG devices)" if "/mig-" in resource else ""


def base(resource: str) -> str:
    """The resource as the plugin's config and labels name it, without the suffix of shared slots."""
    return resource.removesuffix(SHARED)


def of_node(node: Object) -> Provider | None:
    """Who makes the node's slots; None: nothing says that it is another than NVIDIA's device plugin."""
    labels = node["metadata"].get("labels") or {}
    notes = node["metadata"].get("annotations") or {}
    image = str(((node.get("status") or {}).get("nodeInfo") or {}).get("osImage", ""))
    if labels.get(f"{_GKE}no-default-nvidia-gpu-device-plugin") == "true":
        return None
    if any(name.startswith((f"{_GKE}gpu", f"{_GKE}accelerator", f"{_GKE}max-shared")) for name in labels):
        return GKE
    if any(name.startswith("hami.io/node-") for name in notes):
        return HAMI
    return BOTTLEROCKET if image.startswith("Bottlerocket") else None


def of_daemonset(daemonset: Object) -> Provider | None:
    """Whose device plugin it is; None for NVIDIA's own, and for what is none."""
    images = [str(c.get("image", "")) for c in daemonset["spec"]["template"]["spec"].get("containers") or ()]
    texts = [podstate.name(daemonset), *images]
    return next((who for needle, who in _BY_DAEMONSET if any(needle in text for text in texts)), None)


def elsewhere(nodes: Sequence[Object], daemonsets: Sequence[Object]) -> tuple[str, str] | None:
    """(what, remedy) where nodes offer accelerators that NVIDIA's device plugin has not made; None if none do."""
    offering = [node for node in nodes if accelerators(node)]
    if not offering:
        return None
    makers = [(item, maker) for item in daemonsets if (maker := of_daemonset(item))]
    found = [maker for node in offering if (maker := of_node(node))] + [maker for _, maker in makers]
    what = first_few([words(node) for node in offering], 4, "; ")
    if not found:
        return (
            f"{what}, but the cluster has no NVIDIA device plugin (no such DaemonSet): something else makes them",
            "set their number there, and install no second device plugin beside it; kts run uses what is offered",
        )
    by = f" (DaemonSet {makers[0][0]['metadata']['namespace']}/{podstate.name(makers[0][0])})" if makers else ""
    return (
        f"{what}, made by {found[0].who}{by}, not by NVIDIA's",
        f"set their number there, {found[0].setting}; kts run uses what is offered",
    )


def told(node: Object, resource: str = GPU) -> ToldSharing:
    """What GKE's labels, or those of GPU feature discovery, say."""
    labels = node["metadata"].get("labels") or {}
    of = base(resource) if resource.startswith("nvidia.com/") else GPU
    count = labels.get(f"{of}.count", "")
    if shared := labels.get(f"{_GKE}gpu-sharing-strategy", ""):
        strategy = {"time-sharing": "time-slicing"}.get(shared, shared)
        replicas = labels.get(f"{_GKE}max-shared-clients-per-gpu", "")
        return ToldSharing(
            strategy=strategy, replicas=replicas, count=count, label=f"{_GKE}gpu-sharing-strategy={shared}"
        )
    strategy = labels.get(f"{of}.sharing-strategy", "")
    return ToldSharing(
        strategy=strategy,
        replicas=labels.get(f"{of}.replicas", ""),
        count=count,
        label=f"{of}.sharing-strategy={strategy}" if strategy else "",
    )
