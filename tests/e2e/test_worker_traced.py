"""Programs whose iterations are seen, not told: in a real worker, on the stand-in for a GPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers_tracer import Standin, standin
from tests.helpers_worker_conductor import TinyConductor

from kts.model.plan import Iteration, Lines, Program, Quota, Ranges, RoundTrips, Tenant
from kts.model.records import Records, joined
from kts.wire.messages import Calibrate, Failed, Finish, FromWorker, QuotaReached, Ready, Stop, Welcome
from kts.worker.tenants.own_program import OwnProgram
from kts.worker.tenants.process import ChildProcess
from kts.worker.tenants.sources import FromLines, FromTrips
from kts.worker.tracing.reader import Tracing

pytestmark = pytest.mark.e2e


@pytest.fixture(name="gpu")
def _gpu() -> Standin:
    return standin()


def _tenant(gpu: Standin, iteration: Iteration | None = None, settle_s: float = 3.0, **shape: Any) -> Tenant:
    shape = {"iterations": 0, "kernel_us": 100, **shape}
    env = {**gpu.env(), "KTS_CUPTI": str(gpu.cupti), "KTS_SETTLE_S": str(settle_s)}
    work = Program(command=tuple(gpu.argv(**shape)), env=env, iteration=iteration, trace="calls")
    return Tenant(name="agent", work=work)


def _measured(tenant: Tenant, blocks: int = 1, iterations: int = 30) -> tuple[Ready, Records, list[int]]:
    """What it said at calibration; the records of all blocks, and how many each left out."""
    with TinyConductor() as conductor:
        conductor.start_worker()
        _, ready = conductor.welcome(tenant)
        parts, skipped = [], []
        for block in range(blocks):
            start_ns = conductor.start_block(block, Quota(iterations=iterations))
            passed: list[FromWorker] = []
            conductor.wait_for(QuotaReached, passed)
            conductor.send(Stop(block=block))
            done, records = conductor.finish_block(passed)
            assert done.unread == 0
            assert (records["submit_ns"] >= start_ns).all()
            assert (records["retire_ns"] <= time.monotonic_ns()).all()
            parts.append(records)
            skipped.append(done.skipped)
        conductor.send(Finish())
        code, _, err = conductor.worker_ends()
        assert code == 0, err
        return ready, np.concatenate(parts), skipped


def test_a_program_that_prints_nothing_is_measured_by_its_round_trips(gpu: Standin) -> None:
    """Else any program would need a line of ours in it to be a tenant."""
    ready, records, skipped = _measured(_tenant(gpu, trips="1,22"), blocks=2)
    assert ready.notes == ("an iteration is 2 round trips: 1 launch, then 22",)
    assert ready.solo_ms is not None
    assert ready.cycle_ms is not None
    assert ready.solo_ms >= 2.3, "both round trips, and 23 kernels of 0.1 ms"
    assert ready.cycle_ms > 0.9 * ready.solo_ms
    assert set(records["launches"].tolist()) == {23}
    assert set(records["waits"].tolist()) == {2}
    assert ((records["retire_ns"] - records["submit_ns"]) / 1e6 >= 2.3).all()
    assert max(skipped) <= 3, "only what was under way as a block began or ended"


def _both_ways(gpu: Standin, iterations: int) -> tuple[Records, Records]:
    """The same iterations of one run by its lines and by its round trips, but for some at both ends."""
    tracing = Tracing()
    traced = gpu.env() | tracing.env({}, gpu.library, gpu.cupti)
    argv = tuple(gpu.argv(iterations=0, trips="2,8", kernel_us=500, lines=1))
    program = OwnProgram(argv, traced, ChildProcess, tracing)
    sources = FromLines(), FromTrips(2)
    heard: tuple[list[Records], list[Records]] = ([], [])
    try:
        while sum(map(len, heard[0])) < iterations:
            said, batches = program.read(0.02), program.seen()
            for source, parts in zip(sources, heard, strict=True):
                parts.append(source.take(said, batches))
            if sum(map(len, heard[1])) == len(heard[1][-1]) > 0:
                sources[1].settle()
    finally:
        program.end()
        tracing.close()
    told, seen = (joined(parts) for parts in heard)
    since_ns = max(told["submit_ns"][10], seen["submit_ns"][10])
    told, seen = (records[records["submit_ns"] > since_ns] for records in (told, seen))
    both = min(len(told), len(seen)) - 5
    return told[:both], seen[:both]


def test_lines_and_round_trips_of_one_run_agree(gpu: Standin) -> None:
    """Else a figure would depend on which of the two kts has taken.

    A line's end is read after the wait that ends the round trip: where the program lost its core there, it runs again.
    """
    apart: list[float] = []
    for _ in range(10):
        told, seen = _both_ways(gpu, 200)
        assert set(told["launches"].tolist()) == set(seen["launches"].tolist()) == {10}
        assert set(told["waits"].tolist()) == set(seen["waits"].tolist()) == {2}
        quantiles = [np.quantile(one["retire_ns"] - one["submit_ns"], (0.5, 0.99)) for one in (told, seen)]
        apart.append(float(np.abs(quantiles[0] / quantiles[1] - 1).max()))
        if apart[-1] < 0.01:
            return
    raise AssertionError(f"p50 or p99 differ by {apart}")


def test_lines_come_first_and_have_their_launches_counted(gpu: Standin) -> None:
    """Else a program that says what its iterations are would be taken at somebody else's word."""
    ready, records, _ = _measured(_tenant(gpu, trips="1,22", lines=1))
    assert ready.notes == ("an iteration is a KTS_APP line",)
    assert set(records["launches"].tolist()) == {23}
    assert set(records["waits"].tolist()) == {2}
    assert np.isfinite(records["device_ms"]).all()


