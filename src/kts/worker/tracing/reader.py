"""The worker's side of a trace: the folder, the program's environment, and new events of all its processes."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kts.model.masking import masked_command
from kts.worker.tracing.control import CONTROL_NAME, Control, Folder
from kts.worker.tracing.layout import EVENT, EVENTS_OFFSET, Level, Reason, State
from kts.worker.tracing.ring import Breaks, DamagedRingError, Events, NotYetError, Ring, TracedProcess, remove

CAPACITY = 1 << 16
"""Events that a ring holds unless told otherwise: 4 MiB; a second of a program that makes 65000 calls in it."""
CUDA_INJECTION, NVTX_INJECTION = "CUDA_INJECTION64_PATH", "NVTX_INJECTION64_PATH"
_ROOM_RINGS = 4
_RING = re.compile(r"([1-9][0-9]{0,9})-([0-9]{1,18})\.ring")


@dataclass(frozen=True)
class Batch:
    """New events of one process, in the order in which they were begun.

    ``names``: of its ranges, by their events' ``detail``. ``breaks``: indexes of events before which some are missing,
    or, rarely, may be.
    """

    process: TracedProcess
    events: Events
    breaks: Breaks
    names: Mapping[int, str]


class Tracing:
    """One trace: all processes of one program, through all its lives.

    ``why``: why nothing can be seen of CUDA's calls, ``why_no_ranges``: of NVTX ranges; empty as far as is known here,
    a process says more of itself. ``folder``: None where there is no room for one.
    """

    def __init__(self, capacity: int = CAPACITY, level: Level = Level.CALLS, folder: Path | None = None) -> None:
        """Makes its folder and the control file in it. ``capacity``: events that a ring holds, a power of two.

        ``folder``: one that is there and shared with programs of other users, as in a pod.
        """
        if capacity <= 0 or capacity & (capacity - 1):
            raise ValueError(f"a capacity of {capacity} events is no power of two")
        self.why = self.why_no_ranges = ""
        self._own: Folder | None = None
        self._control: Control | None = None
        self._rings: dict[tuple[int, int], Ring] = {}
        self._over: dict[tuple[int, int], TracedProcess] = {}
        self.folder = folder
        try:
            if folder is None:
                self._own = Folder(_ROOM_RINGS * (EVENTS_OFFSET + capacity * EVENT.itemsize))
                self.folder = self._own.path
            assert self.folder is not None
            self._control = Control(self.folder, capacity, level, for_all=self._own is None)
        except OSError as error:
            self.why = self.why_no_ranges = f"no room for a trace: {error}"
            self.close()
            self.folder = None

    def env(self, given: Mapping[str, str], library: Path | None, cupti: Path | None) -> dict[str, str]:
        """Variables to add to ``given``, the program's environment, so that it loads ``library``.

        One that injects a library of its own keeps that: ``why`` says so, and nothing is seen.
        """
        if self.folder is None or library is None:
            return {}
        added = {"KTS_TRACE_DIR": str(self.folder)}
        if cupti is not None:
            added["KTS_CUPTI"] = str(cupti)
        for name in (CUDA_INJECTION, NVTX_INJECTION):
            if given.get(name) in {None, "", str(library)}:
                added[name] = str(library)
        taken = "the program sets {}={} itself"
        if CUDA_INJECTION not in added:
            self.why = taken.format(CUDA_INJECTION, given[CUDA_INJECTION])
        if NVTX_INJECTION not in added:
            self.why_no_ranges = taken.format(NVTX_INJECTION, given[NVTX_INJECTION])
        return added

    def read(self) -> list[Batch]:
        """New events of each process that has any, as `Ring.read` has alike; at most a ring's capacity of each.

        A process that is dead and read to its end is kept as a value only. Nothing that a program does to its ring
        raises: a damaged one is read no more, and its process says so.
        """
        self._discover()
        batches = []
        for key, ring in list(self._rings.items()):
            try:
                dead = ring.dead()
                events, breaks = ring.read()
                self._over[key] = ring.process()
            except (DamagedRingError, OSError) as error:
                self._give_up(key, error)
                continue
            if len(events):
                batches.append(Batch(self._over[key], events, breaks, ring.names))
            if dead:
                self._forget(key)
        return batches

    @property
    def processes(self) -> list[TracedProcess]:
        """All processes that were ever seen, in the order in which they began, as they are now."""
        self._discover()
        for key, ring in list(self._rings.items()):
            try:
                self._over[key] = ring.process()
            except (DamagedRingError, OSError) as error:
                self._give_up(key, error)
        return sorted(self._over.values(), key=lambda process: (process.began_ns, process.pid))

    @property
    def lost(self) -> int:
        """Events of all processes that were seen and cannot be read."""
        return sum(process.lost for process in self.processes)

    def unseen(self) -> str:
        """Why no call of the program to the GPU is seen; empty where some are."""
        if self.why:
            return self.why
        processes = self.processes
        if any(process.calls for process in processes):
            return ""
        refused = [process.why for process in processes if process.why]
        begun = "it has handed nothing to the GPU yet" if processes else "no process of it has begun to use CUDA"
        return refused[0] if refused else begun

    def notes(self) -> tuple[str, ...]:
        """What is not seen, a line each, for whoever reads the figures."""
        lines = (
            [f"its launches are not seen: {why}"] if (why := self.unseen()) else list(dict.fromkeys(self._in_part()))
        )
        if self.why_no_ranges:
            lines.append(f"its NVTX ranges are not seen: {self.why_no_ranges}")
        return tuple(lines)

    def _in_part(self) -> Iterator[str]:
        for process in self.processes:
            if process.why:
                how = "seen in part" if process.calls else "not seen"
                program = " ".join(masked_command(process.program.split()))
                yield f"a process of it ({program}) is {how}: {process.why}"

    def gate(self, *, closed: bool) -> None:
        """Closed: each thread that is about to hand work to the GPU waits until it is opened."""
        if self._control is not None:
            self._control.gate(closed=closed)

    def raise_level(self) -> None:
        """Asks for `Level.KERNELS`; each process says in ``level`` when it has it."""
        if self._control is not None:
            self._control.raise_level(Level.KERNELS)

    def close(self) -> None:
        """Opens the gate and removes what lies in shared memory. Idempotent."""
        for ring in self._rings.values():
            ring.close()
            remove(ring.path)
        self._rings.clear()
        if self._control is not None:
            self._control.close()
            self._control = None
        if self.folder is None:
            return
        if self._own is not None:
            self._own.remove()
        else:
            for path in (self.folder / CONTROL_NAME, *self.folder.glob("*.ring")):
                remove(path)

    def _discover(self) -> None:
        """Opens rings that are new. What cannot be opened now, since it is being made or we have no more files, is
        tried again."""
        if self.folder is None or self._control is None:
            return
        try:
            names = [entry.name for entry in os.scandir(self.folder)]
        except OSError:
            return
        for name in names:
            if (told := _RING.fullmatch(name)) is None or (key := (int(told[1]), int(told[2]))) in self._over:
                continue
            path = self.folder / name
            try:
                ring = Ring(path, *key)
                self._over[key] = ring.process()
            except DamagedRingError as error:
                self._over[key] = _unread(*key, _damaged(error))
            except NotYetError:
                continue
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    return
                continue
            else:
                self._rings[key] = ring
                self._supersede(key)

    def _supersede(self, key: tuple[int, int]) -> None:
        pid, began_ns = key
        for (other_pid, other_ns), ring in self._rings.items():
            if other_pid == pid and other_ns != began_ns:
                older = ring if other_ns < began_ns else self._rings[key]
                older.superseded = True

    def _give_up(self, key: tuple[int, int], error: Exception) -> None:
        self._over[key] = replace(self._over[key], why=_damaged(error), alive=False)
        self._forget(key)

    def _forget(self, key: tuple[int, int]) -> None:
        """Its ring; what its process has said of itself stays."""
        ring = self._rings.pop(key)
        ring.close()
        remove(ring.path)


def _damaged(error: Exception) -> str:
    return f"its ring is damaged: {error}"


def _unread(pid: int, began_ns: int, why: str) -> TracedProcess:
    """A process whose ring cannot be read at all."""
    return TracedProcess(pid, began_ns, "", State.REFUSED, Reason.NONE, why, 0, None, 0, 0, 0, 0, 0, alive=False)
