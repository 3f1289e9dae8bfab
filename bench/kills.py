"""What a kill -9 costs: real runs, in each of which one process is killed at an instant drawn by lot.

Two tenants, each a wrapper script that starts a program and a helper with a session of its own: one program prints its
iterations and writes them down for itself, the other is the tracer's stand-in for a CUDA program. Killed is the
command (which conducts), a worker, a keeper, a wrapper, or a program. Then is counted:

- lost: a block that run.json had, or a record of a whole journal frame, before the kill and not after it
- wrong: a record that the program did not write down so, a run or report that cannot be read, a block whose count is
  not that of its records
- processes: of the run, alive SECONDS after the command's end
- files: left among temporary files or in /dev/shm
- hung, traceback, code: a command that does not end, shows a traceback, or ends with a code that is not documented

    python -m bench kills --kills 200 --seed 1 --jobs 2
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import kts
from kts.cli.entry import entry
from kts.errors import KtsError
from kts.model.records import Records
from kts.store.journal import Journal

TARGETS = ("command", "worker", "keeper", "wrapper", "program")
COUNTED = ("lost", "wrong", "processes", "files", "hung", "traceback", "code")
SECONDS = 15.0
LATEST_S = 14.0
DEADLINE_S = 90.0
_LOOK_S = 0.05
MARK = "KTS_BENCH_KILLS"
CODES = frozenset({0, 4, 5, 130, -signal.SIGKILL})
_FORKS = get_context("forkserver")
_LOADED = [
    "kts.app.measuring",
    "kts.app.handle",
    "kts.cli.group",
    "kts.cli.run",
    "kts.store.parquet",
    "kts.store.writer",
]
"""So that a kill costs no second of loading."""

PROGRAM = """
import os, sys, time
said, i = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 0
while True:
    start = time.time_ns()
    time.sleep(0.002)
    line = f"KTS_APP,v1,LINES,{i},{start},{time.time_ns()},nan,\\n".encode()
    os.write(said, line)
    os.write(1, line)
    i += 1
"""
WRAPPER = 'setsid sleep 3600 & "$@" & wait'


@dataclass
class Trial:
    """One kill. ``found``: what was wrong, by what is counted."""

    number: int
    target: str
    at_s: float
    hit: bool = False
    reported: bool = False
    found: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def note(self, what: str, text: str) -> None:
        """Counts it."""
        self.found[what] += 1
        self.notes.append(f"{what}: {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a table; the exit code: 1 if anything was counted."""
    options = _options(arguments)
    rng = random.Random(options.seed)
    trials = [
        Trial(number, TARGETS[number % len(TARGETS)], rng.uniform(0.1, options.latest))
        for number in range(options.kills)
    ]
    _FORKS.set_forkserver_preload(_LOADED)
    traced = _standin()
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kts-kills-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        for trial in pool.map(lambda trial: _try(trial, Path(folder), traced), trials):
            for note in trial.notes:
                print(f"{trial.number} {trial.target} after {trial.at_s:.2f} s: {note}", file=sys.stderr, flush=True)
    _tell(trials, time.monotonic() - begun_s)
    return int(any(trial.found for trial in trials))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench kills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latest", type=float, default=LATEST_S, help="the latest instant, in seconds")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    return parser.parse_args(arguments)


def _standin() -> dict[str, object]:
    """A traced tenant on a GPU made of arithmetic."""
    from tests.helpers_tracer import standin

    made = standin()
    argv = made.argv(iterations=0, kernel_us=500, think_us=2000, trips="2")
    return {"command": ["sh", "-c", WRAPPER, "sh", *argv], "env": {**made.env(), "KTS_CUPTI": str(made.cupti)}}


