"""What the kernel lets this process use: its cgroup's limits, version 1 or 2, in a container or not."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_PROC, _ROOT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60
"""Version 1 says "no limit" by a number of bytes that no machine has."""


def cpu_limit(proc: Path | None = _PROC, root: Path = _ROOT) -> float | None:
    """CPUs that this process and all others of its cgroup may use together; None without a limit.

    ``proc`` here and below: a process's ``cgroup`` file; None: of the container whose ``root`` it is.

    A limit is enforced by throttling: who has used it up waits for the next period, which looks like sharing.
    """
    limits = []
    for place in _places("cpu", proc, root):
        quota, period = [*_read(place / "cpu.max").split(), "", ""][:2]
        if not quota:
            quota, period = _read(place / "cpu.cfs_quota_us").strip(), _read(place / "cpu.cfs_period_us").strip()
        if quota.isdecimal() and period.isdecimal() and int(period):
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


class CpuGroups(NamedTuple):
    """Cgroups whose CPU quota can hold a process back: its own, then its parents but for the machine's root, as far as
    they show. ``limited``: one of them has a quota. ``whole``: no other could have one."""

    places: tuple[Path, ...]
    limited: bool
    whole: bool


def cpu_groups(proc: Path | None, root: Path = _ROOT) -> CpuGroups:
    """Those of the process whose ``cgroup`` file ``proc`` is."""
    places = _places("cpu", proc, root)
    whole = bool(places) and _is_machines(places[-1])
    if whole:
        places = places[:-1]
    quotas = [_read(place / "cpu.max").split()[:1] or _read(place / "cpu.cfs_quota_us").split() for place in places]
    return CpuGroups(tuple(places), any(quota and quota[0].isdecimal() for quota in quotas), whole)


def _is_machines(place: Path) -> bool:
    """The root of all cgroups, not just of those that show in a container."""
    return (place / "release_agent").is_file() or (
        (place / "cgroup.procs").is_file()
        and not (place / "cgroup.events").is_file()
        and not (place / "cpu.cfs_quota_us").is_file()
    )


def own_group(proc: Path | None, root: Path = _ROOT) -> Path | None:
    """The cgroup of version 2 of the process whose ``cgroup`` file ``proc`` is; None for the root of a machine, which
    tells of everybody, and where it does not show here."""
    for line in _lines(proc):
        if line.startswith("0::"):
            for base in (root / "unified", root):
                place = base / line[3:].strip("/")
                if (place / "cgroup.events").is_file():  # all have it but the machine's root
                    return place
    return None


def memory_limit(proc: Path = _PROC, root: Path = _ROOT) -> int | None:
    """Bytes that it may use; None without a limit."""
    texts = [
        _read(place / name).strip()
        for place in _places("memory", proc, root)
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    return min((int(text) for text in texts if text.isdecimal() and int(text) < _NO_LIMIT), default=None)


def memory_kills(proc: Path = _PROC, root: Path = _ROOT) -> int:
    """How many processes of its cgroup the kernel has killed for memory; 0 where it does not tell."""
    for place in _places("memory", proc, root)[:1]:
        for line in (_read(place / "memory.events") or _read(place / "memory.oom_control")).splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.strip().isdecimal():
                return int(count)
    return 0


def _places(controller: str, proc: Path | None, root: Path) -> list[Path]:
    """The cgroup of this process for a controller, then its parents. In a container its own cgroup is the root."""
    for line in _lines(proc):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") and (root / controller).is_dir():
            base = root / controller
        elif not controllers and not (root / controller).is_dir():
            base = root
        else:
            continue
        own = base / path.strip("/")
        chain = [own, *own.parents]
        return [place for place in chain[: chain.index(base) + 1] if place.is_dir()]
    return []


def _lines(proc: Path | None) -> list[str]:
    return ["1:cpu,memory:/", "0::/"] if proc is None else _read(proc).splitlines()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
