"""run.json: written whole at every change, read back with an explanation where that cannot be."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kts import files
from kts.errors import DataError
from kts.model.run import SCHEMA_VERSION, RunInfo
from kts.store import layout
from kts.store.upgrade import upgraded


class _Head(msgspec.Struct):
    """What every run.json of ours has, of whatever schema."""

    schema: int
    kts: str


def write(directory: Path, info: RunInfo) -> None:
    """Replaces run.json durably. OSError."""
    files.replace(directory / layout.RUN, files.encode(info))


def read(directory: Path) -> RunInfo:
    """run.json. DataError if it is missing, damaged or of a newer schema; unknown fields are let pass."""
    path = directory / layout.RUN
    remedy = "restore it from a copy: without it nobody knows what the records beside it are of"
    raw = files.read(path, "check the path and the disk")
    return files.decode(raw, RunInfo, str(path), "damaged: not a run", remedy, newest=SCHEMA_VERSION, upgrade=upgraded)


def is_run(directory: Path) -> bool:
    """True if the run.json there is one of ours, of whatever schema."""
    try:
        files.decode(files.read(directory / layout.RUN, ""), _Head, "", "", "")
    except DataError:
        return False
    return True
