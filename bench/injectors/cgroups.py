"""A cgroup for one tenant, of either version, whose limit can be switched: of CPU time, or of reads of a disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kts.errors import SetupError

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 20_000
_REMOVED_S = 5.0


@dataclass(frozen=True)
class Switch:
    """``file`` takes ``on`` and ``off``. ``procs``: where a process joins. ``stat``: who was held back, if told."""

    file: Path
    on: str
    off: str
    procs: Path
    stat: Path


@contextmanager
def quota(name: str, share: float, root: Path = ROOT) -> Iterator[Switch]:
    """A new cgroup of this process's weight, whose switch lets it have ``share`` of one CPU. SetupError where none can
    be made."""
    quota_us = round(PERIOD_US * share)
    if (root / "cpu").is_dir():
        with _made(root / "cpu" / name) as group:
            (group / "cpu.shares").write_text((_own(root) / "cpu.shares").read_text())
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            yield Switch(group / "cpu.cfs_quota_us", str(quota_us), "-1", group / "cgroup.procs", group / "cpu.stat")
        return
    _enable(root, "cpu")
    with _made(root / name) as group:
        if (weight := _own(root) / "cpu.weight").exists():  # the root has none
            (group / "cpu.weight").write_text(weight.read_text())
        on, off = f"{quota_us} {PERIOD_US}", f"max {PERIOD_US}"
        yield Switch(group / "cpu.max", on, off, group / "cgroup.procs", group / "cpu.stat")


@contextmanager
def favoured(name: str, weight: int, root: Path = ROOT) -> Iterator[None]:
    """This process and all that it starts in a new cgroup, which has ``weight`` where others have 1. SetupError where
    none can be made."""
    old, before = (root / "cpu").is_dir(), _own(root)
    if not old:
        _enable(root, "cpu")
    with _made((root / "cpu" if old else root) / name) as group:
        (group / ("cpu.shares" if old else "cpu.weight")).write_text(str(weight * (1024 if old else 100)))
        (group / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (before / "cgroup.procs").write_text(str(os.getpid()))


def _own(root: Path) -> Path:
    """This process's cgroup for CPU time."""
    old = (root / "cpu").is_dir()
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    path = next(path for _, names, path in lines if ("cpu" in names.split(",")) == old)
    return (root / "cpu" if old else root) / path.lstrip("/")


@contextmanager
def disk_limit(name: str, file: Path, reads_per_s: int, root: Path = ROOT) -> Iterator[Switch]:
    """A new cgroup, whose switch lets it make ``reads_per_s`` reads of the disk under ``file``. SetupError where none
    can be made."""
    device = _whole_disk(file.stat().st_dev)
    if (root / "blkio").is_dir():
        with _made(root / "blkio" / name) as group:
            limit, stat = group / "blkio.throttle.read_iops_device", group / "blkio.throttle.io_serviced"
            yield Switch(limit, f"{device} {reads_per_s}", f"{device} 0", group / "cgroup.procs", stat)
        return
    _enable(root, "io")
    with _made(root / name) as group:
        on, off = f"{device} riops={reads_per_s}", f"{device} riops=max"
        yield Switch(group / "io.max", on, off, group / "cgroup.procs", group / "io.stat")


def _whole_disk(number: int) -> str:
    """Limits are of disks, not of their partitions."""
    at = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    try:
        whole = at.resolve().parent if (at / "partition").exists() else at
        return (whole / "dev").read_text().strip()
    except OSError as error:
        raise SetupError(f"the disk {os.major(number)}:{os.minor(number)} is not in sysfs", "use another") from error


def _enable(root: Path, controller: str) -> None:
    try:
        if controller not in (root / "cgroup.subtree_control").read_text().split():
            (root / "cgroup.subtree_control").write_text(f"+{controller}")
    except OSError as error:
        raise SetupError(f"no cgroup controller {controller}: {error}", "run it as root") from error


@contextmanager
def _made(group: Path) -> Iterator[Path]:
    try:
        group.mkdir()
    except OSError as error:
        raise SetupError(f"no cgroup {group}: {error.strerror}", "run it as root") from error
    try:
        yield group
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """Once its processes have ended; what outlives them is moved up."""
    deadline = time.monotonic() + _REMOVED_S
    while (left := (group / "cgroup.procs").read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        (group.parent / "cgroup.procs").write_text(pid)
    group.rmdir()
