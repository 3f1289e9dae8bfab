"""How many slots the device plugin makes of one GPU: its time-slicing config, found, changed, and put back."""

from __future__ import annotations

import copy
import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from kts.errors import MeasurementError, SetupError
from kts.k8s.cluster.api import Api, Unavailable
from kts.k8s.objects import Object, podstate

GPU = "nvidia.com/gpu"
NODE_LABEL = "nvidia.com/device-plugin.config"
"""On a node: which key of the ConfigMap it uses."""
COUNT_LABEL = "nvidia.com/gpu.count"
PREVIOUS = "kts.dev/previous"
"""Annotation of the ConfigMap: the exact text that kts first replaced, and in `PREVIOUS_KEY` where it belongs."""
PREVIOUS_KEY = "kts.dev/previous-key"
RESTARTED = "kubectl.kubernetes.io/restartedAt"
LEAST = 2
"""Replicas; the plugin takes no fewer."""
DEADLINE_S = 120.0
POLL_S = 0.5
_AVAILABLE = "available-configs"
_SLICING = {"failRequestsGreaterThanOne": True, "renameByDefault": False}
"""Of a config that has no time-slicing yet."""


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    """The device plugin of a cluster: its DaemonSet, and the ``key`` of the ConfigMap that its nodes use.

    ``text``: the config itself. ``previous``: what `apply` once replaced; None if nothing is kept. ``gpus``: GPUs of
    each node that uses the key. ``version``: the ConfigMap's, so that nobody's change in between is overwritten.
    """

    namespace: str
    daemonset: str
    configmap: str
    key: str
    text: str
    previous: str | None
    previous_key: str
    gpus: dict[str, int]
    version: str
    rolling: bool

    def words(self) -> str:
        """For people."""
        return f"ConfigMap {self.namespace}/{self.configmap}, key {self.key}, of DaemonSet {self.daemonset}"


# the config's text: pure


def replicas_of(text: str) -> int:
    """Slots per GPU that a config asks for; 1 without time-slicing. SetupError if it is no config."""
    return int((_entry(_parsed(text)) or {}).get("replicas", 1))


def resource_of(text: str) -> str:
    """The name under which the slots are offered."""
    config = _parsed(text)
    slicing = (config.get("sharing") or {}).get("timeSlicing") or {}
    entry = _entry(config)
    if entry is None:
        return GPU
    return str(entry.get("rename") or (f"{GPU}.shared" if slicing.get("renameByDefault") else GPU))


def with_replicas(text: str, replicas: int) -> str:
    """The config with that many slots per GPU and all else as it was, comments included where an entry is there.

    SetupError if it is no config, or if it shares GPUs by MPS.
    """
    import yaml

    config = _parsed(text)
    if (config.get("sharing") or {}).get("mps"):
        raise SetupError(
            "the device plugin shares GPUs by MPS, which excludes time-slicing",
            "take sharing.mps out of the config first, or measure what is there",
        )
    entry = _entry(config)
    if entry is not None and entry.get("replicas") == replicas:
        return text
    wanted = copy.deepcopy(config)
    entry = _entry(wanted)
    if entry is None:
        wanted = {"version": "v1", **wanted}
        sharing = wanted["sharing"] = {**(wanted.get("sharing") or {})}
        slicing = sharing["timeSlicing"] = {**(sharing.get("timeSlicing") or _SLICING)}
        slicing["resources"] = [*(slicing.get("resources") or ()), {"name": GPU, "replicas": replicas}]
    else:
        entry["replicas"] = replicas
    edited = _in_place(text, replicas)
    if edited is not None and wanted == yaml.safe_load(edited):
        return edited
    return yaml.safe_dump(wanted, sort_keys=False)


