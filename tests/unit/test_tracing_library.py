"""The tracer's library, in programs that get the stand-in for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_tracer import Seen, rings, standin, trace
from tests.helpers_wait import until

from kts.worker.tracing.cupti import cupti
from kts.worker.tracing.layout import NO_NAME, Flag, Kind, Level, Reason, State
from kts.worker.tracing.reader import Tracing


def run(folder: Path, env: dict[str, str] | None = None, **shape: object) -> list[Seen]:
    """The rings of the program, after it has ended well."""
    made = standin()
    subprocess.run(made.argv(**shape), env={**made.traced(folder), **(env or {})}, check=True, timeout=180)
    return rings(folder)


def test_each_launch_and_wait_is_one_event_of_its_outermost_call(tmp_path: Path) -> None:
    with trace(tmp_path):
        (ring,) = run(tmp_path, iterations=10, trips="1,22", kernel_us=20)
    assert (ring.header["state"], ring.header["lost"], ring.header["cupti"]) == (State.ENDED, 0, 28)
    kinds = ring.events["kind"].tolist()
    assert kinds == ([Kind.LAUNCH] * 1 + [Kind.WAIT] + [Kind.LAUNCH] * 22 + [Kind.WAIT]) * 10
    assert np.all(ring.events["inner"] > ring.events["correlation"]), (
        "the driver's call in the runtime's is told beside"
    )
    assert np.all(ring.events["end_ns"] >= ring.events["begin_ns"])
    assert np.all(np.diff(ring.events["begin_ns"]) > 0)
    waited = ring.of(Kind.WAIT)
    lasted = waited["end_ns"] - waited["begin_ns"]
    assert np.median(lasted[1::2]) > 22 * 20_000 * 0.5, "22 kernels of 20 us were waited for"
    assert len(set(ring.events["stream"])) == 1
    assert not ring.events["flags"].any()


@pytest.mark.parametrize("wait", ["event", "query", "device", "copy"])
def test_ways_to_wait(tmp_path: Path, wait: str) -> None:
    with trace(tmp_path):
        (ring,) = run(tmp_path, iterations=5, trips="2", wait=wait, kernel_us=200)
    ended = {
        "event": ring.of(Kind.WAIT),
        "query": ring.of(Kind.QUERY),
        "device": ring.of(Kind.WAIT),
        "copy": ring.of(Kind.COPY),
    }[wait]
    assert len(ended) == 5
    if wait == "event":
        assert ring.of(Kind.RECORD)["detail"].tolist() == ended["detail"].tolist()
    elif wait == "device":
        assert np.all(ended["flags"] & Flag.ALL)
    elif wait == "copy":
        assert np.all(ended["flags"] == Flag.WAITED | Flag.TO_HOST | Flag.PAGEABLE)
        assert np.all(ended["detail"] == 64)


def test_a_graph_is_one_event_and_what_is_captured_is_none(tmp_path: Path) -> None:
    with trace(tmp_path):
        (ring,) = run(tmp_path, iterations=5, trips="7", graph=1)
    assert ring.events["kind"].tolist() == [Kind.GRAPH, Kind.WAIT] * 5


def test_threads_streams_and_contexts_are_told_apart(tmp_path: Path) -> None:
    with trace(tmp_path):
        (ring,) = run(tmp_path, iterations=5, trips="6", threads=3, contexts=2, streams=2)
    launches = ring.of(Kind.LAUNCH)
    assert len(launches) == 3 * 5 * 6
    assert len(set(launches["thread"])) == 3
    assert len(set(launches["stream"])) == 6
    assert len(set(launches["context"])) == 2


def test_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    with trace(tmp_path, capacity=64):
        (ring,) = run(tmp_path, iterations=10, trips="9", kernel_us=1)
    assert ring.header["calls"] == 100
    assert (ring.header["head"], ring.header["lost"]) == (64, 36)
    assert ring.events["seq"].tolist() == list(range(1, 65)), "the first are kept, whole"


def test_gate_holds_the_first_work_and_no_wait(tmp_path: Path) -> None:
    made = standin()
    with trace(tmp_path, closed=True) as control:
        with subprocess.Popen(made.argv(iterations=3, trips="1"), env=made.traced(tmp_path)) as program:
            until(lambda: (seen := rings(tmp_path)) and seen[0].header["held"] == 1, "it is held")
            assert program.poll() is None
            control.gate(closed=False)
        (ring,) = rings(tmp_path)
    assert program.returncode == 0
    assert (ring.header["held"], ring.header["holds"]) == (0, 1)
    assert ring.header["held_ns"] > 0
    assert ring.events["begin_ns"][0] >= ring.header["began_ns"] + ring.header["held_ns"], (
        "a call begins behind the gate"
    )


def test_gate_closed_meanwhile_lets_a_wait_end(tmp_path: Path) -> None:
    made = standin()
    argv = made.argv(iterations=0, trips="1", kernel_us=500)
    with trace(tmp_path) as control, subprocess.Popen(argv, env=made.traced(tmp_path)) as program:
        until(lambda: (seen := rings(tmp_path)) and len(seen[0].events) >= 20, "it works")
        control.gate(closed=True)
        until(lambda: rings(tmp_path)[0].header["held"] == 1, "it is held")
        (ring,) = rings(tmp_path)
        program.kill()
    assert ring.events["kind"][-2:].tolist() == [Kind.LAUNCH, Kind.WAIT], "held at the next launch, nothing in flight"


def test_gate_of_a_worker_that_died_opens(tmp_path: Path) -> None:
    with trace(tmp_path, closed=True):
        pass  # gives up its lock, as the kernel does for whoever dies
    (ring,) = run(tmp_path, iterations=3, trips="1")
    assert ring.header["state"] == State.ENDED
    assert ring.header["holds"] == 1, "for good"


def test_kernels_are_on_our_clock_and_correlated(tmp_path: Path) -> None:
    with trace(tmp_path, level=Level.KERNELS):
        (ring,) = run(tmp_path, iterations=20, trips="1,4", kernel_us=50, copy_bytes=1 << 16)
    assert ring.header["level"] == Level.KERNELS
    kernels, copies = ring.of(Kind.KERNEL), ring.of(Kind.COPIED)
    launches = ring.of(Kind.LAUNCH)
    assert len(kernels) == len(launches) == 100
    assert set(kernels["correlation"]) == set(launches["correlation"])
    assert np.all(kernels["end_ns"] - kernels["begin_ns"] == 50_000)
    began = dict(zip(launches["correlation"], launches["begin_ns"], strict=True))
    assert all(kernel["begin_ns"] >= began[kernel["correlation"]] for kernel in kernels), "no kernel before its launch"
    assert len(copies) == 40
    assert np.all(copies["flags"] == Flag.TO_DEVICE)


@pytest.mark.parametrize(
    ("env", "reason", "said"),
    [
        ({"KTS_CUPTI": "/nowhere/libcupti.so.12"}, Reason.NO_CUPTI, "/nowhere/libcupti.so.12"),
        ({"KTS_CUPTI": ""}, Reason.NO_CUPTI, "no libcupti"),
        ({"STANDIN_TAKEN": "1"}, Reason.OTHER_PROFILER, "another profiler"),
        ({"STANDIN_CUPTI_VERSION": "9"}, Reason.CUPTI_VERSION, "version is 9"),
        ({"STANDIN_REFUSES": "35"}, Reason.CUPTI_ERROR, "INSUFFICIENT_PRIVILEGES"),
    ],
)
def test_refused_programs_run_on(tmp_path: Path, env: dict[str, str], reason: Reason, said: str) -> None:
    with trace(tmp_path):
        (ring,) = run(tmp_path, env, iterations=3, trips="2")
    assert (ring.header["state"], ring.header["reason"]) == (State.REFUSED, reason)
    assert said in ring.why
    assert len(ring.events) == 0


def test_without_a_folder_nothing_is_traced(tmp_path: Path) -> None:
    assert run(tmp_path, iterations=3, trips="2") == []
    assert run(tmp_path, {"KTS_TRACE_DIR": str(tmp_path / "none")}, iterations=3, trips="2") == []
    assert run(tmp_path, {"KTS_TRACE_DIR": ""}, iterations=3, trips="2") == []


def test_ranges_of_a_program(tmp_path: Path) -> None:
    with trace(tmp_path):
        (ring,) = run(tmp_path, iterations=6, trips="2", nvtx="decode step")
    ranges = ring.of(Kind.RANGE)
    assert [ring.names[int(name)] for name in ranges["detail"]] == ["decode step"] * 6
    launches = ring.of(Kind.LAUNCH)["begin_ns"].reshape(6, 2)
    assert np.all((launches >= ranges["begin_ns"][:, None]) & (launches < ranges["end_ns"][:, None]))


def test_processes_have_rings_of_their_own(tmp_path: Path) -> None:
    with trace(tmp_path, capacity=256):
        seen = run(tmp_path, iterations=5, trips="3", processes=3, spawn=4)
    assert len(seen) == 3, "children that do no work on a GPU have none"
    assert len({int(ring.header["pid"]) for ring in seen}) == 3
    assert [len(ring.events) for ring in seen] == [20] * 3


@pytest.mark.parametrize("version", ["12", "11.8"])
def test_kernels_of_an_older_cupti_are_on_our_clock_too(tmp_path: Path, version: str) -> None:
    """One that cannot be given our clock tells times of its own, which are converted."""
    made = standin()
    cupti = {"12": made.cupti, "11.8": made.old_cupti}[version]
    with trace(tmp_path, level=Level.KERNELS):
        (ring,) = run(tmp_path, {"KTS_CUPTI": str(cupti)}, iterations=100, trips="3", kernel_us=300)
    kernels, waits = ring.of(Kind.KERNEL), ring.of(Kind.WAIT)
    late = waits["end_ns"] - kernels["end_ns"].reshape(100, 3)[:, -1]
    assert np.median(late) > -20_000, "a wait ends after its last kernel"
    assert np.min(late) < 1_000_000


def test_level_is_raised_and_lowered_while_the_program_runs(tmp_path: Path) -> None:
    made = standin()
    with trace(tmp_path) as control:
        with subprocess.Popen(made.argv(iterations=0, trips="2", kernel_us=200), env=made.traced(tmp_path)) as program:
            for level in (Level.CALLS, Level.KERNELS, Level.CALLS):
                control.level(level)
                until = time.monotonic() + 120
                while not (seen := rings(tmp_path)) or seen[0].header["level"] != level:
                    assert time.monotonic() < until
            program.kill()
        (ring,) = rings(tmp_path)
    assert ring.header["state"] == State.RECORDING, "who is killed says nothing"
    kernels, launches = ring.of(Kind.KERNEL), ring.of(Kind.LAUNCH)
    assert 0 < len(kernels) < len(launches)
    assert set(kernels["correlation"]) <= set(launches["correlation"])


def test_kernels_refused_leave_the_calls(tmp_path: Path) -> None:
    with trace(tmp_path, level=Level.KERNELS):
        (ring,) = run(tmp_path, {"STANDIN_NO_KERNELS": "35"}, iterations=5, trips="3")
    assert (ring.header["level"], ring.header["reason"]) == (Level.CALLS, Reason.CUPTI_ERROR)
    assert "INSUFFICIENT_PRIVILEGES" in ring.why
    assert len(ring.of(Kind.LAUNCH)) == 15


@pytest.mark.parametrize("limited", [True, False], ids=["of its own", "of the memory"])
def test_no_room_for_the_ring_is_a_refusal(limited: bool) -> None:
    """Its memory is taken when it is made, within the program's limits: a write that finds none would end a program."""
    made = standin()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        argv = ["prlimit", f"--fsize={1_000_000 if limited else 1 << 50}", *made.argv(iterations=3, trips="2")]
        with trace(Path(folder), capacity=1 << (16 if limited else 32)):
            subprocess.run(argv, env=made.traced(Path(folder)), check=True, timeout=180)
            (ring,) = rings(Path(folder))
    assert (ring.header["state"], ring.header["reason"]) == (State.REFUSED, Reason.NO_MEMORY)


