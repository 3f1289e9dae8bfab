"""The machine as found: recorded with every run, because a figure without it cannot be repeated."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = {"numpy": ("numpy",), "torch": ("torch",), "cupy": ("cupy-cuda12x", "cupy-cuda13x", "cupy")}
_CPUS = Path("/sys/devices/system/cpu")
_GOVERNOR = _CPUS / "cpu0" / "cpufreq" / "scaling_governor"


def environment() -> dict[str, str]:
    """Python, platform, kernel, CPU and its cores, load, governor, driver and library versions; empty values are left
    out."""
    from kts.worker.detect import cpu_model, driver_version

    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "kernel": platform.release(),
        "cpu_model": cpu_model(),
        "cpu_cores": str(len(usable_cores())),
        "cpu_siblings": siblings(),
        "load_average": load_average(),
        "cpu_governor": governor(),
        "nvidia_driver": driver_version(),
        **{f"library_{name}": library_version(name) for name in LIBRARIES},
    }
    return {key: value for key, value in found.items() if value}


def usable_cores() -> list[int]:
    """The cores that this process may run on; numbered from 0 where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def siblings(root: Path = _CPUS) -> str:
    """The hardware threads of each physical core, as the kernel lists them: ``0,4 1,5``; empty where it does not."""
    groups = {_read(path).strip() for path in root.glob("cpu[0-9]*/topology/thread_siblings_list")}
    return " ".join(sorted(filter(None, groups)))


def load_average() -> str:
    """Runnable processes over the last 1, 5 and 15 minutes."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else ""


def governor() -> str:
    """The first core's frequency governor; empty where there is none (most virtual machines)."""
    return _read(_GOVERNOR).strip()


def library_version(name: str) -> str:
    """The installed version of an array library, without importing it; empty if it is not there."""
    for package in LIBRARIES[name]:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
