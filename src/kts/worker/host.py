"""What the host did with a tenant's processes, as the kernel counts: of a worker that computes itself, or of the
programs that it started.

All are counters; whoever gets two readings makes a mean of them. What the kernel does not tell has no counter, and a
line that says why.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from kts.model.run import ThreadWait
from kts.units import NS_PER_MS, NS_PER_S, NS_PER_US
from kts.wire.messages import HostCounters
from kts.worker.cgroup import cpu_groups, cpu_limit, own_group
from kts.worker.core_speed import loop_us
from kts.worker.threads import KernelFile, KernelThread, text

_FIRST_SCAN_NS = NS_PER_S // 4
_RESTS = 50
"""So many times as long as a reading computed it rests: at most 2 % of the core that it runs on. Not as it took: who
waits for a core itself would look at a busy machine least."""
MOST_THREADS = 256
TOLD_THREADS = 3
"""Threads whose waits in a block are told by name."""
_THROTTLED = "throttled_cores"
LOOP = "core_loop_us"
LOOPS_NS = 300 * NS_PER_MS
"""Between two looks at a core, at least: each takes it from a program that spins there, and few iterations may meet one
(`python -m bench looks`)."""
_NEVER_NS = 2**63 - 1
_SCHEDULER_CLOCK = 2
"""CPUCLOCK_SCHED of Linux: of a process's clock, as clock_getcpuclockid(3) makes it."""
_IN_A_CONTAINER = "no processes: its program runs in a container of its own, which does not show them"
_STATES = "blocked threads: those in state D at that moment (kernel.task_delayacct is off)"
_NOT_THERE = "no speed of its core: its worker may not run there"
_NO_STATES = "no blocked threads: the kernel does not show what they wait in (/proc/PID/task/TID/stat)"


class Container(NamedTuple):
    """Another container of this pod, as it shows itself: its ``proc``, the root of its cgroups, and its process from
    which all others of the program descend."""

    proc: Path
    groups: Path
    pid: int

    def cores(self) -> frozenset[int]:
        """Those that it may use; empty where it does not tell."""
        for line in text(self.proc / str(self.pid) / "status").splitlines():
            key, _, told = line.partition(":")
            if key == "Cpus_allowed_list":
                ends = [part.partition("-") for part in told.strip().split(",")]
                return frozenset(core for a, _, b in ends for core in range(int(a), int(b or a) + 1))
        return frozenset()

    def cpu_limit(self) -> float | None:
        """See `kts.worker.cgroup.cpu_limit`."""
        return cpu_limit(None, self.groups)


