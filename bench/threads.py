"""What Python's lock costs a tenant that is a thread beside another one that always has Python to run.

Each tenant has a core. One computes a product every millisecond, outside of Python's lock, and needs the lock to note
that it is done; the other adds small vectors back to back, as a decoder launches kernels. Intervals after which Python
hands its lock over are tried in turns.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time

import numpy as np

from kts.units import NS_PER_MS
from kts.worker.crew import SWITCH_S

PYTHONS_S = 5e-3
INTERVALS_S = (PYTHONS_S, 1e-3, SWITCH_S, SWITCH_S / 10)
EDGE = 256
THINK_S = 1e-3


def iterations_ms(seconds: float, interval_s: float, cores: tuple[int, int], *, beside: bool) -> list[float]:
    """How long the iterations of the first tenant take, ms."""
    sys.setswitchinterval(interval_s)
    over, took_ms = threading.Event(), []

    def always() -> None:
        os.sched_setaffinity(0, {cores[0]})
        vector = np.zeros(64, np.float32)
        while not over.is_set():
            np.add(vector, vector, out=vector)

    def now_and_then() -> None:
        os.sched_setaffinity(0, {cores[1]})
        left, result = np.ones((EDGE, EDGE), np.float32), np.empty((EDGE, EDGE), np.float32)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(THINK_S)
            begin_ns = time.monotonic_ns()
            np.matmul(left, left, out=result)
            took_ms.append((time.monotonic_ns() - begin_ns) / NS_PER_MS)

    threads = [threading.Thread(target=run) for run in ((always, now_and_then) if beside else (now_and_then,))]
    for thread in threads:
        thread.start()
    threads[-1].join()
    over.set()
    threads[0].join()
    return took_ms


def main() -> None:
    """Prints a row per interval: the medians over rounds of each round's median and p99."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of an interval in a round")
    options = parser.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    cores = allowed[0], allowed[-1]
    settings = [(PYTHONS_S, False), *((one, True) for one in INTERVALS_S)]
    found: dict[tuple[float, bool], list[tuple[float, float]]] = {one: [] for one in settings}
    for _ in range(options.rounds):
        for interval_s, beside in settings:
            took_ms = iterations_ms(options.seconds, interval_s, cores, beside=beside)
            found[interval_s, beside].append((float(np.median(took_ms)), float(np.quantile(took_ms, 0.99))))
    for (interval_s, beside), of_rounds in found.items():
        median, p99 = np.median(np.array(of_rounds), axis=0)
        where = f"beside the other, lock handed over after {1000 * interval_s:g} ms" if beside else "alone"
        print(f"{where:<60} median {median:7.3f} ms  p99 {p99:7.3f} ms")
    if cores[0] == cores[1]:
        print("one core for both: these are turns of the core, not of the lock")


if __name__ == "__main__":
    main()
