"""Validation mistakes in plain English."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from kts.shown import shown, visible
from kts.spec.models import WORKLOADS, Experiment, SloSpec, keys_of
from kts.spec.yamltree import Path

LONGEST_WORD = 60

_KINDS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list of words, or one string",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "string_pattern_mismatch": "is no name of an environment variable",
}
_LIMITS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


Mistakes = list[tuple[Path, str]]
"""Where, and what is wrong there."""


def explain(error: ValidationError, data: Any) -> tuple[Mistakes, Mistakes]:
    """Unknown keys, and all other mistakes, in pydantic's order. ``data`` is what was validated.

    They are told apart because a key that is missing may be an unknown one, misspelt: name the unknown ones first.
    """
    unknown: Mistakes = []
    others: Mistakes = []
    for detail in error.errors(include_url=False):
        if detail["type"] == "union_tag_not_found":  # pydantic looks at no other key then
            unknown += _keys_of_none(_path(detail), detail["input"])
        (unknown if detail["type"] == "extra_forbidden" else others).append((_path(detail), _message(detail, data)))
    return unknown, others


def show_path(path: Path) -> str:
    """``tenants.fft.size``; list positions count from 0 in brackets."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return visible(text)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """``; did you mean 'X'?``, or nothing if no known word is near."""
    short = isinstance(word, str) and len(word) <= LONGEST_WORD  # a long one takes seconds and is near to nothing
    near = get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.6) if short else []
    return f"; did you mean {near[0]!r}?" if near else ""


def _path(detail: ErrorDetails) -> Path:
    """pydantic's place without the workload that it puts after a tenant's name."""
    loc = detail["loc"]
    if loc[:1] == ("tenants",) and len(loc) > 2:
        loc = (*loc[:2], *loc[3:])
    return tuple(part for part in loc if part != "[key]")


def _message(detail: ErrorDetails, data: Any) -> str:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    special: dict[str, Callable[[], str]] = {
        "missing": lambda: "is missing",
        "extra_forbidden": lambda: _unknown_key(_path(detail), data),
        "literal_error": lambda: _choice(given, context["expected"]),
        "union_tag_invalid": lambda: _unknown_workload(given),
        "union_tag_not_found": _no_workload,
        "value_error": lambda: _with_value(str(context["error"]), given),
        "too_long": lambda: f"must have at most {context['max_length']} entries (has {context['actual_length']})",
    }
    if kind in special:
        return special[kind]()
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        return f"must be {words} {context[key]:g} (is {_shown(given)})"
    return f"{_KINDS.get(kind, detail['msg'])} (is {_shown(given)})"


def _with_value(message: str, given: object) -> str:
    told = not isinstance(given, str) or not message.startswith(("must be", "cannot be")) or "(is " in message
    return message if told else f"{message} (is {shown(given)})"


def _choice(given: object, expected: str) -> str:
    known = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    return f"must be {expected.replace(chr(39), '')} (is {_shown(given)}){did_you_mean(given, known)}"


def _unknown_workload(tenant: dict[str, object]) -> str:
    given = tenant.get("workload")
    known = ", ".join(WORKLOADS)
    return f"unknown workload {_shown(given)}; known: {known}{did_you_mean(given, WORKLOADS)}"


def _no_workload() -> str:
    return f"workload is missing; known: {', '.join(WORKLOADS)}"


def _keys_of_none(tenant: Path, given: dict[str, object]) -> Mistakes:
    """The keys of a tenant without a workload that no workload has."""
    keys = [key for workload in WORKLOADS for key in keys_of(workload)]
    return [
        ((*tenant, key), f"unknown key {shown(key)}{did_you_mean('workload' if value in WORKLOADS else key, keys)}")
        for key, value in given.items()
        if key not in keys
    ]


def _unknown_key(path: Path, data: Any) -> str:
    key = str(path[-1])
    if path[:1] != ("tenants",):
        return f"unknown key {shown(key)}{did_you_mean(key, Experiment.model_fields)}"
    if len(path) == 4:
        return f"unknown key {shown(key)}{did_you_mean(key, SloSpec.model_fields)}"
    workload = str(data["tenants"][path[1]]["workload"])
    owners = [known for known in WORKLOADS if key in keys_of(known)]
    if owners:
        *others, last = owners
        listed = f"{', '.join(others)} and {last}" if others else last
        return f"{key!r} is for the workload {listed} only (this one is {workload})"
    return f"unknown key {shown(key)}{did_you_mean(key, keys_of(workload))}"


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return shown(value)
