"""What `kts watch` makes of simulated tenants that come and go, against what is true of them.

python -m bench watch                      # the tables of docs/watch.md
python -m bench watch --only load --seconds 30
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bench import aggressors, foreseen
from bench.visits import (
    LAUNCH,
    WAIT,
    Stretch,
    Visitor,
    due,
    launched,
    paced,
    pieces,
    service_ms,
    stretch,
    varied,
    watched,
)
from kts.app.watching import Clocks, WatchAsked, states
from kts.model.summary import Estimate
from kts.physics.synthetic import SyntheticKernel
from kts.watch.calls import CALL, Piece, WatchedProcess
from kts.watch.company import SECOND_NS
from kts.watch.recording import PieceWriter, RecordedSource
from kts.watch.watching import Watching

FFT, GEMM, SHORT = (SyntheticKernel(ms, spread=0.005) for ms in (3.55, 20.6, 0.5))
TENANTS: Mapping[str, Visitor] = {
    "fft": paced(FFT, 20),
    "gemm": paced(GEMM, 30),
    "fft saturating": paced(FFT, 0.01),
    "gemm saturating": paced(GEMM, 0.01),
    "short": paced(SHORT, 5),
    "2 to 12 ms": varied(2, 12, 20),
    "60 launches": launched(60, 0.02, 0.1, 10),
    "fft due": due(FFT, 60),
}
PAIRS = (
    ("fft", "gemm"),
    ("gemm", "fft"),
    ("fft", "gemm saturating"),
    ("short", "gemm saturating"),
    ("short", "gemm"),
    ("2 to 12 ms", "gemm"),
    ("60 launches", "gemm"),
    ("60 launches", "short"),
    ("fft due", "gemm"),
    ("fft", "fft saturating"),
)
RUN_S = 1000.0
"""Of each condition of the run that is the truth."""


def come_and_go(rng: np.random.Generator, others: Sequence[str], visits_: int) -> list[Stretch]:
    """20 to 60 s without and as long with some of them, each in two of three."""
    found: list[Stretch] = []
    for _ in range(visits_):
        there = [name for name in others if len(others) == 1 or rng.random() < 2 / 3]
        found += [(float(rng.integers(20, 60)), ("own",)), (float(rng.integers(20, 60)), ("own", *there))]
    return found


def pairs(seed: int, visits_: int) -> None:
    """DF of natural windows against that of a run of both conditions."""
    print(
        "| tenant | beside | DF50 of a run | watched | DF99 of a run | watched | inside |\n"
        "|---|---|---:|---:|---:|---:|---|"
    )
    errors, inside = [], 0
    for number, (name, other) in enumerate(PAIRS):
        rng = np.random.default_rng([seed, number])
        mine = {"own": TENANTS[name]}
        alone = service_ms(stretch(mine, rng, RUN_S)["own"])
        both = service_ms(stretch({**mine, "other": TENANTS[other]}, rng, RUN_S)["own"])
        true = {p: float(np.quantile(both, p) / np.quantile(alone, p)) for p in (0.5, 0.99)}
        cost = watched({**mine, "other": TENANTS[other]}, come_and_go(rng, ("other",), visits_), seed).cost
        held = cost.df99.lo is not None and cost.df99.hi is not None and cost.df99.lo <= true[0.99] <= cost.df99.hi
        inside += held
        errors.append(abs((cost.df99.estimate or np.inf) / true[0.99] - 1))
        figures = f"{true[0.5]:.3f} | {_shown(cost.df50)} | {true[0.99]:.3f} | {_shown(cost.df99)}"
        print(f"| {name} | {other} | {figures} | {'yes' if held else 'no'} |", flush=True)
    print(f"\nInside {inside} of {len(PAIRS)}; median error of DF99 {100 * np.median(errors):.2g} %.")


def _shown(figure: Estimate) -> str:
    return figure.refused or f"{figure.estimate:.3f} ({figure.lo:.3f}-{figure.hi:.3f})"


def own_load(seed: int, repetitions: int) -> None:
    """A tenant whose own work grows with its neighbours', which cost it nothing."""
    print(
        "| own work grows in | neighbour in flight | trials | refused | claims over 1.05 | the same, in doubt |\n"
        "|---|---|---:|---:|---:|---:|"
    )
    for grows in ("length", "launches", "pace", "nothing"):
        for always in (False, True):
            refused = wrong = doubted = 0
            for number in range(repetitions):
                watching = Watching()
                for piece in _confounded(np.random.default_rng([seed, number]), grows, always=always):
                    watching.take(piece)
                now = watching.now(whole=True)
                cost = next(unit for unit in now.units if unit.unit == "own (1)").cost
                doubt = any("nothing tells" in note for note in now.notes)
                refused += cost.df99.estimate is None
                claims = cost.df99.lo is not None and cost.df99.lo > 1.05
                wrong += claims and not doubt
                doubted += claims and doubt
            how = "always" if always else "a third of the time"
            print(f"| {grows} | {how} | {repetitions} | {refused} | {wrong} | {doubted} |", flush=True)


