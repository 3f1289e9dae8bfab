"""How long `kts --help` takes, beside an interpreter that does nothing. The two alternate; medians are compared.

python -m bench help --repetitions 10
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

BAR_MS = 200.0
COMMANDS = {"kts --help": ("-m", "kts", "--help"), "python -c pass": ("-c", "pass")}


def wall_ms(arguments: Sequence[str]) -> float:
    """Milliseconds from starting an interpreter with ``arguments`` to its end."""
    begin_ns = time.perf_counter_ns()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter_ns() - begin_ns) / 1e6


def main(argv: Sequence[str] = ()) -> None:
    """Prints both medians with their extremes."""
    parser = argparse.ArgumentParser(prog="python -m bench help")
    parser.add_argument("--repetitions", type=int, default=10)
    repetitions = parser.parse_args(argv).repetitions
    for arguments in COMMANDS.values():
        wall_ms(arguments)  # the first reads files from the disk
    times = np.array([[wall_ms(arguments) for arguments in COMMANDS.values()] for _ in range(repetitions)])
    for name, column in zip(COMMANDS, times.T, strict=True):
        print(f"{name:<15} median {np.median(column):4.0f} ms, {column.min():.0f} to {column.max():.0f}")
    median = float(np.median(times[:, 0]))
    print(f"bar {BAR_MS:.0f} ms: {'ok' if median <= BAR_MS else 'over'}")


if __name__ == "__main__":
    main(sys.argv[1:])
