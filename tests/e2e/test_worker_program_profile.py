"""A traced program's profile, from the stand-in for a GPU to the simulator."""

from __future__ import annotations

import importlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers_tracer import standin

from kts.model.plan import Program, Tenant
from kts.model.records import RECORD
from kts.model.run import DeviceInfo
from kts.physics.kinds import kind_of
from kts.physics.profiling import profile_of_recording
from kts.physics.simulate import SharingModel
from kts.physics.values import Profile
from kts.wire.messages import Start
from kts.wire.recording import Recording, format_result, parse_result
from kts.worker.loop import LeftOut, Outlet
from kts.worker.program_profile import record_program
from kts.worker.stretch import Stretches
from kts.worker.tracing.kept import Kept
from kts.worker.tracing.reader import Tracing
from kts.worker.tracing.trips import Trips

pytestmark = pytest.mark.e2e

GPU = DeviceInfo(kind="cuda", uuid="GPU-1", name="stand-in", label="stand-in for a GPU", library="program")
TENANT = Tenant(name="search", work=Program(command=("search",)))


class Traced:
    """A program of the stand-in whose iterations are so many round trips."""

    def __init__(self, each: int, first: int, tracing: Tracing) -> None:
        self.hidden = ""
        self._kept: Kept | None = None
        self._tracing = tracing
        self._each = each
        self._first = first
        self._trips = Trips()

    @property
    def tracing(self) -> Tracing | None:
        return None if self.hidden else self._tracing

    def unseen(self) -> str:
        return self.hidden

    def keep(self, kept: Kept | None) -> None:
        self._kept = kept

    def run(self, start: Start, outlet: Outlet) -> LeftOut:
        self._tracing.gate(closed=False)
        while time.monotonic_ns() < start.start_ns:
            time.sleep(0.001)
        trips: list[Any] = []
        done = 0
        while not outlet.stopped() and done < (start.quota.iterations or 0):
            outlet.heartbeat(time.monotonic_ns(), done)
            batches = self._tracing.read()
            if self._kept is not None:
                self._kept.add(batches, time.monotonic_ns())
            for batch in batches:
                trips += list(self._trips.add(batch.events[batch.events["kind"] < 16]))
            while trips and (trips[0]["launches"] != self._first or trips[0]["begin_ns"] < start.start_ns):
                trips.pop(0)
            whole = trips[: len(trips) // self._each * self._each]
            trips = trips[len(whole) :]
            rows = np.zeros(len(whole) // self._each, RECORD)
            rows["submit_ns"] = rows["due_ns"] = [one["begin_ns"] for one in whole[:: self._each]]
            rows["retire_ns"] = [one["end_ns"] for one in whole[self._each - 1 :: self._each]]
            rows["device_ms"] = np.nan
            outlet.records(rows)
            done += len(rows)
            time.sleep(0.005)
        self._tracing.gate(closed=True)
        return LeftOut()


@contextmanager
def running(each: int, given: Tracing | None = None, **shape: Any) -> Iterator[Traced]:
    """The stand-in's program of that shape, traced."""
    here, tracing = standin(), given or Tracing()
    env = here.env()
    env |= tracing.env(env, here.library, here.cupti)
    process = subprocess.Popen(here.argv(iterations=0, **shape), env=env, stdout=subprocess.DEVNULL)
    try:
        yield Traced(each, int(shape["trips"].split(",")[0]), tracing)
    finally:
        process.kill()
        process.wait()
        tracing.close()


def profiled(seconds: float, each: int, **shape: Any) -> tuple[Recording, Profile]:
    with running(each, **shape) as program:
        found = record_program(program, GPU, Stretches(TENANT, seconds))
    assert parse_result(format_result(found)) == found
    return found, profile_of_recording(found, TENANT)


def test_a_program_that_waits_in_the_middle_is_profiled_with_its_waits() -> None:
    """Otherwise programs are predicted as one burst, which is further off than to say that nothing changes."""
    found, made = profiled(1.5, 2, trips="1,22", kernel_us=40, host_us=100, think_us=2000)
    assert found.note.startswith("tracer"), found.note
    them = made.iterations
    assert made.method == "launches"
    assert kind_of(made) == "trips"
    assert set(np.diff(them.first).tolist()) == {23}
    assert them.wait_ms is not None
    waits = ~np.isnan(them.wait_ms)
    assert waits.reshape(-1, 23)[:, 0].all()
    assert waits.sum() == them.n
    assert np.median(them.duration_ms) == pytest.approx(0.04, rel=0.05)
    assert np.median(them.busy_ms) == pytest.approx(23 * 0.04, rel=0.05)
    rows = found.plain.rows
    gaps = rows["submit_ns"][1:] - rows["retire_ns"][:-1]
    assert np.median(made.pause_ms) == pytest.approx(np.median(gaps) / 1e6, rel=0.2)


def test_a_program_of_which_nothing_is_seen_is_profiled_as_bursts_with_the_reason() -> None:
    """Otherwise a program that a tracer does not like has no profile, or nobody knows what it is worth."""
    with running(1, trips="4", kernel_us=40) as program:
        program.hidden = "trace: off"
        found = record_program(program, GPU, Stretches(TENANT, 0.5))
    made = profile_of_recording(found, TENANT)
    assert made.method == "burst"
    assert made.how.endswith("single bursts: the program's own iterations; its launches are not seen: trace: off")
    assert found.launches is None
    assert len(found.plain.rows) > 20


def test_iterations_of_which_events_were_lost_are_not_in_the_profile_and_are_counted() -> None:
    """Otherwise half of an iteration passes for a fast one."""
    with running(1, Tracing(capacity=1 << 8), trips="6", kernel_us=30) as program:
        found = record_program(program, GPU, Stretches(TENANT, 1.0))
    if found.launches is None:  # a machine so busy that no iteration is whole
        assert "lost events" in found.note
        return
    made = profile_of_recording(found, TENANT)
    assert "lost events" in found.note
    assert set(np.diff(made.iterations.first).tolist()) == {6}


def test_the_time_of_a_shared_gpu_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a term that the model lacks on a GPU cannot be told from an error of the bookkeeping. The stand-in
    runs the kernels of all programs one after another and switches for nothing."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    programs = importlib.import_module("programs_account")
    here = standin()
    env = {**here.env(), "KTS_CUPTI": str(here.cupti), "STANDIN_GPU": str(tmp_path / "gpu")}
    shapes: dict[str, dict[str, Any]] = {
        "search": {"trips": "1,22", "kernel_us": 100, "think_us": 1000},
        "long": {"trips": "5", "kernel_us": 800, "think_us": 500},
    }
    tenants = [
        Tenant(name=name, work=Program(command=tuple(here.argv(iterations=0, **shape)), env=env, trace="calls"))
        for name, shape in shapes.items()
    ]
    free = SharingModel(slice_ms=1e6, preempt_ms=(0.0,), yield_ms=(0.0,), wake_ms=(0.0,))
    programs.measure([tenants], 0.6, tmp_path / "kept", 0.4)
    ((mix, one),) = programs.accounts([list(shapes)], free, tmp_path / "kept")
    assert mix == "search+long"
    assert set(one.slower) == set(shapes)
    found = one.account
    assert found.holds, found
    assert found.idle_ms < 0.5 * found.wall_ms
    assert min(found.gpu_ms.values()) > 0.05 * found.wall_ms


def test_several_streams_and_copies_are_lanes_and_apart() -> None:
    """Otherwise a copy that hides behind kernels takes a turn of its own in the model."""
    _, made = profiled(0.7, 1, trips="6", kernel_us=200, streams=2, copy_bytes=1 << 20)
    them = made.iterations
    assert them.apart is not None
    assert np.add.reduceat(them.apart, them.first[:-1]).min() >= 1
    assert them.lane is not None
    assert set(them.lane.tolist()) == {0, 1}
