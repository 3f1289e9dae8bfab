"""The driver over real sockets, with replayed tenants that are healthy or faulty."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from tests.helpers_conduct import (
    AfterRounds,
    Fault,
    MemoryRun,
    MemorySink,
    ScriptedBackend,
    SilentWatcher,
    make_plan,
)
from tests.helpers_telemetry import sample

from kts.backends.replay import ReplayBackend
from kts.conduct import driver
from kts.conduct.driver import conduct
from kts.conduct.ports import Endpoint, Progress, WorkerExit
from kts.conduct.roster import Limits
from kts.conduct.stop import StopRequest
from kts.errors import SetupError
from kts.model.plan import Plan
from kts.model.run import Outcome, WorkerInfo
from kts.model.telemetry import Sample, SourceState
from kts.wire.framing import Deframer, frame
from kts.wire.messages import PROTOCOL, Heartbeat, Hello, Refuse, decode_from_conductor, encode

LIMITS = Limits(hang_s=5, join_s=60, lead_ms=1, settle_s=0.3)
PLAN = make_plan(rounds=2)


def test_a_replayed_run_arrives_whole() -> None:
    """Otherwise records are lost between socket and sink."""
    sink, watcher = MemorySink(), SilentWatcher()
    outcome = conduct(PLAN, ReplayBackend(MemoryRun(PLAN, 5000)), sink, watcher, None, limits=LIMITS)
    assert outcome.kind == "complete"
    assert len(sink.blocks) == 6
    for block in sink.blocks:
        assert block.valid
        for tenant, count in block.counts.items():
            assert sink.count(tenant, block.index) == count == 5000
    assert sink.outcomes == [outcome]
    assert sink.plan is not None
    assert watcher.seen
    assert {"note", "joined", "opened", "calibrated", "block-started", "quota-reached", "block-ended"} <= set(
        sink.kinds()
    )


class Disturbed(ReplayBackend):
    """Something to note comes up during the run, and stays."""

    def __init__(self, sink: MemorySink) -> None:
        super().__init__(MemoryRun(PLAN))
        self._sink = sink

    def notes(self) -> list[str]:
        return ["replayed", *(["a stranger came"] if len(self._sink.blocks) >= 2 else [])]


def test_what_comes_up_during_the_run_is_noted_once() -> None:
    """Otherwise another measurement that begins after ours spoils it unseen."""
    sink = MemorySink()
    conduct(PLAN, Disturbed(sink), sink, SilentWatcher(), None, limits=LIMITS)
    notes = [fields["text"] for kind, fields in sink.events if kind == "note"]
    assert notes == ["replayed", "a stranger came"]


def test_rounds_follow_until_the_rule_is_satisfied() -> None:
    """Otherwise the rule is not fed, or not asked."""
    plan = make_plan(rounds=2, max_rounds=5, precision=0.05)
    sink, rule = MemorySink(), AfterRounds(2)
    outcome = conduct(plan, ReplayBackend(MemoryRun(plan, rounds=5)), sink, SilentWatcher(), rule, limits=LIMITS)
    assert outcome.kind == "complete"
    assert len(sink.blocks) == 9
    assert rule.asked == 2
    assert len(rule.added) == 3 * 4
    assert ("precision", {"fft.half_width": None, "gemm.half_width": 0.04}) in sink.events


@pytest.mark.parametrize(
    ("fault", "words", "code"),
    [
        (Fault(tenant="gemm", die_in=4), "ended before the run did", 5),
        (Fault(tenant="gemm", hang_in=4), "no sign of life", 5),
        (Fault(tenant="gemm", fail_in=4), "out of memory", 5),
        (Fault(tenant="gemm", gap_in=4), "where 0 was due", 5),
        (Fault(tenant="gemm", corrupt_in=4), "checksum", 5),
        (Fault(tenant="gemm", short_in=4), "announced", 5),
        (Fault(tenant="gemm", garbage_in=4), "something else than messages", 5),
    ],
)
def test_a_fault_in_a_block_keeps_the_earlier_blocks(fault: Fault, words: str, code: int) -> None:
    """Otherwise one bad worker costs the whole run, or its damage is counted as data."""
    plan = make_plan(rounds=3, design="classic")  # classic: every block index is known
    sink = MemorySink()
    backend = ScriptedBackend(MemoryRun(plan), fault)
    outcome = conduct(plan, backend, sink, SilentWatcher(), None, limits=LIMITS)
    assert (outcome.kind, outcome.exit_code) == ("incomplete", code), outcome
    assert words in outcome.reason
    assert "gemm" in outcome.reason
    assert [b.valid for b in sink.blocks] == [True] * 4 + [False]
    assert sink.outcomes == [outcome]
    assert all(not thread.name.startswith("replay") for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(tenant="gemm", uuid="GPU-2"), "not on one device"),
        (Fault(tenant="gemm", token="wrong"), "token"),
        (Fault(tenant="gemm", protocol=99), "protocol"),
    ],
)
def test_a_fault_while_joining_measures_nothing(fault: Fault, words: str) -> None:
    """Otherwise a run goes on without a tenant, or on two devices."""
    sink = MemorySink()
    outcome = conduct(PLAN, ScriptedBackend(MemoryRun(PLAN), fault), sink, SilentWatcher(), None, limits=LIMITS)
    assert (outcome.kind, outcome.exit_code) == ("failed", 4)
    assert words in outcome.reason
    assert sink.blocks == []


@pytest.mark.parametrize("method", ["event", "worker", "frozen", "records", "block", "close"])
def test_a_full_disk_ends_the_run_in_order(method: str) -> None:
    """Otherwise a full disk is a traceback, or a success without data."""
    sink = MemorySink(fail_at=method)
    outcome = conduct(PLAN, ReplayBackend(MemoryRun(PLAN)), sink, SilentWatcher(), None, limits=LIMITS)
    assert outcome.exit_code == 5
    assert (outcome.reason, outcome.remedy) == ("disk full", "free some space")
    assert len(sink.outcomes) == 1
    expected = 6 if method == "close" else 0
    assert sum(block.valid for block in sink.blocks) == expected, "the run went on after its disk was full"


def test_a_backend_that_cannot_start_is_an_outcome() -> None:
    """Otherwise the run directory stays 'running' for ever."""
    run = MemoryRun(PLAN)
    sink = MemorySink()
    outcome = conduct(make_plan("x", "y"), ReplayBackend(run), sink, SilentWatcher(), None, limits=LIMITS)
    assert (outcome.kind, outcome.exit_code) == ("failed", SetupError.exit_code)
    assert sink.outcomes == [outcome]


def test_a_port_that_is_taken_is_an_outcome() -> None:
    """Otherwise a second conductor on a fixed port ends in a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = conduct(PLAN, ReplayBackend(MemoryRun(PLAN)), MemorySink(), SilentWatcher(), None, port=port)
    assert outcome.exit_code == 4
    assert str(port) in outcome.reason


