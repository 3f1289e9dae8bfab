"""The joined worker against a conductor in the test, with programs that fail as told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from tests.helpers_worker_conductor import TinyConductor

from kts.arrivals import Closed
from kts.errors import SetupError
from kts.model.plan import DeviceChoice, Kernel, Quota, Tenant
from kts.model.run import DeviceInfo
from kts.wire.messages import (
    PROTOCOL,
    Calibrate,
    Failed,
    Finish,
    Heartbeat,
    Opened,
    QuotaReached,
    Ready,
    Refuse,
    Start,
    Stop,
    Welcome,
)
from kts.worker.devices.cpu import Cpu
from kts.worker.loop import LeftOut, Outlet
from kts.worker.session import join
from kts.worker.tenants import Runner, runner_for
from kts.worker.tenants.kernel import KernelTenant

TENANT = Tenant(name="agent", work=Kernel(workload="fft", size=32), arrivals=Closed(think_ms=1))


class Joined(threading.Thread):
    """`join` in a thread; ``code`` is its result."""

    def __init__(self, conductor: TinyConductor, make: Callable[[Tenant, DeviceChoice], Runner] = runner_for) -> None:
        super().__init__(daemon=True)
        self.code: int | None = None
        self._env = conductor.env
        self._make = make
        self.start()

    def run(self) -> None:
        self.code = join(self._env, self._make)

    def ends(self) -> int | None:
        self.join(20)
        return self.code


class BrokenTenant(KernelTenant):
    """Fails at one step; remembers that it was closed."""

    def __init__(self, tenant: Tenant, choice: DeviceChoice, step: str, error: Exception) -> None:
        super().__init__(tenant, choice, Cpu())
        self._step = step
        self._error = error
        self.closed = False

    def open(self) -> DeviceInfo:
        self._fail("open")
        return super().open()

    def calibrate(self, pulse: Callable[[], None], size: int | None = None) -> Ready:
        self._fail("calibrate")
        return super().calibrate(pulse, size)

    def run(self, start: Start, outlet: Outlet) -> LeftOut:
        super().run(
            Start(block=start.block, start_ns=0, first_ns=0, go_ns=0, quota=Quota(iterations=3, linger=False), seed=1),
            outlet,
        )
        self._fail("run")
        return LeftOut()

    def close(self) -> None:
        self.closed = True

    def _fail(self, step: str) -> None:
        if step == self._step:
            raise self._error


def test_where_the_address_was_not_filled_in_the_name_is_used() -> None:
    """Else a pod that its node started before it knew of the run's Service would end the run."""
    codes: list[int] = []
    with TinyConductor() as conductor:
        _, _, port = conductor.env["KTS_CONDUCTOR"].rpartition(":")
        unfilled = {"KTS_CONDUCTOR": f"$(KTS_RUN_SERVICE_HOST):{port}", "KTS_CONDUCTOR_NAME": "localhost"}
        env = {**conductor.env, **unfilled}
        worker = threading.Thread(target=lambda: codes.append(join(env)), daemon=True)
        worker.start()
        assert conductor.accept().tenant == "agent"
        conductor.send(Refuse(what="seen"))
        worker.join(20)
    assert codes == [SetupError.exit_code]
    with pytest.raises(SetupError, match="before its node knew"):
        join({**env, "KTS_CONDUCTOR_NAME": ""})