def _confounded(rng: np.random.Generator, grows: str, *, always: bool, visits_: int = 8) -> Iterator[Piece]:
    """``own`` takes 4 ms and has nothing to do with its neighbour; while that is there, work of its own is another."""
    pods = tuple(
        WatchedProcess(number=number, pid=number, began_ticks=1, command=name, gpus=("GPU-0",))
        for number, name in enumerate(("own", "other"), 1)
    )
    begin_s = 1.0
    for number in range(2 * visits_):
        seconds = float(rng.integers(20, 60))
        busy = number % 2 == 1
        pace = 100.0 if busy and grows == "pace" else 40.0
        begins = np.cumsum(0.009 + rng.exponential(max(1 / pace - 0.009, 1e-3), int(1.5 * pace * seconds)))
        # where it is the pace that grows, a higher pace makes it slower by itself
        longer = 1.5 if busy and grows != "nothing" else 1.0
        took = 4.0 * longer * rng.lognormal(0, 0.1, len(begins))
        launches = 6 if busy and grows == "launches" else 3
        parts = [_calls(1, begins[begins < seconds - 0.1], took[begins < seconds - 0.1], launches)]
        if busy:
            cycle = 0.0201 if always else 0.06
            at = np.arange(0.01, seconds - 0.1, cycle) + (0 if always else rng.uniform(0, 0.02, 1))
            parts.append(_calls(2, at, np.full(len(at), 20.0), 3))
        calls = np.concatenate(parts)
        calls["ns"] += int(begin_s * SECOND_NS)
        yield from pieces(calls, begin_s, seconds, pods)
        begin_s, pods = begin_s + seconds, ()


def _calls(process: int, begins_s: np.ndarray, took_ms: np.ndarray, launches: int) -> np.ndarray:
    calls = np.zeros((len(begins_s), launches + 2), CALL)
    calls["process"], calls["thread"] = process, process
    calls["ns"] = (begins_s * 1e9).astype(np.int64)[:, None] + np.arange(launches + 2) * 1000
    calls["ns"][:, -1] = calls["ns"][:, 0] + (took_ms * 1e6).astype(np.int64)
    calls["function"][:, :launches], calls["function"][:, launches:] = LAUNCH, WAIT
    calls["returned"][:, -1] = 1
    return calls.ravel()


def day(seed: int, hours: float) -> None:
    """A day of a tenant beside a neighbour that comes and goes: what is told, and how soon."""
    rng = np.random.default_rng(seed)
    alarms: dict[str, int] = {}
    watching, level = Watching(), 1.0
    pods = tuple(
        WatchedProcess(number=number, pid=number, began_ticks=1, command=name, gpus=("GPU-0",))
        for number, name in enumerate(("own", "other"), 1)
    )
    for second in range(1, int(3600 * hours) + 1):
        level = float(np.exp(0.999 * np.log(level) + 0.004 * rng.standard_normal()))  # a host that wanders by 9 %
        begins = np.sort(rng.uniform(0, 0.99, rng.poisson(50)))
        took = level * 8 * rng.lognormal(0, 0.25, len(begins)) * np.where(rng.random(len(begins)) < 0.005, 4, 1)
        parts = [_calls(1, begins, np.minimum(took, 9), 3)]
        if second // 600 % 3 == 1:
            at = np.arange(0.01, 0.95, 0.05)
            parts.append(_calls(2, at, np.full(len(at), 10.0), 3))
        calls = np.concatenate(parts)
        calls["ns"] += second * SECOND_NS
        for piece in pieces(calls, second, 1.0, pods):
            watching.take(piece)
            pods = ()
    for one in watching.now().happened:
        alarms[one.what] = alarms.get(one.what, 0) + 1
    print(f"{hours:g} h of {second} s: {alarms or 'no events'} (one new neighbour is true)")


