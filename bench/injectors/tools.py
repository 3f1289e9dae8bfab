"""The programs that act upon tenants, compiled once per content, and the beat that tells them when."""

from __future__ import annotations

import functools
import hashlib
import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kts.errors import SetupError

_NATIVE = Path(__file__).parent / "native"
_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
_BEAT = struct.Struct("<qqq2048s")
_END_S = 5.0


class Did(msgspec.Struct, frozen=True):
    """What one did by its own account: how long it saw the beat, what it computed, and how often it acted."""

    fresh_ms: float
    cpu_ms: float
    turns: int


@dataclass(frozen=True)
class Tools:
    """``acts``: a program, see its source. ``preload``: a library for LD_PRELOAD."""

    acts: Path
    preload: Path

    def argv(self, what: str, beat: Path, **settings: object) -> list[str]:
        """The command line of one that acts."""
        return [str(self.acts), what, f"beat={beat}", *(f"{name}={value}" for name, value in settings.items())]

    @contextmanager
    def acting(self, what: str, beat: Path, told: list[Did], **settings: object) -> Iterator[int]:
        """The process id of one that acts until the end of the context; what it did is then in ``told``. SetupError
        where it ended before."""
        process = subprocess.Popen(self.argv(what, beat, **settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
            try:
                said, why = process.communicate(timeout=_END_S)
            finally:
                process.kill()
        if process.returncode:
            raise SetupError(f"{what} ended early: {why.decode(errors='replace').strip()}", "see its message")
        told.append(msgspec.convert(json.loads(said), Did))


@functools.cache
def tools() -> Tools:
    """Compiles both where they are not there. SetupError without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SetupError("no C compiler for what acts upon tenants", "install gcc or clang")
    sources = sorted(_NATIVE.iterdir())
    content = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"kts-injectors-{os.getuid()}-{content}"
    made = Tools(acts=folder / "acts", preload=folder / "preload.so")
    folder.mkdir(exist_ok=True)
    _compile(compiler, "acts.c", made.acts)
    _compile(compiler, "preload.c", made.preload, "-fPIC", "-shared", "-ldl")
    return made


def _compile(compiler: str, source: str, target: Path, *flags: str) -> None:
    if target.exists():
        return
    temporary = target.with_suffix(f".{os.getpid()}")
    argv = [compiler, *_FLAGS, str(_NATIVE / source), "-o", str(temporary), *flags]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"{source} cannot be compiled: {done.stderr.strip()}", "see the compiler's message")
    temporary.replace(target)


class Beat:
    """The beat's file, made new; see native/beat.h. Tests beat it themselves."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_BEAT.size))
        self.path = path

    def asks(self, *, launch_us: int = 0, sleep_us: int = 0, groups: Sequence[Path] = ()) -> None:
        """What is done inside of the tenant: launches and sleeps take so much longer, and it joins these cgroups."""
        self.path.write_bytes(_BEAT.pack(0, launch_us, sleep_us, ":".join(map(str, groups)).encode()))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Beats until the end of the context, by a moment that lies ahead: nobody has to come back in time."""
        self._write(time.monotonic_ns() + 3_600_000_000_000)
        try:
            yield
        finally:
            self._write(0)

    def _write(self, at_ns: int) -> None:
        with self.path.open("r+b") as file, mmap.mmap(file.fileno(), _BEAT.size) as there:
            there[:8] = struct.pack("<q", at_ns)
