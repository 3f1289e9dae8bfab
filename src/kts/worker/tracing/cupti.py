"""Where libcupti is: it comes with PyTorch, JAX and CuPy's packages, or with the CUDA toolkit. Nothing is imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import NamedTuple

VARIABLE = "KTS_CUPTI"
TOOLKITS = ("/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda")
_IN_PACKAGES = ("nvidia/cuda_cupti/lib", "nvidia/cu13/lib", "nvidia/cu14/lib")
_IN_TOOLKIT = ("extras/CUPTI/lib64", "lib64", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib", "lib")
_NAME = re.compile(r"libcupti\.so\.(\d+(?:\.\d+)*)")
_REMEDY = "pip install nvidia-cuda-cupti-cu12 (or nvidia-cuda-cupti for CUDA 13), or set KTS_CUPTI to a libcupti.so"
_LDCONFIG_S = 10


class Cupti(NamedTuple):
    """``path`` of the library and its ``version`` as its name tells it; or None, and ``why`` there is none."""

    path: Path | None
    version: str = ""
    why: str = ""


def cupti(argv: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Cupti:
    """The libcupti for the program ``argv`` with the environment ``env`` (ours, if it is not given).

    Asked in this order, and the newest version of each: KTS_CUPTI; the packages of the program's Python; those of
    this Python; the program's conda environment; the CUDA toolkit; what the system's linker knows.
    """
    env = os.environ if env is None else env
    if named := env.get(VARIABLE):
        path = Path(named)
        return _as_told(path) if path.is_file() else Cupti(None, why=f"{VARIABLE} names {named}, which is no file")
    for folders in _places(argv, env):
        there = [path for folder in folders for path in _libraries(folder)]
        if there:
            return _as_told(max(there, key=_version))
    if known := _linkers():
        return _as_told(known)
    return Cupti(None, why=f"no libcupti in Python's packages or a CUDA toolkit; {_REMEDY}")


def _places(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[Iterable[Path]]:
    yield (site / part for site in _packages_of(argv, env) for part in _IN_PACKAGES)
    yield (Path(entry) / part for entry in sys.path if entry for part in _IN_PACKAGES)
    if prefix := env.get("CONDA_PREFIX"):
        yield (Path(prefix) / part for part in _IN_TOOLKIT)
    homes = [home for name in ("CUDA_HOME", "CUDA_PATH") if (home := env.get(name))]
    for home in (*homes, *TOOLKITS):
        yield (Path(home) / part for part in _IN_TOOLKIT)


def _packages_of(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[Path]:
    """The site-packages of the Python that runs the program: argv[0] itself, or that of its first line."""
    program = which(argv[0], path=env.get("PATH")) if argv else None
    if program is None:
        return
    try:
        with Path(program).open("rb") as file:
            first = file.readline(512)
    except OSError:
        return
    if first.startswith(b"#!"):
        words = first[2:].decode(errors="replace").split()
        if len(words) > 1 and words[0].endswith("/env"):
            program = which(words[1], path=env.get("PATH"))
        elif words:
            program = words[0]
    if program and "python" in Path(program).name:
        yield from (Path(program).parent.parent / "lib").glob("python3*/site-packages")


def _libraries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.glob("libcupti.so*") if _NAME.fullmatch(path.name) and path.is_file()]
    except OSError:
        return []


def _version(path: Path) -> tuple[int, ...]:
    """Of its name: 12 for libcupti.so.12; a toolkit's libcupti.so.2025.3.1 is what a shorter name points to."""
    name = _NAME.fullmatch(path.name)
    numbers = tuple(int(number) for number in name[1].split(".")) if name else ()
    return () if numbers and numbers[0] > 1000 else numbers


def _as_told(path: Path) -> Cupti:
    return Cupti(path, ".".join(map(str, _version(path))))


def _linkers() -> Path | None:
    ldconfig = which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if ldconfig is None:
        return None
    try:
        told = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, timeout=_LDCONFIG_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    paths = [
        Path(line.split(" => ")[1].strip()) for line in told.splitlines() if "libcupti.so." in line and "=>" in line
    ]
    return max((path for path in paths if _version(path)), key=_version, default=None)
