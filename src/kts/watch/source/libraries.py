"""Which libraries hold the driver's functions on this node: those that lie where drivers are installed, and those that
processes have mapped, also in containers. A library is a file, whatever its names: (device, inode)."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kts.watch.calls import FUNCTIONS
from kts.watch.source.elf import function_offsets
from kts.watch.source.tracefs import ProbePoint
from kts.worker.host import began_ticks

_FOLDERS = (
    *("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib", "usr/local/cuda/compat"),
    *(
        "usr/lib/wsl/lib",
        "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
        "run/nvidia/driver/usr/lib64",
        "home/kubernetes/bin/nvidia/lib64",
    ),
    *("usr/local/nvidia/lib64", "run/opengl-driver/lib"),
)
_NAME = re.compile(r"libcuda\.so(\.[0-9.]+)?")
_MAPPED = re.compile(
    rb"^([0-9a-f]+-[0-9a-f]+) r\S+ [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) (\d+) +(/\S*/libcuda\.so[.0-9]*)(?: \(deleted\))?$",
    re.MULTILINE,
)
_AGAIN_S, _AT_MOST_S = 2.0, 60.0


class FileId(NamedTuple):
    """As /proc/PID/maps tells it."""

    device: str
    inode: int


@dataclass(frozen=True)
class DriverFile:
    """``paths``: by which the kernel can find the file, the surest first. ``seen_as``: what programs call it."""

    file: FileId
    paths: tuple[Path, ...]
    seen_as: str


@dataclass
class _Looked:
    began_ticks: int
    next_s: float
    every_s: float = _AGAIN_S


def points(path: Path) -> list[ProbePoint]:
    """The probes of the library at ``path``: one for each place in it, two where the function waits. ValueError where
    it is no driver's library; OSError."""
    names = {function.name for function in FUNCTIONS}
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if _magic(path) else os.O_NOFOLLOW))
    try:
        offsets = function_offsets(descriptor, names | {"cuInit"})
    finally:
        os.close(descriptor)
    if "cuInit" not in offsets or "cuLaunchKernel" not in offsets:
        raise ValueError("without the functions of a CUDA driver")
    made, places = [], set()
    for number, function in enumerate(FUNCTIONS):
        offset = offsets.get(function.name)
        if offset is None or offset in places:
            continue  # two names of one place: one call is to be seen once
        places.add(offset)
        made.append(ProbePoint(f"e{number}", offset, returns=False))
        if function.waits:
            made.append(ProbePoint(f"r{number}", offset, returns=True))
    return made


def _magic(path: Path) -> bool:
    """Whether it is a link of the kernel's own, which leads to what is mapped. Others are anybody's."""
    return path.parent.name == "map_files"


class Libraries:
    """Looks for them again and again. ``root``: of the node's files; its own, where it is a container's."""

    def __init__(self, proc: Path = Path("/proc"), root: Path | None = None) -> None:
        self._proc = proc
        self._root = root if root is not None else proc / "1" / "root"
        self._looked: dict[int, _Looked] = {}
        self.mapped: dict[int, FileId] = {}
        """By process: which it has."""

    def look(self, now_s: float) -> dict[FileId, DriverFile]:
        """All that are there now. A process is looked at until it has one, and then not again: ever more rarely, since
        most never will."""
        found = {library.file: library for library in self._installed()}
        living = set()
        with contextlib.suppress(OSError):
            living = {int(place.name) for place in self._proc.iterdir() if place.name.isdecimal()}
        for pid in self._looked.keys() - living:
            self._looked.pop(pid)
            self.mapped.pop(pid, None)
        for pid in living:
            if pid in self.mapped and self._same(pid):
                continue
            if (library := self._of(pid, now_s)) is not None:
                self.mapped[pid] = library.file
                found.setdefault(library.file, library)
        return found

    def users(self, file: FileId) -> list[int]:
        """Processes that had it mapped when they were looked at."""
        return [pid for pid, mapped in self.mapped.items() if mapped == file]

    def forget(self, file: FileId) -> None:
        """Whoever has it is looked at anew."""
        for pid in self.users(file):
            self.mapped.pop(pid)
            self._looked.pop(pid, None)

    def _same(self, pid: int) -> bool:
        with contextlib.suppress(OSError, ValueError):
            if began_ticks(pid, self._proc) == self._looked[pid].began_ticks:
                return True
        self._looked.pop(pid, None)
        self.mapped.pop(pid, None)
        return False

    def _of(self, pid: int, now_s: float) -> DriverFile | None:
        looked = self._looked.get(pid)
        if looked is not None and now_s < looked.next_s:
            return None
        try:
            ticks = began_ticks(pid, self._proc)
            if looked is None or looked.began_ticks != ticks:
                looked = self._looked[pid] = _Looked(ticks, now_s)
            looked.next_s = now_s + looked.every_s
            looked.every_s = min(_AT_MOST_S, 2 * looked.every_s)
            mapped = _MAPPED.search((self._proc / str(pid) / "maps").read_bytes())
        except (OSError, ValueError):
            return None  # gone, or not to be seen
        if mapped is None:
            return None
        major, minor = (int(part, 16) for part in mapped[2].split(b":"))
        seen_as, process = os.fsdecode(mapped[4]), self._proc / str(pid)
        begin, end = (int(part, 16) for part in mapped[1].split(b"-"))
        # the mapping itself is right in whatever container, and though another file has that name by now
        paths = (process / "map_files" / f"{begin:x}-{end:x}", process / "root" / seen_as.lstrip("/"))
        return DriverFile(FileId(f"{major}:{minor}", int(mapped[3])), paths, seen_as)

    def _installed(self) -> Iterator[DriverFile]:
        for folder in _FOLDERS:
            place = self._root / folder
            try:
                names = sorted(one.name for one in place.iterdir() if _NAME.fullmatch(one.name))
            except OSError:
                continue
            for name in names:
                with contextlib.suppress(OSError):
                    state = (place / name).lstat()  # what a link leads to is listed by its own name
                    if stat.S_ISREG(state.st_mode):
                        device = f"{os.major(state.st_dev)}:{os.minor(state.st_dev)}"
                        yield DriverFile(FileId(device, state.st_ino), (place / name,), f"/{folder}/{name}")
