"""run.json: written whole at every change, read back with an explanation where that cannot be."""

from __future__ import annotations

from pathlib import Path

import msgspec

from kts.errors import DataError
from kts.model.run import SCHEMA_VERSION, RunInfo
from kts.store import durable, layout
from kts.store.upgrade import upgraded


def write(directory: Path, info: RunInfo) -> None:
    """Replaces run.json durably. OSError."""
    durable.write_atomically(directory / layout.RUN, msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")


def read(directory: Path) -> RunInfo:
    """run.json. DataError if it is missing, damaged or of a newer schema; unknown fields are let pass."""
    path = directory / layout.RUN
    try:
        content = msgspec.json.decode(path.read_bytes())
    except PermissionError as error:
        raise DataError(f"{path}: no permission to read", "ask its owner for read permission") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}", "check the path and the disk") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(schema, int):
        raise _damaged(path, "it has no schema number")
    if schema > SCHEMA_VERSION:
        raise newer_schema(path, schema)
    try:
        return msgspec.convert(upgraded(content), RunInfo)
    except msgspec.ValidationError as error:
        raise _damaged(path, error) from error


def is_run(directory: Path) -> bool:
    """True if the run.json there is one of ours, of whatever schema."""
    try:
        content = msgspec.json.decode((directory / layout.RUN).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and {"schema", "kts"} <= content.keys()


def newer_schema(path: Path, schema: int) -> DataError:
    """The error for what a newer kts wrote."""
    return DataError(
        f"{path}: made by a newer kts (schema {schema}, this one reads up to {SCHEMA_VERSION})", "upgrade kts"
    )


def _damaged(path: Path, why: object) -> DataError:
    return DataError(
        f"{path}: damaged ({why})", "restore it from a copy: without it nobody knows what the records beside it are of"
    )
