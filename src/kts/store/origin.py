"""Which kts this is, and what files are made from: the one place that asks git and hashes files. Never fails."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import kts
from kts.model.provenance import Material, MaterialKind, Provenance
from kts.shown import as_text
from kts.store import layout

REVISION = "revision.txt"
"""Beside kts's modules where they are in no checkout (the image): the commit, with ``-modified`` where that is so."""

_PATIENCE_S = 5.0


@cache
def here() -> Provenance:
    """This kts, found out once per process."""
    return of_package(Path(kts.__file__).resolve().parent)


def of_package(package: Path) -> Provenance:
    """The kts whose modules are in ``package``: by git where they are a checkout's ``src/kts``, else by what the image
    says."""
    commit, clean = _told(package / REVISION)
    if not commit:
        commit, clean = _by_git(package)
    return Provenance(kts=kts.__version__, commit=commit, clean=clean, sources=sources_sha256(package))


def sources_sha256(package: Path) -> str:
    """sha256 over path and content of the package's files in order of path; empty where they cannot be read.

    What Python and the image's build put beside them is left out.
    """
    digest, empty = hashlib.sha256(), hashlib.sha256().hexdigest()
    try:
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.relative_to(package).parts and path.name != REVISION:
                digest.update(f"{path.relative_to(package).as_posix()}\n".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError:
        return ""
    found = digest.hexdigest()
    return found if found != empty else ""


def git(root: Path, *arguments: str) -> str | None:
    """What git prints of the checkout ``root``, stripped; None where it is not there, fails or takes too long.

    Git's own variables are left out: within a hook they would name another repository.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            timeout=_PATIENCE_S,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def of_file(kind: MaterialKind, path: Path, *, name: str = "", created_ns: int | None = None) -> Material | None:
    """A file that something is made from, hashed as it is; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, hashlib.sha256).hexdigest()
    except OSError:
        return None
    return Material(kind=kind, name=as_text(name or path.name), sha256=found, created_ns=created_ns)


def of_run(directory: Path, created_ns: int | None = None) -> tuple[Material, ...]:
    """A run that something is made from: its run.json and its records, as ``DIRECTORY/FILE``; logs for a directory of
    logs."""
    names = [name for name in (layout.RUN, layout.PARQUET, layout.JOURNAL) if (directory / name).exists()]
    files = [directory / name for name in names] if layout.RUN in names else sorted(_logs(directory))
    name = directory.resolve().name
    found = (
        of_file("run", path, name=f"{name}/{path.relative_to(directory).as_posix()}", created_ns=created_ns)
        for path in files
    )
    return tuple(one for one in found if one is not None)


def _logs(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file() and path.suffix in {"", ".log", ".txt"})


def _told(path: Path) -> tuple[str | None, bool | None]:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None, None
    commit, dash, _ = text.partition("-")
    return (commit, not dash) if commit else (None, None)


def _by_git(package: Path) -> tuple[str | None, bool | None]:
    root = package.parent.parent
    if package != root / "src" / "kts" or not (root / ".git").exists():
        return None, None
    commit = git(root, "rev-parse", "HEAD")
    if not commit:
        return None, None
    changed = git(root, "status", "--porcelain", "--", "src/kts")
    return commit, None if changed is None else not changed
