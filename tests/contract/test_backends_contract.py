"""What every backend owes the conductor."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.helpers_conduct import MemoryRun, MemorySink, SilentWatcher, make_plan
from tests.helpers_conductor import PodsHere
from tests.helpers_wait import until

from kts.backends.local import LocalBackend
from kts.backends.replay import ReplayBackend
from kts.conduct.driver import conduct
from kts.conduct.ports import Backend, Endpoint
from kts.errors import SetupError
from kts.model.plan import Plan

PLAN = make_plan(rounds=2, iterations=20)
Make = Callable[[], Backend]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measuring needs Linux")


@pytest.fixture(params=["local", "replay", "pods"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "pods":
        return PodsHere
    if request.param == "local":
        return lambda: LocalBackend(tmp_path / "logs")
    return lambda: ReplayBackend(MemoryRun(PLAN))


def _children() -> list[str]:
    """Process ids of this process's children."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def test_all_tenants_run_and_all_their_records_arrive(make: Make) -> None:
    """Otherwise a backend starts too few, or loses what they send."""
    sink = MemorySink()
    outcome = conduct(PLAN, make(), sink, SilentWatcher(), None)
    assert outcome.kind == "complete", outcome
    assert set(sink.workers) == {"fft", "gemm"}
    assert len({info.device.uuid for info in sink.workers.values()}) == 1
    assert [b.index for b in sink.blocks] == list(range(6))
    for block in sink.blocks:
        assert block.valid
        assert set(block.counts) == set(PLAN.condition(block.condition).tenants)
        for tenant, count in block.counts.items():
            assert sink.count(tenant, block.index) == count >= 10
        assert block.end_ns > block.start_ns


def test_nothing_is_left_running_and_the_cores_are_given_back(make: Make) -> None:
    """Otherwise workers stay on the device, or the analysis after a run has one core."""
    before, cores = _children(), os.sched_getaffinity(0)
    conduct(PLAN, make(), MemorySink(), SilentWatcher(), None)
    assert _children() == before
    assert os.sched_getaffinity(0) == cores
    assert not [t for t in threading.enumerate() if t.name.startswith("replay")]


def test_without_a_conductor_workers_end_and_say_so_once(make: Make) -> None:
    """Otherwise a dead worker is reported twice, or never."""
    backend = make()
    backend.start(PLAN, Endpoint(host="127.0.0.1", port=1, token="t"))
    exits = backend.poll()

    def all_gone() -> bool:
        exits.extend(backend.poll())
        return len(exits) >= 2

    until(all_gone, "both workers end")
    assert {e.tenant for e in exits} == {"fft", "gemm"}
    assert all(e.code != 0 and "\n" not in e.reason and e.reason for e in exits)
    assert backend.poll() == []
    backend.stop(0.0)


def test_stop_can_be_called_at_any_time_and_again(make: Make) -> None:
    """Otherwise the ending of a failed start fails too."""
    backend = make()
    backend.stop(0.0)
    backend.start(PLAN, Endpoint(host="127.0.0.1", port=1, token="t"))
    backend.stop(0.0)
    backend.stop(1.0)
    assert all(isinstance(note, str) for note in backend.notes())


def test_a_plan_that_the_backend_cannot_run_is_a_setup_error(tmp_path: Path) -> None:
    """Otherwise it is a traceback."""
    strange: Plan = make_plan("x")
    with pytest.raises(SetupError, match="no tenant x"):
        ReplayBackend(MemoryRun(PLAN)).start(strange, Endpoint(host="127.0.0.1", port=1, token="t"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot start"):
        LocalBackend(tmp_path / "file" / "logs").start(PLAN, Endpoint(host="127.0.0.1", port=1, token="t"))
