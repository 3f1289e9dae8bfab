"""`kts watch` beside `kts run`: DF99 of natural windows against that of the run, of the same iterations.

    python -m bench watch_runs measure OUT EXPERIMENT --mount    # a run, seen by the kernel's probes from outside
    python -m bench watch_runs tell OUT                          # the table; anywhere
    python -m bench watch_runs squeeze OUT                       # a small recording in its place; then xz -9, split

The tenants are programs, which the run lets go and holds; to whoever watches they come and go. A pair is seen in the
run's blocks of the two, alone and together, and nothing of the run is told to the watch but who is who: in each block a
process is one that has just come. Blocks should be 4 s or longer: windows are whole seconds. Measuring needs root and
a kernel with uprobes.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

import kts
from bench.watch_live import mounted
from kts.model.reading import RunData
from kts.model.summary import Estimate
from kts.report import cells
from kts.stats import analyse
from kts.stats.part import RunPart
from kts.telemetry.ancestry import line_of
from kts.units import NS_PER_S
from kts.watch.calls import CALL, FUNCTIONS, Array, Piece, WatchedProcess
from kts.watch.live import Watched
from kts.watch.recording import PieceWriter, RecordedSource
from kts.watch.source import LiveSource
from kts.watch.source.tracefs import Tracefs
from kts.watch.watching import Watching

RUN, CALLS, LINES = "run", "watch.recording", "lines.json"
_START_S = 30.0
WAITS = np.array([function.waits for function in FUNCTIONS])


def record(out: Path, *, mount: bool) -> None:
    """Until SIGINT: all calls, and of each process whose child it is."""
    over: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: over.append(number))
    lines: dict[int, list[int]] = {}
    with (
        mounted(mount) as tracefs,
        LiveSource(tracefs=Tracefs(tracefs), most_calls_s=float("inf")) as source,
        PieceWriter(out / CALLS, node="", kts=kts.__version__) as writer,
    ):
        for piece in source.pieces():
            lines |= {one.number: list(line_of(one.pid)) for one in piece.processes}
            writer.write(piece)
            (out / LINES).write_bytes(msgspec.json.encode(lines))
            if over:
                break


def measure(out: Path, experiment: Path, device: str, *, mount: bool) -> int:
    """`kts run`, and `record` beside it; the exit code of the run."""
    out.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "bench.watch_runs", "record", str(out)]
    argv = ["unshare", "--mount", *argv, "--mount"] if mount and shutil.which("unshare") else argv
    with subprocess.Popen(argv) as recorder:
        try:
            limit = time.monotonic() + _START_S
            while not (out / CALLS).exists():
                if recorder.poll() is not None or time.monotonic() > limit:
                    sys.exit("error: no watch: see above")
                time.sleep(0.1)
            words = ["run", str(experiment), "--out", str(out / RUN), "--overwrite", "--no-figures", "--device", device]
            return subprocess.run([sys.executable, "-m", "kts", *words], check=False).returncode
        finally:
            recorder.send_signal(signal.SIGINT)


def pairs(data: RunData) -> Iterator[tuple[RunPart, tuple[str, ...]]]:
    """The run as if it had been about each of its pairs alone."""
    plan = data.info.plan
    for mix in (one.tenants for one in plan.conditions if len(one.tenants) == 2):
        conditions = tuple(one for one in plan.conditions if set(one.tenants) <= set(mix))
        tenants = tuple(one for one in plan.tenants if one.name in mix)
        yield RunPart(data, replace(plan, conditions=conditions, tenants=tenants)), mix


def seen(calls: Array, owner: dict[int, str], run: RunData, tenants: Sequence[str]) -> dict[str, Watched]:
    """What `kts watch` makes of the calls in these blocks, by tenant. ``owner``: tenant by number of process."""
    known = [WatchedProcess(number=k, pid=k, began_ticks=0, command=name) for k, name in enumerate(tenants, 1)]
    watching, number = Watching(window_s=1e5), len(known)
    unit = {name: one.unit for name, one in zip(tenants, known, strict=True)}
    blocks = [block for block in run.blocks if block.valid]
    watching.take(Piece(blocks[0].start_ns, np.empty(0, CALL), tuple(known)))
    for block in blocks:
        begin, end = np.searchsorted(calls["ns"], [block.start_ns, block.end_ns])
        part = calls[begin:end]
        part = part[np.isin(part["process"], [one for one, name in owner.items() if name in tenants])].copy()
        came, before = [], part["process"].copy()
        for old in np.unique(part["process"]).tolist():
            number += 1
            k = tenants.index(owner[old])
            # under the name of the one that stays, whose number is another
            came.append(WatchedProcess(number=number, pid=k + 1, began_ticks=0, command=owner[old]))
            part["process"][before == old] = number
        watching.take(Piece(block.end_ns, part, tuple(came), tuple(one.number for one in came)))
    watching.take(Piece(blocks[-1].end_ns + 3 * NS_PER_S, np.empty(0, CALL)))
    state = watching.now(whole=True)
    return {name: one for name in tenants for one in state.units if one.unit == unit[name]}


def everything(out: Path, workers: dict[int, str]) -> tuple[Array, dict[int, str], int]:
    """All calls of tenants, whose each process is, and how many calls are missing."""
    lines = {int(k): line for k, line in msgspec.json.decode((out / LINES).read_bytes()).items()}
    owner = {number: workers[pid] for number, line in lines.items() for pid in line if pid in workers}
    with unpacked(out / CALLS) as path, RecordedSource(path) as source:
        pieces = [(piece.calls[np.isin(piece.calls["process"], list(owner))], piece.lost) for piece in source.pieces()]
    return np.concatenate([calls for calls, _ in pieces]), owner, sum(lost for _, lost in pieces)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The recording, which may have been packed by xz, in parts."""
    if path.exists():
        yield path
        return
    parts = sorted(path.parent.glob(f"{path.name}.xz*"))
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / path.name
        whole.write_bytes(lzma.decompress(b"".join(one.read_bytes() for one in parts)))
        yield whole


