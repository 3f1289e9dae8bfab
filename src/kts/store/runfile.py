"""run.json: written whole at every change, read back with an explanation where that cannot be."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import msgspec

from kts import files
from kts.errors import DataError
from kts.model.run import SCHEMA_VERSION, RunInfo
from kts.store import layout
from kts.store.upgrade import upgraded

CHECKED_FROM = 5
"""Schema since which it has a checksum."""
_CRC = "crc32"


class _Head(msgspec.Struct):
    """What every run.json of ours has, of whatever schema."""

    schema: int
    kts: str


def write(directory: Path, info: RunInfo) -> None:
    """Replaces run.json durably, with a checksum of what it says. OSError."""
    seal = f',"{_CRC}":"{_crc32(info)}"}}'.encode()
    files.replace(directory / layout.RUN, files.shaped(msgspec.json.encode(info)[:-1] + seal))


def read(directory: Path) -> RunInfo:
    """run.json. DataError if it is missing, damaged or of a newer schema; unknown fields are let pass."""
    return checked(directory)[0]


def checked(directory: Path) -> tuple[RunInfo, str]:
    """(run.json, what its checksum tells is wrong with it: empty if nothing). DataError as `read`."""
    path = directory / layout.RUN
    remedy = "restore it from a copy: without it nobody knows what the records beside it are of"
    raw = files.read(path, "check the path and the disk", pipes=False)
    told = ""

    def upgrade(content: dict[str, Any]) -> dict[str, Any]:
        nonlocal told
        told = _fault(content)
        return upgraded(content)

    info = files.decode(raw, RunInfo, str(path), "damaged: not a run", remedy, newest=SCHEMA_VERSION, upgrade=upgrade)
    return info, told


def _fault(content: dict[str, Any]) -> str:
    """Why its content is not what was written; empty if it is, or nobody can tell."""
    schema, told = content.get("schema"), content.get(_CRC)
    if told is None and isinstance(schema, int) and schema < CHECKED_FROM and "uid" not in content:
        return ""
    if told == _crc32({key: value for key, value in content.items() if key != _CRC}):
        return ""
    return f"{layout.RUN}: changed since it was written, as its checksum tells: what it says of the run may be wrong"


def _crc32(content: RunInfo | dict[str, Any]) -> str:
    """Of what it says, however it is laid out."""
    return f"{zlib.crc32(msgspec.json.encode(content, order='sorted')):08x}"


def is_run(directory: Path) -> bool:
    """True if the run.json there is one of ours, of whatever schema."""
    try:
        files.decode(files.read(directory / layout.RUN, "", pipes=False), _Head, "", "", "")
    except DataError:
        return False
    return True
