"""What becomes of a worker's profile, by how its worker ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kts.arrivals import Closed
from kts.backends import alone
from kts.backends.alone import record_alone
from kts.conduct.ports import Endpoint, WorkerExit
from kts.errors import DataError, KtsError, MeasurementError, SetupError
from kts.model.plan import Kernel, Plan, Tenant
from kts.model.records import RECORD
from kts.model.run import DeviceInfo
from kts.wire.messages import Failed
from kts.wire.recording import Recording, Request, Stretch, format_result

TENANT = Tenant(name="agent", work=Kernel(workload="fft", size=32), arrivals=Closed(think_ms=1))
FOUND = Recording(
    tenant="agent",
    device=DeviceInfo(kind="cpu", uuid="cpu:node:1", name="CPU", label="CPU core 1, not a GPU", library="numpy"),
    size=32,
    plain=Stretch(records=np.zeros(3, RECORD).tobytes()),
)
LINE = format_result(FOUND)
CRASH = WorkerExit(tenant="agent", code=-11, reason="killed by SIGSEGV: terminate called")

Record = Callable[[str, WorkerExit], tuple[Recording, list[str]]]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """`record_alone` of a worker that leaves this log and ends like that."""

    def of(log: str, ended: WorkerExit) -> tuple[Recording, list[str]]:
        class Ended:
            def __init__(self, folder: Path, **_: object) -> None:
                self._folder = folder

            def start(self, plan: Plan, endpoint: Endpoint) -> None:
                del plan, endpoint
                (self._folder / "agent.log").write_text(log, encoding="utf-8")

            def notes(self) -> list[str]:
                return ["on one core"]

            def poll(self) -> list[WorkerExit]:
                return [ended]

            def stop(self, grace_s: float) -> None:
                pass

        monkeypatch.setattr(alone, "LocalBackend", Ended)
        request = Request(tenant=TENANT, device="cpu", seconds=1.0)
        return record_alone(request, tmp_path, request.plan)

    return of


def test_a_worker_that_ends_badly_after_its_profile_is_a_note(record: Record) -> None:
    """Otherwise a library that crashes on its way out costs a profile that was handed over whole."""
    found, notes = record(f"torch warns\n{LINE}\nterminate called\n", CRASH)
    assert found == FOUND
    assert notes[0] == "on one core"
    assert len(notes) == 2
    assert "agent ended badly" in notes[1]
    assert "-11" in notes[1]


def test_a_worker_that_ends_well_adds_no_note(record: Record) -> None:
    """Otherwise every profile comes with a warning, and nobody reads those that matter."""
    assert record(LINE, WorkerExit(tenant="agent", code=0, reason="exit code 0")) == (FOUND, ["on one core"])


@pytest.mark.parametrize(
    ("log", "error", "text"),
    [
        ("terminate called\n", MeasurementError, "without a profile: killed by SIGSEGV"),
        (LINE[:-20], DataError, "cannot be read"),
        (format_result(Failed(kind="out-of-memory", what="no room")), MeasurementError, "no room"),
        (format_result(Failed(kind="setup", what="no library")), SetupError, "no library"),
    ],
    ids=["none", "torn", "failed", "not set up"],
)
def test_a_worker_that_ends_badly_before_is_an_error(
    record: Record, log: str, error: type[KtsError], text: str
) -> None:
    """Otherwise a crash in the middle of a measurement passes for one."""
    with pytest.raises(error, match=text):
        record(log, CRASH)
