"""The CPU as a stand-in where there is no GPU: the kernel's scheduler shares it. Always labelled as not a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path
from time import thread_time_ns
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from kts.model.run import DeviceInfo
from kts.worker.detect import cpu_model, no_graphs

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 2**30
_libc = ctypes.CDLL(None)


def cpu_info(library: str, stopwatch: str) -> DeviceInfo:
    """The cores that this process may run on, as a device. Processes on the same cores get the same ``uuid``."""
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    name = cpu_model()
    host = os.environ.get("KTS_NODE") or socket.gethostname()  # pods of one node have host names of their own
    return DeviceInfo(
        kind="cpu",
        uuid=f"cpu:{host}:{cores}",
        name=name,
        label=f"CPU core{'s' if ',' in cores else ''} {cores} ({name}), not a GPU",
        library=library,
        library_version=np.__version__ if library == "numpy" else "",
        memory_bytes=_meminfo_bytes("MemTotal"),
        stopwatch=stopwatch,
    )


class Cpu:
    """numpy in the calling thread; the stopwatch is that thread's CPU time, so time spent descheduled is left out."""

    xp: Any = xp
    stream = None

    def __init__(self) -> None:
        _keep_freed_memory()
        self._begin_ns = 0
        self._end_ns = 0

    def info(self) -> DeviceInfo:
        """The pinned cores."""
        return cpu_info("numpy", "thread CPU time")

    def begin(self) -> None:
        """Reads the thread's CPU time."""
        self._begin_ns = thread_time_ns()

    def end(self) -> None:
        """Reads it again."""
        self._end_ns = thread_time_ns()

    def wait(self) -> None:
        """Nothing to wait for: numpy returns when the work is done."""

    def device_ms(self) -> float:
        """CPU time between ``begin`` and ``end``."""
        return (self._end_ns - self._begin_ns) / 1e6

    def place(self, host_array: Any) -> Any:
        """A copy."""
        return np.array(host_array)

    def landing(self, array: Any) -> tuple[Any, Callable[[], object]]:
        """A plain copy."""
        host = np.empty_like(array)
        return host, lambda: np.copyto(host, array)

    def capture(self, _operation: Callable[[], object]) -> Callable[[], object]:
        """SetupError: nothing here queues work."""
        raise no_graphs("cpu", "numpy")

    def free_bytes(self) -> int:
        """What the kernel can give without swapping."""
        return _meminfo_bytes("MemAvailable") or 2**62

    def held_bytes(self) -> int | None:
        """What of this process is in memory."""
        try:
            return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return None

    def tracer(self) -> None:
        """None: an iteration is one call."""

    def release(self) -> None:
        """Gives the freed part of the heap back to the system."""
        with contextlib.suppress(AttributeError):
            _libc.malloc_trim(0)


def _keep_freed_memory() -> None:
    """Lets malloc reuse large blocks, as the GPU libraries' allocators do.

    Otherwise each result comes from fresh pages, and zeroing them takes most of a fft's time.
    """
    with contextlib.suppress(AttributeError):  # glibc only
        _libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        _libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def _meminfo_bytes(field: str) -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
