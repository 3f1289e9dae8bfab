"""One traced process: its ring in shared memory, read by the worker.

The program may die, or write what it likes, at any instant: a ring is checked before it is believed. Events are read by
pread, not by a mapping, since a file that shrinks or a full file system would otherwise end the reader (SIGBUS). Only
the header's page is mapped, because what the worker has taken (``tail``) must change at once.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kts.shown import visible
from kts.units import NS_PER_S
from kts.worker.tracing.layout import (
    EVENT,
    EVENTS_OFFSET,
    HEADER,
    NAMES_BYTES,
    NAMES_OFFSET,
    RING_MAGIC,
    VERSION,
    Kind,
    Level,
    Reason,
    State,
)

Events = NDArray[np.void]
"""Of dtype `kts.worker.tracing.layout.EVENT`."""
Breaks = NDArray[np.intp]
NO_EVENTS: Events = np.empty(0, EVENT)
NO_BREAKS: Breaks = np.empty(0, np.intp)
_IS_KIND = np.zeros(1 << 16, np.bool_)
_IS_KIND[list(Kind)] = True
_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PID_REUSED_NS = NS_PER_S // 10  # a start is told in ticks of 10 ms
LARGEST_CAPACITY = 1 << 26


class DamagedRingError(Exception):
    """A ring is not as the library writes it. Its text says why."""


class NotYetError(Exception):
    """A ring is still being made."""


@dataclass(frozen=True)
class TracedProcess:
    """What a process has said of itself.

    ``pid``: as its own namespace has it. ``program``: its command line, as far as it fits. ``why``: why nothing, or no
    more, is seen of it; empty otherwise. ``level``: what it records now. ``calls``: how many were seen, kept or not.
    ``lost``: events that were seen and cannot be read. ``held``: threads that wait at the gate now; ``holds``,
    ``held_ns``: how often and how long they have in all.
    """

    pid: int
    began_ns: int
    program: str
    state: State
    reason: Reason
    why: str
    cupti: int
    level: Level | None
    calls: int
    lost: int
    held: int
    holds: int
    held_ns: int
    alive: bool

    @property
    def key(self) -> tuple[int, int]:
        """No two processes of a trace have the same; a pid alone is used again."""
        return self.pid, self.began_ns


class Ring:
    """The ring of one process, from the first event that nobody has taken."""

    def __init__(self, path: Path, pid: int, began_ns: int) -> None:
        """Opens it. ``pid``, ``began_ns``: as its name says. NotYetError, DamagedRingError, OSError."""
        self.path = path
        self.superseded = False
        """Another program runs in this process now (exec), or it is another process of that pid."""
        self._pid, self._began_ns = pid, began_ns
        self._skipped = 0
        self._lost = 0
        self._tail_before = 0
        self._holes: set[int] = set()
        self._names: dict[int, str] = {}
        self._named = 0
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            self._open()
        except BaseException:
            os.close(self._file)
            raise

    def _open(self) -> None:
        told = os.fstat(self._file)
        if not stat.S_ISREG(told.st_mode):
            raise DamagedRingError("it is no file")
        if told.st_size < HEADER.itemsize:
            raise NotYetError
        try:
            self._page: Any = np.frombuffer(mmap.mmap(self._file, HEADER.itemsize), HEADER, 1)
        except ValueError as error:  # it has shrunk since
            raise NotYetError from error
        self._size_bytes = told.st_size
        self._check()

    def _check(self) -> None:
        header = self._header()
        if header["magic"] == b"":
            raise NotYetError
        if header["magic"] != RING_MAGIC:
            raise DamagedRingError("it does not begin as one")
        if header["version"] != VERSION or header["event_bytes"] != EVENT.itemsize:
            raise DamagedRingError(f"it is of version {header['version']}, the worker of {VERSION}")
        if (header["pid"], header["began_ns"]) != (self._pid, self._began_ns):
            raise DamagedRingError("its name is of another process")
        self._capacity = int(header["capacity"])
        if not 0 < self._capacity <= LARGEST_CAPACITY or self._capacity & (self._capacity - 1):
            raise DamagedRingError(f"its capacity is {self._capacity}")
        due_bytes = EVENTS_OFFSET + self._capacity * EVENT.itemsize
        if header["reason"] == Reason.NO_MEMORY:
            self._capacity, due_bytes = 0, HEADER.itemsize
        if self._size_bytes != due_bytes:
            raise DamagedRingError(f"it has {self._size_bytes} bytes, not {due_bytes}")
        self._tail = int(header["tail"])

    @property
    def names(self) -> dict[int, str]:
        """Names of ranges that it has used, by the ``detail`` of their events."""
        return self._names

    def read(self) -> tuple[Events, Breaks]:
        """New events in the order in which they were begun, copied; at most as many as the ring holds. With these, the
        indexes of those before which some are missing.

        An event that is still being written ends them; one whose writer is dead is left out and counted as lost, like
        one that cannot be. DamagedRingError.
        """
        dead = self.dead()  # asked first: all that it ever wrote is there then
        there = int(self._header()["head"]) - self._tail
        if not 0 <= there <= self._capacity:
            raise DamagedRingError(f"it claims {there} new events, and holds {self._capacity}")
        self._look_for_holes()
        if there == 0:
            return NO_EVENTS, NO_BREAKS
        expected = np.uint64(self._tail) + np.arange(1, there + 1, dtype=np.uint64)
        whole = self._events(there)["seq"] == expected
        taken = there if dead or whole.all() else int(whole.argmin())
        events = self._events(taken)  # again: what was whole a moment ago is so from its first byte to its last
        self._read_names()
        sound = (events["seq"] == expected[:taken]) & _IS_KIND[events["kind"]]
        sound &= (events["begin_ns"] >= 0) & (events["begin_ns"] <= events["end_ns"])
        self._skipped += taken - int(np.count_nonzero(sound))
        broken = np.concatenate([[False], ~sound[:-1]]) if taken else sound
        broken[[hole - self._tail for hole in self._holes if 0 <= hole - self._tail < taken]] = True
        self._tail_before, self._tail = self._tail, self._tail + taken
        self._header()["tail"] = self._tail
        self._holes = {hole for hole in self._holes if hole >= self._tail}
        if taken and not sound[-1]:
            self._holes.add(self._tail)
        return (events, np.flatnonzero(broken)) if sound.all() else (events[sound], _carried(broken, sound))

    def _look_for_holes(self) -> None:
        """Where events are missing: what finds no room would have come behind the last that the ring held.

        That depends on how much was taken then. A writer may have looked at that before we took more, and have counted
        what it lost after: both places count.
        """
        lost, self._lost = self._lost, int(self._header()["lost"])
        if self._lost != lost:
            self._holes |= {max(tail + self._capacity, self._tail) for tail in (self._tail_before, self._tail)}

    def process(self) -> TracedProcess:
        """What its process says of itself now. DamagedRingError."""
        header = self._header()
        try:
            state, reason = State(header["state"]), Reason(header["reason"])
            level = Level(header["level"]) if header["level"] else None
        except ValueError as error:
            raise DamagedRingError(str(error)) from error
        return TracedProcess(
            pid=self._pid,
            began_ns=self._began_ns,
            program=_text(header["program"]),
            state=state,
            reason=reason,
            why=_text(header["why"]),
            cupti=int(header["cupti"]),
            level=level,
            calls=int(header["calls"]),
            lost=int(header["lost"]) + self._skipped,
            held=int(header["held"]),
            holds=int(header["holds"]),
            held_ns=int(header["held_ns"]),
            alive=not self.dead(),
        )

    def dead(self) -> bool:
        """Whether nothing more will be written.

        The library holds a lock on the file, which the kernel takes from it at its end or at exec; where a program has
        closed that, its own word or its pid must say so too. DamagedRingError.
        """
        if _locked(self._file):
            return False
        return self.superseded or self._header()["state"] == State.ENDED or not _lives(self._pid, self._began_ns)

    def close(self) -> None:
        """Idempotent."""
        if self._file >= 0:
            del self._page  # which unmaps it
            os.close(self._file)
            self._file = -1

    def _header(self) -> Any:
        """DamagedRingError where the file has shrunk: touching its page would end this process."""
        if os.fstat(self._file).st_size != self._size_bytes:
            raise DamagedRingError("its file has changed its size")
        return self._page[0]

    def _events(self, number: int) -> Events:
        """Those from ``tail`` on, as they are now."""
        first = self._tail % self._capacity
        before_wrap = min(number, self._capacity - first)
        raw = np.empty(number * EVENT.itemsize, np.uint8)
        cut = before_wrap * EVENT.itemsize
        self._fill(raw[:cut], EVENTS_OFFSET + first * EVENT.itemsize)
        self._fill(raw[cut:], EVENTS_OFFSET)
        return raw.view(EVENT)

    def _fill(self, raw: NDArray[np.uint8], offset: int) -> None:
        if raw.size and os.preadv(self._file, [raw.data], offset) != raw.size:
            raise DamagedRingError("its file has changed its size")

    def _read_names(self) -> None:
        used = int(self._header()["names_used"])
        if not self._named < used <= NAMES_BYTES:
            return
        raw = os.pread(self._file, used - self._named, NAMES_OFFSET + self._named)
        *whole, _ = raw.split(b"\0")
        for name in whole:
            self._names[self._named] = name.decode(errors="replace")
            self._named += len(name) + 1


def _carried(broken: NDArray[np.bool_], sound: NDArray[np.bool_]) -> Breaks:
    """Indexes among the sound events of those that are broken, or behind unsound ones that are."""
    runs: Breaks = np.cumsum(sound) - sound  # index among the sound of each event, or of the next that is
    return np.unique(runs[broken & (runs < np.count_nonzero(sound))])


def _text(raw: bytes) -> str:
    return visible(raw.replace(b"\0", b" ").decode(errors="replace").strip())


def _locked(file: int) -> bool:
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        return bool(struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK)
    except OSError:
        return False


def _lives(pid: int, began_ns: int) -> bool:
    """Whether the process of that pid lives, and had begun by ``began_ns``: else the pid is used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        state, started_ticks = fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return False
    asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    started_ns = started_ticks * NS_PER_S // _TICKS_PER_S - asleep_ns
    return state not in (b"Z", b"X") and started_ns <= began_ns + _PID_REUSED_NS


def remove(path: Path) -> None:
    """Where it is still there."""
    with suppress(OSError):
        path.unlink()
