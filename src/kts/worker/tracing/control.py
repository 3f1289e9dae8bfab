"""The folder of a trace and its control file: what the worker asks of the library."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import secrets
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kts.files import replacing
from kts.worker.keeper import SPARED
from kts.worker.tracing.layout import CONTROL, CONTROL_BYTES, CONTROL_MAGIC, VERSION, Level

CONTROL_NAME = "control"
PREFIX = "kts-trace-"
_SWEEPER = (
    "sh",
    "-c",
    'read gone; n=0; until rm -rf "$1" || [ $n -gt 99 ]; do n=$((n + 1)); sleep 0.1; done',
    "kts-sweeper",
)
"""Waits for the end of its input, which is that of the process that holds the other end. It tries again, as the program
may make a file in the folder while that is emptied."""
_FUTEX = {"x86_64": 202, "aarch64": 98}
_FUTEX_WAKE = 1
_ALL = 2**31 - 1
_libc = ctypes.CDLL(None, use_errno=True)


class Control:
    """The control file, mapped. It is locked for as long as this process lives, so that others see when it is dead."""

    def __init__(self, folder: Path, capacity: int, level: Level, *, for_all: bool) -> None:
        """Makes it. ``for_all``: programs of other users may read it. OSError, so where the file system is full."""
        path = folder / CONTROL_NAME
        with replacing(path, durably=False) as temporary:
            self._file = os.open(temporary, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.posix_fallocate(self._file, 0, CONTROL_BYTES)
                os.fchmod(self._file, 0o644 if for_all else 0o600)
                self._page = mmap.mmap(self._file, CONTROL_BYTES)
            except BaseException:
                os.close(self._file)
                raise
            self._values: Any = np.frombuffer(self._page, CONTROL, 1)
            self._values[0] = (CONTROL_MAGIC, VERSION, 0, level, 0, capacity)

    def gate(self, *, closed: bool) -> None:
        """Closed: threads that are about to hand work to the GPU wait until it is opened."""
        self._values["gate"] = closed
        if not closed and (number := _FUTEX.get(platform.machine())) is not None:
            gate = ctypes.c_uint32.from_buffer(self._page, CONTROL.fields["gate"][1])  # type: ignore[index]
            _libc.syscall(number, ctypes.byref(gate), _FUTEX_WAKE, _ALL, None, None, 0)

    def raise_level(self, level: Level) -> None:
        """Asks for more."""
        self._values["level"] = level

    def close(self) -> None:
        """Opens the gate and lets go of the file."""
        self.gate(closed=False)
        del self._values
        self._page.close()
        os.close(self._file)


class Folder:
    """A new folder of this user's alone: in memory where there is ``room_bytes``, else among temporary files. It is
    removed when this process ends, however that comes."""

    def __init__(self, room_bytes: int) -> None:
        """OSError, where neither can be."""
        self.path = _place(room_bytes) / f"{PREFIX}{secrets.token_hex(8)}"
        self._sweeper = subprocess.Popen(  # first: a kill between the two would leave the folder
            [*_SWEEPER, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # who ends this process with its group leaves it to its work
            bufsize=0,
        )
        SPARED.add(self._sweeper.pid)
        try:
            self.path.mkdir(0o700)
        except OSError:
            self.remove()
            raise

    def remove(self) -> None:
        """Removes it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        assert self._sweeper.stdin is not None
        self._sweeper.stdin.close()
        self._sweeper.wait()
        SPARED.discard(self._sweeper.pid)


def _place(room_bytes: int) -> Path:
    """Where the folder is made."""
    shared = Path("/dev/shm")
    bases = [shared, Path(tempfile.gettempdir())]
    for base in bases:
        _sweep(base)
    with suppress(OSError):
        told = os.statvfs(shared)
        if told.f_bavail * told.f_frsize >= room_bytes and os.access(shared, os.W_OK | os.X_OK):
            return shared
    return bases[1]


def _sweep(base: Path) -> None:
    """Removes what workers that were killed have left."""
    with suppress(OSError):
        for folder in base.glob(f"{PREFIX}*"):
            with suppress(OSError):
                if folder.lstat().st_uid == os.getuid() and _abandoned(folder):
                    shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """OSError, where it has no control file yet, or its worker lives."""
    file = os.open(folder / CONTROL_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(file)
    return True