def test_ranges_of_a_name_are_iterations(gpu: Standin) -> None:
    """Else a program that is marked for Nsight would have to be marked anew."""
    ready, records, _ = _measured(_tenant(gpu, Ranges(name="step"), trips="3", nvtx="step"))
    assert ready.notes == ("an iteration is an NVTX range 'step'",)
    assert set(records["launches"].tolist()) == {3}
    assert set(records["waits"].tolist()) == {1}


def test_ranges_that_are_not_there_end_the_run_with_those_that_are(gpu: Standin) -> None:
    """Else a misspelt name would cost a run, and its owner the search for the right one."""
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.accept()
        tenant = _tenant(gpu, Ranges(name="setp"), settle_s=2, trips="1", nvtx="step")
        conductor.send(Welcome(tenant=tenant, device="cpu"))
        conductor.send(Calibrate())
        failed = conductor.wait_for(Failed)
        assert "has no NVTX range named 'setp': none within 2 s" in failed.what
        assert failed.remedy.startswith("name one that it has: 'step'")


def test_round_trips_that_cannot_be_seen_end_the_run_with_the_reason(gpu: Standin) -> None:
    """Else its owner would wait for iterations that never come."""
    tenant = _tenant(gpu, RoundTrips(), settle_s=2)
    assert isinstance(tenant.work, Program)
    tenant.work.env["KTS_CUPTI"] = "/nowhere/libcupti.so.12"
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.accept()
        conductor.send(Welcome(tenant=tenant, device="cpu"))
        conductor.send(Calibrate())
        failed = conductor.wait_for(Failed)
        assert "has no round trips: " in failed.what
        assert "/nowhere/libcupti.so.12" in failed.what


def test_what_is_not_seen_is_said_and_the_program_measured_by_its_lines(gpu: Standin) -> None:
    """Else a run on a machine without CUPTI would fail, or say nothing of what it lacks."""
    tenant = _tenant(gpu, Lines(), trips="5", lines=1)
    assert isinstance(tenant.work, Program)
    tenant.work.env["KTS_CUPTI"] = "/nowhere/libcupti.so.12"
    ready, records, _ = _measured(tenant)
    assert ready.notes[0] == "an iteration is a KTS_APP line"
    assert ready.notes[1].startswith("its launches are not seen: ")
    assert "launches" not in (records.dtype.names or ())


@pytest.mark.parametrize("shape", [{"threads": 2, "streams": 1}, {"processes": 2}])
def test_threads_and_processes_have_iterations_of_their_own(gpu: Standin, shape: dict[str, int]) -> None:
    """Else two requests that overlap would be one long one."""
    ready, records, _ = _measured(_tenant(gpu, trips="4", kernel_us=250, **shape), iterations=60)
    assert ready.notes == ("an iteration is a round trip: 4 launches",)
    assert set(records["launches"].tolist()) == {4}
    assert (np.diff(records["submit_ns"]) >= 0).all()
    overlap = (records["submit_ns"][1:] < records["retire_ns"][:-1]).mean()
    assert overlap > 0.3, "two at a time"


def test_a_traced_program_waits_at_its_launch_between_blocks(gpu: Standin) -> None:
    """Else its work would run on in a neighbour's block, or SIGSTOP would catch it in the driver with its locks."""
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.welcome(_tenant(gpu, trips="2"))
        worker = conductor.worker
        assert worker is not None
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        found = [Path(f"/proc/{child}/stat").read_text().rpartition(")") for child in children]
        states = [rest.split()[0] for name, _, rest in found if name.endswith("(keeper")]
        assert states == ["S"], "held, not stopped"
        held_since_ns = time.monotonic_ns()
        conductor.start_block(0, Quota(iterations=20, linger=False), in_ms=300)
        done, records = conductor.finish_block()
        assert done.count == 20
        assert records["submit_ns"][0] - held_since_ns > 250e6
        conductor.send(Finish())
        assert conductor.worker_ends()[0] == 0
