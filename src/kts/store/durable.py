"""Appending to files of a run, and the lock that marks a live one."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kts import files
from kts.store import layout


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of ``data``; the system may take it in portions. OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


ASKED_S = 0.2
"""A reader has the lock for an instant (`is_locked`), and longer only where its machine is busy."""


class WriterLock:
    """Held by the one writer of a run directory; given back by the system if the writer dies."""

    def __init__(self, directory: Path) -> None:
        """Takes the lock. BlockingIOError if another process holds it, OSError if it cannot be made."""
        import fcntl

        self._path = directory / layout.LOCK
        self._descriptor = files.opened(self._path, os.O_RDWR)
        try:
            _take(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                raise BlockingIOError  # the file was removed by a writer that ended just now
        except OSError:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Gives the lock back and removes its file. OSError where the file stays."""
        try:
            self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)


def _take(descriptor: int, how: int) -> None:
    """BlockingIOError where a writer has it; a reader that asks whether one has it is waited for."""
    import fcntl

    until_s = time.monotonic() + ASKED_S
    while True:
        try:
            return fcntl.flock(descriptor, how)
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise
            time.sleep(ASKED_S / 20)


def is_locked(directory: Path) -> bool:
    """True while a process writes this run. False where the system has no such locks."""
    try:
        import fcntl

        descriptor = os.open(directory / layout.LOCK, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
