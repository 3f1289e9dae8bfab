"""Where libcupti is: it comes with PyTorch, JAX and CuPy's packages, or with the CUDA toolkit. Nothing is imported."""

from __future__ import annotations

import contextlib
import ctypes
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
_NAME = re.compile(r"libcupti\.so\.(\d{1,3}(?:\.\d+)*)")
_LIBS = ("lib/python3*/site-packages", "lib/python3*/dist-packages", "local/lib/python3*/dist-packages")
_REMEDY = "pip install nvidia-cuda-cupti-cu12 (or nvidia-cuda-cupti for CUDA 13), or set KTS_CUPTI to a libcupti.so"
_LDCONFIG_S = 10


class Cupti(NamedTuple):
    """``path`` of the library and its ``version`` as its name tells it; or None, and ``why`` there is none."""

    path: Path | None
    version: str = ""
    why: str = ""


def cupti(argv: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Cupti:
    """The libcupti for the program ``argv`` with the environment ``env`` (ours, if it is not given).

    Asked in this order, and the newest version of each that the driver is not too old for: KTS_CUPTI; the packages of
    the program's Python; those of this Python; the program's conda environment; the CUDA toolkit; what the system's
    linker knows.
    """
    env = os.environ if env is None else env
    if named := env.get(VARIABLE):
        path = Path(named)
        return _as_told(path) if path.is_file() else Cupti(None, why=f"{VARIABLE} names {named}, which is no file")
    newest = _driver()
    too_new: list[Path] = []
    for there in (*_places(argv, env), _linkers()):
        if fit := [path for path in there if newest is None or _version(path)[0] <= newest]:
            return _as_told(max(fit, key=_version))
        too_new += there
    if too_new:
        why = f"{too_new[0]} is too new for the driver, which is of CUDA {newest}"
        return Cupti(None, why=f"{why}; pip install nvidia-cuda-cupti-cu{newest}")
    return Cupti(None, why=f"no libcupti in Python's packages or a CUDA toolkit; {_REMEDY}")


def _driver() -> int | None:
    """The major version of CUDA that the driver has; asking does not initialise it. None without a driver."""
    version = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return version.value // 1000 or None


def _places(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[list[Path]]:
    homes = [Path(home) for name in ("CONDA_PREFIX", "CUDA_HOME", "CUDA_PATH") if (home := env.get(name))]
    named = [Path(entry) for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if prefix := _prefix(argv, env):
        homes.insert(0, prefix)
        named += [path for lib in _LIBS for path in prefix.glob(lib)]
    for packages in (named, [Path(entry) for entry in sys.path if entry]):
        yield _libraries(package / part for package in packages for part in _IN_PACKAGES)
    for root in (*homes, *map(Path, TOOLKITS)):
        yield _libraries(root / part for part in _IN_TOOLKIT)


def _prefix(argv: Sequence[str], env: Mapping[str, str]) -> Path | None:
    """Where the Python is installed that runs the program: argv[0] itself, or what its first line names."""
    program = which(argv[0], path=env.get("PATH")) if argv else None
    try:
        with Path(program or "").open("rb") as file:
            first = file.readline(512)
    except OSError:
        return None
    if first.startswith(b"#!"):
        words = first[2:].decode(errors="replace").split() or [""]
        by_env = len(words) > 1 and Path(words[0]).name == "env"
        program = which(words[1], path=env.get("PATH")) if by_env else words[0]
    return Path(program).absolute().parent.parent if program and "python" in Path(program).name else None


def _libraries(folders: Iterable[Path]) -> list[Path]:
    """Those that are named by their version; a toolkit's libcupti.so.2025.3.1 is what such a name points to."""
    there: list[Path] = []
    for folder in folders:
        with contextlib.suppress(OSError):
            there += [path for path in folder.glob("libcupti.so.*") if _NAME.fullmatch(path.name) and path.is_file()]
    return there


def _version(path: Path) -> tuple[int, ...]:
    """Of its name: 12 for libcupti.so.12."""
    name = _NAME.fullmatch(path.name)
    assert name
    return tuple(int(number) for number in name[1].split("."))


def _as_told(path: Path) -> Cupti:
    name = _NAME.fullmatch(path.name)
    return Cupti(path.absolute(), name[1] if name else "")


def _linkers() -> list[Path]:
    ldconfig = which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if ldconfig is None:
        return []
    try:
        told = subprocess.run(
            [ldconfig, "-p"], capture_output=True, encoding="utf-8", errors="replace", timeout=_LDCONFIG_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    paths = (Path(line.partition(" => ")[2].strip()) for line in told.splitlines())
    return [path for path in paths if _NAME.fullmatch(path.name)]
