"""The kernel's tracing folder: an instance and probes of our own in it, and nothing of anybody else's.

What is ours is told by its name, which says whose process made it (`own_name`): what a killed one left is removed by
the next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kts.errors import SetupError
from kts.watch.source.pages import Bytes, EventFormat, PageFormat, event_format, page_format
from kts.worker.host import began_ticks

TRACEFS = "KTS_TRACEFS"
PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_OURS = re.compile(r"kts_(\d+)_(\d+)(?:_l\d+)?")
_MOST_BUFFER_KIB, _LEAST_PER_CPU_KIB, _MOST_PER_CPU_KIB = 64 << 10, 256, 4 << 10
_GOOD_KERNEL = "watch from a kernel with CONFIG_UPROBE_EVENTS, as distributions' kernels are"
_LOST = re.compile(r"^(overrun|commit overrun|dropped events): (\d+)$", re.MULTILINE)


class ProbePoint(NamedTuple):
    """``event``: its name in our group. ``offset``: bytes into the file; ``returns``: on return, not on entry."""

    event: str
    offset: int
    returns: bool


def default_tracefs(environment: Mapping[str, str] = os.environ) -> Path:
    """Where tracefs is: as $KTS_TRACEFS says, else where it is mounted by custom."""
    if named := environment.get(TRACEFS):
        return Path(named)
    return next((place for place in PLACES if _is_file(place / "trace_clock")), PLACES[0])


def own_name(proc: Path = Path("/proc"), pid: int | None = None) -> str:
    """The name of what this process (or ``pid``) makes: a reused pid is another one. OSError, ValueError."""
    number = os.getpid() if pid is None else pid
    return f"kts_{number}_{began_ticks(number, proc)}"


class Tracefs:
    """The folder at ``root`` (`default_tracefs`). Its three ways of changing it are methods of their own, so that tests
    can stand in for the kernel."""

    def __init__(self, root: Path, proc: Path = Path("/proc")) -> None:
        self.root = root
        self._proc = proc
        self.name = own_name(proc)
        self.instance = root / "instances" / self.name
        self._rings: dict[int, int] = {}
        self._poll = select.poll()
        self._lost: dict[int, int] = {}
        self._on: list[Path] = []  # what says whether the kernel's own events are on

    def check(self) -> None:
        """SetupError, with what is missing, where this kernel, or this process on it, cannot be asked for calls."""
        if not self.root.is_dir():
            raise SetupError(
                f"no tracefs: {self.root} is not there", "watch from Linux; in a pod mount the node's tracefs"
            )
        try:
            names = {place.name for place in self.root.iterdir()}
            if "trace_clock" not in names:
                raise SetupError(
                    f"tracefs is not mounted at {self.root}",
                    f"as root: mount -t tracefs nodev {self.root}, or set {TRACEFS}",
                )
            if "uprobe_events" not in names:
                raise SetupError("this kernel has no uprobes (CONFIG_UPROBE_EVENTS)", _GOOD_KERNEL)
            if "instances" not in names:
                raise SetupError("this kernel's tracing has no instances", _GOOD_KERNEL)
            if "mono" not in (self.root / "trace_clock").read_text().replace("[", "").replace("]", "").split():
                raise SetupError("this kernel's tracing has no clock 'mono'", "watch from a kernel since 3.17")
            os.close(os.open(self.root / "uprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
        except PermissionError as error:
            raise _refused(error) from error
        except OSError as error:
            raise SetupError(
                f"tracefs cannot be read: {error}", "see whether another security module forbids it"
            ) from error

    def remove_left(self) -> list[str]:
        """Removes what killed processes of kts left; their names. What is still in use stays."""
        removed = []
        with contextlib.suppress(OSError):
            for place in sorted((self.root / "instances").iterdir()):
                if self._is_left(place.name):
                    with contextlib.suppress(OSError):
                        self._write(place / "events" / "enable", "0")
                    with contextlib.suppress(OSError):
                        self._rmdir(place)
                        removed.append(place.name)
        for group, event in self._probes():
            if self._is_left(group):
                with contextlib.suppress(OSError):
                    self._write(self.root / "uprobe_events", f"-:{group}/{event}\n")
                    removed.append(group)
        return sorted(set(removed))

    def open(self) -> PageFormat:
        """Makes the instance and its rings; how its pages are. SetupError."""
        try:
            self._mkdir(self.instance)
            self._write(self.instance / "tracing_on", "0")
            self._write(self.instance / "trace_clock", "mono")
            rings = sorted(int(p.name[3:]) for p in (self.instance / "per_cpu").iterdir() if p.name[3:].isdecimal())
            kib = min(_MOST_PER_CPU_KIB, max(_LEAST_PER_CPU_KIB, _MOST_BUFFER_KIB // max(1, len(rings))))
            self._write(self.instance / "buffer_size_kb", str(kib))
            form = page_format(
                (self.root / "events" / "header_page").read_text(), (self.root / "events" / "header_event").read_text()
            )
            for cpu in rings:
                path = self.instance / "per_cpu" / f"cpu{cpu}" / "trace_pipe_raw"
                self._rings[cpu] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._poll.register(self._rings[cpu], select.POLLIN)
            self._write(self.instance / "tracing_on", "1")
        except PermissionError as error:
            self.close()
            raise _refused(error) from error
        except (OSError, ValueError) as error:
            self.close()
            raise SetupError(f"the kernel makes no tracing instance for kts: {error}", _GOOD_KERNEL) from error
        return form

    def group(self, number: int) -> str:
        """The name of the probes of library ``number``."""
        return f"{self.name}_l{number}"

    def attach(self, number: int, path: Path, points: Iterable[ProbePoint]) -> dict[str, EventFormat]:
        """Makes probes of library ``number`` in the file ``path`` and turns them on; their formats by name. OSError,
        ValueError for formats that are none; nothing is left then."""
        group, formats = self.group(number), {}
        try:
            for event, offset, returns in points:
                self._write(
                    self.root / "uprobe_events", f"{'r' if returns else 'p'}:{group}/{event} {path}:{offset:#x}\n"
                )
                formats[event] = event_format((self.instance / "events" / group / event / "format").read_text())
            self._write(self.instance / "events" / group / "enable", "1")
        except BaseException:
            self.detach(number)
            raise
        return formats

    def detach(self, number: int) -> None:
        """Removes the probes of library ``number``; nothing where there are none."""
        group = self.group(number)
        with contextlib.suppress(OSError):
            self._write(self.instance / "events" / group / "enable", "0")
        for of, event in self._probes():
            if of == group:
                with contextlib.suppress(OSError):
                    self._write(self.root / "uprobe_events", f"-:{group}/{event}\n")

    def turn_on(self, system: str, event: str) -> EventFormat | None:
        """Turns on an event of the kernel's own in our instance; None where it has no such event."""
        place = self.instance / "events" / system / event
        try:
            form = event_format((place / "format").read_text())
            self._write(place / "enable", "1")
        except (OSError, ValueError):
            return None
        self._on.append(place / "enable")
        return form

    def removed(self, probes: Mapping[int, int]) -> list[int]:
        """Libraries of which somebody else removed a probe. ``probes``: how many each has."""
        there = Counter(group for group, _ in self._probes())
        return [number for number, count in probes.items() if there[self.group(number)] < count]

    def turned_off(self, groups: Iterable[int]) -> bool:
        """Whether somebody else turned off our instance, events of the kernel's own in it, or the probes of one of
        these libraries; turns them on again where it can."""
        off = False
        places = [self.instance / "tracing_on", *self._on]
        places += [self.instance / "events" / self.group(number) / "enable" for number in groups]
        for place in places:
            with contextlib.suppress(OSError):
                if place.read_text().strip() != "1":
                    off = True
                    self._write(place, "1")
        return off

    def leave_out(self, threads: Iterable[int]) -> bool:
        """Has the kernel pass over these threads, and those that they begin; whether it can."""
        try:
            self._write(self.instance / "options" / "event-fork", "1")
            self._write(self.instance / "set_event_notrace_pid", "".join(f"{thread}\n" for thread in threads))
        except OSError:
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Until so long has passed, or a ring is half full."""
        self._poll.poll(1000 * seconds)

    def pages(self, form: PageFormat, most: int) -> Iterator[Bytes]:
        """What lies in the rings, in portions of at most ``most`` pages; a ring after the other, each by time."""
        size = form.page_bytes
        buffer = np.zeros((most, size), np.uint8)
        rows = [memoryview(row) for row in buffer]  # type: ignore[arg-type]
        used = 0
        for descriptor in self._rings.values():
            while True:
                try:
                    got = os.readv(descriptor, [rows[used]])
                except BlockingIOError:
                    break
                if got < form.data.offset:
                    break
                used += 1
                if used == most:
                    yield buffer
                    used = 0
        if used:
            yield buffer[:used]

    def lost(self) -> int:
        """Events that found no room since the last time it was asked."""
        count = 0
        for cpu in self._rings:
            with contextlib.suppress(OSError):
                text = (self.instance / "per_cpu" / f"cpu{cpu}" / "stats").read_text()
                total = sum(int(number) for _, number in _LOST.findall(text))
                count += max(0, total - self._lost.get(cpu, 0))
                self._lost[cpu] = total
        return count

    def close(self) -> None:
        """Removes all that is ours."""
        for descriptor in self._rings.values():
            with contextlib.suppress(KeyError):
                self._poll.unregister(descriptor)
            os.close(descriptor)
        self._rings.clear()
        with contextlib.suppress(OSError):
            self._write(self.instance / "events" / "enable", "0")
        with contextlib.suppress(OSError):
            self._rmdir(self.instance)
        for group, event in self._probes():
            if group.startswith(f"{self.name}_l"):
                with contextlib.suppress(OSError):
                    self._write(self.root / "uprobe_events", f"-:{group}/{event}\n")

    def _is_left(self, name: str) -> bool:
        """Whether a process of kts made it that is gone."""
        if not (made := _OURS.fullmatch(name)):
            return False
        try:
            return began_ticks(int(made[1]), self._proc) != int(made[2])
        except FileNotFoundError:
            return True
        except (OSError, ValueError):
            return False

    def _probes(self) -> list[tuple[str, str]]:
        """Group and name of all that have a group as ours do."""
        try:
            lines = (self.root / "uprobe_events").read_text(errors="replace").splitlines()
        except OSError:
            return []
        named = [re.match(r"[pr]\d*:([^/ ]+)/(\S+) ", line) for line in lines]
        return [(one[1], one[2]) for one in named if one and _OURS.fullmatch(one[1])]

    def _write(self, path: Path, text: str) -> None:
        """Appends: opened to be written anew, ``uprobe_events`` would lose the probes of everybody."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def _mkdir(self, path: Path) -> None:
        path.mkdir()

    def _rmdir(self, path: Path) -> None:
        path.rmdir()


def _refused(error: OSError) -> SetupError:
    if error.errno == errno.EPERM:
        why = "the kernel is locked down (confidentiality), or a security module forbids it"
        return SetupError(f"tracefs may not be used: {error.strerror}: {why}", "watch from a node that allows it")
    return SetupError(f"tracefs may not be used: {error}", "run as root, in a pod as docs/watch-rights.md says")


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.is_file()
    return False