def squeeze(out: Path) -> None:
    """Only what the table is made of: calls in blocks of one or two tenants. What a thread hands over until its process
    waits is moved to the moment of the first: no figure is made of the moments in between, which do not compress."""
    run = kts.load(out / RUN)
    of = {one.name for one in run.info.plan.conditions if len(one.tenants) <= 2}
    edges_ns = [edge for block in run.data.blocks if block.condition in of for edge in (block.start_ns, block.end_ns)]
    whole = out / f"whole-{CALLS}"
    (out / CALLS).rename(whole)
    with RecordedSource(whole) as source, PieceWriter(out / CALLS, node="", kts=kts.__version__) as writer:
        for piece in source.pieces():
            calls = piece.calls[np.searchsorted(edges_ns, piece.calls["ns"], "right") % 2 == 1].copy()
            for process in np.unique(calls["process"]).tolist():
                at = np.flatnonzero(calls["process"] == process)
                waits, thread = WAITS[calls["function"][at]], calls["thread"][at].astype(np.int64)
                since = (np.cumsum(waits) << 32) | thread
                hands = at[~waits]
                _, first, place = np.unique(since[~waits], return_index=True, return_inverse=True)
                calls["ns"][hands] = calls["ns"][hands][first][place]
            writer.write(piece._replace(calls=calls[np.argsort(calls["ns"], kind="stable")]))


def tell(out: Path) -> Iterator[str]:
    """The table, and what it comes to."""
    run = kts.load(out / RUN)
    calls, owner, lost = everything(out, {one.pid: one.tenant for one in run.info.workers})
    yield f"{run.info.plan.name} on {run.info.workers[0].device.label}: {len(calls)} calls seen, {lost} lost"
    yield "\n| tenant | beside | DF50 of the run | watched | DF99 of the run | watched | inside |"
    yield "|---|---|---:|---:|---:|---:|---|"
    compared: dict[str, list[tuple[bool, float]]] = {"DF50": [], "DF99": []}
    mixes = 0
    for cut, mix in pairs(run.data):
        summary, watched = analyse(cut).summary, seen(calls, owner, cut, mix)
        for name in (one for one in mix if one in watched):
            mixes += 1
            df, cost = summary.tenants[name].response.df, watched[name].cost
            for figure, of_run, watch in (("DF50", df.p50, cost.df50), ("DF99", df.p99, cost.df99)):
                word = "-"
                if watch.estimate and of_run.estimate and watch.lo and watch.hi:
                    inside = watch.lo <= of_run.estimate <= watch.hi
                    compared[figure].append((inside, abs(watch.estimate / of_run.estimate - 1)))
                    word = "yes" if inside else "no"
            beside = next(one for one in mix if one != name)
            figures = " | ".join(map(shown, (df.p50, cost.df50, df.p99, cost.df99)))
            yield f"| {name} | {beside} | {figures} | {word} |"
    for figure, both in compared.items():
        if both:
            median, most = (100 * float(np.quantile([error for _, error in both], p)) for p in (0.5, 0.9))
            yield f"\nOf {mixes} {figure}s {len(both)} are told by both. The run's is inside of the watch's interval in"
            count = sum(inside for inside, _ in both)
            yield f"{count}; they differ by {median:.1f} % in the median, 90th percentile {most:.0f} %."


def shown(of: Estimate) -> str:
    """A cell."""
    return cells.ratio_with_interval(of) if of.estimate is not None else "refused"


def main(argv: Sequence[str] = ()) -> int:
    """Measures, or tells."""
    parser = argparse.ArgumentParser(prog="python -m bench watch_runs")
    parser.add_argument("step", choices=("measure", "record", "squeeze", "tell"))
    parser.add_argument("out", type=Path)
    parser.add_argument("experiment", type=Path, nargs="?")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--mount", action="store_true", help="mount tracefs, for the one who watches alone")
    asked = parser.parse_args(argv)
    match asked.step:
        case "record":
            record(asked.out, mount=asked.mount)
        case "measure":
            return measure(asked.out, asked.experiment, asked.device, mount=asked.mount)
        case "squeeze":
            squeeze(asked.out)
        case _:
            print(*tell(asked.out), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