def test_an_unforeseen_exception_passes_through_and_closes_everything() -> None:
    """Otherwise a fault of kts hangs the run and leaves workers."""

    def burst(progress: Progress) -> None:
        del progress
        raise RuntimeError("a fault of kts")

    sink, backend = MemorySink(), ReplayBackend(MemoryRun(PLAN))
    with pytest.raises(RuntimeError, match="a fault of kts"):
        conduct(PLAN, backend, sink, SilentWatcher(burst), None, limits=LIMITS)
    assert sink.outcomes[0].kind == "failed"
    assert all(not thread.name.startswith("replay") for thread in threading.enumerate())


def test_a_stop_asked_for_before_the_run_ends_it_at_once() -> None:
    """Otherwise a pod that is told to end while it starts measures on, and is killed."""
    sink, stop = MemorySink(), StopRequest()
    stop.ask(Outcome(kind="interrupted", reason="told to end", exit_code=130))
    outcome = conduct(PLAN, ReplayBackend(MemoryRun(PLAN)), sink, SilentWatcher(), None, limits=LIMITS, stop=stop)
    assert (outcome.kind, outcome.reason, outcome.exit_code) == ("interrupted", "told to end", 130)
    assert sink.outcomes == [outcome]
    assert sink.blocks == []


def test_a_stop_asked_for_in_a_block_keeps_the_earlier_ones_and_its_reason() -> None:
    """Otherwise the verdict of who watches the pods is not in the run's own description."""
    plan = make_plan(rounds=2, design="classic")
    sink, stop = MemorySink(), StopRequest()
    why = Outcome(kind="failed", reason="the node is drained", remedy="choose another", exit_code=4)

    def tell(progress: Progress) -> None:
        del progress
        if len(sink.blocks) == 4:
            threading.Thread(target=stop.ask, args=(why,)).start()

    backend = ScriptedBackend(MemoryRun(plan), Fault(tenant="gemm", hang_in=4))
    outcome = conduct(plan, backend, sink, SilentWatcher(tell), None, limits=Limits(hang_s=60), stop=stop)
    assert outcome == msgspec.structs.replace(why, kind="incomplete")
    assert [block.valid for block in sink.blocks] == [True] * 4 + [False]


