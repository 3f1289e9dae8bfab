"""How much memory kts takes for how many iterations: while it measures, when it closes the run, and while it reports.

    python -m bench memory
    python -m bench memory --before ../other/src          # the same of another version of kts, side by side
    python -m bench memory --sizes 26000000 --rounds 500 --reporting

The peak is the process's own (VmHWM), in MB; of reporting also the part that no file stands for (RssAnon, looked at
each 20 ms), and the seconds. What a run with few iterations takes is what kts takes anyway; the rest, divided by the
iterations, is what each one costs.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Self

import msgspec

from bench.report_scale import DEVICE, write_run
from kts.conduct import events as ev
from kts.conduct.keeper import Keeper
from kts.model.mode import SharingMode
from kts.model.run import BlockOutcome, Outcome
from kts.model.telemetry import Sample
from kts.stats import PrecisionRule
from kts.store import create
from kts.store.journal import journal_in
from kts.store.runfile import read
from kts.units import NS_PER_S
from kts.wire.framing import CHUNK_RECORDS

SIZES = (100_000, 5_000_000)
ROOT = Path(__file__).resolve().parents[1]
CONDUCTING, REPORTING = ("measuring, MB", "closing, MB"), ("reporting, MB", "anonymous, MB", "reporting, s")
LOOK_S = 0.02


def memory_mb(field: str = "VmHWM") -> float:
    """A field of this process's status: the most it has had in memory so far."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 / 1e6 if found else float("nan")


class Anonymous:
    """The most memory without a file that this process is seen to have while the context is open."""

    def __enter__(self) -> Self:
        self.peak_mb, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self.peak_mb = max(self.peak_mb, memory_mb("RssAnon"))


def conduct(recorded: Path, directory: Path) -> None:
    """Hands a run's chunks to the keeper once more, as the conductor does, with a rule that asks for the impossible;
    prints the peak before the run is closed and after."""
    info, journal = read(recorded), journal_in(recorded)
    assert journal is not None
    plan = msgspec.structs.replace(info.plan, precision=1e-9)
    writer = create(directory, plan=plan, backend="synthetic", mode=SharingMode(), experiment_text="", environment={})
    keeper = Keeper(writer, PrecisionRule(plan, 1e-9))
    for worker in info.workers:
        writer.worker(worker)
    asked = -1
    for block in info.blocks:
        if block.round != asked:
            keeper.ask()
            asked = block.round
        for tenant in block.counts:
            for seq, records in enumerate(journal.batches(tenant, block.index, 1)):
                keeper.keep(ev.Keep(tenant=tenant, block=block.index, seq=seq, records=records))
        keeper.telemetry([], samples(block))
        keeper.keep(ev.EndBlock(outcome=block))
    keeper.ask()
    print(memory_mb())
    keeper.close(Outcome(kind="complete"))
    print(memory_mb())


def samples(block: BlockOutcome) -> list[Sample]:
    """One a second of a source for the whole device."""
    return [
        Sample(
            t_ns=t_ns,
            span_ns=NS_PER_S,
            source="dcgm",
            metric="sm_active_ratio",
            scope="device",
            subject=DEVICE.uuid,
            value=0.5,
        )
        for t_ns in range(block.start_ns, block.end_ns, NS_PER_S)
    ]


def report(directory: Path) -> None:
    """`kts report DIR --json` in this process, without pictures, which another one draws; prints `REPORTING`."""
    from kts.cli.main import main as kts

    sys.argv = ["kts", "report", str(directory), "--json", "--no-figures", "--out", str(directory.parent / "report")]
    begin = time.perf_counter()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere), Anonymous() as seen:
        try:
            code = kts()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    if code:
        sys.exit(f"memory: kts report ended with code {code}")
    print(memory_mb(), seen.peak_mb, time.perf_counter() - begin)


def child(source: Path, *arguments: str) -> list[float]:
    """What a part of this module prints, run in a process of its own with the kts in ``source``."""
    command = [sys.executable, "-m", "bench.memory", *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{source.resolve()}:{ROOT}"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
    return [float(line) for line in done.stdout.split()]


def measure(sources: dict[str, Path], size: int, rounds: int, *, open_loop: bool, conducted: bool) -> list[list[float]]:
    """`CONDUCTING`, if asked for, and `REPORTING` of each version, of the same records."""
    with tempfile.TemporaryDirectory(prefix="kts-memory-") as temporary:
        recorded, directory = Path(temporary) / "recorded", Path(temporary) / "run"
        write_run(recorded, size, rounds, chunk_records=CHUNK_RECORDS, open_loop=open_loop, keep_journal=conducted)
        found = []
        for source in sources.values():
            peaks = child(source, "--conduct", str(recorded), str(directory)) if conducted else []
            found.append(peaks + child(source, "--report", str(directory if conducted else recorded)))
            shutil.rmtree(directory, ignore_errors=True)
        return found


def main(argv: Sequence[str] = ()) -> None:
    """Prints the peaks per size and shape of run, and the slope of each."""
    parser = argparse.ArgumentParser(prog="python -m bench memory")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, nargs="+", default=(10, 1))
    parser.add_argument("--reporting", action="store_true", help="nothing but the report of the run")
    parser.add_argument("--open-loop", action="store_true", help="due times that are not the submissions")
    parser.add_argument("--before", type=Path, help="src of another version, measured as well")
    parser.add_argument("--conduct", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.conduct:
        conduct(*arguments.conduct)
    elif arguments.report:
        report(arguments.report)
    else:
        sources = {"before": arguments.before} if arguments.before else {}
        compare({**sources, "now": ROOT / "src"}, arguments)


def compare(sources: dict[str, Path], arguments: argparse.Namespace) -> None:
    """The table: a row per shape, size and version."""
    columns = REPORTING if arguments.reporting else CONDUCTING + REPORTING
    print(f"memory: {'rounds':>6} {'iterations':>12} {'version':>8} " + " ".join(f"{name:>14}" for name in columns))
    for rounds in arguments.rounds:
        smallest: dict[str, list[float]] = {}
        for size in arguments.sizes:
            measured = measure(sources, size, rounds, open_loop=arguments.open_loop, conducted=not arguments.reporting)
            for name, peaks in zip(sources, measured, strict=True):
                least = smallest.setdefault(name, peaks)
                cells = [f"{peak:8.0f}" for peak in peaks]
                if size > arguments.sizes[0]:
                    each = [
                        (a - b) * 1e6 / (size - arguments.sizes[0]) for a, b in zip(peaks[:-1], least, strict=False)
                    ]
                    cells[:-1] = [f"{cell} {bytes_:4.0f}B" for cell, bytes_ in zip(cells, each, strict=False)]
                print(
                    f"memory: {rounds:>6} {size:>12,} {name:>8} " + " ".join(f"{cell:>14}" for cell in cells),
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
