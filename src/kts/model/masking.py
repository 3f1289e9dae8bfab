"""What of a user's program is kept with a run: any of its values may be a secret, and a run is read by many. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import msgspec

from kts.model.plan import Plan, Program, Tenant, Work

HIDDEN = "***"
"""Stands in place of a value."""
SHORTEST = 4
_SCRIPTS = (".py", ".sh", ".pl", ".rb", ".js", ".jl", ".r", ".lua")
_SETTINGS = (".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".conf", ".txt")
_OPTION = re.compile(r"(-[^-]=?|--[^=]*=?)(.*)", re.DOTALL)
_NAMED = re.compile(r"([A-Za-z_][\w.-]*=)(.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d{1,6}(\.\d{1,6})?", re.ASCII)
_SECRET = re.compile(r"pass|pwd|token|key|secret|auth|cred|pin|sig|salt", re.IGNORECASE)
_PATH = re.compile(r"[\w./+-]+", re.ASCII)
_MODULE = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)


def kept_plan(plan: Plan) -> Plan:
    """The plan with `kept` tenants."""
    tenants = tuple(map(kept, plan.tenants))
    return plan if tenants == plan.tenants else msgspec.structs.replace(plan, tenants=tenants)


def kept(tenant: Tenant) -> Tenant:
    """The tenant with `HIDDEN` in place of the values of its program's ``env`` and arguments; itself where its values
    are to be kept, or it runs no program."""
    work = tenant.work
    if not isinstance(work, Program) or work.keep_values:
        return tenant
    hidden = msgspec.structs.replace(work, command=masked_command(work.command), env=dict.fromkeys(work.env, HIDDEN))
    return msgspec.structs.replace(tenant, work=hidden)


def masked_command(command: Sequence[str]) -> tuple[str, ...]:
    """A command line without values: program, Python module, names of options, scripts and files of settings, and short
    numbers stay, but for numbers behind what sounds like a secret."""
    return tuple(f"{kept}{HIDDEN if hidden else ''}" for kept, hidden in _split(command))


def hidden_values(command: Sequence[str]) -> list[str]:
    """What `masked_command` leaves out."""
    return [hidden for _, hidden in _split(command) if hidden]


def without_values(text: str, work: Work) -> str:
    """What a program printed, or what is said of it, with `HIDDEN` in place of the values that `kept` leaves out.

    Values of fewer than `SHORTEST` characters stay: they are part of many words. Itself where values are to be kept.
    """
    if not isinstance(work, Program) or work.keep_values:
        return text
    values = {*work.env.values(), *hidden_values(work.command)}
    lines = {line.strip() for value in values for line in (value, *value.splitlines())}
    for value in sorted(lines, key=len, reverse=True):
        if len(value) >= SHORTEST:
            text = text.replace(value, HIDDEN)
    return text


def _split(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Of each word what is kept, and what is hidden behind it."""
    before = ""
    for number, word in enumerate(command):
        name, value = "", word
        if named := _OPTION.fullmatch(word) or _NAMED.fullmatch(word):
            name, value = named.groups()
        behind = name or (before if before.startswith("-") else "")
        module = before == "-m" and _MODULE.fullmatch(word)
        yield (word, "") if number == 0 or module or _may_stay(value, behind) else (name, value)
        before = word


def _may_stay(value: str, name: str) -> bool:
    if not value:
        return True
    if _NUMBER.fullmatch(value):
        return not _SECRET.search(name)
    return bool(_PATH.fullmatch(value)) and PurePosixPath(value).suffix.lower() in (*_SCRIPTS, *_SETTINGS)