class Knocking(ReplayBackend):
    """Before its workers come, strangers do."""

    answer: bytes = b""

    def start(self, plan: Plan, endpoint: Endpoint) -> None:
        self.strangers = [socket.create_connection((endpoint.host, endpoint.port)) for _ in range(3)]
        self.strangers[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.strangers[1].sendall(b"\x00" * 100_000)
        hello = Hello(protocol=PROTOCOL, token="guess", tenant="fft", worker="fft", pid=1, hostname="x")
        self.strangers[2].sendall(frame(encode(hello)))
        super().start(plan, endpoint)

    def stop(self, grace_s: float) -> None:
        for stranger in self.strangers:
            stranger.settimeout(60)
        if not self.answer:
            self.answer = self.strangers[2].recv(4096)
        for stranger in self.strangers:
            stranger.close()
        super().stop(grace_s)


def test_strangers_do_not_disturb_a_run() -> None:
    """Otherwise a port scanner could end a measurement, or be let in."""
    sink, backend = MemorySink(), Knocking(MemoryRun(PLAN))
    outcome = conduct(PLAN, backend, sink, SilentWatcher(), None, limits=LIMITS)
    assert outcome.kind == "complete"
    (body,) = Deframer().feed(backend.answer)
    assert decode_from_conductor(body) == Refuse(what="the token is not this run's")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_comes_when_all_is_measured_is_told_to_who_has_more_to_do(number: signal.Signals) -> None:
    """Otherwise `--try-isolation` begins although somebody asked to stop."""
    sink, late = MemorySink(), list[str]()

    class Hit(ReplayBackend):
        def poll(self) -> list[WorkerExit]:
            if late or "concluded" not in sink.kinds():
                return super().poll()
            signal.raise_signal(number)
            return []

    former = signal.getsignal(number)
    try:
        outcome = conduct(PLAN, Hit(MemoryRun(PLAN)), sink, SilentWatcher(), None, limits=LIMITS, late=late)
    finally:
        signal.signal(number, former)
    assert outcome.kind == "complete"
    assert set(late) == {number.name}


class Unseen(ReplayBackend):
    """Does not learn how its workers end."""

    sees_ends = False

    def poll(self) -> list[WorkerExit]:
        return []


def test_an_end_that_nobody_will_tell_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every run in pods would take seconds longer, until the API server tells of pods that left long ago."""
    monkeypatch.setattr(driver, "LEAVE_S", 3600.0)
    outcome = conduct(PLAN, Unseen(MemoryRun(PLAN)), MemorySink(), SilentWatcher(), None, limits=LIMITS)
    assert outcome.kind == "complete"


PROGRAM = """
import signal
from kts.backends.replay import ReplayBackend
from kts.conduct import driver
from kts.conduct.driver import conduct
from kts.conduct.roster import Limits
from tests.helpers_conduct import Fault, MemoryRun, MemorySink, ScriptedBackend, SilentWatcher, make_plan

def mine(number, frame):
    print("former handler")

signal.signal(signal.SIGTERM, mine)
plan = make_plan(rounds=2, design="classic")
sink = MemorySink()
told = []

def tell(progress):
    if len(sink.blocks) == 4 and not told:
        told.append(print("block 4 runs", flush=True))
    if progress.phase == "finishing":
        print("finishing", flush=True)

class Backend(ScriptedBackend):
    def stop(self, grace_s):
        print("grace", grace_s)
        super().stop(0.0)

backend = Backend(MemoryRun(plan), Fault(tenant="gemm", hang_in=4))
outcome = conduct(plan, backend, sink, SilentWatcher(tell), None, limits=Limits(hang_s=60))
print(outcome.kind, outcome.exit_code, [b.valid for b in sink.blocks], len(sink.outcomes))
print(signal.getsignal(signal.SIGTERM) is mine, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


ENDED_IN_ORDER = ["grace 1.0", "interrupted 130 [True, True, True, True, False] 1"]


def start_program() -> subprocess.Popen[str]:
    """The program above, in the block in which gemm hangs."""
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    command = [sys.executable, "-c", PROGRAM]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=root)
    assert process.stdout is not None
    assert process.stdout.readline() == "block 4 runs\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_in_order_and_handlers_come_back(number: signal.Signals) -> None:
    """Otherwise Ctrl-C loses the run, or kts keeps the signal afterwards."""
    with start_program() as process:
        process.send_signal(number)
        out, _ = process.communicate(timeout=400)
    lines = [line for line in out.splitlines() if line != "finishing"]
    assert lines == [*ENDED_IN_ORDER, "True True"]


def test_a_second_signal_does_not_wait_for_a_stuck_tenant() -> None:
    """Otherwise a user who insists has to use kill -9, and loses the outcome."""
    with start_program() as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "finishing\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=400)
    lines = [line for line in out.splitlines() if line != "finishing"]
    assert lines[:2] == ["grace 0.0", "interrupted 130 [True, True, True, True, False] 1"]


def test_a_terminal_that_goes_twice_insists_on_nothing() -> None:
    """Otherwise closing a window, which tells shell and kernel apart, costs the report that Ctrl-C has."""
    with start_program() as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "finishing\n"
        process.send_signal(signal.SIGHUP)
        out, _ = process.communicate(timeout=400)
    lines = [line for line in out.splitlines() if line != "finishing"]
    assert lines == [*ENDED_IN_ORDER, "True True"]


class RecordedTelemetry:
    """A telemetry that writes down what it is told, and gives one sample per drain."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.closed = 0

    def worker(self, info: WorkerInfo) -> None:
        self.told.append(f"worker {info.tenant}")

    def heartbeat(self, tenant: str, beat: Heartbeat) -> None:
        del beat
        self.told.append(f"heartbeat {tenant}")

    def block_over(self) -> None:
        self.told.append("block over")

    def drain(self) -> tuple[list[SourceState], list[Sample]]:
        states = [SourceState(source="nvml", missing="none here")] if self.closed else []
        return states, [sample(len(self.told))]

    def close(self) -> None:
        self.closed += 1


def test_telemetry_is_told_of_workers_and_blocks_and_drained_to_the_end() -> None:
    """Otherwise samples belong to no device and no block, or the last ones are lost."""
    sink, telemetry = MemorySink(), RecordedTelemetry()
    recorded = MemoryRun(PLAN, 400)
    outcome = conduct(PLAN, ReplayBackend(recorded), sink, SilentWatcher(), None, limits=LIMITS, telemetry=telemetry)
    assert outcome.kind == "complete"
    assert telemetry.closed == 1
    assert {f"worker {tenant.name}" for tenant in PLAN.tenants} <= set(telemetry.told)
    assert telemetry.told.count("block over") == len(sink.blocks)
    assert sink.kept_samples
    assert sink.sources["nvml"].missing == "none here"
    assert "telemetry" in sink.kinds()


def test_a_sink_that_cannot_keep_a_sources_state_ends_the_run_as_any_other_failure() -> None:
    """Otherwise a full disk is noticed only when the records are lost."""

    class Talkative(RecordedTelemetry):
        def drain(self) -> tuple[list[SourceState], list[Sample]]:
            return [SourceState(source="nvml")], []

    sink = MemorySink(fail_at="source")
    outcome = conduct(
        PLAN, ReplayBackend(MemoryRun(PLAN)), sink, SilentWatcher(), None, limits=LIMITS, telemetry=Talkative()
    )
    assert outcome.exit_code == 5
    assert "disk full" in outcome.reason