def test_a_whole_run_from_hello_to_finish() -> None:
    """Otherwise worker and conductor do not speak the same protocol."""
    with TinyConductor() as conductor:
        worker = Joined(conductor)
        hello = conductor.accept()
        assert (hello.protocol, hello.token, hello.tenant) == (PROTOCOL, "secret", "agent")
        conductor.send(Welcome(tenant=TENANT, device="cpu"))
        opened = conductor.wait_for(Opened)
        assert opened.device.kind == "cpu"
        assert opened.cores
        conductor.send(Calibrate())
        ready = conductor.wait_for(Ready)
        assert ready.size == 32
        assert ready.solo_ms is not None
        assert ready.solo_ms > 0

        start_ns = conductor.start_block(3, Quota(iterations=20, linger=False))
        done, records = conductor.finish_block()
        assert (done.block, done.count) == (3, 20)
        assert records["submit_ns"][0] - start_ns >= 0
        before, after = done.clocks
        assert before.monotonic_ns <= records["submit_ns"][0]
        assert after.monotonic_ns >= records["retire_ns"][-1]

        conductor.start_block(4, Quota(iterations=5))
        passed: list[object] = []
        conductor.wait_for(QuotaReached, passed)  # type: ignore[arg-type]
        conductor.send(Stop(block=4))
        done, records = conductor.finish_block(passed)  # type: ignore[arg-type]
        assert done.count >= 5
        conductor.send(Stop(block=4))  # late: of a block that is over
        conductor.start_block(5, Quota(seconds=0.5, linger=False))
        done, _ = conductor.finish_block()
        assert done.count > 3
        conductor.send(Finish())
        assert worker.ends() == 0


def test_an_idle_worker_shows_that_it_lives() -> None:
    """Otherwise a tenant that waits for its block looks hung."""
    with TinyConductor() as conductor:
        worker = Joined(conductor)
        conductor.welcome(TENANT)
        assert conductor.wait_for(Heartbeat).iterations == 0
        assert conductor.wait_for(Heartbeat).monotonic_ns <= time.monotonic_ns()
        conductor.send(Finish())
        assert worker.ends() == 0


def test_finish_in_a_block_ends_the_block_too() -> None:
    """Otherwise a run that is broken off waits for its lingering tenants."""
    with TinyConductor() as conductor:
        worker = Joined(conductor)
        conductor.welcome(TENANT)
        conductor.start_block(0, Quota(iterations=1))
        conductor.wait_for(QuotaReached)
        conductor.send(Finish())
        assert worker.ends() == 0


def test_a_refused_worker_ends_with_4_and_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise a wrong token looks like a crash."""
    with TinyConductor() as conductor:
        worker = Joined(conductor)
        conductor.accept()
        conductor.send(Refuse(what="wrong token"))
        assert worker.ends() == 4
    assert "wrong token" in capsys.readouterr().err


def test_a_vanished_conductor_ends_the_worker_with_5_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise workers outlive a killed run and hold the GPU."""
    with TinyConductor() as conductor:
        worker = Joined(conductor)
        conductor.welcome(TENANT)
        conductor.start_block(0, Quota(iterations=1))
        conductor.wait_for(QuotaReached)
        conductor.hang_up()
        assert worker.ends() == 5
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("step", "error", "kind", "code"),
    [
        ("open", SetupError("library torch is not installed", "pip install torch"), "setup", 4),
        ("calibrate", MemoryError("no room"), "out-of-memory", 5),
        ("run", RuntimeError("CUDA error: unspecified launch failure"), "device-lost", 5),
        ("run", ValueError("surprise"), "internal", 5),
    ],
)
def test_a_failure_at_any_step_reaches_the_conductor(
    capsys: pytest.CaptureFixture[str], step: str, error: Exception, kind: str, code: int
) -> None:
    """Otherwise the run only sees a closed connection; and what was measured before must have come first."""
    programs: list[BrokenTenant] = []

    def make(tenant: Tenant, choice: DeviceChoice) -> BrokenTenant:
        programs.append(BrokenTenant(tenant, choice, step, error))
        return programs[0]

    passed: list[object] = []
    with TinyConductor() as conductor:
        worker = Joined(conductor, make)
        conductor.accept()
        conductor.send(Welcome(tenant=TENANT, device="cpu"))
        if step != "open":
            conductor.wait_for(Opened)
            conductor.send(Calibrate())
        if step == "run":
            conductor.wait_for(Ready)
            conductor.start_block(0, Quota(iterations=3))
        failure = conductor.wait_for(Failed, passed)  # type: ignore[arg-type]
        assert worker.ends() == code
    assert failure.kind == kind
    assert failure.what.startswith("tenant agent: ")
    measured = [type(m).__name__ for m in passed if not isinstance(m, Heartbeat)]
    assert measured == (["Chunk"] if step == "run" else [])
    assert programs[0].closed
    assert "Traceback" not in capsys.readouterr().err
