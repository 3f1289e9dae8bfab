"""Programs that are started before their calibration: held at the gate until then, or stopped, or started again."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.helpers_conduct import MemorySink, SilentWatcher, make_plan
from tests.helpers_tracer import Standin, standin
from tests.helpers_wait import until
from tests.helpers_worker_conductor import TinyConductor

from kts.backends.local import LocalBackend
from kts.conduct.driver import conduct
from kts.model.plan import Iteration, Program, Quota, Ranges, Tenant
from kts.wire.messages import Calibrate, Failed, Finish, Heartbeat, Opened, Ready, Welcome

pytestmark = pytest.mark.e2e
SETTLE_S = 1.0


@pytest.fixture(name="gpu")
def _gpu() -> Standin:
    return standin()


def _traced(gpu: Standin, iteration: Iteration | None = None, settle_s: float = 60, **shape: Any) -> Tenant:
    return _tenant(gpu.argv(**{"iterations": 0, **shape}), gpu, iteration, settle_s)


def _tenant(
    argv: Sequence[str], gpu: Standin, iteration: Iteration | None = None, settle_s: float = SETTLE_S
) -> Tenant:
    env = {**gpu.env(), "KTS_CUPTI": str(gpu.cupti), "KTS_SETTLE_S": str(settle_s)}
    return Tenant(name="agent", work=Program(command=tuple(argv), env=env, iteration=iteration, trace="calls"))


def _opened(conductor: TinyConductor, tenant: Tenant) -> Opened:
    conductor.start_worker()
    conductor.accept()
    conductor.send(Welcome(tenant=tenant, device="cpu"))
    return conductor.wait_for(Opened)


def _calibrated(conductor: TinyConductor) -> Ready:
    conductor.send(Calibrate())
    return conductor.wait_for(Ready)


def _programs(conductor: TinyConductor) -> list[int]:
    """Each is the child of a keeper, which is the worker's."""
    assert conductor.worker is not None
    return [program for keeper in _children(conductor.worker.pid) for program in _children(keeper)]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_programs_start_side_by_side_before_the_first_is_calibrated(gpu: Standin, tmp_path: Path) -> None:
    """Else six programs that take 10 s to start hold a GPU for a minute before the first iteration."""
    ready = [tmp_path / "one", tmp_path / "two"]
    with ExitStack() as stack:
        both = [stack.enter_context(TinyConductor()) for _ in ready]
        for conductor, file in zip(both, ready, strict=True):
            conductor.start_worker()
            conductor.accept()
            conductor.send(Welcome(tenant=_traced(gpu, start_ms=3000, ready=file), device="cpu"))
        for conductor in both:
            conductor.wait_for(Opened)
        assert all(file.exists() for file in ready), "nobody was told to calibrate, and both have begun"
        assert [_state(pid) for conductor in both for pid in _programs(conductor)] == ["S", "S"], "at the gate"
        for conductor in both:
            assert _calibrated(conductor).solo_ms is not None


@pytest.mark.parametrize(
    ("iteration", "shape"), [(None, {"lines": 1}), (Ranges(name="step"), {"nvtx": "step"}), (None, {})]
)
def test_the_time_until_its_calibration_is_in_no_iteration(
    gpu: Standin, iteration: Iteration | None, shape: dict[str, Any]
) -> None:
    """Else the iteration in which it is held takes as long as the calibrations of all tenants before it, and its limit
    of settling is over with that."""
    tenant = _traced(gpu, iteration, SETTLE_S, kernel_us=100, **shape)
    assert isinstance(tenant.work, Program)
    tenant = msgspec.structs.replace(tenant, work=msgspec.structs.replace(tenant.work, warmup=0))
    with TinyConductor() as conductor:
        _opened(conductor, tenant)
        for _ in range(6):  # of which there are four per second
            conductor.wait_for(Heartbeat)
        ready = _calibrated(conductor)
        assert ready.settled is not None
        assert ready.settled.iterations >= 20
        assert max((ms for _, ms in ready.settled.course), default=0.0) < 1000 * SETTLE_S
        assert ready.settled.seconds < 5 * SETTLE_S
        conductor.start_block(0, Quota(iterations=20, linger=False))
        done, _ = conductor.finish_block()
        assert done.count == 20


COUNTS = """
import pathlib, sys, time
while True:
    time.sleep(0.002)
    if {line}: print(f"KTS_APP,v1,OWN,0,{time.time_ns() - 2000000},{time.time_ns()},nan,", flush=True)
"""


@pytest.mark.parametrize("line", [False, True])
def test_a_program_that_never_comes_to_the_gate_is_stopped_until_its_calibration(gpu: Standin, line: bool) -> None:
    """Else a load generator would run on in its neighbours' calibrations."""
    code = COUNTS.replace("{line}", str(line))
    with TinyConductor() as conductor:
        _opened(conductor, _tenant([sys.executable, "-c", code], gpu, settle_s=60 if line else 0.5))
        (pid,) = _programs(conductor)
        until(lambda: _state(pid) == "T", "it is stopped")
        ready = _calibrated(conductor)
        assert (ready.solo_ms is not None) == line
        assert _programs(conductor) == [pid], "it was let go on, not started again"


