"""Runs measurements: all, one after another and each in a process of its own, or one with its own options.

python -m bench                            # all, in a few minutes
python -m bench observer --size 512        # one
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

BENCHES: dict[str, tuple[str, tuple[str, ...]]] = {
    "help": ("time of kts --help", ()),
    "observer": ("what measuring costs each iteration", ()),
    "cores": ("whether each CPU core has one speed", ("--seconds", "5")),
    "looks": ("what looks at a core's speed cost the program on it", ("--seconds", "10")),
    "threads": ("what Python's lock costs tenants of one process", ("--rounds", "3", "--seconds", "0.5")),
    "tracer": ("what tracing costs a program", ("--lives", "2", "--stretch", "0.5", "--warm", "0.5")),
    "telemetry": ("what sampling a GPU costs its tenant", ()),
    "telemetry_df": ("what telemetry costs DF99: one run, on and off in turns", ("--seconds", "24", "--rounds", "4")),
    "ingest": ("records of four fast tenants, received without loss", ()),
    "versions": ("whether the worker's loop and ingest are slower than before", ("--pairs", "2")),
    "report_scale": ("time and memory of kts report on a large run", ("--iterations", "10000000")),
    "memory": ("memory of kts while it measures and while it reports", ("--sizes", "100000", "4000000")),
    "simulate": ("events per second of the simulator, beside SimPy and a slow one", ("--repetitions", "3")),
    "probe": ("slices, neighbours counted, whom a probe disturbs", ("--repeats", "2", "--probes", "5")),
    "compare": ("false alarms of kts compare, and what it finds", ("--repetitions", "50")),
    "gate": ("false fails of kts check --pair, and what it finds", ("--repetitions", "3")),
    "same_mode": ("how often one mode under two names seems two", ("--runs", "10")),
    "verdicts": ("how often verdicts and the caution of a phase lock are right", ("--repetitions", "30")),
    "steady": ("false alarms and misses of the change points", ("--repetitions", "10")),
    "foretold": ("how often a run refuses what it foretold", ("--parts", "0.1", "--limits", "0.55")),
    "damage": ("what comes of damaged input, by reader", ("--inputs", "200")),
    "structure": ("how the source is built", ()),
    "injections": ("how often the cause that a report names is the right one", ("--trials", "8")),
    "addsup": ("how much of what company adds no cause has, in all recorded runs", ()),
    "truth": ("how far told parts of added time are from known ones", ("--rounds", "4")),
    "kills": ("what a kill -9 costs: lost, wrong, left running, left behind", ("--kills", "10")),
    "watch_live": ("what the kernel's probes cost a program, and whether its calls are its lines", ("--mount",)),
    "watch_runs": ("what a watch says of a run, against the run itself", ("tell", "examples/watch/h200-9")),
    "coverage": ("how often the intervals hold the truth", ("--repetitions", "20")),
    "watch": ("what kts watch makes of tenants that come and go", ("--only", "load", "--seconds", "20")),
}
"""Name to (what it measures, options that keep it short when all are run)."""


def main(arguments: Sequence[str]) -> int:
    """Runs what ``arguments`` name; returns the exit code: of the one, or 1 if any of all failed."""
    if not arguments:
        for name, (what, _) in BENCHES.items():
            print(f"{name:<14}{what}")
        failed = [name for name, (_, short) in BENCHES.items() if _run(name, short)]
        if failed:
            print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return 1 if failed else 0
    name, *options = arguments
    if name not in BENCHES:
        print(f"error: no benchmark {name!r}; there are: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    return _run(name, options)


def _run(name: str, options: Sequence[str]) -> int:
    print(f"\n== {' '.join(['python -m bench', name, *options])}", flush=True)
    return subprocess.run([sys.executable, "-m", f"bench.{name}", *options], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
