"""How fast a core is: how long a loop of additions takes on it.

Two hardware threads of one core slow each other by up to half, and its clock wanders; a virtual machine shows neither,
and steal time counts neither. Programs feel both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from kts.units import NS_PER_US

TURNS = 300
"""About 10 us: what a core does between two interrupts."""
TRIES = 3
"""The shortest counts: the first finds the core's caches cold, and somebody may come in between."""


def loop_us(core: int | None = None, *, clock: Callable[[], int] = time.perf_counter_ns) -> float:
    """How long the loop takes on ``core``, us; by default where the calling thread is. The thread may then be on the
    cores on which it might before. OSError where it may not be on that one."""
    if core is None:
        return _shortest_ns(clock) / NS_PER_US
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return _shortest_ns(clock) / NS_PER_US
    finally:
        os.sched_setaffinity(0, former)


def _shortest_ns(clock: Callable[[], int]) -> int:
    shortest = 0
    for _ in range(TRIES):
        total, start_ns = 0, clock()
        for i in range(TURNS):
            total += i * i % 7
        took_ns = clock() - start_ns
        shortest = min(shortest or took_ns, took_ns)
    return shortest
