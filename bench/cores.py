"""Has each CPU core of this machine one speed? A loop of additions in Python, one core at a time, nothing else running.

On a virtual machine a core may be half of one that somebody else has the other half of: it then has two speeds, one
while that neighbour computes and one while it does not, and nothing in the machine says so (steal time does not count
it). The hosts of all programs there change speed with it, whatever shares the GPU.

Per core the quantiles of how long the loop takes; then one core for longer, the median of each quarter of a second.

    python -m bench cores
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TURNS = 60_000
QUANTILES = (0, 10, 50, 90, 99)


def took_ms(core: int, seconds: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When each loop began (s) and how long it took (ms), on that core. Puts the process back where it was."""
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    begun, took = [], []
    try:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            total, start = 0, time.perf_counter()
            for i in range(TURNS):
                total += i * i % 7
            begun.append(now)
            took.append(1e3 * (time.perf_counter() - start))
    finally:
        os.sched_setaffinity(0, former)
    return np.array(begun), np.array(took)


def main(argv: Sequence[str] = ()) -> None:
    """Prints a row per core, then one core over time."""
    parser = argparse.ArgumentParser(prog="python -m bench cores")
    parser.add_argument("--seconds", type=float, default=25.0, help="of the one core")
    parser.add_argument("--each", type=float, default=0.6, help="seconds of every core")
    options = parser.parse_args(argv)
    cores = sorted(os.sched_getaffinity(0))
    print("ms a loop: " + ", ".join(f"{q} %" for q in QUANTILES))
    for core in cores:
        print(
            f"core {core}: " + ", ".join(f"{ms:.2f}" for ms in np.percentile(took_ms(core, options.each)[1], QUANTILES))
        )
    core = cores[len(cores) // 2]
    begun, took = took_ms(core, options.seconds)
    quarter = ((begun - begun[0]) * 4).astype(int)
    print(
        f"core {core}, median of each 250 ms: "
        + " ".join(f"{np.median(took[quarter == q]):.1f}" for q in np.unique(quarter))
    )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
