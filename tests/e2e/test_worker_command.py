"""The user's own programs as tenants, in a real worker process."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_wait import until
from tests.helpers_worker_conductor import TinyConductor

from kts.model.plan import Program, Quota, Tenant
from kts.wire.messages import Calibrate, Failed, Finish, FromWorker, Opened, QuotaReached, Stop, Welcome

pytestmark = pytest.mark.e2e

SPEAKS = """
import time
print("hello from the program")
i = 0
while True:
    a = time.time_ns(); time.sleep(0.002); b = time.time_ns()
    print(f"KTS_APP,v1,OWN,{i},{a},{b},{(b - a) / 2e6:.6f},")
    print(f"KTS_APP,v1,OWN,{i},{a - 10**10},{b},{(b - a) / 2e6:.6f},")  # began before any block
    i += 1
"""
SAYS = """
import sys, time
i = 0
while True:
    a = time.time_ns(); m = time.monotonic_ns(); time.sleep(0.002); b = time.time_ns()
    print(f"{says}", flush=True)
    i += 1
"""
"""Any line per iteration."""
SILENT = "import time\nwhile True: time.sleep(0.01)\n"
ENDS_WELL = (
    "import time\nfor i in range(4):\n    a = time.time_ns(); time.sleep(0.002);"
    "print(f'KTS_APP,v1,OWN,{i},{a},{time.time_ns()},nan,')\n"
)


def _tenant(code: str, settle_s: float = 10) -> Tenant:
    """Which is ready as soon as it is steady; a silent one after ``settle_s``."""
    work = Program(command=(sys.executable, "-c", code), env={"KTS_SETTLE_S": str(settle_s)})
    return Tenant(name="agent", work=work)


def test_a_program_that_prints_lines_is_measured() -> None:
    """Otherwise a user's own program cannot be a tenant; iterations outside the block must not count."""
    with TinyConductor() as conductor:
        conductor.start_worker()
        opened, ready = conductor.welcome(_tenant(SPEAKS))
        assert opened.device.stopwatch == "as the program reports it"
        assert ready.size is None
        assert ready.solo_ms is not None
        assert ready.solo_ms >= 2.0
        for block in (0, 1):
            start_ns = conductor.start_block(block, Quota(iterations=30))
            passed: list[FromWorker] = []
            conductor.wait_for(QuotaReached, passed)
            conductor.send(Stop(block=block))
            done, records = conductor.finish_block(passed)
            end_ns = time.monotonic_ns()
            assert done.count >= 30
            assert done.skipped >= 25, "every second line began before the block"
            assert (records["submit_ns"] >= start_ns).all()
            assert (records["retire_ns"] <= end_ns).all()
            assert (records["due_ns"] == records["submit_ns"]).all()
            service_ms = (records["retire_ns"] - records["submit_ns"]) / 1e6
            assert records["device_ms"] == pytest.approx(service_ms / 2, rel=0.01)
        conductor.send(Finish())
        code, out, _ = conductor.worker_ends()
        assert code == 0
        assert "hello from the program" in out


LINE = "KTS_APP,v1,OWN,{i},{a},{b},{1.5:.6f},"


@pytest.mark.parametrize(
    "says",
    [
        LINE.replace("{1.5:.6f},", "{1.5:g}"),
        LINE.replace("{1.5:.6f},", "{1.5:e}"),
        "\\x1b[32m" + LINE + "\\x1b[0m",
        "INFO:app:" + LINE,
        " 50%|##  |\\r" + LINE,
        LINE + "\\r 60%|###",
        "2023-11-14T22:15:20.008043737Z stdout F " + LINE,
        "[pod/own-x7k2p/own] " + LINE,
        LINE + '", file=sys.stderr, end="\\n',
        LINE + '", end="\\r\\n',
        LINE + '", end="\\r',
        LINE + '"); print(f"+ echo ' + LINE + '", file=sys.stderr, end="\\n',
    ],
)
def test_lines_are_measured_wherever_and_however_they_are_printed(says: str) -> None:
    """A whole run would be for nothing because of a colour, a prefix, the other stream or %g; or count all twice."""
    with TinyConductor() as conductor:
        conductor.start_worker()
        _, ready = conductor.welcome(_tenant(SAYS.format(says=says)))
        assert ready.solo_ms is not None
        conductor.start_block(0, Quota(iterations=10, linger=False))
        done, records = conductor.finish_block()
        assert (done.count, done.unread) == (10, 0)
        assert (records["device_ms"] == 1.5).all()
        assert (records["submit_ns"][1:] >= records["retire_ns"][:-1]).all()


def test_lines_that_cannot_be_read_are_counted_in_their_block() -> None:
    """The slow iterations, printed in another way, would vanish, and p99 be told of the others."""
    says = "KTS_APP,v1,OWN,{i},{a},{b},{1.5 if i % 3 else 'slow'}"
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.welcome(_tenant(SAYS.format(says=says)))
        conductor.start_block(0, Quota(iterations=20, linger=False))
        done, _ = conductor.finish_block()
        assert done.count == 20
        assert 9 <= done.unread <= 15


