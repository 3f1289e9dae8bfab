"""The config of NVIDIA's device plugin as text: understood as a whole, or refused, before anything is changed. Pure.

Its shape is that of ``api/config/v1`` of NVIDIA/k8s-device-plugin. Go's reader takes keys in any case and lets unknown
ones pass; what kts would read otherwise than the plugin is refused.
"""

from __future__ import annotations

import copy
import difflib
from typing import Any

import msgspec
import yaml

from kts.errors import SetupError
from kts.k8s.objects import Object
from kts.k8s.objects.names import GPU, SHARED
from kts.spec.yamltree import TreeError, parse

LEAST = 2
"""Replicas; the plugin takes no fewer."""
_EXAMPLE = "compare deploy/time-slicing-config.yaml; nothing was changed"
_SLICING = {"failRequestsGreaterThanOne": True, "renameByDefault": False}
"""Of a config that has no time-slicing yet."""


class ResourceOffer(msgspec.Struct, frozen=True, kw_only=True):
    """What a config offers of one resource: ``replicas`` slots of each device (1 without time-slicing).

    ``names``: under which the slots may be offered, the likeliest first. Released plugins ignore ``rename`` (and say
    so in their log); newer ones may not.
    """

    replicas: int = 1
    names: tuple[str, ...] = (GPU,)


def sharing_of(text: str, resource: str = GPU) -> ResourceOffer:
    """What the config says of ``resource``. SetupError if it is none that kts understands."""
    _, slicing, entry = _understood(text, resource)
    if entry is None:
        return ResourceOffer(names=(resource,))
    name = resource + SHARED if slicing.get("renameByDefault") else resource
    names = dict.fromkeys(filter(None, (name, entry.get("rename"))))
    return ResourceOffer(replicas=entry.get("replicas", 1), names=tuple(names))


def with_replicas(text: str, replicas: int, resource: str = GPU) -> str:
    """The config with that many slots per device and all else as it was, comments included where an entry is there.

    SetupError if kts does not understand it as a whole, or if it shares GPUs by MPS.
    """
    config, slicing, entry = _understood(text, resource)
    if (config.get("sharing") or {}).get("mps"):
        raise SetupError(
            "the device plugin shares GPUs by MPS, which excludes time-slicing",
            "take sharing.mps out of the config first, or measure what is there",
        )
    if entry is not None and entry.get("replicas") == replicas:
        return text
    wanted = copy.deepcopy(config)
    if entry is None:
        wanted = {"version": "v1", **wanted}
        sharing = wanted["sharing"] = {**(wanted.get("sharing") or {})}
        made = sharing["timeSlicing"] = {**(slicing or _SLICING)}
        made["resources"] = [*(made.get("resources") or ()), {"name": resource, "replicas": replicas}]
    else:
        _entries(wanted["sharing"]["timeSlicing"], resource)[0]["replicas"] = replicas
    edited = _in_place(text, replicas, resource)
    if edited is not None and wanted == yaml.safe_load(edited):
        return edited
    return yaml.safe_dump(wanted, sort_keys=False)


def difference(old: str, new: str, name: str) -> str:
    """Unified diff; empty if there is none."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"{name} (now)", f"{name} (new)"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def looks_like_one(text: str) -> bool:
    """True for a config, whole or broken; false for scripts and the like, which ConfigMaps hold as well."""
    lines = (line.lstrip("{ ").strip("\"'") for line in text.splitlines() if not line.startswith("#"))
    return any(line.startswith(("version:", "sharing:", "flags:", 'version":', 'sharing":')) for line in lines)


def _understood(text: str, resource: str) -> tuple[Object, Object, Object | None]:
    """(the config, its time-slicing, the entry of ``resource`` in it). SetupError naming the place."""
    try:
        tree = parse(text)
    except TreeError as error:
        raise SetupError(
            f"the device plugin's config is no YAML: {error.message} (line {error.line})", "mend it by hand"
        ) from error
    if tree.repeated:
        path, first, second = tree.repeated[0]
        raise _odd(".".join(map(str, path)), f"stands twice, in lines {first} and {second}")
    config = yaml.safe_load(text)  # not the tree: the plugin reads YAML 1.1, where yes is true
    if not isinstance(config, dict):
        raise _odd("", f"is {_kind(config)}, not a mapping")
    if config.get("version", "v1") != "v1":
        raise _odd("version", f"is {config['version']!r}; kts understands v1")
    _child(config, "flags", dict, "")
    sharing = _child(config, "sharing", dict, "") or {}
    for way in ("timeSlicing", "mps"):
        _check_way(_child(sharing, way, dict, "sharing.") or {}, f"sharing.{way}.")
    slicing = sharing.get("timeSlicing") or {}
    entries = _entries(slicing, resource)
    if len(entries) > 1:
        raise _odd(
            "sharing.timeSlicing.resources",
            f"has {len(entries)} entries for {resource} (one per device?), and kts sets one number for all devices",
        )
    return config, slicing, entries[0] if entries else None


def _check_way(way: Object, place: str) -> None:
    _child(way, "renameByDefault", bool, place)
    _child(way, "failRequestsGreaterThanOne", bool, place)
    for number, entry in enumerate(_child(way, "resources", list, place) or ()):
        here = f"{place}resources[{number}]"
        if not isinstance(entry, dict):
            raise _odd(here, f"is {_kind(entry)}, not a mapping with name and replicas")
        if not _child(entry, "name", str, f"{here}."):
            raise _odd(f"{here}.name", "is missing")
        _child(entry, "rename", str, f"{here}.")
        replicas = _child(entry, "replicas", int, f"{here}.")
        if replicas is not None and replicas < 1:
            raise _odd(f"{here}.replicas", f"is {replicas}, and the plugin takes {LEAST} or more")


def _entries(slicing: Object, resource: str) -> list[Object]:
    return [entry for entry in slicing.get("resources") or () if entry["name"] == resource]


def _child(parent: Object, key: str, kind: type, place: str) -> Any:
    """The value of a key; None if it is absent or null. SetupError if it is of another kind, or in another case."""
    for name in parent:
        if name != key and str(name).lower() == key.lower():
            raise _odd(f"{place}{name}", f"is written otherwise than {key}")
    value = parent.get(key)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise _odd(f"{place}{key}", f"is {_kind(value)}, not {_kind(kind())}")
    return value


def _kind(value: object) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a whole number"}
    return "empty" if value is None else names.get(type(value), type(value).__name__)


def _odd(place: str, why: str) -> SetupError:
    what = f"{place} " if place else ""
    return SetupError(f"the device plugin's config cannot be understood: {what}{why}", _EXAMPLE)


def _in_place(text: str, replicas: int, resource: str) -> str | None:
    """The text with only the number changed; None if there is no such number."""

    def child(node: Any, name: str) -> Any:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        return next((value for key, value in pairs if key.value == name), None)

    resources = child(child(child(yaml.compose(text), "sharing"), "timeSlicing"), "resources")
    for item in resources.value if isinstance(resources, yaml.SequenceNode) else ():
        name, number = child(item, "name"), child(item, "replicas")
        if name is not None and name.value == resource and number is not None:
            return f"{text[: number.start_mark.index]}{replicas}{text[number.end_mark.index :]}"
    return None