def load(
    seed: int, seconds: int, *, apart: bool, per_second: int = 100_000, processes: int = 200, pods: int = 64
) -> None:
    """CPU time and memory of reading a recording of so many calls a second, and showing what it came to each second.

    ``apart``: in half of the time, 8 s after 8 s, of each GPU's pods only one makes calls, as many as all do else.
    """
    rng = np.random.default_rng(seed)
    who = tuple(
        WatchedProcess(
            number=number,
            pid=number,
            began_ticks=1,
            command="python",
            pod_uid=f"{number % pods}",
            pod=f"pod-{number % pods}",
            namespace="load",
            gpus=(f"GPU-{number % pods % 8}",),
        )
        for number in range(1, processes + 1)
    )
    launches = 7
    each = per_second // processes // (launches + 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "watch.recording"
        with PieceWriter(path, node="load", kts="") as writer:
            for second in range(1, seconds + 1):
                turn = second // 16 % 8 if apart and second % 16 >= 8 else None
                busy = [n for n in range(1, processes + 1) if turn is None or n % pods // 8 == turn]
                count = each * processes // len(busy)
                parts = [
                    _calls(number, np.sort(rng.uniform(0, 1, count)), rng.uniform(0.2, 1, count), launches)
                    for number in busy
                ]
                calls = np.concatenate(parts)
                calls["ns"] += second * SECOND_NS
                calls = np.sort(calls, order="ns", kind="stable")
                writer.write(Piece((second + 1) * SECOND_NS, calls, who if second == 1 else ()))
        reader = multiprocessing.get_context("spawn").Process(target=_read, args=(path,))
        reader.start()
        reader.join()


def _read(path: Path) -> None:
    """In a process of its own, so that its memory is that of watching."""
    watching, read, taken, shown, seconds = Watching(window_s=60), 0.0, 0.0, 0.0, 0
    with RecordedSource(path) as source:
        pieces_ = source.pieces()
        while True:
            began = time.process_time()
            piece = next(pieces_, None)
            got = time.process_time()
            if piece is None:
                break
            watching.take(piece)
            middle = time.process_time()
            state = watching.now()
            read, taken, shown = read + got - began, taken + middle - got, shown + time.process_time() - middle
            seconds += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    whole = 100 * (read + taken + shown) / seconds
    print(
        f"{state.calls / seconds:,.0f} calls/s of {len(state.units)} pods, {seconds} s, {state.lost} lost: "
        f"{100 * read / seconds:.1f} % of a core to read, {100 * taken / seconds:.1f} % to take, "
        f"{100 * shown / seconds:.1f} % to show: {whole:.1f} % in all, {peak:.0f} MB at most; "
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


def week(seed: int, days: float, parts: int = 14) -> None:
    """Memory in the course of so many days of a node on which a pod serves, and jobs come and go: 144 a day."""
    now_s = 0.0
    clocks = Clocks(now_s=lambda: now_s / 120, wait=lambda _: None)  # a state for each minute

    def told() -> Iterator[Piece]:
        nonlocal now_s
        for piece in _days(seed, days):
            now_s = piece.until_ns / SECOND_NS
            yield piece

    shown = 0
    for state in states(told(), "node", WatchAsked(), clocks):
        if now_s >= (shown + 1) * days * 86400 / parts:
            shown += 1
            told_ = f"{len(state.units)} units, {state.calls:,} calls"
            print(f"day {now_s / 86400:.2f}: {_resident_mb():.1f} MB, {told_}", flush=True)


def _days(seed: int, days: float) -> Iterator[Piece]:
    """``own`` makes 20 round trips in each second; a job that lives for five minutes of ten makes 10."""
    rng = np.random.default_rng(seed)
    number = 1

    def pod(name: str) -> WatchedProcess:
        return WatchedProcess(
            number=number,
            pid=1000 + number % 30_000,
            began_ticks=number,
            command="python",
            pod_uid=name,
            pod=name,
            namespace="n",
            gpus=("GPU-0",),
        )

    new: tuple[WatchedProcess, ...] = (pod("own"),)
    for second in range(1, int(days * 86400) + 120, 10):
        parts = [_calls(1, np.arange(200) / 20, rng.uniform(4, 8, 200), 3)]
        if second % 600 == 301:
            number += 1
            new = (*new, pod(f"job-{number}"))
        if second % 600 >= 301:
            parts.append(_calls(number, np.arange(100) / 10 + 0.02, rng.uniform(10, 30, 100), 3))
        calls = np.concatenate(parts)
        calls["ns"] += second * SECOND_NS
        gone = (number,) if second % 600 == 591 else ()
        yield Piece((second + 10) * SECOND_NS, calls[np.argsort(calls["ns"], kind="stable")], new, gone)
        new = ()


def _resident_mb() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize() / 1e6


def main(arguments: Sequence[str]) -> int:
    """Prints what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench watch", description=__doc__)
    parser.add_argument("--only", choices=("pairs", "aggressors", "own-load", "foretold", "day", "load", "week"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--visits", type=int, default=8)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--apart", action="store_true", help="load: each pod is alone on its GPU at times")
    options = parser.parse_args(arguments)
    tables: dict[str, Callable[[], None]] = {
        "pairs": lambda: pairs(options.seed, options.visits),
        "aggressors": lambda: aggressors.table(options.seed, options.trials or 40),
        "own-load": lambda: own_load(options.seed, options.trials or 10),
        "foretold": lambda: foreseen.table(options.seed, options.trials or 40),
        "day": lambda: day(options.seed, options.hours),
        "load": lambda: load(options.seed, options.seconds, apart=options.apart),
        "week": lambda: week(options.seed, options.days),
    }
    for name, table in tables.items():
        if options.only in {None, name}:
            print(f"\n{name}\n")
            table()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
