"""Programs that end, multiply and refuse in every way, traced: all that they did is seen, or it is said what is not.

The GPU, its driver and CUPTI are stand-ins (tests/standin); programs, processes, the library and the rings are real.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.helpers_tracer import standin
from tests.helpers_wait import until

from kts.worker.tracing import build
from kts.worker.tracing.layout import Kind, Level, State
from kts.worker.tracing.reader import Batch, Tracing

pytestmark = pytest.mark.e2e
LONGEST_S = 240.0
Calls = dict[tuple[int, int], list[int]]
"""Kinds of events in their order, by process."""


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    trace = Tracing(1 << 14)
    yield trace
    trace.close()


BEGUN: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    yield
    while BEGUN:
        program = BEGUN.pop()
        program.kill()
        program.wait()


def begin(tracing: Tracing, argv: list[str], **more: str) -> subprocess.Popen[bytes]:
    made = standin()
    given = made.env(**more)
    BEGUN.append(subprocess.Popen(argv, env=given | tracing.env(given, made.library, made.cupti)))
    return BEGUN[-1]


def batches(tracing: Tracing, program: subprocess.Popen[bytes], every_s: float = 0.0) -> Iterator[Batch]:
    """All there are until the program has ended, and all of its processes."""
    until = time.monotonic() + LONGEST_S
    over = False
    while not over:
        assert time.monotonic() < until
        time.sleep(every_s)
        over = program.poll() is not None
        yield from tracing.read()
        over = over and not any(process.alive for process in tracing.processes)
    yield from tracing.read()


def calls(tracing: Tracing, program: subprocess.Popen[bytes]) -> Calls:
    seen: Calls = {}
    for batch in batches(tracing, program):
        seen.setdefault(batch.process.key, []).extend(batch.events["kind"].tolist())
    return seen


def ran(tracing: Tracing, env: Mapping[str, str] | None = None, code: int = 0, **shape: Any) -> Calls:
    """What was seen of the stand-in's program, which ended as it must."""
    program = begin(tracing, standin().argv(**shape), **(env or {}))
    seen = calls(tracing, program)
    assert program.returncode == code
    return seen


ITERATION = [Kind.LAUNCH, Kind.LAUNCH, Kind.WAIT]


@pytest.mark.parametrize(
    ("crash", "code"), [("segv", -signal.SIGSEGV), ("abort", -signal.SIGABRT), ("exit", 3), ("exec", 0)]
)
def test_all_that_a_program_did_before_its_end_is_seen(tracing: Tracing, crash: str, code: int) -> None:
    seen = ran(tracing, code=code, iterations=9, trips="2", kernel_us=20, crash_at=5, crash=crash)
    assert list(seen.values()) == [ITERATION * 5]
    (process,) = tracing.processes
    assert (process.state, process.alive, process.lost, process.calls) == (State.RECORDING, False, 0, 15)
    assert [path.name for path in Path(str(tracing.folder)).iterdir()] == ["control"]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_program_killed_at_any_instant_leaves_whole_calls_and_every_one_is_accounted_for(
    tracing: Tracing, threads: int
) -> None:
    rng = random.Random(threads)
    for _ in range(6):
        program = begin(tracing, standin().argv(iterations=0, trips="5", kernel_us=1, threads=threads))
        wanted, kept = rng.randrange(1, 3000), 0
        for batch in batches(tracing, program):
            assert (batch.events["begin_ns"] <= batch.events["end_ns"]).all()
            assert set(batch.events["kind"]) <= set(ITERATION)
            kept += len(batch.events)
            if kept >= wanted and program.returncode is None:
                program.kill()
        process = tracing.processes[-1]
        assert process.state == State.RECORDING
        assert process.calls - threads <= kept + process.lost <= process.calls


def test_a_hundred_children_that_do_not_use_the_gpu_leave_their_parent_alone(tracing: Tracing) -> None:
    seen = ran(tracing, iterations=20, trips="2", kernel_us=20, spawn=100)
    assert list(seen.values()) == [ITERATION * 20]


def test_a_hundred_processes_each_have_their_own_calls(tracing: Tracing) -> None:
    seen = ran(tracing, iterations=4, trips="2", kernel_us=20, processes=100)
    assert list(seen.values()) == [ITERATION * 4] * 100
    assert tracing.lost == 0


SPAWNS = """
import ctypes, multiprocessing, os, subprocess, sys

def work(n):
    cuda = ctypes.CDLL("libcuda.so.1")
    assert cuda.cuInit(0) == 0
    function = ctypes.c_void_p()
    cuda.cuModuleGetFunction(ctypes.byref(function), None, b"work_20us")
    if n == 2:
        os.closerange(3, 4096)  # as what becomes a daemon does
    for _ in range(7):
        cuda.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, None, None, None)
    cuda.cuCtxSynchronize()
    os._exit(0)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=work, args=(n,)) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
"""


def test_processes_that_a_program_spawns_are_seen_even_without_their_descriptors(
    tracing: Tracing, tmp_path: Path
) -> None:
    script = tmp_path / "spawns.py"
    script.write_text(SPAWNS)
    program = begin(tracing, [sys.executable, str(script)])
    seen = calls(tracing, program)
    assert program.returncode == 0
    assert list(seen.values()) == [[Kind.LAUNCH] * 7 + [Kind.WAIT]] * 3


