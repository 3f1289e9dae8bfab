"""What a tenant's pod has that its run did not ask for: limits of a LimitRange, what a webhook adds. Pure.

Any of it changes what is measured: a CPU limit throttles, which looks like sharing; a sidecar takes CPU time; another
runtime or node is another machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kts.k8s.objects import Object, quantity
from kts.k8s.objects.merging import REQUIRED

LIMIT_RANGER = "kubernetes.io/limit-ranger"
"""The annotation in which the API server says what LimitRanges set."""
_SIGNS = ("LD_PRELOAD", "CUDA_", "NVIDIA_")
"""How names of environment variables begin that change how a GPU is used."""


def changes(asked: Object, pod: Object) -> list[str]:
    """How a pod differs from the spec that was asked for, one line each; with what a LimitRange says of itself."""
    got = pod.get("spec") or {}
    told = (pod["metadata"].get("annotations") or {}).get(LIMIT_RANGER)
    by = f" ({told})" if told else ""
    return [*(f"{text}{by}" for text in _resources(asked, got)), *_containers(asked, got), *_place(asked, got)]


def _resources(asked: Object, got: Object) -> Iterator[str]:
    given = {one["name"]: one for one in got.get("containers") or ()}
    for mine in asked.get("containers") or ():
        container, limits = given.get(mine["name"], mine), _of(mine, "limits")
        yield from _amounts("limit", limits, _of(container, "limits"))
        # Kubernetes itself asks for as much as the limit where a container asks for nothing.
        yield from _amounts("request", {**limits, **_of(mine, "requests")}, _of(container, "requests"))
    for part, word in (("limits", "limit"), ("requests", "request")):
        yield from _amounts(word, _of(asked, part), _of(got, part), " of the whole pod")


def _containers(asked: Object, got: Object) -> Iterator[str]:
    wanted = {one["name"]: one for one in asked.get("containers") or ()}
    for container in got.get("containers") or ():
        mine = wanted.get(container["name"])
        if mine is None:
            yield f"container {container['name']}, not asked for"
        else:
            yield from _container(mine, container)
    mine_first = {one["name"] for one in asked.get("initContainers") or ()}
    for container in got.get("initContainers") or ():
        if container.get("restartPolicy") == "Always" and container["name"] not in mine_first:
            yield f"container {container['name']}, not asked for"


def _container(asked: Object, got: Object) -> Iterator[str]:
    if got.get("image") != asked.get("image"):
        yield f"image {got.get('image')} instead of {asked.get('image')}"
    mine = {one["name"]: one for one in asked.get("env") or ()}
    for one in got.get("env") or ():
        if one["name"].startswith(_SIGNS) and one.get("value") != (mine.get(one["name"]) or {}).get("value"):
            yield f"environment variable {one['name']}={one.get('value', '')}, not asked for"


def _of(holder: Object, part: str) -> Mapping[str, Any]:
    return (holder.get("resources") or {}).get(part) or {}


def _amounts(word: str, asked: Mapping[str, Any], got: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for name in sorted({*asked, *got}):
        wanted, given = asked.get(name), got.get(name)
        if wanted is None:
            yield f"{name} {word} {given}{where}, not asked for"
        elif given is None:
            yield f"no {name} {word}{where} instead of {wanted}"
        elif quantity.value(wanted) != quantity.value(given):
            yield f"{name} {word} {given}{where} instead of {wanted}"


def _place(asked: Object, got: Object) -> Iterator[str]:
    mine, given = asked.get("runtimeClassName") or "none", got.get("runtimeClassName") or "none"
    if mine != given:
        yield f"RuntimeClass {given} instead of {mine}"
    if got.get("nodeName") and got["nodeName"] in _pinned(asked):
        return  # where it was to run, whatever else was asked of nodes
    wanted, selector = asked.get("nodeSelector") or {}, got.get("nodeSelector") or {}
    if wanted != selector:
        yield f"node selector {_labels(selector)} instead of {_labels(wanted)}"
    if _nodes(asked) != _nodes(got):
        yield "another node affinity than was asked for"
    default = "default-scheduler"
    scheduler, chosen = asked.get("schedulerName") or default, got.get("schedulerName") or default
    if scheduler != chosen:
        yield f"scheduler {chosen} instead of {scheduler}"


def _nodes(spec: Object) -> Any:
    return (spec.get("affinity") or {}).get("nodeAffinity") or {}


def _pinned(spec: Object) -> set[str]:
    """The nodes that the run itself chose, by name."""
    terms = (_nodes(spec).get(REQUIRED) or {}).get("nodeSelectorTerms") or ()
    return {name for term in terms for field in term.get("matchFields") or () for name in field.get("values") or ()}


def _labels(selector: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items())) or "none"
