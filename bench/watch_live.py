"""What watching by the kernel's probes costs a program, and whether its calls tell what the program's lines tell.

    python -m bench watch_live                       # a stand-in for the driver: the way, not the cost
    python -m bench watch_live --seconds 20 --rounds 5 -- python examples/programs/bert.py
    python -m bench watch_live --mount               # where tracefs is not mounted: for this process alone
    python -m bench watch_live --again FILE FILE     # what it printed, on one machine or more: the ratios of all rounds

The program prints a KTS_APP line per iteration. It runs once; stretches in which it is watched and stretches in which
it is not take turns, in random order within each round. Needs root, a kernel with uprobes, and the node's process
numbers.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.helpers_tracer import standin

from kts.errors import KtsError
from kts.stats.dependence import student
from kts.telemetry.ancestry import descends
from kts.units import NS_PER_S
from kts.watch.calls import CALL, FUNCTIONS, Array
from kts.watch.source import LiveSource, default_tracefs
from kts.watch.source.tracefs import Tracefs
from kts.wire.appline import parse_line
from kts.worker.clocks import epoch_offset_ns
from kts.worker.tracing.layout import Kind

_TOLD = re.compile(r"^round \d+, (?P<un>not )?watched: (?P<rate>[\d.]+)/s, p99 (?P<p99>[\d.]+|nan) ms$", re.MULTILINE)
_SETTLE_S = 0.3
"""Not counted, after the probes are set or taken away."""
_HANDS_OVER = np.array([function.kind in {Kind.LAUNCH, Kind.GRAPH, Kind.COPY} for function in FUNCTIONS])
Ints = NDArray[np.int64]


@dataclass
class Said:
    """Iterations as the program's lines have them, on CLOCK_MONOTONIC."""

    begin_ns: list[int] = field(default_factory=list)
    end_ns: list[int] = field(default_factory=list)

    def listen(self, process: subprocess.Popen[str]) -> None:
        """Until the program ends."""
        assert process.stdout is not None
        offset_ns = epoch_offset_ns()
        for line in process.stdout:
            if (said := parse_line(line)) is not None:
                self.begin_ns.append(said.start_ns - offset_ns)
                self.end_ns.append(said.end_ns - offset_ns)

    def within(self, begin_ns: int, end_ns: int) -> tuple[Ints, Ints]:
        """Begin and end of those that lie in this stretch."""
        whole = len(self.end_ns)  # more come meanwhile
        begin, end = (np.array(column[:whole], np.int64) for column in (self.begin_ns, self.end_ns))
        inside = (begin >= begin_ns) & (end <= end_ns)
        return begin[inside], end[inside]


@dataclass(frozen=True)
class Part:
    """A stretch: its iterations' times (ms), how many per second, and with probes the calls seen in it."""

    watched: bool
    latency_ms: NDArray[np.float64]
    rate: float
    p99_ms: float
    calls: int = 0
    lost: int = 0
    off_ms: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Of each iteration: from its first work to its last wait's return by the calls, less its time by its line."""
    unseen: int = 0
    """Iterations of which no call was seen."""


def stretch(said: Said, seconds: float, watched: bool, tracefs: Path, pid: int) -> Part:
    """``seconds`` of the time of the program ``pid``; its children are part of it."""
    calls: list[Array] = []
    ours: list[int] = []
    lost = 0
    if watched:
        with LiveSource(tracefs=Tracefs(tracefs), most_calls_s=float("inf")) as source:
            begin_ns = time.monotonic_ns() + int(_SETTLE_S * NS_PER_S)
            end_ns = begin_ns + int(seconds * NS_PER_S)
            for piece in source.pieces():
                ours += [one.number for one in piece.processes if descends(one.pid, [pid])]
                calls.append(piece.calls[np.isin(piece.calls["process"], ours)])
                lost += piece.lost
                if piece.until_ns > end_ns:
                    break
    else:
        begin_ns = time.monotonic_ns() + int(_SETTLE_S * NS_PER_S)
        end_ns = begin_ns + int(seconds * NS_PER_S)
        time.sleep(_SETTLE_S + seconds)
    begin, end = said.within(begin_ns, end_ns)
    took_ms = (end - begin) / 1e6
    seen = np.concatenate(calls) if calls else np.empty(0, CALL)
    off, unseen = compared(seen, begin, end) if watched else (np.empty(0), 0)
    count = int(((seen["ns"] >= begin_ns) & (seen["ns"] <= end_ns)).sum())
    p99 = float(np.quantile(took_ms, 0.99)) if len(took_ms) else float("nan")
    return Part(watched, took_ms, len(took_ms) / seconds, p99, count, lost, off, unseen)


def compared(calls: Array, begin: Ints, end: Ints) -> tuple[NDArray[np.float64], int]:
    """Per iteration of which calls were seen: their time less the line's (ms); how many others there are."""
    hands = calls["ns"][_HANDS_OVER[calls["function"]] & (calls["returned"] == 0)]
    ends = calls["ns"][calls["returned"] == 1]
    if not len(hands) or not len(ends):
        return np.empty(0), len(begin)
    first = hands[np.minimum(np.searchsorted(hands, begin), len(hands) - 1)]
    last = ends[np.maximum(np.searchsorted(ends, end, "right") - 1, 0)]
    seen = (first >= begin) & (last <= end) & (last > first)
    return ((last - first) - (end - begin))[seen] / 1e6, int((~seen).sum())