def difference(old: str, new: str, name: str) -> str:
    """Unified diff; empty if there is none."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"{name} (now)", f"{name} (new)"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _parsed(text: str) -> Object:
    import yaml

    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SetupError(
            f"the device plugin's config is no YAML: {' '.join(str(error).split())}", "mend it by hand"
        ) from error
    try:
        entry = _entry(config) or {}
        int(entry.get("replicas", 1))
        return dict(config)
    except (AttributeError, TypeError, ValueError) as error:
        raise SetupError(
            "the device plugin's config cannot be understood", "compare deploy/time-slicing-config.yaml"
        ) from error


def _entry(config: Object) -> Object | None:
    resources = ((config.get("sharing") or {}).get("timeSlicing") or {}).get("resources") or ()
    return next((item for item in resources if isinstance(item, dict) and item.get("name") == GPU), None)


def _in_place(text: str, replicas: int) -> str | None:
    """The text with only the number changed; None if there is no such number."""
    import yaml

    def child(node: Any, name: str) -> Any:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        return next((value for key, value in pairs if key.value == name), None)

    resources = child(child(child(yaml.compose(text), "sharing"), "timeSlicing"), "resources")
    for item in resources.value if isinstance(resources, yaml.SequenceNode) else ():
        name, number = child(item, "name"), child(item, "replicas")
        if name is not None and name.value == GPU and number is not None:
            return f"{text[: number.start_mark.index]}{replicas}{text[number.end_mark.index :]}"
    return None


# the cluster


def find(api: Api, key: str = "") -> Plugin:
    """The cluster's device plugin. SetupError, with what to do, if there is none, or none with a config."""
    daemonsets = [
        item
        for item in api.list("DaemonSet")
        if "nvidia-device-plugin" in podstate.name(item) and "mps-control" not in podstate.name(item)
    ]
    if not daemonsets:
        raise SetupError(
            "no DaemonSet called nvidia-device-plugin: the cluster has no NVIDIA device plugin",
            "install NVIDIA's device plugin or GPU operator, with deploy/time-slicing-config.yaml as its config",
        )
    # Charts make several, one per kind of node; those without nodes tell nothing.
    daemonsets.sort(key=lambda item: -int((item.get("status") or {}).get("desiredNumberScheduled", 0)))
    nodes = api.list("Node")
    for daemonset in daemonsets:
        configmap = _configmap(api, daemonset)
        if configmap is not None:
            return _plugin(daemonset, configmap, nodes, key)
    first = daemonsets[0]
    raise SetupError(
        f"DaemonSet {first['metadata']['namespace']}/{podstate.name(first)} has no ConfigMap with a config",
        "kubectl apply -f deploy/time-slicing-config.yaml, and let the plugin use it (Helm: --set config.name=...)",
    )


def _configmap(api: Api, daemonset: Object) -> Object | None:
    volumes = _pod_spec(daemonset).get("volumes") or ()
    mounted = [
        (volume["name"] != _AVAILABLE, volume["configMap"]["name"]) for volume in volumes if "configMap" in volume
    ]
    for not_ours, name in sorted(mounted):
        found = api.get("ConfigMap", name, daemonset["metadata"]["namespace"])
        # Other ConfigMaps hold scripts and the like.
        if found is not None and (not not_ours or any(map(_is_config, (found.get("data") or {}).values()))):
            return found
    return None


def _is_config(text: str) -> bool:
    try:
        return bool({"version", "sharing", "flags"} & _parsed(text).keys())
    except SetupError:
        return False


def _plugin(daemonset: Object, configmap: Object, nodes: Sequence[Object], key: str) -> Plugin:
    namespace, name = daemonset["metadata"]["namespace"], podstate.name(configmap)
    data = configmap.get("data") or {}
    using = _keys_in_use(daemonset, data, nodes)
    chosen = key or _only_key(using, data, f"{namespace}/{name}")
    if chosen not in data:
        raise SetupError(
            f"ConfigMap {namespace}/{name} has no key {chosen}",
            f"known: {', '.join(sorted(data)) or 'none'}; or apply deploy/time-slicing-config.yaml",
        )
    meta = configmap["metadata"]
    annotations = meta.get("annotations") or {}
    text = data[chosen]
    return Plugin(
        namespace=namespace,
        daemonset=podstate.name(daemonset),
        configmap=name,
        key=chosen,
        text=text,
        previous=annotations.get(PREVIOUS),
        previous_key=annotations.get(PREVIOUS_KEY, chosen),
        gpus={node["metadata"]["name"]: _gpus(node, text) for node in nodes if using.get(_name(node)) == chosen},
        version=meta.get("resourceVersion", ""),
        rolling=(daemonset["spec"].get("updateStrategy") or {}).get("type") != "OnDelete",
    )


def _keys_in_use(daemonset: Object, data: Mapping[str, str], nodes: Sequence[Object]) -> dict[str, str]:
    """Of each GPU node: the key that it uses."""
    spec = _pod_spec(daemonset)
    env = [
        e for c in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())) for e in c.get("env") or ()
    ]
    fallback = next((e["value"] for e in env if e.get("name") == "DEFAULT_CONFIG" and e.get("value")), "")
    if not fallback and len(data) == 1:
        fallback = next(iter(data))
    return {_name(node): podstate.labelled(node, NODE_LABEL) or fallback for node in nodes if _has_gpus(node)}


def _only_key(using: Mapping[str, str], data: Mapping[str, str], configmap: str) -> str:
    keys = sorted(set(using.values()))
    if not keys:
        raise SetupError("no node has an NVIDIA GPU", f"see what the plugin logs; nodes with one offer {GPU}")
    if len(keys) > 1 or not keys[0]:
        which = ", ".join(f"{node}: {name or 'unknown'}" for node, name in sorted(using.items()))
        raise SetupError(
            f"nodes use no one key of ConfigMap {configmap} ({which})", f"choose with --key: {', '.join(sorted(data))}"
        )
    return keys[0]


