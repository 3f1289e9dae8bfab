"""Whose calls they are: from the thread that the kernel names to a process, and from that to its container and pod.

A pid is used again and again; what is meant is told apart by when it began. The kernel's own events of threads that
begin and end say from when until when a thread's number was whose.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from kts.watch.calls import WatchedProcess
from kts.worker.host import began_ticks

Names = Callable[[WatchedProcess], WatchedProcess]
Gpus = Callable[[], Mapping[int, tuple[str, ...]]]
Ints = NDArray[np.int64]

_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?=[./]|$)")
_CONTAINER = re.compile(r"(?:^|[/:-])([0-9a-f]{64})(?=\.scope|/|$)")
NOBODY = 0
"""The number of no process: whose a call was could not be found out."""


class Lived(NamedTuple):
    """A thread began (``process``: it belongs to the process of ``by``, a thread; else to one of its own) or ended."""

    ns: int
    thread: int
    began: bool
    by: int = 0
    process: bool = False


def container_and_pod(cgroup: str) -> tuple[str, str]:
    """The container's ID and the pod's UID in the text of /proc/PID/cgroup; each "" where there is none. Knows the
    paths of cgroups 1 and 2, of systemd and cgroupfs, with containerd, CRI-O, docker, podman, k3s and kind."""
    container = pod = ""
    for line in cgroup.splitlines():
        path = line.partition(":")[2].partition(":")[2]
        pods, containers = _POD.findall(path), _CONTAINER.findall(path)
        if pods:  # nested clusters: the innermost
            pod = pods[-1].replace("_", "-")
        if containers:
            container = containers[-1]
    return container, pod


class Processes:
    """Those that made calls, by number. ``names``: fills in what the cluster calls one. ``gpus``: UUIDs by pid."""

    def __init__(self, names: Names, gpus: Gpus, proc: Path = Path("/proc")) -> None:
        self._names, self._gpus, self._proc = names, gpus, proc
        self._living: dict[int, WatchedProcess] = {}
        self._by_begin: dict[tuple[int, int], int] = {}
        self._threads: dict[int, int] = {}
        self._next = NOBODY + 1
        self._news: dict[int, WatchedProcess] = {}
        self._gone: list[int] = []
        self._dying: set[int] = set()

    def owners(self, threads: Ints, ns: Ints, lived: Iterable[Lived]) -> Ints:
        """The number of the process of each call; `NOBODY` where the thread was gone before it could be looked up.

        ``threads``, ``ns``: of calls, by time. ``lived``: by time, of the same stretch.
        """
        changes: dict[int, list[tuple[int, int]]] = {}
        seen, inverse = np.unique(threads, return_inverse=True)
        first = set(seen.tolist())
        for one in lived:
            if one.began and one.process:
                owner = self._threads.get(one.by, NOBODY) or (self._look(one.by) if one.thread in first else NOBODY)
            else:
                owner = NOBODY
            if one.thread in first:
                before = self._threads.get(one.thread, NOBODY)
                if not before and not one.began:
                    before = NOBODY
                changes.setdefault(one.thread, [(0, before)]).append((one.ns, owner))
            if owner:
                self._threads[one.thread] = owner
            else:
                self._threads.pop(one.thread, None)
        numbers = np.empty(len(threads), np.int64)
        simple = np.zeros(len(seen), np.int64)
        for at, thread in enumerate(seen.tolist()):
            if thread not in changes:
                simple[at] = self._threads.get(thread) or self._look(thread)
        numbers[:] = simple[inverse]
        for thread, steps in changes.items():
            mask = threads == thread
            since, owners = (np.array(column) for column in zip(*steps, strict=True))
            which = np.searchsorted(since, ns[mask], "right") - 1
            if steps[-1][1] == NOBODY and (which == len(steps) - 1).any():  # it is whose it is now
                owners[-1] = self._look(thread)
            numbers[mask] = owners[which]
        return numbers

    def news(self) -> tuple[tuple[WatchedProcess, ...], tuple[int, ...]]:
        """New ones and those of which more is known, and numbers of those that ended, since the last time."""
        told, gone = tuple(self._news.values()), tuple(self._gone)
        self._news, self._gone = {}, []
        return told, gone

    def look_again(self) -> None:
        """Finds out which ended, and what more is known of the others. That one ended is told a look later: the last of
        its calls come first."""
        gpus = self._gpus() if self._living else {}
        for number, one in list(self._living.items()):
            if not self._lives(one):
                if number not in self._dying:
                    self._dying.add(number)
                    continue
                self._dying.discard(number)
                self._living.pop(number)
                self._by_begin.pop((one.pid, one.began_ticks), None)
                self._gone.append(number)
                continue
            better = self._named(msgspec.structs.replace(one, gpus=gpus.get(one.pid) or one.gpus))
            if better != one:
                self._living[number] = self._news[number] = better
        self._threads = {thread: number for thread, number in self._threads.items() if number in self._living}

    def forget_threads(self) -> None:
        """What is known of threads may be wrong: events are missing. They are looked up anew."""
        self._threads.clear()

    def threads_of(self, number: int) -> list[int]:
        """All that its process has now."""
        one = self._living.get(number)
        if one is None:
            return []
        with contextlib.suppress(OSError):
            return [int(place.name) for place in (self._proc / str(one.pid) / "task").iterdir()]
        return []

    def get(self, number: int) -> WatchedProcess | None:
        """None where it ended."""
        return self._living.get(number)

    def _look(self, thread: int) -> int:
        """The number of the process of a thread that lives, by /proc."""
        try:
            status = (self._proc / str(thread) / "status").read_text(errors="replace")
            pid = int(next(line for line in status.splitlines() if line.startswith("Tgid:")).split()[1])
            ticks = began_ticks(pid, self._proc)
        except (OSError, ValueError, IndexError, StopIteration):
            return NOBODY
        if (number := self._by_begin.get((pid, ticks))) is None:
            number, self._next = self._next, self._next + 1
            self._by_begin[pid, ticks] = number
            container, pod_uid = container_and_pod(self._read(pid, "cgroup"))
            one = WatchedProcess(
                number=number,
                pid=pid,
                began_ticks=ticks,
                command=self._command(pid),
                container=container,
                pod_uid=pod_uid,
                gpus=self._gpus().get(pid, ()),
            )
            self._living[number] = self._news[number] = self._named(one)
        self._threads[thread] = number
        return number

    def _named(self, one: WatchedProcess) -> WatchedProcess:
        if one.container or one.pod_uid:
            return one if one.container_name else self._names(one)
        return one

    def _lives(self, one: WatchedProcess) -> bool:
        try:
            text = (self._proc / str(one.pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if int(text[19]) != one.began_ticks:
                return False
            return text[0] not in "ZX" or int(text[17]) > 1  # its first thread may end before others
        except (OSError, ValueError, IndexError):
            return False

    def _command(self, pid: int) -> str:
        """Its name as the kernel has it. Not its arguments, in which there may be secrets."""
        return self._read(pid, "comm").strip()

    def _read(self, pid: int, name: str) -> str:
        with contextlib.suppress(OSError), (self._proc / str(pid) / name).open("rb") as file:
            return file.read(4096).decode(errors="replace")
        return ""
