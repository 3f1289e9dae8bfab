"""Label selectors as kubectl's ``-l`` takes them. Pure.

``KEY=VALUE`` (or ``==``), ``KEY!=VALUE``, ``KEY in (A,B)``, ``KEY notin (A,B)``, ``KEY``, ``!KEY``, ``KEY>N`` and
``KEY<N``, joined by commas: all must hold. An empty selector takes everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kts.errors import UsageError
from kts.k8s.objects import rules

_SETS = re.compile(r"\s*(?P<key>[^\s!=<>(),]+)\s+(?P<how>in|notin)\s*\(\s*(?P<values>[^()]*?)\s*\)\s*")
_PAIR = re.compile(r"\s*(?P<key>[^\s!=<>(),]+)\s*(?P<how>==|!=|=|<|>)\s*(?P<values>[^\s!=<>(),]*)\s*")
_ALONE = re.compile(r"\s*(?P<how>!?)\s*(?P<key>[^\s!=<>(),]+)\s*")
_EXAMPLE = "for example --nodes 'nvidia.com/gpu.product in (NVIDIA-H200,NVIDIA-H100),pool!=ci'"


@dataclass(frozen=True)
class Requirement:
    """One condition: ``how`` is in, notin, exists, absent, above or below."""

    key: str
    how: str
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """As Kubernetes decides: what has no such label is ``notin`` any values, and neither above nor below."""
        value = labels.get(self.key)
        if self.how in ("exists", "absent"):
            return (value is not None) == (self.how == "exists")
        if self.how in ("above", "below"):
            (limit,) = self.values
            if value is None or not _is_whole(value):
                return False
            return int(value) > int(limit) if self.how == "above" else int(value) < int(limit)
        return (value in self.values) == (self.how == "in")


def parsed(text: str, option: str = "--nodes") -> tuple[Requirement, ...]:
    """The conditions of a selector. UsageError naming what cannot be read, or is no label."""
    found: list[Requirement] = []
    rest = text
    while rest.strip():
        match = _SETS.match(rest) or _PAIR.match(rest) or _ALONE.match(rest)
        after = rest[match.end() :] if match else rest
        if match is None or (after and not after.startswith(",")) or after.strip() == ",":
            raise UsageError(f"{option}: {text!r} is no label selector, from {rest.strip()!r} on", _EXAMPLE)
        found.append(_checked(_requirement(match), option))
        rest = after[1:]
    return tuple(found)


def matches(requirements: tuple[Requirement, ...], labels: Mapping[str, str]) -> bool:
    """Whether all hold."""
    return all(one.holds(labels) for one in requirements)


def _requirement(match: re.Match[str]) -> Requirement:
    key, how = match["key"], match["how"]
    if "values" not in match.groupdict():
        return Requirement(key, "absent" if how else "exists")
    values = match["values"].split(",") if how in ("in", "notin") else [match["values"]]
    name = {"=": "in", "==": "in", "!=": "notin", ">": "above", "<": "below"}.get(how, how)
    return Requirement(key, name, frozenset(value.strip() for value in values))


def _checked(one: Requirement, option: str) -> Requirement:
    refusals: list[tuple[Callable[[], bool], str, str]] = [
        (lambda: rules.is_key(one.key), f"no label is called {one.key!r}", _EXAMPLE),
        (
            lambda: one.how not in ("above", "below") or all(map(_is_whole, one.values)),
            f"{one.key}: {' '.join(one.values)!r} is no whole number",
            "> and < compare whole numbers",
        ),
        (lambda: all(map(rules.is_value, one.values)), f"{one.key}: no label has such a value", rules.VALUE),
    ]
    for holds, what, remedy in refusals:
        if not holds():
            raise UsageError(f"{option}: {what}", remedy)
    return one


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,18}", text) is not None