def costs(parts: Sequence[Part]) -> Iterator[str]:
    """Rate and p99 of the watched stretches over those of the others, round by round; rounds without iterations not."""
    on, off = ([part for part in parts if part.watched is watched] for watched in (True, False))
    pairs = [(a, b) for a, b in zip(on, off, strict=False) if a.rate and b.rate]
    for what, ratios in (
        ("iterations/s", [a.rate / b.rate for a, b in pairs]),
        ("p99", [a.p99_ms / b.p99_ms for a, b in pairs]),
    ):
        if len(ratios) > 1:
            mean, half = geometric(ratios)
            spread = f"95 % {mean / half:.4f} to {mean * half:.4f}, {len(ratios)} rounds"
            yield f"{what} watched / not watched: {mean:.4f} ({spread}, median {np.median(ratios):.4f})"


def retold(files: Sequence[Path]) -> Iterator[str]:
    """The costs of all rounds that were printed into these files."""
    told = [_TOLD.finditer(file.read_text(encoding="utf-8")) for file in files]
    none = np.empty(0)
    parts = [Part(not one["un"], none, float(one["rate"]), float(one["p99"])) for lines in told for one in lines]
    yield from costs(parts)


def report(parts: Sequence[Part]) -> Iterator[str]:
    """Lines for people."""
    yield from costs(parts)
    on = [part for part in parts if part.watched]
    off_ms, took = np.concatenate([part.off_ms for part in on]), np.concatenate([part.latency_ms for part in on])
    seconds = sum(len(part.latency_ms) / part.rate for part in on if part.rate)
    lost = sum(part.lost for part in on)
    yield f"calls/s: {sum(part.calls for part in on) / max(seconds, 1e-9):,.0f}; lost, of all programs here: {lost}"
    yield f"iterations by lines: {len(took)}; without calls: {sum(part.unseen for part in on)}"
    if len(off_ms) and len(took):
        yield (
            f"time by calls less time by line: median {np.median(off_ms) * 1e3:.1f} us, "
            f"{np.median(off_ms) / np.median(took):+.2%} of an iteration's median of {np.median(took):.3f} ms"
        )


def geometric(ratios: Sequence[float]) -> tuple[float, float]:
    """Geometric mean of the rounds' ratios, and the factor to either end of its 95 % interval (Student's t of logs)."""
    logs = np.log(ratios)
    half = student(len(logs) - 1, 0.95) * np.std(logs, ddof=1) / np.sqrt(len(logs))
    return float(np.exp(np.mean(logs))), float(np.exp(half))


@contextmanager
def mounted(wanted: bool) -> Iterator[Path]:
    """Where tracefs is; with ``wanted`` mounted for this process alone, which then must be in `unshare --mount`."""
    if not wanted:
        yield default_tracefs()
        return
    with tempfile.TemporaryDirectory(prefix="kts-tracefs-") as folder:
        subprocess.run(["mount", "-t", "tracefs", "nodev", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def main(argv: Sequence[str] = ()) -> int:
    """Prints what it came to; 4 where this machine cannot."""
    parser = argparse.ArgumentParser(prog="python -m bench watch_live")
    parser.add_argument("--seconds", type=float, default=5, help="of each stretch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=float, default=2, help="seconds before the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mount", action="store_true", help="mount tracefs, for this process alone")
    parser.add_argument("--again", type=Path, nargs="+", metavar="FILE", help="measure nothing: of what was printed")
    parser.add_argument("program", nargs="*", help="behind --; prints KTS_APP lines")
    asked = parser.parse_args(argv)
    if asked.again:
        print(*retold(asked.again), sep="\n")
        return 0
    if asked.mount and os.environ.get("KTS_BENCH_UNSHARED") != "1":
        if shutil.which("unshare") is None:
            print("error: no unshare here", file=sys.stderr)
            return 4
        again = ["unshare", "--mount", sys.executable, "-m", "bench.watch_live", *argv]
        return subprocess.run(again, check=False, env={**os.environ, "KTS_BENCH_UNSHARED": "1"}).returncode
    env, program = dict(os.environ), asked.program
    if not program:
        print("the stand-in: a driver without a GPU")
        program = standin().argv(iterations=0, trips="1,22", kernel_us=100, lines=1, api="driver")
        env = standin().env()
    rng = random.Random(asked.seed)
    parts: list[Part] = []
    # stdbuf: a program that prints to a pipe keeps its lines for long
    buffered = ["stdbuf", "-oL", *program] if shutil.which("stdbuf") else program
    with (
        mounted(asked.mount) as tracefs,
        subprocess.Popen(buffered, stdout=subprocess.PIPE, text=True, env=env) as process,
    ):
        said = Said()
        listening = threading.Thread(target=said.listen, args=(process,), daemon=True)
        listening.start()
        try:
            time.sleep(asked.warm)
            for number in range(asked.rounds):
                for watched in rng.sample([True, False], 2):
                    parts.append(stretch(said, asked.seconds, watched, tracefs, process.pid))
                    what = "watched" if watched else "not watched"
                    print(f"round {number}, {what}: {parts[-1].rate:.1f}/s, p99 {parts[-1].p99_ms:.3f} ms", flush=True)
        except KtsError as error:
            print(f"error: {error.what}\n  try: {error.remedy}", file=sys.stderr)
            return error.exit_code
        finally:
            process.kill()
            listening.join()
    print(*report(parts), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
