"""Folders that a mode needs while it is prepared, each with its owner's process in its name: what a killed kts left
is found by the next one, and nobody else's is touched."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kts.worker.host import began_ticks


@contextmanager
def own(kind: str) -> Iterator[Path]:
    """A new folder of this process, removed afterwards."""
    folder = new(kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new(kind: str) -> Path:
    """A new folder of this process, which its maker removes."""
    return Path(tempfile.mkdtemp(prefix=f"{_prefix(kind)}{os.getpid()}-{began(os.getpid())}-", dir=_base()))


def orphans(kind: str) -> list[Path]:
    """Those of this user whose process is gone, also where another has its number now."""
    return [folder for folder in _base().glob(f"{_prefix(kind)}*") if _is_orphan(folder, _prefix(kind))]


def began(pid: int, proc: Path = Path("/proc")) -> str:
    """When the process began, in ticks since boot; empty where there is none."""
    try:
        return str(began_ticks(pid, proc))
    except (OSError, ValueError):
        return ""


def _is_orphan(folder: Path, prefix: str) -> bool:
    pid, _, rest = folder.name.removeprefix(prefix).partition("-")
    then, dash, _ = rest.partition("-")
    if not (pid.isdecimal() and then.isdecimal() and dash):
        return False
    try:
        return not folder.is_symlink() and folder.stat().st_uid == os.getuid() and began(int(pid)) != then
    except OSError:
        return False


def _base() -> Path:
    """Short, for a socket's path has 108 characters at most."""
    return Path("/tmp")


def _prefix(kind: str) -> str:
    """Also names whose process numbers they are: containers may have a folder for temporary files in common."""
    return f"kts-{kind}-{os.getuid()}-{Path('/proc/self/ns/pid').stat().st_ino}-"
