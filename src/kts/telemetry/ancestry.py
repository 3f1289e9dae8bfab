"""Whose a process is: by whom it descends, as /proc of this pid namespace tells."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

_DEEPEST = 64
PROC = Path("/proc")


def line_of(pid: int, proc: Path = PROC) -> Iterator[int]:
    """The process, its parent, and so on, as far as that is known."""
    for _ in range(_DEEPEST):
        yield pid
        if pid <= 1 or not (pid := _parent(pid, proc)):
            return


def descends(pid: int, ours: Collection[int], proc: Path = PROC) -> bool:
    """Whether the process is one of ``ours``, or a child of one's, or of its children."""
    return any(one in ours for one in line_of(pid, proc))


def command(pid: int, proc: Path = PROC) -> str:
    """Its name; empty where it is not told."""
    with contextlib.suppress(OSError):
        return (proc / str(pid) / "comm").read_text(errors="replace").strip()
    return ""


def _parent(pid: int, proc: Path) -> int:
    """0 where it is not known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    return 0


def same_numbers(listed: Collection[int], ours: Collection[int], proc: Path = PROC) -> bool:
    """Whether somebody who ``listed`` processes numbers them as this pid namespace does: each of them is one here, and
    one is of ``ours`` or descends from it. Not each of ours need be listed: one that does not compute is not."""
    here = all((proc / str(pid)).exists() for pid in listed)
    return here and any(descends(pid, ours, proc) for pid in listed)