def test_a_device_time_above_the_response_is_not_taken() -> None:
    """What is impossible here and there would be reported as a device time."""
    says = "KTS_APP,v1,OWN,{i},{a},{b},{1.5 if i % 2 else 12.0}"
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.welcome(_tenant(SAYS.format(says=says)))
        conductor.start_block(0, Quota(iterations=20, linger=False))
        _, records = conductor.finish_block()
        assert 9 <= np.isnan(records["device_ms"]).sum() <= 11


def test_without_linger_it_gives_exactly_the_count() -> None:
    """Otherwise the classic design measures more than was asked."""
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.welcome(_tenant(SPEAKS))
        conductor.start_block(0, Quota(iterations=10, linger=False))
        done, _ = conductor.finish_block()
        assert done.count == 10


def test_a_silent_program_serves_as_a_neighbour() -> None:
    """Otherwise a program that cannot print lines blocks the run for ever."""
    with TinyConductor() as conductor:
        conductor.start_worker()
        _, ready = conductor.welcome(_tenant(SILENT, settle_s=0.4))
        assert ready.solo_ms is None
        conductor.start_block(0, Quota(iterations=100, linger=False))
        conductor.wait_for(QuotaReached)
        conductor.send(Stop(block=0))
        done, _ = conductor.finish_block()
        assert (done.count, done.chunks, done.skipped) == (0, 0, 0)
        conductor.start_block(1, Quota(seconds=0.05, linger=False))
        assert conductor.finish_block()[0].count == 0


def test_a_program_that_ends_well_is_started_again() -> None:
    """Otherwise a program with a fixed number of iterations cannot fill a block."""
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.welcome(_tenant(ENDS_WELL))
        conductor.start_block(0, Quota(iterations=12, linger=False))
        done, _ = conductor.finish_block()
        assert done.count == 12
        conductor.send(Finish())
        assert "started again" in conductor.worker_ends()[2]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ((sys.executable, "-c", "import sys; sys.exit('model file missing')"), "model file missing"),
        ((sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"), "SIGSEGV"),
        (("no-such-program-here",), "not found"),
        (("true",), "ends at once"),
        ((sys.executable, "-c", "print('KTS_APP,v1,A,0,1,2,fast,')\nwhile True: pass"), "cannot be read"),
        ((sys.executable, "-c", SAYS.format(says="KTS_APP,v9,A,0,{a},{b},0.5")), "version 'v9'"),
        (
            (sys.executable, "-c", SAYS.format(says="KTS_APP,v1,A,{i},{a//1000},{b//1000},0.5")),
            "microseconds since 1970",
        ),
        (
            (sys.executable, "-c", SAYS.format(says="KTS_APP,v1,A,{i},{a//10**6},{b//10**6},0.5")),
            "milliseconds since 1970",
        ),
        ((sys.executable, "-c", SAYS.format(says="KTS_APP,v1,A,{i},{a//10**9},{b//10**9},nan")), "seconds since 1970"),
        ((sys.executable, "-c", SAYS.format(says="KTS_APP,v1,A,{i},{m},{m+9},nan")), "nanoseconds of CLOCK_MONOTONIC"),
        (
            (sys.executable, "-c", SAYS.format(says="KTS_APP,v1,A,{i},{m//1000},{m//1000+9},nan")),
            "microseconds of CLOCK_MON",
        ),
        ((sys.executable, "-c", SAYS.format(says="KTS_APP,v1,A,{i},{a-10**13},{b-10**13},nan")), "is 10000 s from now"),
        (
            (sys.executable, "-c", SAYS.format(says="KTS_APP,v1,A,{i},{a},{b},1500.0")),
            "device_ms looks like microseconds",
        ),
    ],
)
def test_a_program_that_fails_is_named_with_its_last_word(command: tuple[str, ...], text: str) -> None:
    """Otherwise the user does not learn why the tenant died."""
    work = Program(command=command, env={"KTS_SETTLE_S": "1.5"})
    tenant = Tenant(name="agent", work=work)
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.accept()
        conductor.send(Welcome(tenant=tenant, device="cpu"))
        conductor.wait_for(Opened)
        conductor.send(Calibrate())
        failure = conductor.wait_for(Failed)
        assert failure.kind == "program"
        assert text in failure.what
        assert failure.remedy
        code, _, err = conductor.worker_ends()
        assert code == 5
        assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_program_dies_with_its_worker(number: signal.Signals) -> None:
    """Otherwise a killed run leaves stopped programs that hold the GPU's memory."""
    code = "import os\nprint('PID', os.getpid())\n" + SPEAKS
    with TinyConductor() as conductor:
        conductor.start_worker()
        conductor.welcome(_tenant(code))
        assert conductor.worker is not None
        conductor.worker.send_signal(number)
        exit_code, out, err = conductor.worker_ends()
        assert exit_code == (143 if number == signal.SIGTERM else -9)
        assert "Traceback" not in err
        pid = next(int(t.split()[1]) for t in out.splitlines() if t.startswith("PID"))
    until(lambda: not _alive(pid), "the program ends with its worker")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
