"""Is this version slower than an earlier one where it must not be: in the worker's loop, and in taking records in?

    git worktree add ../before COMMIT
    python -m bench versions --before ../before

Both versions run in turns (A B B A), each time in a process of its own and each with its own bench, so that what else
the machine does meets both. Per pair the ratio, this version over the earlier one; the median over pairs, and its 95 %
interval. Above 1: this one is slower.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.observer import over_pairs

HERE = Path(__file__).resolve().parents[1]
LOOP = """
import contextlib, os, socket, subprocess, sys, threading
from bench import observer as o
with socket.create_server(("127.0.0.1", 0)) as listener:
    drain = subprocess.Popen([sys.executable, "-c", o._DRAIN, str(listener.getsockname()[1])])
    link = o.Link(listener.accept()[0])
device = o.open_device("cpu", "numpy")
o.exempt_from_collection()
plain, observed = o.compare(device, o._nothing, 12, o.EMPTY_SECONDS, link)
link.close()
drain.wait()
print(1e6 / max(observed.rates), 1e6 / max(observed.rates) - 1e6 / max(plain.rates))
"""
INGEST = """
import tempfile
from pathlib import Path
from bench import ingest
with tempfile.TemporaryDirectory() as folder:
    for rate, seconds in ((ingest.RATE_PER_S, 5.0), (0, 1.0)):
        sent, found, cpu = ingest.measure(rate, seconds, Path(folder) / str(rate))
        assert sent == found
        print(cpu * seconds / sum(sent.values()) * 1e6)
"""
FIGURES = {
    "worker's loop around nothing, us of its best block": (LOOP, 0),
    "what it takes beyond a bare loop, us": (LOOP, 1),
    "conductor's CPU at 4 x 5,000 records/s, us a record": (INGEST, 0),
    "conductor's CPU with no limit, us a record": (INGEST, 1),
}


def measured(code: str, root: Path) -> list[float]:
    """What the code prints in that version."""
    env = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, env=env, cwd=root
    )
    return [float(word) for word in done.stdout.split()]


def main(argv: Sequence[str] = ()) -> None:
    """Prints a row for each figure."""
    parser = argparse.ArgumentParser(prog="python -m bench versions")
    parser.add_argument("--before", type=Path, default=HERE, help="a checkout of the earlier version; else: this one")
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args(argv)
    versions = options.before.resolve(), HERE
    found: dict[str, list[list[list[float]]]] = {LOOP: [], INGEST: []}
    for pair in range(options.pairs):
        for code, pairs in found.items():
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            both = {which: measured(code, versions[which]) for which in order}
            pairs.append([both[0], both[1]])
    for name, (code, column) in FIGURES.items():
        values = np.array([[version[column] for version in pair] for pair in found[code]])
        before, now = np.median(values, axis=0)
        ratio, low, high = over_pairs(values[:, 1] / values[:, 0])
        print(f"{name:<52} {before:8.3f} {now:8.3f}  {ratio:.3f} [{low:.3f}, {high:.3f}]", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
