"""What the kernel tells of a thread, and how its files are read: kept open, a reading at a time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_BYTES = 4096


class KernelFile:
    """A file of the kernel's, kept open: a tenth of the cost of opening it each time."""

    def __init__(self, path: Path) -> None:
        """OSError."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> bytes:
        """OSError once what it tells of is gone."""
        return os.pread(self._descriptor, _BYTES, 0)

    def close(self) -> None:
        """To be called once."""
        os.close(self._descriptor)


class KernelThread:
    """A thread of the tenant's. ``whole``: all that it did counts, else only what it does from now on."""

    def __init__(self, place: Path, *, states: bool, whole: bool) -> None:
        """OSError where it has ended, or the kernel does not tell."""
        self._place = place
        self.in_block_ns = 0
        self._schedstat = KernelFile(place / "schedstat")
        self._stat: KernelFile | None = None
        self._waited_ns = self._blocked_ticks = self._ran_ns = 0
        self.ran_ns = 0
        """On a core, between the last two calls of `new`."""
        self.core: int | None = None
        """Where it ran last; None where the kernel does not tell."""
        if states:
            with contextlib.suppress(OSError):
                self._stat = KernelFile(place / "stat")
        if not whole:
            self.new()

    def new(self) -> tuple[int, int, bool]:
        """(ns without a core, ticks in which it waited for a disk) since the last call; whether it is held up now in
        what cannot be interrupted. OSError or ValueError once it has ended."""
        ran, wait, turns = self._schedstat.read().split()
        if not int(turns):
            raise ValueError("not counted")
        self.ran_ns, self._ran_ns = int(ran) - self._ran_ns, int(ran)
        waited_ns, self._waited_ns = int(wait) - self._waited_ns, int(wait)
        self.in_block_ns += waited_ns
        if self._stat is None:
            return waited_ns, 0, False
        told = self._stat.read().rpartition(b")")[2].split()
        self.core, ticks = int(told[36]), int(told[39])
        blocked, self._blocked_ticks = ticks - self._blocked_ticks, ticks
        return waited_ns, blocked, told[0] == b"D"

    @property
    def shows_states(self) -> bool:
        """Whether it tells what it waits in."""
        return self._stat is not None

    def name(self) -> str:
        """As the kernel shows it now; empty once it has ended."""
        return "".join(one if one.isprintable() else "?" for one in text(self._place / "comm").strip())

    def close(self) -> None:
        """To be called once."""
        self._schedstat.close()
        if self._stat is not None:
            self._stat.close()


def text(path: Path) -> str:
    """What the file holds; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
