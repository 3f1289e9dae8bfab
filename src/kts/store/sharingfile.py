"""sharing.json: what a run in several modes did to its machine. Written whole, at its end."""

from __future__ import annotations

from pathlib import Path

from kts import files
from kts.errors import SetupError
from kts.model.sharing_facts import SHARING_VERSION, SharingFacts
from kts.store.layout import SHARING


def read_sharing(directory: Path) -> SharingFacts | None:
    """None where there is none: the run was killed, or is of an older kts. DataError if it is damaged."""
    path = directory / SHARING
    if not path.is_file():
        return None
    return decode_sharing(files.read(path, "check the path and the disk"), str(path))


def decode_sharing(raw: bytes, name: str) -> SharingFacts:
    """Its content. DataError, as of `read_sharing`."""
    remedy = "remove it: all but the state of the GPU and the trials is in run.json"
    return files.decode(raw, SharingFacts, name, "damaged: not how a run shared", remedy, newest=SHARING_VERSION)


def write_sharing(directory: Path, facts: SharingFacts) -> None:
    """Replaces it durably. SetupError."""
    try:
        files.replace(directory / SHARING, files.encode(facts))
    except OSError as error:
        raise SetupError(f"{directory}: {error.strerror or error}", "free space on that disk") from error
