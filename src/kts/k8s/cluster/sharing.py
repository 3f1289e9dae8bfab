"""How many slots the device plugin makes of one GPU: its time-slicing config looked up, changed, and put back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from kts.errors import MeasurementError, SetupError
from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.objects import Object, offers, podstate
from kts.k8s.objects.names import GPU, SHARED
from kts.k8s.objects.pluginconfig import ResourceOffer, looks_like_one, sharing_of

NODE_LABEL = "nvidia.com/device-plugin.config"
"""On a node: which key of the ConfigMap it uses."""
PREVIOUS = "kts.dev/previous"
"""Annotation of the ConfigMap: the exact text that kts first replaced, and in `PREVIOUS_KEY` where it belongs."""
PREVIOUS_KEY = "kts.dev/previous-key"
RESTARTED = "kubectl.kubernetes.io/restartedAt"
DEADLINE_S = 120.0
SETTLED_S = 30.0
"""For new pods of the plugin to register, and for the kubelet to tell what they offer (every 10 s)."""
POLL_S = 0.5
_AVAILABLE = "available-configs"
_NEEDLE = "nvidia-device-plugin"


class DevicePlugin(msgspec.Struct, frozen=True, kw_only=True):
    """The device plugin of a cluster: its DaemonSet, and the ``key`` of the ConfigMap that its nodes use.

    ``text``: the config itself. ``resource``: whose slots are meant. ``previous``: what `apply` once replaced; None if
    nothing is kept. ``gpus``: devices of each node that uses the key; 0 where nothing tells how many. ``counted``: the
    nodes whose label says so; of others it is taken from what they offered before, wrongly if the plugin lagged.
    ``version``: the ConfigMap's, so that nobody's change in between is overwritten.
    """

    namespace: str
    daemonset: str
    configmap: str
    key: str
    resource: str = GPU
    text: str
    previous: str | None
    previous_key: str
    gpus: dict[str, int]
    counted: frozenset[str]
    version: str
    rolling: bool

    def words(self) -> str:
        """For people."""
        return f"ConfigMap {self.namespace}/{self.configmap}, key {self.key}, of DaemonSet {self.daemonset}"


# the cluster


def find(api: Api, key: str = "", resource: str = GPU) -> DevicePlugin:
    """The cluster's device plugin, for the slots of ``resource``.

    SetupError, with what to do, if there is none, none with a config, or if something else makes the slots.
    """
    daemonsets, nodes = api.list("DaemonSet"), api.list("Node")
    ours = [
        item
        for item in daemonsets
        if _NEEDLE in podstate.name(item) and "mps-control" not in podstate.name(item) and not offers.of_daemonset(item)
    ]
    # Charts make several, one per kind of node; those without nodes tell nothing.
    ours.sort(key=_scheduled, reverse=True)
    if not any(map(_scheduled, ours)) and (other := offers.elsewhere(nodes, daemonsets)):
        raise SetupError(*other)
    if not ours:
        raise SetupError(
            f"no DaemonSet called {_NEEDLE}: the cluster has no NVIDIA device plugin",
            "install NVIDIA's device plugin or GPU operator, with deploy/time-slicing-config.yaml as its config",
        )
    for daemonset in ours:
        configmap = _configmap(api, daemonset)
        if configmap is not None:
            return _plugin(daemonset, configmap, nodes, key, offers.base(resource))
    raise SetupError(
        f"DaemonSet {ours[0]['metadata']['namespace']}/{podstate.name(ours[0])} has no ConfigMap with a config",
        "kubectl apply -f deploy/time-slicing-config.yaml, and let the plugin use it (Helm: --set config.name=...)",
    )


def _scheduled(daemonset: Object) -> int:
    return int((daemonset.get("status") or {}).get("desiredNumberScheduled", 0))


def _configmap(api: Api, daemonset: Object) -> Object | None:
    volumes = _pod_spec(daemonset).get("volumes") or ()
    mounted = [
        (volume["name"] != _AVAILABLE, volume["configMap"]["name"]) for volume in volumes if "configMap" in volume
    ]
    for not_ours, name in sorted(mounted):
        configmap = api.get("ConfigMap", name, daemonset["metadata"]["namespace"])
        # Other ConfigMaps hold scripts and the like.
        if configmap is not None and (not not_ours or any(map(looks_like_one, (configmap.get("data") or {}).values()))):
            return configmap
    return None


def _plugin(daemonset: Object, configmap: Object, nodes: Sequence[Object], key: str, resource: str) -> DevicePlugin:
    namespace, name = daemonset["metadata"]["namespace"], podstate.name(configmap)
    data = configmap.get("data") or {}
    using = _keys_in_use(daemonset, data, nodes, resource)
    chosen = key or _only_key(using, data, f"{namespace}/{name}", nodes, resource)
    if chosen not in data:
        raise SetupError(
            f"ConfigMap {namespace}/{name} has no key {chosen}",
            f"known: {', '.join(sorted(data)) or 'none'}; or apply deploy/time-slicing-config.yaml",
        )
    meta = configmap["metadata"]
    annotations = meta.get("annotations") or {}
    text, previous = data[chosen], annotations.get(PREVIOUS)
    try:
        means = sharing_of(text, resource)
    except SetupError:
        if previous is None:
            raise
        means = sharing_of(previous, resource)  # so that --restore mends what somebody broke
    mine = [node for node in nodes if using.get(podstate.name(node)) == chosen]
    return DevicePlugin(
        namespace=namespace,
        daemonset=podstate.name(daemonset),
        configmap=name,
        key=chosen,
        resource=resource,
        text=text,
        previous=previous,
        previous_key=annotations.get(PREVIOUS_KEY, chosen),
        gpus={podstate.name(node): _devices(node, resource, means) for node in mine},
        counted=frozenset(podstate.name(node) for node in mine if _counted(node, resource)),
        version=meta.get("resourceVersion", ""),
        rolling=(daemonset["spec"].get("updateStrategy") or {}).get("type") != "OnDelete",
    )


def _keys_in_use(daemonset: Object, data: Mapping[str, str], nodes: Sequence[Object], resource: str) -> dict[str, str]:
    """Of each node that has the resource: the key that it uses; empty where none is said to."""
    spec = _pod_spec(daemonset)
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    env = {e.get("name"): e["value"] for c in containers for e in c.get("env") or () if e.get("value")}
    fallback = env.get("DEFAULT_CONFIG", "")
    if not fallback and "default" in data and "named" in env.get("FALLBACK_STRATEGIES", ""):
        fallback = "default"
    if not fallback and len(data) == 1:
        fallback = next(iter(data))
    names = _names(data, resource)
    using = [node for node in nodes if _has(node, names, resource)]
    return {podstate.name(node): podstate.labelled(node, NODE_LABEL) or fallback for node in using}


def _only_key(
    using: Mapping[str, str], data: Mapping[str, str], configmap: str, nodes: Sequence[Object], resource: str
) -> str:
    keys = sorted(set(using.values()))
    there = "; ".join(filter(None, map(offers.words, nodes)))
    if not keys and there:
        others = sorted({name for node in nodes for name in offers.accelerators(node)})
        raise SetupError(f"no node offers {resource}: {there}", f"choose with --resource: {', '.join(others)}")
    if not keys:
        raise SetupError("no node has an NVIDIA GPU", f"see what the plugin logs; nodes with one offer {resource}")
    if len(keys) > 1 or not keys[0]:
        which = ", ".join(f"{node}: {name or 'unknown'}" for node, name in sorted(using.items()))
        label = "" if keys[0] else f"; a node that uses none: kubectl label node NODE {NODE_LABEL}=KEY"
        raise SetupError(
            f"nodes use no one key of ConfigMap {configmap} ({which})",
            f"choose with --key: {', '.join(sorted(data))}{label}",
        )
    return keys[0]


def check_used(plugin: DevicePlugin) -> None:
    """SetupError, with how a node comes to use it, if no node uses the key: to change it would change nothing."""
    if not plugin.gpus:
        raise SetupError(
            f"no node with {plugin.resource} uses {plugin.words()}",
            f"kubectl label node NODE {NODE_LABEL}={plugin.key}, or choose another key with --key",
        )


def _names(data: Mapping[str, str], resource: str) -> set[str]:
    """Under which the resource may be offered, by any of the configs that kts understands."""
    names = {resource, resource + SHARED}
    for text in data.values():
        with contextlib.suppress(SetupError):
            names.update(sharing_of(text, resource).names)
    return names


def _has(node: Object, names: set[str], resource: str) -> bool:
    """Whether the node has such devices. One that offers none, and nothing else, may be ill; where GPUs were cut
    into MIG devices, a 0 of the whole ones stays."""
    now = offers.accelerators(node)
    if now:
        return not names.isdisjoint(now)
    capacity = (node.get("status") or {}).get("capacity") or {}
    return not names.isdisjoint(capacity) or bool(offers.told(node, resource).count)


def _devices(node: Object, resource: str, means: ResourceOffer) -> int:
    """By the label, else by what is offered now. (The label for replicas may be stale.)"""
    return _counted(node, resource) or offers.offered(node, means.names)[1] // means.replicas


def _counted(node: Object, resource: str) -> int:
    """By the label of GPU feature discovery; 0 if it does not tell."""
    text = offers.told(node, resource).count
    return int(text) if text.isascii() and text.isdecimal() else 0


def _pod_spec(daemonset: Object) -> Object:
    return dict(daemonset["spec"]["template"]["spec"])


# changing it


def apply(api: Api, plugin: DevicePlugin, text: str) -> int:
    """Puts ``text`` in the key's place and restarts the plugin; the DaemonSet's generation, for `wait`.

    The first text that is replaced is kept on the ConfigMap. SetupError if one of another key is kept there already;
    Conflict if somebody changed the ConfigMap meanwhile.
    """
    kept: dict[str, str] = {}
    if plugin.previous is None:
        kept = {PREVIOUS: plugin.text, PREVIOUS_KEY: plugin.key}
    elif plugin.previous_key != plugin.key:
        raise SetupError(
            f"the old text of key {plugin.previous_key} is still kept", "kts k8s time-slicing --restore puts it back"
        )
    _patch(api, plugin, {plugin.key: text}, kept)
    return restart(api, plugin)


def restore(api: Api, plugin: DevicePlugin) -> int:
    """Puts the kept text back and forgets it; as `apply`. SetupError if none is kept."""
    previous = to_restore(plugin)
    _patch(api, plugin, {plugin.previous_key: previous}, {PREVIOUS: None, PREVIOUS_KEY: None})
    return restart(api, plugin)


def to_restore(plugin: DevicePlugin) -> str:
    """The kept text. SetupError if there is none, or none that kts understands."""
    if plugin.previous is None:
        raise SetupError(
            f"{plugin.words()}: no earlier text is kept",
            "kts keeps one when --apply changes the config; there is nothing to put back",
        )
    sharing_of(plugin.previous, plugin.resource)
    return plugin.previous


def _patch(api: Api, plugin: DevicePlugin, data: Mapping[str, str], annotations: Mapping[str, str | None]) -> None:
    meta: Object = {"resourceVersion": plugin.version, "annotations": dict(annotations)}
    api.patch("ConfigMap", plugin.configmap, plugin.namespace, {"metadata": meta, "data": dict(data)})


def restart(api: Api, plugin: DevicePlugin) -> int:
    """Makes new pods of the plugin, which read the config at once (the kubelet may take a minute to bring it to
    those that run); the DaemonSet's generation."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    body = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}}
    return int(api.patch("DaemonSet", plugin.daemonset, plugin.namespace, body)["metadata"]["generation"])


