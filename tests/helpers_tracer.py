"""A GPU made of arithmetic, for the tracer: a fake libcuda and libcupti, and a program of any shape (tests/standin)."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kts.worker.tracing import build
from kts.worker.tracing.layout import (
    CONTROL,
    CONTROL_BYTES,
    CONTROL_MAGIC,
    EVENT,
    EVENTS_OFFSET,
    HEADER,
    NAMES_BYTES,
    NAMES_OFFSET,
    VERSION,
    Level,
)

_SOURCES = Path(__file__).parent / "standin"
_OBJECT = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{build.NATIVE}")
_SHARED = (*_OBJECT, "-fPIC", "-shared", "-fvisibility=hidden")


@dataclass(frozen=True)
class Standin:
    """``cuda``: folder with the fake libcuda.so.1. ``cupti``: the fake one; ``old_cupti``: as before CUDA 12."""

    library: Path
    cuda: Path
    cupti: Path
    old_cupti: Path
    program: Path

    def argv(self, **shape: Any) -> list[str]:
        """The program's command line: names and values as tests/standin/program.c has them."""
        return [str(self.program), *(f"{name}={value}" for name, value in shape.items())]

    def env(self, **more: str) -> dict[str, str]:
        """What a program (also one in Python, by ctypes) needs to get the fake driver."""
        return {"PATH": os.environ.get("PATH", ""), "LD_LIBRARY_PATH": str(self.cuda), **more}

    def traced(self, folder: Path, **more: str) -> dict[str, str]:
        """`env`, and what makes the program load the tracer; its rings appear in ``folder``."""
        library = str(self.library)
        names = ("CUDA_INJECTION64_PATH", "NVTX_INJECTION64_PATH")
        return self.env(KTS_TRACE_DIR=str(folder), KTS_CUPTI=str(self.cupti), **dict.fromkeys(names, library), **more)


@functools.cache
def standin() -> Standin:
    """Builds it once per content; skips the test where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the tracer's stand-in")
    library = build.library()
    assert library.path is not None, library.why
    sources = [*sorted(path for path in _SOURCES.iterdir() if path.is_file()), build.NATIVE / "abi.h"]
    content = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"kts-standin-{os.getuid()}-{content}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            _build(compiler, Path(made))
            Path(made).chmod(0o755)
            try:
                shutil.copytree(made, folder.with_name(f"{folder.name}.{os.getpid()}"))
                folder.with_name(f"{folder.name}.{os.getpid()}").rename(folder)
            except OSError:  # another was first
                shutil.rmtree(folder.with_name(f"{folder.name}.{os.getpid()}"), ignore_errors=True)
    return Standin(
        library=library.path,
        cuda=folder,
        cupti=folder / "libcupti.so.12",
        old_cupti=folder / "libcupti.so.11.8",
        program=folder / "program",
    )


def _build(compiler: str, folder: Path) -> None:
    driver = folder / "libcuda.so.1"
    _run(compiler, *_SHARED, "-Wl,-soname,libcuda.so.1", _SOURCES / "cuda.c", "-o", driver, "-ldl")
    for name, flags in (("libcupti.so.12", ()), ("libcupti.so.11.8", ("-DOLD",))):
        soname = f"-Wl,-soname,{name}"
        _run(compiler, *_SHARED, *flags, soname, _SOURCES / "cupti.c", "-o", folder / name, driver)
    _run(compiler, *_OBJECT, _SOURCES / "program.c", "-o", folder / "program", driver, "-ldl")


def _run(*argv: object) -> None:
    result = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@dataclass(frozen=True)
class Seen:
    """One ring as it lies there, read without the worker's reader."""

    header: Any
    events: np.ndarray[Any, np.dtype[Any]]
    names: Mapping[int, str]

    @property
    def why(self) -> str:
        return bytes(self.header["why"]).decode()

    def of(self, *kinds: int) -> np.ndarray[Any, np.dtype[Any]]:
        return self.events[np.isin(self.events["kind"], kinds)]


@dataclass
class Control:
    """The worker's side of the control file, by hand."""

    folder: Path
    values: np.ndarray[Any, np.dtype[Any]]

    def gate(self, closed: bool) -> None:
        self.values["gate"][0] = closed

    def level(self, level: Level) -> None:
        self.values["level"][0] = level


@contextmanager
def trace(
    folder: Path, *, capacity: int = 1 << 14, level: Level = Level.CALLS, closed: bool = False
) -> Iterator[Control]:
    """A control file in ``folder``, held as a worker that lives holds it."""
    path = folder / "control"
    path.write_bytes(bytes(CONTROL_BYTES))
    values = np.memmap(path, dtype=CONTROL, mode="r+", shape=(1,))
    values["magic"], values["version"], values["capacity"] = CONTROL_MAGIC, VERSION, capacity
    values["level"], values["gate"] = level, closed
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Control(folder, values)


def rings(folder: Path) -> list[Seen]:
    """All rings there, in the order of their beginning; events in order, whole ones only."""
    seen = []
    for path in folder.glob("*.ring"):
        raw = path.read_bytes()
        header = np.frombuffer(raw, HEADER, 1)[0]
        area = raw[NAMES_OFFSET : NAMES_OFFSET + min(NAMES_BYTES, int(header["names_used"]))]
        names, at = {}, 0
        for name in area.split(b"\0")[:-1]:
            names[at] = name.decode()
            at += len(name) + 1
        whole = len(raw) > EVENTS_OFFSET
        events = np.frombuffer(
            raw, EVENT, int(header["capacity"]) if whole else 0, offset=EVENTS_OFFSET if whole else 0
        )
        events = events[(events["seq"] > 0)]
        seen.append(Seen(header, events[np.argsort(events["seq"])], names))
    return sorted(seen, key=lambda ring: int(ring.header["began_ns"]))
