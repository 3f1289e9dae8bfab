"""Where a run, profile, fingerprint or prediction comes from: which kts made it, and from what. See docs/formats.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

import msgspec

MaterialKind = Literal["experiment", "plan", "tenant", "readings", "fingerprint", "profile", "run"]

_SHORT = 12
"""Digits of a hash that are enough to recognise it by."""


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a file was made from.

    ``sha256``: of its file as it was (what sha256sum prints), or of `canonical` where it was no file of its own.
    ``created_ns``: when it was made itself, CLOCK_REALTIME; None where it does not say.
    """

    kind: MaterialKind
    name: str
    sha256: str
    created_ns: int | None = None


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """The kts that made a file, and what it made it from.

    ``commit``: git's, of kts's sources; None where they were in no checkout, or git could not tell. ``clean``: whether
    they were exactly that commit's; None where nobody can tell. ``sources``: `kts.store.origin.sources_sha256` of the
    package that was imported, whatever git says; empty where it could not be read.
    """

    kts: str
    commit: str | None = None
    clean: bool | None = None
    sources: str = ""
    made_from: tuple[Material, ...] = ()

    def of(self, made_from: Sequence[Material]) -> Provenance:
        """The same kts, and what it made this file from."""
        return msgspec.structs.replace(self, made_from=tuple(made_from))

    def renewed(self, material: Material) -> Provenance:
        """With ``material`` in place of those of its kind and name."""
        others = (one for one in self.made_from if (one.kind, one.name) != (material.kind, material.name))
        return self.of([*others, material])


def canonical(value: object) -> bytes:
    """JSON with sorted keys and no spaces, UTF-8, as Python's ``json.dumps`` writes it: one text per value."""
    plain = msgspec.to_builtins(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(content: bytes) -> str:
    """64 hexadecimal digits, as sha256sum prints them."""
    return hashlib.sha256(content).hexdigest()


def material(kind: MaterialKind, name: str, content: bytes, created_ns: int | None = None) -> Material:
    """What was made from ``content``, a file's or that of `canonical`."""
    return Material(kind=kind, name=name, sha256=sha256(content), created_ns=created_ns)


def made_by(provenance: Provenance | None, version: str = "") -> str:
    """Which kts, in one line. ``version``: what a file without provenance says of it."""
    if provenance is None:
        return version or "not recorded"
    if provenance.commit:
        state = {True: "clean", False: "modified", None: "not known whether modified"}[provenance.clean]
        told = f"commit {provenance.commit[:_SHORT]} ({state})"
        if provenance.clean:
            return f"{provenance.kts}, {told}"
    else:
        told = "commit unknown"
    hashed = f"sources {provenance.sources[:_SHORT]}" if provenance.sources else "sources unreadable"
    return f"{provenance.kts}, {told}, {hashed}"


def made_from(provenance: Provenance | None) -> str:
    """What it was made from, in one line: ``plan 0123456789ab, experiment ...``; empty where that is not recorded."""
    if provenance is None:
        return ""
    return ", ".join(f"{one.kind} {one.name} {one.sha256[:_SHORT]}" for one in provenance.made_from)