def test_ten_programs_at_once_do_not_mix() -> None:
    tracings = [Tracing(1 << 12) for _ in range(10)]
    try:
        programs = [
            begin(tracing, standin().argv(iterations=30 + n, trips="2", kernel_us=20))
            for n, tracing in enumerate(tracings)
        ]
        for n, (tracing, program) in enumerate(zip(tracings, programs, strict=True)):
            assert list(calls(tracing, program).values()) == [ITERATION * (30 + n)]
    finally:
        for tracing in tracings:
            tracing.close()
    assert not any(Path(str(tracing.folder)).exists() for tracing in tracings)


def test_a_ring_that_is_too_small_loses_calls_and_says_how_many_and_where() -> None:
    tracing = Tracing(64)
    try:
        program = begin(tracing, standin().argv(iterations=200, trips="9", kernel_us=1))
        program.wait()
        seen = list(batches(tracing, program))
        assert [len(batch.events) for batch in seen] == [64]
        assert tracing.lost == 2000 - 64
        assert program.returncode == 0
        program = begin(tracing, standin().argv(iterations=0, trips="9", kernel_us=1))
        lost = tracing.lost
        while tracing.lost == lost:
            pass  # it fills its ring, and nobody reads
        first, second = tracing.read(), list[Batch]()
        while not second:
            second = tracing.read()
        assert len(first[0].events) == 64
        assert (first[0].breaks.tolist(), second[0].breaks.tolist()[:1]) == ([], [0])
    finally:
        tracing.close()


def test_a_program_with_an_injection_of_its_own_runs_with_that_and_it_is_said(tracing: Tracing) -> None:
    own = {"CUDA_INJECTION64_PATH": "/nowhere/own.so"}
    seen = ran(tracing, own, iterations=5, trips="2", kernel_us=20, nvtx="step")
    assert list(seen.values()) == [[Kind.RANGE] * 5], "its ranges need no CUPTI"
    assert tracing.notes() == (
        "its launches are not seen: the program sets CUDA_INJECTION64_PATH=/nowhere/own.so itself",
    )


def test_a_program_that_takes_the_injection_away_runs_on_and_it_is_said(tracing: Tracing) -> None:
    argv = ["env", "-u", "CUDA_INJECTION64_PATH", *standin().argv(iterations=5, trips="2", kernel_us=20)]
    program = begin(tracing, argv)
    assert calls(tracing, program) == {}
    assert program.returncode == 0
    assert tracing.notes() == ("its launches are not seen: it has handed nothing to the GPU yet",)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"STANDIN_TAKEN": "1"}, "another profiler uses CUPTI in this process"),
        ({"STANDIN_CUPTI_VERSION": "9"}, "CUPTI's API version is 9"),
        ({"STANDIN_REFUSES": "35"}, "CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"),
    ],
)
def test_a_program_that_cupti_refuses_runs_on_and_it_is_said(tracing: Tracing, env: dict[str, str], said: str) -> None:
    assert ran(tracing, env, iterations=5, trips="2", kernel_us=20) == {}
    (note,) = tracing.notes()
    assert note.startswith("its launches are not seen: ")
    assert said in note


def test_without_a_compiler_a_program_runs_on(
    tracing: Tracing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = standin()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "NAME", "libkts_trace_not_built.so")
    library = build.library()
    assert library.path is None
    assert "no C compiler" in library.why
    given = made.env()
    assert tracing.env(given, library.path, made.cupti) == {}
    argv = made.argv(iterations=3, trips="2", kernel_us=20)
    assert subprocess.run(argv, env=given, check=True, timeout=LONGEST_S).returncode == 0


def test_a_closed_gate_holds_all_of_a_program_and_opens_when_the_trace_ends(tracing: Tracing) -> None:
    tracing.gate(closed=True)
    program = begin(tracing, standin().argv(iterations=50, trips="2", kernel_us=20, processes=2, threads=2))
    until(lambda: tracing.read() or [process.held for process in tracing.processes] == [2, 2], "all are held")
    assert [process.held for process in tracing.processes] == [2, 2]
    tracing.close()
    assert program.wait(LONGEST_S) == 0


def test_a_higher_level_reaches_a_program_that_runs(tracing: Tracing) -> None:
    begin(tracing, standin().argv(iterations=0, trips="2", kernel_us=200))
    tracing.raise_level()
    until = time.monotonic() + LONGEST_S
    kernels: set[int] = set()
    launches: set[int] = set()
    while len(kernels) < 10:
        assert time.monotonic() < until
        for batch in tracing.read():
            of = batch.events["kind"]
            kernels |= set(batch.events["correlation"][of == Kind.KERNEL].tolist())
            launches |= set(batch.events["correlation"][of == Kind.LAUNCH].tolist())
    (process,) = tracing.processes
    assert process.level == Level.KERNELS
    assert kernels <= launches


def test_reading_keeps_up_with_a_program_that_makes_calls_all_the_time() -> None:
    """A worker looks every 20 ms or so; its default ring must hold what comes between two looks."""
    tracing = Tracing()
    try:
        program = begin(tracing, standin().argv(iterations=1500, trips="40", kernel_us=1))
        kept = sum(len(batch.events) for batch in batches(tracing, program, every_s=0.02))
        assert (kept, tracing.lost) == (1500 * 41, 0)
    finally:
        tracing.close()
