"""A pod with what the user asks of it merged in: a template, a node. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kts.k8s.objects import Object, beside
from kts.k8s.objects.settings import ClusterSettings

CONTAINERS = ("conductor", "worker", beside.PROGRAM)
"""Of the pods of a run; what a pod template says of one is for the pods that have it."""
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def merged(base: Any, patch: Any) -> Any:
    """Strategic merge: maps are merged (None removes), lists of named items by name, all else is replaced."""
    if isinstance(base, Mapping) and isinstance(patch, Mapping):
        result = dict(base)
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = merged(base[key], value) if key in base else value
        return result
    if _named(base) and _named(patch):
        by_name = {item["name"]: item for item in base}
        for item in patch:
            by_name[item["name"]] = merged(by_name.get(item["name"], {}), item)
        return list(by_name.values())
    return patch


def templated(template: Object, settings: ClusterSettings) -> Object:
    """The pod with the user's template merged in; what that says of the other role's container is not for this pod.

    The node is pinned last: a template's own node affinity holds beside it, and not in its place.
    """
    patch = settings.pod_template
    containers = (patch.get("spec") or {}).get("containers") or []
    if _named(containers):
        mine = {container["name"] for container in template["spec"]["containers"]}
        kept = [c for c in containers if c["name"] in mine or c["name"] not in CONTAINERS]
        spec = {key: value for key, value in patch["spec"].items() if key != "containers"}
        patch = {**patch, "spec": {**spec, **({"containers": kept} if kept else {})}}
    pod = merged(template, patch)
    return {**pod, "spec": _on_node(pod["spec"], settings.node)} if settings.node else dict(pod)


def _on_node(spec: Object, node: str) -> Object:
    """The pod's spec for the node of that name: a name is unique, and its hostname label may differ from it."""
    affinity = dict(spec.get("affinity") or {})
    nodes = dict(affinity.get("nodeAffinity") or {})
    terms = (nodes.get(REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
    named = {"key": "metadata.name", "operator": "In", "values": [node]}
    pinned = [{**term, "matchFields": [*(term.get("matchFields") or ()), named]} for term in terms]
    nodes[REQUIRED] = {"nodeSelectorTerms": pinned}
    return {**spec, "affinity": {**affinity, "nodeAffinity": nodes}}


def _named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, Mapping) and "name" in i for i in value)