def _experiment(folder: Path, traced: dict[str, object]) -> Path:
    lines = ["sh", "-c", WRAPPER, "sh", sys.executable, "-I", "-S", "-c", PROGRAM, str(folder / "said")]
    shared = {"workload": "command", "iterations": 60, "settle_seconds": 0.5}
    tenants = {"lines": {**shared, "command": lines}, "calls": {**shared, "trace": "calls", **traced}}
    text = json.dumps({"name": "kills", "rounds": 3, "precision": None, "device": "cpu", "tenants": tenants})
    path = folder / "kills.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _try(trial: Trial, base: Path, traced: dict[str, object]) -> Trial:
    folder = base / str(trial.number)
    run, scratch = folder / "run", folder / "tmp"
    scratch.mkdir(parents=True)
    mark = f"{os.getpid()}-{trial.number}"
    env = {**os.environ, MARK: mark, "TMPDIR": str(scratch)}
    command = ["run", str(_experiment(folder, traced)), "--out", str(run), "--no-figures", "--no-telemetry"]
    process = _FORKS.Process(target=_command, args=(command, env, str(folder / "err")))
    process.start()
    process.join(trial.at_s)
    before = _kill(trial, process, mark, run)
    process.join(DEADLINE_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        trial.note("hung", f"not over after {DEADLINE_S:g} s")
    code = process.exitcode
    said = (folder / "err").read_text(errors="replace")
    if "Traceback" in said or "unexpected" in said:
        trial.note("traceback", said[-600:])
    if code not in CODES:
        trial.note("code", f"{code}: {said[-300:]}")
    _look_for_processes(trial, mark)
    _look_for_files(trial, scratch, before.traces)
    _look_at_records(trial, run, folder / "said", before)
    shutil.rmtree(folder, ignore_errors=True)
    return trial


def _command(arguments: list[str], env: dict[str, str], said: str) -> None:
    """In a process forked from one that has loaded kts: the command, as a shell would start it."""
    os.environ.update(env)
    tempfile.tempdir = None
    file = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv[1:] = arguments
    sys.exit(entry())


@dataclass
class Before:
    """What was kept just before the kill: counts by block, and of whole journal frames; folders of traces."""

    blocks: dict[int, dict[str, int]] = field(default_factory=dict)
    frames: Counter[tuple[str, int]] = field(default_factory=Counter)
    traces: set[Path] = field(default_factory=set)


def _kill(trial: Trial, process: BaseProcess, mark: str, run: Path) -> Before:
    """Kills the target as soon as there is one, or lets the run end. What was kept is read while the command stands."""
    before = Before()
    while process.exitcode is None and process.pid is not None:
        there = dict(_marked(mark))
        pids = [process.pid] if trial.target == "command" else [p for p, role in there.items() if role == trial.target]
        if not pids:
            time.sleep(_LOOK_S)
            continue
        with suppress(OSError):
            os.kill(process.pid, signal.SIGSTOP)
            before = _kept(run, there)
            pid = random.Random(trial.number).choice(pids)
            os.kill(pid, signal.SIGKILL)
            trial.hit = True
            if pid != process.pid:
                os.kill(process.pid, signal.SIGCONT)
            break
        os.kill(process.pid, signal.SIGCONT)
    return before


def _kept(run: Path, there: dict[int, str]) -> Before:
    before = Before()
    with suppress(OSError, ValueError):
        info = json.loads((run / "run.json").read_bytes())
        before.blocks = {block["index"]: block["counts"] for block in info["blocks"] if block["valid"]}
    with suppress(OSError, KtsError):
        if (run / "records.journal").exists():
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(shutil.copy(run / "records.journal", folder))
                before.frames = Counter(Journal(copy).counts)
    for pid in there:
        if trace := _variables(pid).get("KTS_TRACE_DIR"):
            before.traces.add(Path(trace))
    return before


def _marked(mark: str) -> Iterator[tuple[int, str]]:
    """Processes of a run, and what each is."""
    for at in Path("/proc").iterdir():
        if not at.name.isdecimal() or _variables(int(at.name)).get(MARK) != mark:
            continue
        with suppress(OSError):
            words = (at / "cmdline").read_bytes().split(b"\0")
            name = (at / "comm").read_text().strip()
            if b") Z" in (at / "stat").read_bytes():
                continue
            yield int(at.name), _role(words, name)


def _role(words: list[bytes], name: str) -> str:
    if name == "keeper":
        return "keeper"
    if b"--join" in words:
        return "worker"
    if words[0] == b"sh":
        return "sweeper" if b"kts-sweeper" in words else "wrapper"
    if b"said" in words[-2][-4:] or words[0].endswith(b"program"):
        return "program"
    return "other"


def _variables(pid: int) -> dict[str, str]:
    with suppress(OSError):
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        return dict(item.partition("=")[::2] for item in text.split("\0"))
    return {}


def _look_for_processes(trial: Trial, mark: str) -> None:
    end_s = time.monotonic() + SECONDS
    while left := dict(_marked(mark)):
        if time.monotonic() > end_s:
            trial.note("processes", ", ".join(f"{role} {pid}" for pid, role in left.items()))
            for pid in left:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            return
        time.sleep(_LOOK_S)


def _look_for_files(trial: Trial, scratch: Path, traces: set[Path]) -> None:
    left = [str(path) for path in (*scratch.iterdir(), *(trace for trace in traces if trace.exists()))]
    if left:
        trial.note("files", ", ".join(left))


def _look_at_records(trial: Trial, directory: Path, said: Path, before: Before) -> None:
    if not (directory / "run.json").exists():
        if before.blocks or before.frames:
            trial.note("lost", "run.json")
        return
    try:
        run = kts.load(directory)
        blocks = {block.index: block for block in run.data.blocks}
        for index, counts in before.blocks.items():
            if index not in blocks or not blocks[index].valid or dict(blocks[index].counts) != counts:
                trial.note("lost", f"block {index}")
        truth = _written_down(said)
        for tenant in run.tenants:
            for index in {*blocks, *(block for name, block in before.frames if name == tenant)}:
                records = run.data.records(tenant, index)
                if len(records) < before.frames[tenant, index]:
                    trial.note("lost", f"{before.frames[tenant, index] - len(records)} records of {tenant} in {index}")
                if index in blocks and blocks[index].valid and len(records) != blocks[index].counts.get(tenant, 0):
                    trial.note("wrong", f"{tenant} in block {index}: {len(records)} records")
                if tenant == "lines" and (untrue := _untrue(records, truth)):
                    trial.note("wrong", f"{untrue} records of block {index} that the program did not write down")
        if run.has_figures:
            run.report(figures=False)
            trial.reported = True
    except KtsError as error:
        trial.note("wrong", error.what)


def _written_down(said: Path) -> set[int]:
    """How long each iteration was, in nanoseconds: two clocks tell different instants of one."""
    if not said.exists():
        return set()
    rows = [line.split(",") for line in said.read_text().splitlines() if line.endswith(",")]
    return {int(row[5]) - int(row[4]) for row in rows}


def _untrue(records: Records, truth: set[int]) -> int:
    took = records["retire_ns"].astype("int64") - records["submit_ns"].astype("int64")
    return sum(int(one) not in truth for one in took)


def _tell(trials: Sequence[Trial], took_s: float) -> None:
    print(f"{len(trials)} kills in {took_s:.0f} s\n")
    print(f"| killed | kills | hit | reported | {' | '.join(COUNTED)} |")
    print("|---" * (4 + len(COUNTED)) + "|")
    for target in (*TARGETS, "all"):
        of = [trial for trial in trials if target in (trial.target, "all")]
        found = sum((trial.found for trial in of), Counter[str]())
        counts = [len(of), sum(t.hit for t in of), sum(t.reported for t in of), *(found[what] for what in COUNTED)]
        print(f"| {target} | {' | '.join(map(str, counts))} |")


if __name__ == "__main__":
    sys.exit(main())
