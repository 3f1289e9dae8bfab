"""Reads a file past the page cache, two pieces at random places and some sums, and prints a KTS_APP line for each
iteration. Argument: the file."""

from __future__ import annotations

import mmap
import os
import random
import sys
import time

PIECE = 64 * 1024


def main() -> None:
    """Reads for ever."""
    file = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
    pieces, piece, rng, i = os.fstat(file).st_size // PIECE, mmap.mmap(-1, PIECE), random.Random(1), 0
    while True:
        start_ns = time.time_ns()
        for _ in range(2):
            os.preadv(file, [piece], rng.randrange(pieces) * PIECE)
            sum(piece[:8192])
        print(f"KTS_APP,v1,READ,{i},{start_ns},{time.time_ns()},nan,", flush=True)
        time.sleep(0.002)
        i += 1


if __name__ == "__main__":
    main()