def test_a_program_that_is_not_seen_is_stopped_where_it_says_so(gpu: Standin) -> None:
    """Else it would run on ungated while its neighbours are calibrated."""
    tenant = _traced(gpu, lines=1)
    assert isinstance(tenant.work, Program)
    tenant.work.env["STANDIN_TAKEN"] = "1"
    with TinyConductor() as conductor:
        _opened(conductor, tenant)
        (pid,) = _programs(conductor)
        until(lambda: _state(pid) == "T", "it is stopped")
        assert _calibrated(conductor).notes[1].startswith("its launches are not seen: ")


NEEDS = """
import pathlib, sys, time
if not pathlib.Path(sys.argv[1]).exists():
    print("nobody listens")
    sys.exit(3)
time.sleep(600)
"""


def test_a_program_that_needs_an_earlier_neighbour_is_started_again_and_that_is_said(
    gpu: Standin, tmp_path: Path
) -> None:
    """Else a client that comes before its server would end the run; or its first end be lost."""
    with TinyConductor() as conductor:
        _opened(conductor, _tenant([sys.executable, "-c", NEEDS, str(tmp_path / "listens")], gpu))
        (tmp_path / "listens").touch()
        (note,) = [note for note in _calibrated(conductor).notes if "started again" in note]
        assert note.endswith("ended with exit code 3; its last line: nobody listens")


@pytest.mark.parametrize("early", [False, True])
def test_a_program_that_dies_before_its_calibration_ends_the_run_with_its_own_end(
    gpu: Standin, tmp_path: Path, early: bool
) -> None:
    """Else its owner would not know why."""
    dies = _tenant([sys.executable, "-c", NEEDS, str(tmp_path / "never")], gpu)
    with TinyConductor() as conductor:
        _opened(conductor, dies if early else _traced(gpu))
        if not early:
            os.kill(_programs(conductor)[0], signal.SIGKILL)
        conductor.send(Calibrate())
        said = "ended with exit code 3; its last line: nobody listens" if early else "was killed by SIGKILL"
        assert said in conductor.wait_for(Failed).what


@pytest.mark.parametrize("waits", [False, True])
def test_no_program_outlives_a_worker_that_is_ended_before_its_calibration(gpu: Standin, waits: bool) -> None:
    """Else Ctrl-C, or a neighbour that fails, would leave it on the GPU."""
    tenant = _traced(gpu, start_ms=0 if waits else 600_000)
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.accept()
        conductor.send(Welcome(tenant=tenant, device="cpu"))
        until(lambda: _programs(conductor), "the program is started")
        (pid,) = _programs(conductor)
        if waits:
            conductor.wait_for(Opened)
            conductor.send(Finish())
        else:
            assert conductor.worker is not None
            conductor.worker.terminate()
        conductor.worker_ends()
        until(lambda: not Path(f"/proc/{pid}").exists() or _state(pid) == "Z", "it ends")


ON = """
import json, os, time
print("ON", json.dumps(sorted(os.sched_getaffinity(0))), flush=True)
for i in range(40):
    a = time.time_ns(); time.sleep(0.002); b = time.time_ns()
    print(f"KTS_APP,v1,OWN,{i},{a},{b},nan,", flush=True)
"""
"""A program that ends again and again."""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a core that no tenant has")
def test_the_worker_leaves_the_programs_core_and_a_kernels_worker_stays(tmp_path: Path) -> None:
    """Else the worker's reading of rings and lines would be in the tail of the program beside it."""
    plan = make_plan("kernel", "program", rounds=1)
    work = Program(command=(sys.executable, "-c", ON))
    plan = msgspec.structs.replace(plan, tenants=(plan.tenants[0], msgspec.structs.replace(plan.tenants[1], work=work)))
    seen: dict[str, list[int]] = {}
    sink = MemorySink()

    def look(_: object) -> None:
        if not seen and sink.blocks:
            seen.update({name: sorted(os.sched_getaffinity(info.pid)) for name, info in sink.workers.items()})

    outcome = conduct(plan, LocalBackend(tmp_path), sink, SilentWatcher(look), None)
    assert outcome.kind == "complete", outcome
    *others, last = sorted(os.sched_getaffinity(0))
    assert seen == {"kernel": [last], "program": others}
    assert {name: info.cores for name, info in sink.workers.items()} == {"kernel": (last,), "program": (last,)}
    lives = [line for line in (tmp_path / "program.log").read_text().splitlines() if line.startswith("ON ")]
    assert len(lives) > 1, "it was started again"
    assert set(lives) == {f"ON {json.dumps([last])}"}
