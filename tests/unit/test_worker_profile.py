"""The worker's side of `kts profile`, on the CPU device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.helpers_profile import TracedCpu

from kts.arrivals import Closed
from kts.errors import DataError, UsageError
from kts.model.plan import Kernel, Tenant
from kts.model.run import DeviceInfo
from kts.wire.messages import Failed
from kts.wire.recording import PREFIX, Recording, Request, format_result, parse_result, unpacked
from kts.worker.devices.cpu import Cpu
from kts.worker.profile import profile, record
from kts.worker.tenants.kernel import KernelTenant

TENANT = Tenant(name="agent", work=Kernel(workload="fft", size=32), arrivals=Closed(think_ms=1), iterations=100)


def recorded(device: Cpu, seconds: float = 0.2, tenant: Tenant = TENANT) -> Recording:
    program = KernelTenant(tenant, "cpu", device)
    info = program.open()
    size = program.calibrate(lambda: None).size
    return record(Request(tenant=tenant, device="cpu", seconds=seconds), program, info, size)


class Queueing(Cpu):
    """Poses as a GPU that takes 0.5 ms to begin and 0.125 ms for each sum handed over between ``begin`` and ``end``."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []
        self._cpu_xp, self.xp = self.xp, self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cpu_xp, name)

    def info(self) -> DeviceInfo:
        return msgspec.structs.replace(super().info(), kind="cuda")

    def add(self, left: Any, right: Any, out: Any) -> Any:
        self.lengths[-1] += 1
        return self._cpu_xp.add(left, right, out=out)

    def begin(self) -> None:
        self.lengths.append(0)

    def device_ms(self) -> float:
        return 0.5 + 0.125 * self.lengths[-1]


def test_a_stretch_without_a_tracer_is_recorded_as_a_run_would() -> None:
    """Otherwise a profile's solo figures are not those of a run."""
    found = recorded(Cpu())
    rows = found.plain.rows
    assert 20 < len(rows) < 400
    assert found.size == 32
    assert (np.diff(rows["i"]) == 1).all()
    assert (np.diff(rows["submit_ns"]) >= 500_000).all(), "at its own pacing"
    issue = unpacked(found.plain.issue_ns)
    assert ((issue > 0) & (issue <= rows["retire_ns"] - rows["submit_ns"])).all()
    assert found.traced is None
    assert "no tracer" in found.note
    assert found.held_bytes is not None


def test_on_a_gpu_an_iteration_is_also_timed_among_others_that_are_queued() -> None:
    """Otherwise what the tracer adds to kernels stays in them, or a stopwatch's own lead counts as the GPU's work."""
    tiny = msgspec.structs.replace(TENANT, work=Kernel(workload="tiny", size=64))
    gpu = Queueing()
    found = recorded(gpu, tenant=tiny)
    assert found.plain.rows["device_ms"].tolist() == [0.625] * len(found.plain.rows)
    assert found.queued_ms == pytest.approx(0.125)
    queues = [n for n in gpu.lengths if n > 1]
    assert len(queues) % 2 == 0
    assert set(queues[len(queues) // 2 :]) == {2 * queues[0]}
    assert recorded(Cpu()).queued_ms is None, "a CPU has no queue"


def test_the_traced_stretch_brings_the_launches_of_its_own_iterations() -> None:
    """Otherwise launches and iterations are of different stretches."""
    found = recorded(TracedCpu())
    assert found.launches is not None
    assert found.traced is not None
    assert unpacked(found.launches.counts).tolist() == [2] * len(found.traced.rows)
    assert len(found.traced.issue_ms) == len(found.traced.rows)
    assert found.note == "fake tracer"
    assert parse_result(format_result(found)) == found


def test_a_tracer_that_fails_costs_the_launches_and_nothing_else() -> None:
    """Otherwise a driver without CUPTI leaves the user without any profile."""
    found = recorded(TracedCpu(loses=True))
    assert found.launches is None
    assert "the trace cannot be used" in found.note
    assert len(found.plain.rows) > 20


def test_the_result_is_one_line_and_a_failure_is_one_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise whoever reads a pod's log cannot tell what became of the profile."""
    bad = msgspec.structs.replace(TENANT, work=Kernel(workload="fft", size=10**6))
    codes, found = [], []
    for tenant in (TENANT, bad):
        file = tmp_path / "request.json"
        file.write_bytes(msgspec.json.encode(Request(tenant=tenant, device="cpu", seconds=0.1)))
        codes.append(profile(str(file)))
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(PREFIX)]
        assert len(lines) == 1
        found.append(parse_result(lines[0]))
    assert codes == [0, 5]
    assert isinstance(found[0], Recording)
    assert isinstance(found[1], Failed)
    assert found[1].kind == "out-of-memory"


def test_a_damaged_line_is_an_error_and_another_line_is_none() -> None:
    """Otherwise a torn log is read as a profile, or a program's own output ends kts."""
    line = format_result(recorded(Cpu(), seconds=0.05))
    assert parse_result("something else") is None
    for broken in (line[:-20], line[: len(PREFIX) + 7], PREFIX + "!!", PREFIX):
        with pytest.raises(DataError):
            parse_result(broken)


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_request_that_is_none_is_told(tmp_path: Path, content: str | None) -> None:
    """Otherwise calling it by hand gives a traceback."""
    file = tmp_path / "request.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"request\.json"):
        profile(str(file))
