"""A worker whose program runs beside it, as in a pod of two containers: measured, traced, and ended."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from tests.helpers_launcher import launcher_binary
from tests.helpers_tracer import standin

from kts.model.plan import Program, Tenant
from kts.worker.tenants.program import ProgramTenant

pytestmark = pytest.mark.e2e


def test_a_program_beside_its_worker_is_traced_by_what_was_brought_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a program in an image of its own would have no iterations but those that it prints."""
    gpu = standin()
    launcher = launcher_binary(tmp_path)
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    brought = {"KTS_LAUNCHER": shared / "launcher.sock", "KTS_TRACE_DIR": shared}
    brought |= {"KTS_TRACE_LIBRARY": gpu.library, "KTS_CUPTI": gpu.cupti}
    for name, path in brought.items():
        monkeypatch.setenv(name, str(path))
    argv = gpu.argv(iterations=0, kernel_us=100, trips="1,22")
    command = [str(launcher), str(brought["KTS_LAUNCHER"]), "--", *argv]
    work = Program(command=tuple(argv), image="registry.example/own:1", trace="calls", env={"KTS_SETTLE_S": "5"})
    tenant = ProgramTenant(Tenant(name="mine", work=work), "cpu")
    beside = subprocess.Popen(command, env={**os.environ, **gpu.env()})
    joined = threading.Thread(target=tenant.open)
    try:
        joined.start()
        joined.join(120)
        ready = tenant.calibrate(lambda: None)
        assert "an iteration is 2 round trips: 1 launch, then 22" in ready.notes
        assert ready.solo_ms is not None
        assert ready.solo_ms >= 2.3
    finally:
        tenant.close()
        assert beside.wait(60) == 0
    assert not list(shared.glob("*.ring"))
