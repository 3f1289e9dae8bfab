"""What the tracer costs a program: the same program with it and without, in turns; and each call by itself.

Runs alternate (A B B A) and each is a life of its own; of each the iterations of its KTS_APP lines count, after a start
that does not. The bar: at most 1 % of throughput and of p99 at level ``calls``, for iterations of 1 ms and more. What
level ``kernels`` costs is told beside, without a bar: it is for profiles, whose host times come from the other level.

The cost of one call is measured in a process that makes asynchronous memsets and nothing else, through ctypes, whose
own cost is in both. Without a GPU, or with ``--standin``, a stand-in for one takes its place: its CUPTI does nothing
but call back, so the figures there are of our part alone.

    python -m bench tracer
    python -m bench tracer --seconds 20 --pairs 15 -- python3 examples/programs/llama_decode.py
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from kts.errors import SetupError
from kts.units import NS_PER_S
from kts.wire.appline import PREFIX, parse_line
from kts.worker.tracing.build import library
from kts.worker.tracing.cupti import cupti
from kts.worker.tracing.layout import Level
from kts.worker.tracing.reader import Tracing

BAR = 0.01
ARMS = (None, Level.CALLS, Level.KERNELS)
RESAMPLES = 2000
_START = 0.25  # of each life: not counted
_READ_EVERY_S = 0.02
_CALLS = """
import ctypes, sys, time
cuda = ctypes.CDLL("libcuda.so.1")
def check(code):
    if code: sys.exit(f"CUDA error {code}")
device, context, pointer, stream = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_void_p()
check(cuda.cuInit(0))
check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
check(cuda.cuCtxSetCurrent(context))
check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(4096)))
check(cuda.cuStreamCreate(ctypes.byref(stream), 1))
call, n, now = cuda.cuMemsetD8Async, ctypes.c_size_t(16), time.perf_counter_ns
for batch in range(300):
    began = now()
    for _ in range(200): call(pointer, 0, n, stream)
    print((now() - began) / 200)
    check(cuda.cuStreamSynchronize(stream))
