"""Where fingerprints are kept: one file per GPU, driver and sharing mode, in the user's data directory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from kts import files
from kts.errors import DataError
from kts.physics.files import decode_fingerprint
from kts.physics.values import Fingerprint


def directory(env: Mapping[str, str]) -> Path:
    """``$XDG_DATA_HOME/kts/fingerprints``; XDG_DATA_HOME is ``~/.local/share`` where it is unset or not absolute."""
    given = Path(env.get("XDG_DATA_HOME", ""))
    base = given if given.is_absolute() else Path(env.get("HOME") or Path.home()) / ".local" / "share"
    return base / "kts" / "fingerprints"


def file_name(uuid: str, driver: str, mode: str) -> str:
    """``GPU-...+580.159.03+time-slicing.json``; what a file name cannot hold becomes ``_``, nothing ``none``."""
    parts = (re.sub(r"[^A-Za-z0-9._-]", "_", part) or "none" for part in (uuid, driver, mode))
    return "+".join(parts) + ".json"


def place(fingerprint: Fingerprint, folder: Path) -> Path:
    """Its file: that of an older one of the same GPU, driver and mode."""
    gpu = fingerprint.gpu
    return folder / file_name(gpu.uuid, gpu.driver, fingerprint.mode)


def keep(fingerprint: Fingerprint, folder: Path) -> Path:
    """Writes it in place of an older one of the same GPU, driver and mode; where. OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = place(fingerprint, folder)
    files.replace(path, files.encode(fingerprint))
    return path


def find(uuid: str, driver: str, mode: str, folder: Path) -> Fingerprint | None:
    """That of exactly this GPU, driver and mode; None if there is none. DataError if its file cannot be read."""
    path = folder / file_name(uuid, driver, mode)
    return read(path) if path.exists() else None


def read(path: Path) -> Fingerprint:
    """A fingerprint file. DataError."""
    return decode_fingerprint(files.read(path, "give a file that kts probe wrote"), str(path))


def kept(folder: Path) -> Iterator[tuple[Path, Fingerprint | DataError]]:
    """Every file there, by name, with its fingerprint or what is wrong with it."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield path, read(path)
        except DataError as error:
            yield path, error