def _has_gpus(node: Object) -> bool:
    offered = (node.get("status") or {}).get("capacity") or {}
    return GPU in offered or f"{GPU}.shared" in offered or bool(podstate.labelled(node, COUNT_LABEL))


def _gpus(node: Object, text: str) -> int:
    """By the label of GPU feature discovery, else by what is offered now. (Its label for replicas may be stale.)"""
    counted = podstate.labelled(node, COUNT_LABEL)
    return int(counted) if counted.isdigit() else offered_by(node, resource_of(text)) // max(1, replicas_of(text))


def offered_by(node: Object, resource: str) -> int:
    """Slots that the node offers now."""
    return int(((node.get("status") or {}).get("allocatable") or {}).get(resource, 0))


def _name(node: Object) -> str:
    return str(node["metadata"]["name"])


def _pod_spec(daemonset: Object) -> Object:
    return dict(daemonset["spec"]["template"]["spec"])


# changing it


def apply(api: Api, plugin: Plugin, text: str) -> int:
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


def restore(api: Api, plugin: Plugin) -> int:
    """Puts the kept text back and forgets it; as `apply`. SetupError if none is kept."""
    previous = to_restore(plugin)
    _patch(api, plugin, {plugin.previous_key: previous}, {PREVIOUS: None, PREVIOUS_KEY: None})
    return restart(api, plugin)


def to_restore(plugin: Plugin) -> str:
    """The kept text. SetupError if there is none."""
    if plugin.previous is None:
        raise SetupError(
            f"{plugin.words()}: no earlier text is kept",
            "kts keeps one when --apply changes the config; there is nothing to put back",
        )
    return plugin.previous


def _patch(api: Api, plugin: Plugin, data: Mapping[str, str], annotations: Mapping[str, str | None]) -> None:
    meta: Object = {"resourceVersion": plugin.version, "annotations": dict(annotations)}
    api.patch("ConfigMap", plugin.configmap, plugin.namespace, {"metadata": meta, "data": dict(data)})


def restart(api: Api, plugin: Plugin) -> int:
    """Makes new pods of the plugin, which read the config at once (the kubelet may take a minute to bring it to
    those that run); the DaemonSet's generation."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    body = {"spec": {"template": {"metadata": {"annotations": {RESTARTED: now}}}}}
    return int(api.patch("DaemonSet", plugin.daemonset, plugin.namespace, body)["metadata"]["generation"])


def missing(api: Api, plugin: Plugin, text: str, generation: int = 0) -> str:
    """What the cluster lacks to offer what ``text`` says, in words; empty if nothing."""
    daemonset = api.get("DaemonSet", plugin.daemonset, plugin.namespace)
    if daemonset is None:
        raise SetupError(f"DaemonSet {plugin.namespace}/{plugin.daemonset} is gone", "install NVIDIA's device plugin")
    if plugin.rolling and not _rolled_out(daemonset.get("status") or {}, generation):
        return f"new pods of DaemonSet {plugin.daemonset}"
    resource, replicas = resource_of(text), replicas_of(text)
    there = {_name(node): offered_by(node, resource) for node in api.list("Node")}
    lacking = [
        f"node {name} to offer {gpus * replicas} {resource}, not {there.get(name, 0)}"
        for name, gpus in plugin.gpus.items()
        if there.get(name, 0) != gpus * replicas
    ]
    return "; ".join(lacking)


def _rolled_out(status: Object, generation: int) -> bool:
    wanted = status.get("desiredNumberScheduled", 0)
    seen = status.get("observedGeneration", 0) >= generation
    return bool(seen and status.get("updatedNumberScheduled", 0) == wanted == status.get("numberReady", 0))


def wait(
    api: Api,
    plugin: Plugin,
    text: str,
    generation: int,
    say: Callable[[str], None],
    *,
    deadline_s: float = DEADLINE_S,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Until every node offers the slots of ``text``. MeasurementError naming what is lacking after ``deadline_s``."""
    until = clock() + deadline_s
    said = ""
    while True:
        try:
            lacking = missing(api, plugin, text, generation)
        except Unavailable as error:
            lacking = error.what
        if not lacking:
            return
        if clock() >= until:
            raise MeasurementError(
                f"the config is in place, but after {deadline_s:.0f} s still waiting for {lacking}",
                f"kubectl -n {plugin.namespace} logs ds/{plugin.daemonset} --all-containers; "
                "kts k8s time-slicing --restore puts the old config back",
            )
        if lacking != said:
            said = lacking
            say(f"waiting for {lacking}")
        pause(POLL_S)
