#!/usr/bin/env python3
"""Requests to a stand-in for a GPU: a queue that all tenants of a version share, as long as their kernels would take.

One request in fifty is twenty times as long as the others (4 ms against 0.2), so the p99 is that of long requests, of
which some wait for a neighbour's turn. With a REQUEST_SCALE of 1.1 all kernels are 10 % longer. Who waits needs no
core: how fast the machine's cores are does not count, how soon they wake somebody up does.
"""

import fcntl
import os
import random
import time

KERNEL_NS = 200_000
LONG, OFTEN = 20, 0.02
PATIENCE_NS = 1_000_000
"""Whoever has the queue in hand for longer is stopped, as kts stops programs between their blocks."""


def turn(device: int, takes_ns: int) -> int:
    """When kernels that are handed over now will be done: after those of all others."""
    begun_ns = time.monotonic_ns()
    while time.monotonic_ns() < begun_ns + PATIENCE_NS:
        try:
            fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0)
    free_ns = int.from_bytes(os.pread(device, 8, 0), "little")
    done_ns = max(free_ns, time.monotonic_ns()) + takes_ns
    os.pwrite(device, done_ns.to_bytes(8, "little"), 0)
    fcntl.flock(device, fcntl.LOCK_UN)
    return done_ns


def main() -> None:
    """One request after the other, with a pause before each."""
    kernel_ns = round(KERNEL_NS * float(os.environ.get("REQUEST_SCALE", "1")))
    device = os.open(os.environ["REQUEST_DEVICE"], os.O_RDWR | os.O_CREAT)
    lots = random.Random()
    i = 0
    while True:
        time.sleep(lots.uniform(0.001, 0.002))
        start_ns = time.time_ns()
        done_ns = turn(device, kernel_ns * (LONG if lots.random() < OFTEN else 1))
        time.sleep(max(0, done_ns - time.monotonic_ns()) / 1e9)
        print(f"KTS_APP,v1,REQUEST,{i},{start_ns},{time.time_ns()},nan,", flush=True)
        i += 1


if __name__ == "__main__":
    main()
