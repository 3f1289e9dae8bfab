#!/usr/bin/env python3
"""Your own program as a tenant: all it takes is one flushed line per iteration.

    KTS_APP,v1,NAME,i,start,end,device_ms,phase

``start`` and ``end`` are nanoseconds since the epoch; ``device_ms`` is your own stopwatch in milliseconds, with exactly
six decimals, or ``nan`` if you have none.
Any language will do. kts starts the program, stops it (SIGSTOP) outside its blocks, and ends it after the run.
"""

import os
import random
import time


def main() -> None:
    """Sorts the same list again and again, with a pause after each time."""
    count = int(os.environ.get("SORTER_NUMBERS", "40000"))
    pause_s = float(os.environ.get("SORTER_PAUSE_MS", "10")) / 1000
    random.seed(1)
    numbers = [random.random() for _ in range(count)]
    i = 0
    while True:
        start_ns, cpu_ns = time.time_ns(), time.thread_time_ns()
        sorted(numbers)
        device_ms = (time.thread_time_ns() - cpu_ns) / 1e6
        print(f"KTS_APP,v1,SORTER,{i},{start_ns},{time.time_ns()},{device_ms:.6f},", flush=True)
        i += 1
        time.sleep(pause_s)


if __name__ == "__main__":
    main()
