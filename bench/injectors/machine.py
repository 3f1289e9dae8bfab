"""What this machine has: hardware threads, and memory that a hog can fill."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.injectors.tools import Beat, Did, tools
from kts.backends.placement import topology

_ELEMENTS = 1 << 23
_TURNS, _COPIES = 5, 8
_LOOK_S = 0.4


def siblings(cores: tuple[int, ...]) -> tuple[int, ...]:
    """Hardware threads of the last core's physical core, but for itself."""
    physical = topology(sorted(os.sched_getaffinity(0)))
    return tuple(core for core, of in physical.items() if of == physical.get(cores[-1]) and core != cores[-1])


def siblings_somewhere() -> bool:
    """Whether any two of the cores are hardware threads of one."""
    physical = topology(sorted(os.sched_getaffinity(0)))
    return len(set(physical.values())) < len(physical)


def keeps_to_cores() -> bool:
    """Whether two processes that were told the same core share it, as some sandboxes' kernels do not make them."""
    core, did = max(os.sched_getaffinity(0)), list[Did]()
    with tempfile.TemporaryDirectory() as folder:
        beat = Beat(Path(folder) / "beat")
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(tools().acting("thief", beat.path, did, core=core, burst_us=1000, gap_us=0))
            begun = time.monotonic()
            with beat.held():
                time.sleep(_LOOK_S)
            took_s = time.monotonic() - begun
    return sum(one.cpu_ms for one in did) < 1.3e3 * took_s


def hog_slows() -> float:
    """How many times as much CPU time a copy takes on the last core while all others are hogs: the median of turns."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    given = np.ones(_ELEMENTS)
    taken, ratios = np.empty_like(given), []
    with tempfile.TemporaryDirectory() as folder:
        beat = Beat(Path(folder) / "beat")
        os.sched_setaffinity(0, {cores[-1]})
        try:
            with ExitStack() as stack:
                for core in cores[:-1]:
                    stack.enter_context(tools().acting("hog", beat.path, [], core=core, mb=256))
                for turn in range(_TURNS + 1):
                    alone_s = _copies_s(given, taken)
                    with beat.held():
                        time.sleep(0.05)
                        if turn:  # in the first they get their memory
                            ratios.append(_copies_s(given, taken) / alone_s)
        finally:
            os.sched_setaffinity(0, cores)
    return statistics.median(ratios) if ratios else 1.0


def _copies_s(given: NDArray[np.float64], taken: NDArray[np.float64]) -> float:
    begin = time.thread_time()
    for _ in range(_COPIES):
        np.copyto(taken, given)
    return time.thread_time() - begin