class HostReader:
    """Counters of this process (``own``), of all that descend from it, or of those of ``container``. Used by one
    thread.

    ``thread``: of the calling thread alone, where other tenants are threads of this process, too; what its libraries'
    threads do is then left out. ``used``: CPU time of the calling thread. ``loop``: how fast a core is
    (`kts.worker.core_speed`). They, ``clock``, ``proc`` and ``groups`` are given in tests.
    """

    def __init__(
        self,
        *,
        own: bool,
        thread: bool = False,
        proc: Path = Path("/proc"),
        groups: Path = Path("/sys/fs/cgroup"),
        container: Container | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        used: Callable[[], int] = time.thread_time_ns,
        loop: Callable[[int | None], float] = loop_us,
    ) -> None:
        self._own, self._container, self._clock, self._used, self._loop = own, container, clock, used, loop
        self._thread = threading.get_native_id() if thread else None
        self._proc, self._groups, self._pid = container or (proc, groups, os.getpid())
        self._family = Family(self._proc)
        self._cpu_ns: dict[int, int] = {}  # of each process, when it was last read
        self._io: dict[int, tuple[int, int]] = {}
        self._threads: dict[tuple[int, int], KernelThread] = {}
        self._group_files: dict[str, list[_Growing]] = {}
        self._told_groups: set[str] = set()
        self._always: set[str] = set()  # counters that are told though they did not grow
        self._totals: dict[str, int] = {}
        self._untold: dict[str, str] = {}
        self._scan_due_ns = self._read_due_ns = self._groups_due_ns = self._loop_due_ns = 0
        self._told = False
        self._delays = not own and text(self._proc / "sys/kernel/task_delayacct").strip() == "1"
        self._tick_ns = NS_PER_S // os.sysconf("SC_CLK_TCK")

    def due(self) -> bool:
        """Whether it has rested enough since the last reading."""
        return self._clock() >= self._read_due_ns

    def read(self) -> HostCounters:
        """All counters now; those of one reader grow. Takes 50 us for a few threads. Raises nothing: what the kernel
        tells in a way that nobody foresaw must not end a run."""
        try:
            return self._read()
        except Exception as error:
            self._read_due_ns = _NEVER_NS
            why = f"stopped: {type(error).__name__}: {error}"[:300]
            return HostCounters(monotonic_ns=self._clock(), counters={}, untold={"running_threads": why})

    def block_begins(self) -> None:
        """From now on counts for `longest_waits`. Raises nothing."""
        self._look_at_threads()
        for thread in self._threads.values():
            thread.in_block_ns = 0

    def longest_waits(self) -> tuple[ThreadWait, ...]:
        """The threads that waited longest for a core since `block_begins`, the longest first, `TOLD_THREADS` at most.
        Those that have ended are not among them. Raises nothing."""
        self._look_at_threads()
        waited = [(thread.in_block_ns, *key, thread) for key, thread in self._threads.items() if thread.in_block_ns > 0]
        longest = sorted(waited, key=lambda one: -one[0])[:TOLD_THREADS]
        return tuple(ThreadWait(pid=pid, tid=tid, name=of.name(), waited_ns=ns) for ns, pid, tid, of in longest)

    def _look_at_threads(self) -> None:
        """Their waits go into the counters, too. What ends a reading is told by `read`."""
        with contextlib.suppress(Exception):
            if (now_ns := self._clock()) >= self._scan_due_ns:
                self._find_processes(now_ns)
            self._read_threads()

    def _read(self) -> HostCounters:
        begin_ns, used_ns = self._clock(), self._used()
        if begin_ns >= self._scan_due_ns:
            self._find_processes(begin_ns)
        blocked = self._read_threads()
        self._read_processes()
        self._read_groups(begin_ns)
        speed = self._speed(begin_ns)
        untold, self._told = {} if self._told else dict(self._untold), True
        self._read_due_ns = self._clock() + _RESTS * (self._used() - used_ns)
        moments = {} if self._delays or blocked is None else {"blocked_threads": float(blocked)}
        return HostCounters(monotonic_ns=begin_ns, counters=dict(self._totals), moments=moments | speed, untold=untold)

    def _speed(self, now_ns: int) -> dict[str, float]:
        """Of the core on which the thread that ran most since the last reading is: of one's own the one that reads.
        Nothing where that is not known, or too soon."""
        if now_ns < self._loop_due_ns:
            return {}
        core = None
        if not self._own:
            busiest = max(self._threads.values(), key=lambda thread: thread.ran_ns, default=None)
            core = None if busiest is None or busiest.ran_ns <= 0 else busiest.core
            if core is None:
                return {}
        try:
            took_us = self._loop(core)
        except OSError:
            self._untold[LOOP] = _NOT_THERE
            self._loop_due_ns = _NEVER_NS
            return {}
        self._loop_due_ns = now_ns + LOOPS_NS
        return {LOOP: took_us}

    def close(self) -> None:
        """Lets go of all files. Idempotent."""
        for thread in self._threads.values():
            thread.close()
        self._threads.clear()
        self._close_groups()

    def _add(self, counter: str, more: int) -> None:
        self._totals[counter] = self._totals.get(counter, 0) + max(0, more)

    def _find_processes(self, now_ns: int) -> None:
        used_ns = self._used()
        found = [self._pid] if self._own else self._family.of(self._pid)
        self._scan_due_ns = now_ns + max(_FIRST_SCAN_NS, _RESTS * (self._used() - used_ns))
        for pid in self._cpu_ns.keys() - set(found):
            self._forget(pid)
        for pid in found:
            if pid not in self._cpu_ns:
                with contextlib.suppress(OSError):
                    self._cpu_ns[pid] = self._cpu_ns_of(pid)
                    self._join(pid, whole=False)
        if not self._cpu_ns:
            self._untold["running_threads"] = _IN_A_CONTAINER

    def _forget(self, pid: int) -> None:
        self._cpu_ns.pop(pid, None)
        self._io.pop(pid, None)
        for key in [key for key in self._threads if key[0] == pid]:
            self._threads.pop(key).close()

    def _join(self, pid: int, *, whole: bool) -> None:
        """Its threads that are not among ours yet. OSError where it has ended."""
        for place in (self._proc / str(pid) / "task").iterdir():
            key = (pid, int(place.name))
            if key in self._threads or self._thread not in (None, key[1]):
                continue
            if len(self._threads) >= MOST_THREADS:
                self._untold["waiting_threads"] = f"waits for a core: of the first {MOST_THREADS} threads"
                return
            try:
                self._threads[key] = KernelThread(place, states=not self._own, whole=whole)
            except (OSError, ValueError, IndexError):
                continue

    def _read_threads(self) -> int | None:
        """How many are held up now; None where nothing shows that."""
        blocked, shown = 0, False
        for pid in list(self._cpu_ns):
            with contextlib.suppress(OSError):
                self._join(pid, whole=True)
        for key, thread in list(self._threads.items()):
            try:
                waited_ns, ticks, held = thread.new()
            except (OSError, ValueError, IndexError):
                self._threads.pop(key).close()
                continue
            self._add("waiting_threads", waited_ns)
            if self._delays and thread.shows_states:
                self._add("blocked_threads", ticks * self._tick_ns)
            blocked, shown = blocked + held, shown or thread.shows_states
        if self._cpu_ns and not self._threads:
            self._untold["waiting_threads"] = "no waits for a core: the kernel does not count them (schedstat)"
        if self._threads and not self._own and not (shown and self._delays):
            self._untold["blocked_threads"] = _STATES if shown else _NO_STATES
        return blocked if shown else None

    def _read_processes(self) -> None:
        for pid, before_ns in list(self._cpu_ns.items()):
            try:
                self._cpu_ns[pid] = cpu_ns = self._cpu_ns_of(pid)
            except OSError:
                self._forget(pid)
                continue
            self._add("running_threads", cpu_ns - before_ns)
            if not self._own:
                self._read_io(pid)

    def _cpu_ns_of(self, pid: int) -> int:
        """CPU time of all its threads, those that have ended, too. OSError where it has ended."""
        if self._thread is not None:
            return time.thread_time_ns()
        if self._container is None:
            return time.clock_gettime_ns((~pid << 3) | _SCHEDULER_CLOCK)
        told = (self._proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return (int(told[11]) + int(told[12])) * self._tick_ns  # no clock of this container's is of that process

    def _read_io(self, pid: int) -> None:
        try:
            lines = (self._proc / str(pid) / "io").read_text(encoding="utf-8", errors="replace").splitlines()
            told = dict(line.partition(": ")[::2] for line in lines)
            read, written = int(told["read_bytes"]), int(told["write_bytes"])
        except PermissionError:
            self._untold["read_bytes_per_s"] = "no bytes read and written: the kernel tells them to its own user alone"
            return
        except (OSError, KeyError, ValueError):
            self._untold["read_bytes_per_s"] = "no bytes read and written: the kernel does not tell them (/proc/PID/io)"
            return
        before_read, before_written = self._io.get(pid, (read, written))
        self._io[pid] = read, written
        self._add("read_bytes_per_s", read - before_read)
        self._add("written_bytes_per_s", written - before_written)

    def _read_groups(self, now_ns: int) -> None:
        if now_ns >= self._groups_due_ns and self._cpu_ns:
            self._groups_due_ns = now_ns + NS_PER_S
            self._find_groups()
        for counter, places in self._group_files.items():
            # The most of any: a cgroup that its parent holds back may count the same time, too.
            if (grown_ns := max(place.more_ns() for place in places)) or counter in self._always:
                self._add(counter, grown_ns)

    def _find_groups(self) -> None:
        """Opens what the cgroups of its processes tell, anew where these are others than before."""
        of_processes = [self._proc / str(pid) / "cgroup" for pid in self._cpu_ns]
        told = {"/"} if self._container else {text(path) for path in of_processes}
        if told == self._told_groups:
            return
        self._told_groups = told
        self._close_groups()
        places = [None] if self._container else of_processes
        every = [cpu_groups(place, self._groups) for place in places]
        if all(one.limited or one.whole for one in every):
            self._always.add(_THROTTLED)
        else:
            self._untold[_THROTTLED] = "no throttled time: no CPU limit shows here"
        stats = {place / "cpu.stat" for one in every for place in one.places}
        files = {_THROTTLED: _opened(stats, throttled_ns)}
        groups = {group for place in places if (group := own_group(place, self._groups)) is not None}
        for what in ("cpu", "io", "memory"):
            counter = f"cgroup_{what}_pressure_ratio"
            files[counter] = _opened({group / f"{what}.pressure" for group in groups}, waited_ns)
            if not files[counter]:
                self._untold[counter] = "no pressure of its cgroup (needs version 2)"
        self._always |= files.keys() - {_THROTTLED}
        self._group_files = {counter: places for counter, places in files.items() if places}
        if _THROTTLED in self._always:
            self._add(_THROTTLED, 0)

    def _close_groups(self) -> None:
        for places in self._group_files.values():
            for place in places:
                place.close()
        self._group_files = {}
        self._always = set()


class _Growing:
    """A file of the kernel's with a counter in it, which `read` finds."""

    def __init__(self, path: Path, read: Callable[[str], int | None]) -> None:
        """OSError or ValueError where it has none."""
        self._kept, self._read = KernelFile(path), read
        try:
            self._last_ns = self._now_ns()
        except (OSError, ValueError):
            self._kept.close()
            raise

    def more_ns(self) -> int:
        """How much it grew since the last call; 0 once it is gone."""
        try:
            now_ns = self._now_ns()
        except (OSError, ValueError):
            return 0
        more_ns, self._last_ns = now_ns - self._last_ns, now_ns
        return max(0, more_ns)

    def close(self) -> None:
        """To be called once."""
        self._kept.close()

    def _now_ns(self) -> int:
        if (found := self._read(self._kept.read().decode(errors="replace"))) is None:
            raise ValueError("not told")
        return found


def _opened(paths: Iterable[Path], read: Callable[[str], int | None]) -> list[_Growing]:
    """Those of ``paths`` that tell something."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            found.append(_Growing(path, read))
    return found


def throttled_ns(cpu_stat: str) -> int | None:
    """From a cgroup's cpu.stat, of either version: how long its quota held it back, summed over cores. ValueError."""
    told = dict(line.split(maxsplit=1) for line in cpu_stat.splitlines() if " " in line)
    if (usec := told.get("throttled_usec")) is not None:
        return int(usec) * NS_PER_US
    return int(told["throttled_time"]) if "throttled_time" in told else None


def waited_ns(pressure: str) -> int | None:
    """From a pressure file: how long some of its tasks waited. ValueError."""
    for line in pressure.splitlines():
        if line.startswith("some "):
            return int(line.rpartition("total=")[2]) * NS_PER_US
    return None


class Family:
    """Who descends from whom. A process is looked at once: a machine may have thousands."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._parents: dict[int, int] = {}

    def of(self, pid: int) -> list[int]:
        """All living processes that descend from ``pid``, the oldest generation first."""
        alive = {int(place.name) for place in self._proc.iterdir() if place.name.isdecimal()}
        self._parents = {one: parent for one, parent in self._parents.items() if one in alive}
        for one in alive - self._parents.keys():
            told = text(self._proc / str(one) / "stat").rpartition(")")[2].split()
            if len(told) > 1:
                self._parents[one] = int(told[1])
        children: dict[int, list[int]] = {}
        for one, parent in self._parents.items():
            children.setdefault(parent, []).append(one)
        found: list[int] = []
        generation = [pid]
        while generation := [child for one in generation for child in children.get(one, ())]:
            found += generation
        return found


def began_ticks(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process began, in clock ticks since the machine did. OSError where it is gone; ValueError."""
    told = (proc / str(pid) / "stat").read_text(errors="replace")
    try:
        return int(told.rpartition(")")[2].split()[19])
    except IndexError as error:
        raise ValueError(f"not the state of a process: {told[:40]}") from error


def boot_id() -> str:
    """Which start of which kernel this is: the same in all containers of a machine. Empty where it is not told."""
    return text(Path("/proc/sys/kernel/random/boot_id")).strip()