def test_execed_program_has_a_ring_of_its_own(tmp_path: Path) -> None:
    made = standin()
    again = " ".join(made.argv(iterations=2, trips="1"))
    first = " ".join(made.argv(iterations=9, trips="1", crash="exec", crash_at=3))
    with trace(tmp_path):
        subprocess.run(["sh", "-c", f"{first}; exec {again}"], env=made.traced(tmp_path), check=True, timeout=180)
        seen = rings(tmp_path)
    assert [len(ring.of(Kind.LAUNCH)) for ring in seen] == [3, 2]
    assert [ring.header["state"] for ring in seen] == [State.RECORDING, State.ENDED]


REAL_NVTX = """
import os, threading, nvtx

@nvtx.annotate("step", domain="app")
def step():
    with nvtx.annotate("inner"):
        pass

step()
started = nvtx.start_range("started")
nvtx.push_range("\\u00fcnic\\u00f6de")
nvtx.end_range(started)
nvtx.pop_range()
nvtx.pop_range()
thread = threading.Thread(target=step)
thread.start()
thread.join()
if os.fork() == 0:
    step()
    raise SystemExit
os.wait()
"""


def test_ranges_by_the_real_nvtx(tmp_path: Path) -> None:
    """Domains, registered strings, started ranges, threads; and a child that was forked when all that was at work."""
    pytest.importorskip("nvtx")
    with trace(tmp_path):
        env = {**standin().traced(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", REAL_NVTX], env=env, check=True, timeout=180)
        parent, child = rings(tmp_path)
    names = [[ring.names[int(name)] for name in ring.events["detail"]] for ring in (parent, child)]
    assert names == [["inner", "step", "started", "ünicöde", "inner", "step"], ["inner", "step"]]
    assert parent.header["pid"] != child.header["pid"]
    assert len(set(parent.events["thread"])) == 2


def test_real_cupti_without_a_driver_is_a_refusal_in_its_words(tmp_path: Path) -> None:
    real = cupti(env={})
    if real.path is None:
        pytest.skip("no real libcupti here (package nvidia-cuda-cupti-cu12)")
    with trace(tmp_path):
        (ring,) = run(tmp_path, {"KTS_CUPTI": str(real.path)}, iterations=3, trips="2")
    assert ring.header["cupti"] >= 13, "it was loaded, and told its version"
    assert ring.header["reason"] == Reason.CUPTI_ERROR
    assert "CUPTI refuses: CUPTI_ERROR_NOT_INITIALIZED" in ring.why


def test_many_threads_and_a_reader_that_lags_lose_nothing_uncounted(tmp_path: Path) -> None:
    """Eight threads write while the worker reads: what is kept is whole and in each thread's order."""
    made, tracing = standin(), Tracing(capacity=1 << 10, folder=tmp_path)
    shape = {"iterations": 150, "trips": "50", "threads": 8, "kernel_us": 0, "streams": 2}
    taken = []
    env = {**made.env(), **tracing.env(made.env(), made.library, made.cupti)}
    with subprocess.Popen(made.argv(**shape), env=env) as program:
        while program.poll() is None:
            taken += [batch.events for batch in tracing.read()]
    taken += [batch.events for batch in tracing.read()]
    (process,) = tracing.processes
    tracing.close()
    events = np.concatenate(taken)
    assert program.returncode == 0
    assert len(events) + process.lost == process.calls == 8 * 150 * (50 + 1 + 2)
    assert process.lost > 0, "a ring of this size is too small for this"
    assert np.all(np.diff(events["seq"].astype(np.int64)) == 1)
    for thread in set(events["thread"]):
        own = events[events["thread"] == thread]
        assert np.all(own["begin_ns"][1:] >= own["end_ns"][:-1]), "one call of a thread after the other"


MANY_NAMES = """
import nvtx
for i in range(20000):
    nvtx.push_range(f"iteration {i}")
    nvtx.pop_range()
"""


def test_names_that_never_end_cost_names_only(tmp_path: Path) -> None:
    pytest.importorskip("nvtx")
    with trace(tmp_path, capacity=1 << 15):
        env = {**standin().traced(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", MANY_NAMES], env=env, check=True, timeout=180)
        (ring,) = rings(tmp_path)
    named = ring.events["detail"] != NO_NAME
    assert len(ring.events) == 20_000
    assert 1_000 < np.count_nonzero(named) < 10_000
    assert all(ring.names[int(name)].startswith("iteration ") for name in ring.events["detail"][named])
