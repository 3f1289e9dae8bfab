"""The tracer's library: the one that an image brings (``python3 build.py FILE`` makes it), or one that is compiled here
on first use and kept."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

NATIVE = Path(__file__).parent / "native"
NAME = "libkts_trace.so"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread", "-Wl,-z,nodelete")
_LONGEST_S = 120


class Library(NamedTuple):
    """``path`` of the library; or None, and ``why`` there is none."""

    path: Path | None
    why: str = ""


def library() -> Library:
    """The tracer's library. The first call on a machine takes about a second of a C compiler."""
    if not sys.platform.startswith("linux"):
        return Library(None, f"the tracer is for Linux, this is {sys.platform}")
    prebuilt = NATIVE / NAME
    if prebuilt.is_file():
        return Library(prebuilt)
    name = f"libkts_trace-{_content()}.so"
    refusals = []
    for folder in _folders():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_own(folder)
            kept = folder / name
            if not kept.is_file():
                refusal = compile_to(kept)
                if refusal:
                    return Library(None, refusal)
            _check_executable(kept)
        except OSError as error:
            refusals.append(f"{folder}: {error.strerror or error}")
        else:
            return Library(kept)
    return Library(None, f"the tracer's library can be kept nowhere ({'; '.join(refusals)})")


def compile_to(target: Path) -> str:
    """Compiles the library and puts it in place as a whole: several may do so at once. Empty, or why it cannot be
    compiled. OSError where ``target`` cannot be written."""
    sources = [str(path) for path in sorted(NATIVE.glob("*.c"))]
    compilers = [path for name in COMPILERS if (path := shutil.which(name))]
    if not compilers:
        return f"no C compiler ({', '.join(COMPILERS)})"
    said = ""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".kts-build-") as folder:
        made = Path(folder) / NAME
        for compiler in compilers:
            argv = [compiler, *FLAGS, *sources, "-o", str(made), "-ldl"]
            try:
                result = subprocess.run(
                    argv, capture_output=True, encoding="utf-8", errors="replace", timeout=_LONGEST_S, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                said = said or f"{compiler} cannot compile the tracer: {error}"
                continue
            if result.returncode == 0 and made.is_file():
                made.replace(target)
                return ""
            lines = [line.strip() for line in result.stderr.splitlines() if "error" in line] or ["it says nothing"]
            said = said or f"{compiler} cannot compile the tracer: {lines[0]}"
    return said


def _content() -> str:
    digest = hashlib.sha256(" ".join((*FLAGS, platform.machine())).encode())
    for path in sorted(NATIVE.iterdir()):
        if path.suffix in {".c", ".h", ".def"}:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _folders() -> Iterator[Path]:
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if cache.startswith("/"):
        yield Path(cache) / "kts"
    else:
        with contextlib.suppress(RuntimeError):  # a user without a home
            yield Path.home() / ".cache" / "kts"
    yield Path(tempfile.gettempdir()) / f"kts-{os.getuid()}"


def _check_own(folder: Path) -> None:
    """PermissionError where another user could put a library of his into it."""
    of_folder = folder.lstat()
    if not stat.S_ISDIR(of_folder.st_mode) or of_folder.st_uid != os.getuid() or of_folder.st_mode & 0o022:
        raise PermissionError(0, "others may write there")


def _check_executable(path: Path) -> None:
    """PermissionError where nothing may be run from there."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC):
        pass


if __name__ == "__main__":  # in the build of an image
    sys.exit(compile_to(Path(sys.argv[1])) or 0)
