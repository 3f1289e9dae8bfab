"""A probe's process, and whoever speaks with it: order, ends, failures. No device."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

import msgspec
import pytest
from tests.helpers_probe import FakeProbe

from kts.errors import MeasurementError, RefusalError, SetupError
from kts.worker.probe.neighbours import Neighbourhood, ProbeProcess, gather
from kts.worker.probe.serve import Order, ProbeServer, Reply, RequestLines, failed
from kts.worker.probe.session import ProbeEffort, measure

FAKE = """
import os, sys
from tests.helpers_probe import FakeProbe
from kts.worker.probe.serve import RequestLines, ProbeServer, Reply
out = os.fdopen(os.dup(1), "wb")
probe = FakeProbe(lambda: {n})
server = ProbeServer(probe, RequestLines(0), out)
server.say(Reply(kind="done", info=probe.info()))
server.run()
"""


def _command(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


def _served(*requests: Order, probe: FakeProbe | None = None) -> list[Reply]:
    """What a server answers to requests that are all there, then the end."""
    read, write = os.pipe()
    os.write(write, b"".join(msgspec.json.encode(request) + b"\n" for request in requests))
    os.close(write)
    out = io.BytesIO()
    try:
        ProbeServer(probe or FakeProbe(), RequestLines(read), out).run()
    finally:
        os.close(read)
    return [msgspec.json.decode(line, type=Reply) for line in out.getvalue().splitlines()]


def test_requests_are_answered_in_order() -> None:
    """Else answers are taken for those to other requests."""
    ticks, watch, pulse, rest = _served(
        Order(do="ticks", n=3),
        Order(do="watch", seconds=0.01, threshold_ns=20_000),
        Order(do="pulse"),
        Order(do="rest"),
    )
    assert len(ticks.numbers) == 3
    assert watch.trace is not None
    assert pulse.numbers == (30_000,)
    assert rest.kind == "done"


@pytest.mark.parametrize("do", ["saturate", "bursts"])
def test_what_goes_on_says_so_and_ends_when_told(do: str) -> None:
    """Else the driver watches before the neighbour runs, or for ever."""
    running, done, after = _served(
        Order(do=do, threshold_ns=20_000),  # type: ignore[arg-type]
        Order(do="stop"),
        Order(do="rest"),
    )
    assert running.kind == "running"
    assert done.kind == "done"
    assert after.kind == "done"
    assert (done.trace is not None) == (do == "saturate")


@pytest.mark.parametrize("do", ["saturate", "bursts"])
def test_the_end_of_requests_ends_everything(do: str) -> None:
    """Else a driver that was killed leaves a neighbour that keeps the GPU busy."""
    assert [answer.kind for answer in _served(Order(do=do))] == ["running", "done"]  # type: ignore[arg-type]


def test_a_failure_is_told_with_its_remedy() -> None:
    """Else "pip install cuda-core" never reaches the user."""
    answer = failed(SetupError("no compiler", "install one"))
    assert (answer.what, answer.remedy, answer.exit_code) == ("no compiler", "install one", 4)
    assert "ValueError: odd" in failed(ValueError("odd\nmore")).what


@pytest.mark.parametrize(
    ("program", "match", "kind"),
    [
        ("import sys; sys.exit('Xid 79')", "exit code 1.*Xid 79", MeasurementError),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9", MeasurementError),
        (
            'print(\'{"kind": "failed", "what": "no GPU", "remedy": "plug one in", "exit_code": 4}\')',
            "no GPU",
            SetupError,
        ),
    ],
)
def test_a_process_that_cannot_start_is_reported(program: str, match: str, kind: type[Exception]) -> None:
    """Else its reason is lost in a pipe."""
    with pytest.raises(kind, match=match), Neighbourhood("cuda", 1, None, _command(program)):
        pass


def test_a_silent_process_is_given_up() -> None:
    """Else kts probe hangs with a hung driver."""
    process = ProbeProcess("cuda", None, _command("import sys; sys.stdin.read()"))
    try:
        with pytest.raises(MeasurementError, match="did not answer"):
            process.answer(0.05)
    finally:
        process.end()
        process.reap()


def test_all_processes_are_gone_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Ctrl-C leaves neighbours on the GPU."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    held: list[ProbeProcess] = []

    def stopped_half_way() -> None:
        with Neighbourhood("cuda", 2, None, _command(FAKE.format(n=0))) as here:
            held.extend([here.watcher, *here.neighbours])
            gather(here.neighbours, Order(do="saturate", threshold_ns=20_000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_half_way()
    assert [process._process.poll() for process in held] == [0, 0, 0]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))

    def run(strangers: int, *, anyway: bool) -> object:
        course = ProbeEffort(seconds=0.1, most=1, pulses=2)
        command = _command(FAKE.format(n=strangers))
        return measure("cuda", "time-slicing", effort=course, anyway=anyway, command=command)

    return run


def test_a_stranger_on_the_device_is_refused_unless_asked_for(measured: Callable[..., object]) -> None:
    """Else a fingerprint is made of somebody else's turns."""
    with pytest.raises(RefusalError, match="somebody else is on this device") as caught:
        measured(2, anyway=False)
    assert "--anyway" in caught.value.remedy
    assert measured(2, anyway=True) is not None
    assert measured(0, anyway=False) is not None
