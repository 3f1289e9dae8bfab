"""What looks at a core's speed cost the program on it: its iterations with looks over those without, in turns.

The program spins on one core, the worst case: it never leaves the core, and a look takes it away. Looks come as in a
run, with readings of what the host does with the program; those alone are what they are compared with.

    python -m bench looks
    python -m bench looks --turns 10000     # longer iterations
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from kts.units import NS_PER_MS, NS_PER_S
from kts.worker.host import LOOP, HostReader
from kts.worker.tenants.program_block import BEAT_NS, AtRandom

STRETCH_NS = NS_PER_S
"""Of looks, then of none."""
FEWEST = 50
"""Iterations of a stretch that a p99 needs here."""


def spin(core: int, turns: int, until_ns: int, told: Connection) -> None:
    """Tells when each iteration began and how long it took, ns."""
    os.sched_setaffinity(0, {core})
    found = []
    while (begin_ns := time.monotonic_ns()) < until_ns:
        total = 0
        for i in range(turns):
            total += i * i % 7
        found.append((begin_ns, time.monotonic_ns() - begin_ns))
    told.send(found)


def look(begin_ns: int, until_ns: int) -> list[float]:
    """Reads what the host does with the program, as a worker does; in every other stretch with looks at its core. How
    long their loops took, us."""
    without, with_looks = HostReader(own=False, loop=lambda _: 0.0), HostReader(own=False)
    moments = AtRandom(BEAT_NS, time.monotonic_ns())
    found = []
    while (now_ns := time.monotonic_ns()) < until_ns:
        looks = (now_ns - begin_ns) // STRETCH_NS % 2
        found.append((with_looks if looks else without).read().moments.get(LOOP, 0.0))
        time.sleep(max(0, moments.next_ns - time.monotonic_ns()) / NS_PER_S)
        moments.due(time.monotonic_ns())
    return [us for us in found if us]


def ratios(iterations: np.ndarray[Any, Any], begin_ns: int) -> np.ndarray[Any, Any]:
    """Of each stretch with looks over that before it: p99, median, mean; ``(n, 3)``."""
    stretch = (iterations[:, 0] - begin_ns) // STRETCH_NS
    found = []
    for first in range(0, int(stretch.max()), 2):
        without, with_looks = (iterations[stretch == one, 1] for one in (first, first + 1))
        if min(len(without), len(with_looks)) >= FEWEST:
            of = [(np.quantile(one, 0.99), np.median(one), one.mean()) for one in (without, with_looks)]
            found.append(np.divide(of[1], of[0]))
    return np.array(found)


def main(argv: Sequence[str] = ()) -> None:
    """Prints each ratio with its standard error."""
    parser = argparse.ArgumentParser(prog="python -m bench looks")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--turns", type=int, default=5000, help="of the loop that is an iteration")
    options = parser.parse_args(argv)
    core = min(os.sched_getaffinity(0))
    here, there = get_context("spawn").Pipe(duplex=False)
    begin_ns = time.monotonic_ns() + NS_PER_S
    until_ns = begin_ns + options.seconds * NS_PER_S
    program = get_context("spawn").Process(target=spin, args=(core, options.turns, until_ns, there))
    program.start()
    loops = look(begin_ns, until_ns)
    iterations = np.array(here.recv())
    program.join()
    found = ratios(iterations[iterations[:, 0] >= begin_ns], begin_ns)
    print(f"iterations of {np.median(iterations[:, 1]) / NS_PER_MS:.3f} ms, {len(found)} pairs of stretches")
    print(f"a look's loop: {', '.join(f'{us:.1f}' for us in np.percentile(loops, (10, 50, 90)))} us (10, 50, 90 %)")
    for name, column in zip(("p99", "p50", "mean"), found.T, strict=True):
        print(f"{name} with looks over without: {column.mean():.4f} +- {column.std(ddof=1) / len(column) ** 0.5:.4f}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