def missing(api: Api, plugin: DevicePlugin, text: str, generation: int = 0, *, settled: bool = False) -> str:
    """What the cluster lacks to offer what ``text`` says, in words; empty if nothing.

    ``settled``: the plugin had time enough, so that any whole number of devices will do where no label counts them.
    """
    daemonset = api.get("DaemonSet", plugin.daemonset, plugin.namespace)
    if daemonset is None:
        raise SetupError(f"DaemonSet {plugin.namespace}/{plugin.daemonset} is gone", "install NVIDIA's device plugin")
    if plugin.rolling and not _rolled_out(daemonset.get("status") or {}, generation):
        return f"new pods of DaemonSet {plugin.daemonset}"
    means = sharing_of(text, plugin.resource)
    lacking = []
    for node, (name, slots) in offered(api, plugin, text).items():
        wanted = 0 if settled and node not in plugin.counted else plugin.gpus[node] * means.replicas
        if slots == 0 or slots % means.replicas or slots != (wanted or slots):
            names = name if slots else " or ".join(means.names)
            much = str(wanted) if wanted else f"{means.replicas} per GPU of"
            lacking.append(f"node {node} to offer {much} {names}, not {slots}")
    return "; ".join(lacking)


def offered(api: Api, plugin: DevicePlugin, text: str) -> dict[str, tuple[str, int]]:
    """Of each node that uses the key: the name of its slots, and how many it offers now."""
    names = sharing_of(text, plugin.resource).names
    there = {podstate.name(node): offers.offered(node, names) for node in api.list("Node")}
    return {node: there.get(node, (names[0], 0)) for node in plugin.gpus}


def _rolled_out(status: Object, generation: int) -> bool:
    wanted = status.get("desiredNumberScheduled", 0)
    seen = status.get("observedGeneration", 0) >= generation
    return bool(seen and status.get("updatedNumberScheduled", 0) == wanted == status.get("numberReady", 0))


def wait(
    api: Api,
    plugin: DevicePlugin,
    text: str,
    generation: int,
    say: Callable[[str], None],
    *,
    deadline_s: float = DEADLINE_S,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Until every node offers the slots of ``text``. MeasurementError naming what is lacking after ``deadline_s``."""
    began = clock()
    said = ""
    while True:
        try:
            lacking = missing(api, plugin, text, generation, settled=clock() >= began + SETTLED_S)
        except Unavailable as error:
            lacking = error.what
        if not lacking:
            return
        if clock() >= began + deadline_s:
            raise MeasurementError(
                f"the config is in place, but after {deadline_s:.0f} s still waiting for {lacking}",
                f"kubectl -n {plugin.namespace} logs ds/{plugin.daemonset} --all-containers; "
                "kts k8s time-slicing --restore puts the old config back",
            )
        if lacking != said:
            said = lacking
            say(f"waiting for {lacking}")
        pause(POLL_S)
