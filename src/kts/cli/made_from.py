"""What profiles, fingerprints and predictions are made from: the files given on the command line, hashed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kts import files
from kts.errors import DataError
from kts.model.provenance import Material, MaterialKind
from kts.store import origin

if TYPE_CHECKING:
    from kts.model.reading import RunData
    from kts.physics.values import Fingerprint, Profile


class _Head(msgspec.Struct):
    """Of a profile or fingerprint file: all that is needed to name it."""

    tenant: str = ""
    created_ns: int | None = None


def of_prediction(
    profiles: Sequence[Path],
    fingerprint: Path | None,
    mark: Fingerprint,
    from_run: Path | None,
    run: RunData | None,
) -> list[Material]:
    """Fingerprint, profiles, run. ``fingerprint``: the file given; else ``mark`` is the one that was kept, or assumed
    and in no file."""
    found = [_of_fingerprint(fingerprint, mark), *(_headed("profile", path) for path in profiles)]
    if from_run is not None and run is not None:
        found += origin.of_run(from_run, run.info.created_ns or None)
    return [one for one in found if one is not None]


def of_saved_profile(profile: Profile, used: Iterable[Material]) -> list[Material]:
    """What of ``used`` a profile that is saved comes from: its own file, by tenant, and the run."""
    return [one for one in used if one.kind == "run" or (one.kind == "profile" and one.name == profile.tenant)]


def _of_fingerprint(file: Path | None, mark: Fingerprint) -> Material | None:
    from kts.store.fingerprints import directory, file_name

    if file is None and mark.source != "measured":
        return None
    kept = directory(os.environ) / file_name(mark.gpu.uuid, mark.gpu.driver, mark.mode)
    return _headed("fingerprint", file or kept)


def _headed(kind: MaterialKind, path: Path) -> Material | None:
    try:
        head = files.decode(files.read(path, ""), _Head, "", "", "")
    except DataError:
        head = _Head()
    return origin.of_file(kind, path, name=head.tenant, created_ns=head.created_ns)