"""

Interval = tuple[float, float, float]
"""Estimate, and the ends of its 95 % interval."""


@contextmanager
def traced(level: Level | None, argv: Sequence[str], env: dict[str, str]) -> Iterator[tuple[dict[str, str], list[str]]]:
    """(environment of a program at this level, what is to be said of it afterwards); its rings are read meanwhile."""
    said: list[str] = []
    if level is None:
        yield env, said
        return
    tracing = Tracing(level=level)
    over = threading.Event()

    def read() -> None:
        while not over.wait(_READ_EVERY_S):
            tracing.read()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield {**env, **tracing.env(env, library().path, cupti(argv, env).path)}, said
    finally:
        over.set()
        reader.join()
        tracing.read()
        processes = tracing.processes
        said += [f"{process.why}" for process in processes if process.why]
        said += [f"{tracing.lost} events lost"] if tracing.lost else []
        said += [] if processes else [tracing.why or "no process of it was traced: it does not use CUDA"]
        tracing.close()


def iterations(argv: Sequence[str], env: dict[str, str], seconds: float) -> tuple[float, NDArray[np.float64]]:
    """(iterations/s, their durations in ms) of one life, which ends ``seconds`` after its first line."""
    program = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert program.stdout is not None
    begins, ends, until = [], [], float("inf")
    for text in program.stdout:
        if text.startswith(PREFIX) and (line := parse_line(text)) is not None:
            begins.append(line.start_ns)
            ends.append(line.end_ns)
            until = min(until, time.monotonic() + seconds)
        if time.monotonic() > until:
            break
    os.killpg(program.pid, signal.SIGKILL)
    program.stdout.close()
    program.wait()
    first = int(len(ends) * _START)
    if len(ends) - first < 20:
        raise SetupError(f"{argv[0]} printed {len(ends)} KTS_APP lines", "give a program that prints one per iteration")
    spent_ns = ends[-1] - begins[first]
    return (len(ends) - first) / (spent_ns / NS_PER_S), (np.array(ends) - np.array(begins))[first:] / 1e6


def call_ns(env: dict[str, str]) -> float:
    """Nanoseconds of one call, the median of batches."""
    result = subprocess.run([sys.executable, "-c", _CALLS], env=env, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SetupError(f"calls cannot be made: {result.stderr.strip()}", "see kts doctor")
    return float(np.median([float(word) for word in result.stdout.split()][50:]))


def over_pairs(costs: NDArray[np.float64]) -> Interval:
    """The median over pairs, whose two lives are neighbours in time, and its interval from resampled pairs."""
    chosen = np.random.default_rng(0).integers(0, len(costs), (RESAMPLES, len(costs)))
    low, high = np.quantile(np.median(costs[chosen], axis=1), [0.025, 0.975])
    return float(np.median(costs)), float(low), float(high)


def _name(level: Level | None) -> str:
    return level.name.lower() if level else "untraced"


def _calls(env: dict[str, str], pairs: int) -> None:
    costs: dict[Level | None, list[float]] = {level: [] for level in ARMS}
    for pair in range(pairs):
        for level in ARMS if pair % 2 == 0 else reversed(ARMS):
            with traced(level, [sys.executable], env) as (given, _):
                costs[level].append(call_ns(given))
    print(f"one call: {np.median(costs[None]):.0f} ns untraced, ctypes' part included")
    for level in ARMS[1:]:
        cost, low, high = over_pairs(np.array(costs[level]) - np.array(costs[None]))
        print(f"  {_name(level):<10} {cost:+6.0f} ns [{low:+.0f}, {high:+.0f}]")


def _program(argv: Sequence[str], env: dict[str, str], pairs: int, seconds: float) -> None:
    lives: dict[Level | None, list[tuple[float, NDArray[np.float64]]]] = {level: [] for level in ARMS}
    said: dict[str, None] = {}
    for pair in range(pairs):
        for level in ARMS if pair % 2 == 0 else reversed(ARMS):
            with traced(level, argv, env) as (given, notes):
                lives[level].append(iterations(argv, given, seconds))
            said |= dict.fromkeys(f"{_name(level)}: {note}" for note in notes)
    plain = np.concatenate([durations for _, durations in lives[None]])
    print(f"{' '.join(argv)}: p50 {np.median(plain):.3f} ms, {len(plain)} iterations untraced")
    for level in ARMS[1:]:
        figures = {
            "throughput": [1 - ours[0] / bare[0] for ours, bare in zip(lives[level], lives[None], strict=True)],
            **{
                name: [
                    np.quantile(ours[1], q) / np.quantile(bare[1], q) - 1
                    for ours, bare in zip(lives[level], lives[None], strict=True)
                ]
                for name, q in (("p50", 0.5), ("p99", 0.99))
            },
        }
        for name, costs in figures.items():
            cost, low, high = over_pairs(np.array(costs))
            verdict = "ok" if high <= BAR else "over" if low > BAR else "undecided"
            told = verdict if level is Level.CALLS else ""
            print(f"  {_name(level):<10} {name:<10} {cost:+7.2%}  [{low:+.2%}, {high:+.2%}]  {told}")
    for note in said:
        print(f"  note: {note}")


def main(argv: Sequence[str] = ()) -> None:
    """Prints what one call costs, and a table of costs of each program."""
    parser = argparse.ArgumentParser(prog="python -m bench tracer")
    parser.add_argument("--pairs", type=int, default=20, help="lives of the program at each level")
    parser.add_argument("--seconds", type=float, default=3, help="of each life")
    parser.add_argument("--standin", action="store_true", help="take the stand-in although there is a GPU")
    parser.add_argument("program", nargs="*", help="one that prints KTS_APP lines, after --")
    options = parser.parse_args(argv)
    env, programs = dict(os.environ), [options.program] if options.program else []
    if options.standin or not _driver():
        from tests.helpers_tracer import standin

        made = standin()
        env |= {"LD_LIBRARY_PATH": str(made.cuda), "KTS_CUPTI": str(made.cupti), "STANDIN_CALL_NS": "3000"}
        shapes = ({"trips": "1,22", "kernel_us": 40}, {"trips": "200", "kernel_us": 5}, {"trips": "1", "kernel_us": 20})
        programs = programs or [made.argv(iterations=0, lines=1, **shape) for shape in shapes]
        print("tracer cost with a stand-in for the GPU, whose CUPTI costs next to nothing")
    elif not programs:
        print("give a program after --: only the cost of one call is measured")
    _calls(env, options.pairs)
    for program in programs:
        _program(program, env, options.pairs, options.seconds)


def _driver() -> bool:
    try:
        return bool(ctypes.CDLL("libcuda.so.1").cuInit(0) == 0)
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
