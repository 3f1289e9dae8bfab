"""The conductor's decisions, without processes, sockets or a clock."""

from __future__ import annotations

import msgspec
import pytest
from tests.helpers_conduct import DEVICE, Puppets, S, make_plan, make_records, sent

from kts.conduct import events as ev
from kts.conduct.ports import WorkerExit
from kts.conduct.roster import Limits
from kts.model.masking import HIDDEN
from kts.model.plan import Program
from kts.model.run import DeviceInfo, Outcome, ThreadWait
from kts.wire import messages as msg
from kts.wire.framing import make_chunk

OTHER_DEVICE = DeviceInfo(kind="cuda", uuid="GPU-2", name="B", label="NVIDIA B", library="torch")


def kinds(actions: list[ev.Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"token": "wrong"}, "token"),
        ({"token": "not-ascii-\u00e9"}, "token"),
        ({"protocol": 99}, "protocol"),
        ({"tenant": "stranger"}, "stranger"),
    ],
)
def test_a_hello_that_is_not_ours_is_refused(changes: dict[str, object], word: str) -> None:
    """Otherwise any process of the machine could feed records into a run."""
    puppets = Puppets(make_plan())
    actions = puppets.tell(ev.Greeted(peer=3, hello=puppets.hello("fft", **changes)))
    rejected = [a for a in actions if isinstance(a, ev.Reject)]
    assert len(rejected) == 1
    assert rejected[0].peer == 3
    assert word in rejected[0].what
    assert "Accept" not in kinds(actions)


def test_a_second_worker_of_one_tenant_is_refused() -> None:
    """Otherwise two workers would share a seat and their records would mix."""
    puppets = Puppets(make_plan())
    puppets.join("fft")
    actions = puppets.tell(ev.Greeted(peer=9, hello=puppets.hello("fft")))
    assert kinds(actions)[0] == "Reject"


def test_a_stranger_that_knocks_all_day_does_not_fill_the_log() -> None:
    """Otherwise refusals alone could fill the disk."""
    puppets = Puppets(make_plan())
    for peer in range(200):
        puppets.tell(ev.Greeted(peer=peer, hello=puppets.hello("fft", token="x")))
    assert sum(isinstance(a, ev.Log) and a.kind == "refused" for a in puppets.actions) == 20


def test_whoever_does_not_join_in_time_is_named() -> None:
    """Otherwise a run waits for ever for a worker that never came."""
    puppets = Puppets(make_plan(), limits=Limits(join_s=60))
    puppets.join("fft")
    puppets.pass_time(61)
    assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("failed", 4)
    assert "gemm" in puppets.outcome.reason
    assert "fft" not in puppets.outcome.reason


def test_tenants_on_two_devices_are_not_measured() -> None:
    """Otherwise two tenants that never meet would be reported as sharing well."""
    puppets = Puppets(make_plan())
    puppets.join("fft")
    puppets.tell(ev.Greeted(peer=2, hello=puppets.hello("gemm")))
    actions = puppets.say("gemm", msg.Opened(device=OTHER_DEVICE, cores=(1,)))
    assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("failed", 4)
    assert "GPU-2" in puppets.outcome.reason
    assert "--allow-different-gpus" in puppets.outcome.remedy
    assert sent(actions, msg.Calibrate) == []


def test_two_devices_that_are_allowed_are_noted_loudly() -> None:
    """Otherwise the reader could not tell such a run from one on a shared GPU."""
    puppets = Puppets(make_plan(allow_different_gpus=True))
    puppets.join("fft")
    puppets.tell(ev.Greeted(peer=2, hello=puppets.hello("gemm")))
    actions = puppets.say("gemm", msg.Opened(device=OTHER_DEVICE, cores=(1,)))
    assert sent(actions, msg.Calibrate) == ["fft"]
    assert any(isinstance(a, ev.Log) and a.kind == "note" and "NOT ONE DEVICE" in str(a.fields) for a in actions)


def test_calibration_is_one_tenant_at_a_time_and_freezes_the_sizes() -> None:
    """Otherwise calibrations would disturb each other, or blocks run with different sizes."""
    puppets = Puppets(make_plan(size=None))
    puppets.join()
    assert sent(puppets.actions, msg.Calibrate) == ["fft"]
    assert sent(puppets.say("fft", msg.Ready(size=100, solo_ms=1.0)), msg.Calibrate) == ["gemm"]
    actions = puppets.say("gemm", msg.Ready(size=200, solo_ms=2.0))
    frozen = next(a for a in actions if isinstance(a, ev.Freeze))
    assert [t.work.size for t in frozen.plan.tenants] == [100, 200]
    assert (frozen.plan.device, [t.work.library for t in frozen.plan.tenants]) == ("cpu", ["numpy", "numpy"]), "no auto"
    assert kinds(actions).index("Freeze") < kinds(actions).index("Settle")
    assert sent(actions, msg.Start)


def test_one_window_opens_for_all_and_each_enters_it_at_a_phase_of_its_own() -> None:
    """Otherwise tenants meet at the start of every block, and the tail is that of the schedule."""
    puppets = Puppets(make_plan(rounds=1), limits=Limits(lead_ms=100))
    puppets.prepare()
    while len([s for s in puppets.starts if s.message.block == puppets.starts[-1].message.block]) < 2:
        puppets.play()
    last = [s.message for s in puppets.starts if s.message.block == puppets.starts[-1].message.block]
    assert len({m.start_ns for m in last}) == 1
    assert min(m.start_ns for m in last) >= puppets.now_ns + S // 10
    assert min(m.first_ns for m in last) >= puppets.now_ns + S // 10, "nobody is told too late"
    assert len({m.first_ns for m in last}) == 2
    assert len({m.seed for m in last}) == 2


def test_a_held_program_runs_in_before_its_window_opens_and_a_kernel_does_not() -> None:
    """Otherwise a block's first iterations, slower than those of the program's life, are its p99."""
    plan = make_plan("a", "b", rounds=1)
    programs = tuple(msgspec.structs.replace(tenant, work=Program(command=("serve",))) for tenant in plan.tenants[1:])
    puppets = Puppets(msgspec.structs.replace(plan, tenants=(plan.tenants[0], *programs)), limits=Limits(lead_ms=100))
    puppets.prepare()
    while len(puppets.plan.condition(_running(puppets)).tenants) < 2:
        puppets.play()
    kernel, program = (s.message for s in puppets.starts[-2:])
    assert kernel.go_ns == kernel.first_ns
    assert program.first_ns - program.go_ns >= S // 4
    assert program.go_ns >= puppets.now_ns + S // 10, "nobody is told too late"


@pytest.mark.parametrize(("cycle_ms", "run_in_ms"), [(1.0, 250.0), (200.0, 600.0), (5000.0, 2000.0)])
def test_a_program_of_long_iterations_runs_in_for_three_of_them_within_two_seconds(
    cycle_ms: float, run_in_ms: float
) -> None:
    """Otherwise one of 200 ms is still cold when its window opens, or one of a minute holds up the run."""
    plan = make_plan("a", rounds=1)
    program = msgspec.structs.replace(plan.tenants[0], work=Program(command=("serve",)))
    puppets = Puppets(msgspec.structs.replace(plan, tenants=(program,)))
    puppets.prepare(cycle_ms)
    start = puppets.starts[-1].message
    assert start.first_ns - start.go_ns == pytest.approx(run_in_ms * 1e6)


def test_nobody_is_stopped_before_everybody_has_reached_the_quota() -> None:
    """Otherwise the slower tenant's last iterations would run alone in a shared block."""
    puppets = Puppets(make_plan("a", "b", rounds=1))
    puppets.prepare()
    while len(puppets.plan.condition(_running(puppets)).tenants) < 2:
        puppets.play()
    block = puppets.starts[-1].message.block
    assert sent(puppets.say("a", msg.QuotaReached(block=block)), msg.Stop) == []
    assert sent(puppets.say("b", msg.QuotaReached(block=block)), msg.Stop) == ["a", "b"]


def _running(puppets: Puppets) -> str:
    return next(
        str(a.fields["condition"])
        for a in reversed(puppets.actions)
        if isinstance(a, ev.Log) and a.kind == "block-started"
    )


def test_without_precision_a_run_is_complete_after_its_rounds() -> None:
    """Otherwise too much or too little would be measured."""
    puppets = Puppets(make_plan(rounds=3))
    puppets.prepare()
    for _ in range(9):
        puppets.play()
    assert puppets.outcome.kind == "complete"
    assert puppets.outcome.exit_code == 0
    assert [b.index for b in puppets.ended] == list(range(9))
    assert all(b.valid and sum(b.counts.values()) in (3, 6) for b in puppets.ended)
    assert sent(puppets.actions, msg.Finish) == ["fft", "gemm"]


def test_with_precision_rounds_follow_until_the_rule_is_satisfied() -> None:
    """Otherwise a run would stop before its interval is as narrow as asked."""
    puppets = Puppets(make_plan(rounds=2, max_rounds=9, precision=0.05), asks=True, answers=[False, False, True])
    puppets.prepare()
    for _ in range(4 * 3):
        puppets.play()
    assert puppets.outcome.kind == "complete"


def test_at_max_rounds_the_run_is_undetermined() -> None:
    """Otherwise a run that cannot reach its precision would never end, or claim that it did."""
    puppets = Puppets(make_plan(rounds=2, max_rounds=3, precision=0.05), asks=True)
    puppets.prepare()
    for _ in range(9):
        puppets.play()
    assert puppets.outcome.kind == "undetermined"
    assert "0.05" in puppets.outcome.reason


def test_no_round_begins_that_would_end_after_max_seconds() -> None:
    """Otherwise --max-seconds is exceeded by a round."""
    puppets = Puppets(make_plan(rounds=2, max_rounds=99, precision=0.05, max_seconds=100.0), asks=True)
    puppets.prepare()
    while puppets.machine.outcome is None:
        puppets.play(seconds=10)
    assert puppets.outcome.kind == "undetermined"
    assert len(puppets.ended) == 9  # 3 rounds of 30 s; a fourth would end at 120 s
    assert puppets.ended[-1].valid


def test_a_block_is_cut_at_one_and_a_half_times_max_seconds_and_stays_valid() -> None:
    """Otherwise a first round that takes for ever ignores --max-seconds, or its data are thrown away."""
    puppets = Puppets(make_plan(rounds=5, iterations=100_000, max_seconds=10.0))
    puppets.prepare()
    block = puppets.starts[-1].message.block
    active = [s.tenant for s in puppets.starts]
    assert sent(puppets.pass_time(14), msg.Stop) == []
    assert sent(puppets.pass_time(2), msg.Stop) == active
    for name in active:
        puppets.say(name, msg.BlockDone(block=block, chunks=0, count=0))
    assert puppets.outcome.kind == "undetermined"
    assert [b.valid for b in puppets.ended] == [True]


@pytest.mark.parametrize("event", ["gap", "checksum", "count", "chunks", "foreign block"])
def test_a_block_with_missing_or_damaged_records_is_invalid(event: str) -> None:
    """Otherwise a tail that was lost on the way would look like a better tail."""
    puppets = Puppets(make_plan("a", rounds=1))
    puppets.prepare()
    chunk = make_chunk(0, 0, make_records(3))
    match event:
        case "gap":
            puppets.say("a", msgspec.structs.replace(chunk, seq=1))
        case "checksum":
            puppets.say("a", msgspec.structs.replace(chunk, crc32=chunk.crc32 ^ 1))
        case "count":
            puppets.say("a", chunk)
            puppets.say("a", msg.BlockDone(block=0, chunks=1, count=4))
        case "chunks":
            puppets.say("a", chunk)
            puppets.say("a", msg.BlockDone(block=0, chunks=2, count=3))
        case _:
            puppets.say("a", msgspec.structs.replace(chunk, block=5))
    assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("incomplete", 5)
    assert [b.valid for b in puppets.ended] == [False]
    assert "tenant a" in puppets.outcome.reason


def test_a_dead_tenant_spoils_its_block_and_not_the_earlier_ones() -> None:
    """Otherwise half a block would be analysed, or good blocks thrown away."""
    puppets = Puppets(make_plan(rounds=1))
    puppets.prepare()
    puppets.play()
    puppets.tell(ev.Lost(tenant="gemm"))
    assert puppets.machine.outcome is None, "the process's end may tell more"
    actions = puppets.tell(WorkerExit(tenant="gemm", code=-9, reason="killed by SIGKILL"))
    assert [b.valid for b in puppets.ended] == [True, False]
    assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("incomplete", 5)
    assert "killed by SIGKILL" in puppets.outcome.reason
    assert "killed by SIGKILL" in puppets.ended[-1].reason
    assert sent(actions, msg.Finish) == ["fft"]


def test_a_lost_connection_ends_the_run_even_if_the_process_lives() -> None:
    """Otherwise a worker that closed its socket would be waited for."""
    puppets = Puppets(make_plan())
    puppets.prepare()
    puppets.tell(ev.Lost(tenant="gemm"))
    puppets.pass_time(2, alive=["fft"])
    assert "closed its connection" in puppets.outcome.reason


def test_what_a_worker_said_before_it_ended_is_the_reason() -> None:
    """Otherwise an exit that is seen before its message hides 'out of memory' behind 'exit code 5'."""
    puppets = Puppets(make_plan())
    puppets.prepare()
    puppets.tell(WorkerExit(tenant="gemm", code=5, reason="exit code 5"))
    assert puppets.machine.outcome is None
    puppets.say("gemm", msg.Failed(kind="out-of-memory", what="out of memory", remedy="smaller size"))
    assert "out of memory" in puppets.outcome.reason
    assert puppets.outcome.remedy == "smaller size"
    assert puppets.outcome.exit_code == 5


def test_a_failure_of_setting_up_exits_with_4() -> None:
    """Otherwise 'torch is not installed' looks like a failed measurement."""
    puppets = Puppets(make_plan())
    puppets.join("fft")
    puppets.say("fft", msg.Failed(kind="setup", what="torch is not installed", remedy="install it"))
    assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("failed", 4)
    assert puppets.ended == []


def test_a_hung_tenant_is_detected_in_a_block() -> None:
    """Otherwise a kernel that never returns hangs the run."""
    puppets = Puppets(make_plan(), limits=Limits(hang_s=10))
    puppets.prepare()
    puppets.pass_time(9, alive=["fft"])
    assert puppets.machine.outcome is None
    puppets.pass_time(2, alive=["fft"])
    assert "tenant gemm gave no sign of life for 1" in puppets.outcome.reason
    assert [b.valid for b in puppets.ended] == [False]


def test_a_tenant_that_thinks_long_does_not_hang() -> None:
    """Otherwise a slow but healthy tenant is declared dead."""
    puppets = Puppets(make_plan(think_ms=10_000), limits=Limits(hang_s=10))
    puppets.prepare()
    puppets.pass_time(35, alive=[])
    assert puppets.machine.outcome is None
    puppets.pass_time(10, alive=[])
    assert puppets.machine.outcome is not None


def test_a_pause_of_the_conductor_is_not_held_against_tenants() -> None:
    """Otherwise a laptop that slept, or a slow disk, kills healthy runs."""
    puppets = Puppets(make_plan(), limits=Limits(hang_s=10))
    puppets.prepare()
    puppets.pass_time(3600, alive=[], step_s=3600)
    assert puppets.machine.outcome is None


def test_a_block_that_never_ends_is_given_up() -> None:
    """Otherwise a tenant that beats but does not progress keeps the run for ever."""
    puppets = Puppets(make_plan(iterations=2), limits=Limits(hang_s=10, block_factor=10))
    puppets.prepare()
    puppets.pass_time(600)
    assert "did not end within" in puppets.outcome.reason


def test_ctrl_c_keeps_earlier_blocks_and_sends_everybody_home() -> None:
    """Otherwise stopping a run loses it, or leaves workers on the device."""
    puppets = Puppets(make_plan())
    puppets.prepare()
    puppets.play()
    actions = puppets.tell(ev.Signalled(signal="SIGINT"))
    assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("interrupted", 130)
    assert [(b.valid, b.reason) for b in puppets.ended] == [(True, ""), (False, "interrupted")]
    assert sent(actions, msg.Finish) == ["fft", "gemm"]
    assert kinds(actions)[-1] == "Conclude"


@pytest.mark.parametrize(("measured", "kind"), [(False, "failed"), (True, "incomplete")])
def test_a_stop_from_outside_ends_the_run_with_its_reason(measured: bool, kind: str) -> None:
    """Otherwise run.json says 'stopped by the user' where a tenant found no free slot."""
    puppets = Puppets(make_plan())
    if measured:
        puppets.prepare()
        puppets.play()
    why = Outcome(kind="failed", reason="no free slot for tenant gemm", remedy="wait", exit_code=4)
    actions = puppets.tell(ev.Stopped(outcome=why))
    assert puppets.outcome == msgspec.structs.replace(why, kind=kind)
    assert [block.valid for block in puppets.ended] == ([True, False] if measured else [])
    assert kinds(actions)[-1] == "Conclude"


def test_a_sink_that_fails_ends_the_run_with_its_own_words() -> None:
    """Otherwise a full disk is found out when the run is over."""
    puppets = Puppets(make_plan())
    puppets.prepare()
    puppets.tell(ev.SinkFailed(what="disk full", remedy="free some space"))
    assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("incomplete", 5)
    assert (puppets.outcome.reason, puppets.outcome.remedy) == ("disk full", "free some space")


def test_a_replayed_block_keeps_the_times_of_its_records() -> None:
    """Otherwise blocks shaded in a replay's figures lie beside their records."""
    puppets = Puppets(make_plan("a", rounds=1))
    puppets.prepare()
    puppets.say("a", make_chunk(0, 0, make_records(10, start_ns=5 * S)))
    puppets.say("a", msg.BlockDone(block=0, chunks=1, count=10))
    assert (puppets.ended[0].start_ns, puppets.ended[0].end_ns) == (5 * S, 5 * S + 9_500_000)


def test_progress_names_the_phase_and_counts_down() -> None:
    """Otherwise a person cannot tell a long run from a stuck one."""
    puppets = Puppets(make_plan(rounds=2))
    progress = puppets.machine.progress(puppets.now_ns)
    assert (progress.phase, progress.left_s) == ("starting", None)
    assert "fft, gemm" in progress.text
    puppets.join()
    assert puppets.machine.progress(puppets.now_ns).text == "calibrating fft"
    for name in puppets.names:
        puppets.say(name, msg.Ready(size=16, solo_ms=1.0))
    left = []
    while puppets.machine.outcome is None:
        progress = puppets.machine.progress(puppets.now_ns)
        left.append(progress.left_s)
        assert progress.round in (1, 2)
        assert any(t.active for t in progress.tenants)
        puppets.play(seconds=2)
    assert left[-1] is not None
    assert left[2] is not None
    assert left[-1] < left[2]
    assert left[-1] == pytest.approx(2.0, abs=1.0)
    assert puppets.machine.progress(puppets.now_ns).phase == "finishing"


def test_a_device_is_introduced_again_with_its_calibration() -> None:
    """Otherwise run.json lacks the solo duration that the sizes stand for."""
    puppets = Puppets(make_plan("a"))
    puppets.prepare()
    infos = [a.info for a in puppets.actions if isinstance(a, ev.Introduce)]
    assert [(i.tenant, i.solo_ms, i.device) for i in infos] == [("a", None, DEVICE), ("a", 1.0, DEVICE)]


def test_what_a_tenant_says_of_itself_is_noted_once_and_what_it_lost_is_kept() -> None:
    """Otherwise a reader would not know why nothing is seen of a program, or that calls of it are missing."""
    puppets = Puppets(make_plan("a", rounds=2))
    puppets.join()
    puppets.say("a", msg.Ready(size=None, solo_ms=1.0, notes=("nothing is seen of it", "nothing is seen of it")))
    for lost in (7, 0):
        block = puppets.starts[-1].message.block
        threads = tuple(ThreadWait(pid=1, tid=n, name="serve", waited_ns=lost) for n in range(lost))
        done = msg.BlockDone(block=block, chunks=0, count=0, events_lost=lost, notes=("it is slow",), threads=threads)
        puppets.say("a", done)
    assert [len(block.waits.get("a", ())) for block in puppets.ended] == [3, 0]
    assert [block.events_lost for block in puppets.ended] == [{"a": 7}, {}]
    logs = [action for action in puppets.actions if isinstance(action, ev.Log) and action.kind == "note"]
    assert [log.fields["text"] for log in logs] == ["a: nothing is seen of it", "a: it is slow"]


@pytest.mark.parametrize(
    "said",
    [
        msg.Failed(kind="program", what="it ended; its last line: no user for s3cr3t-value", remedy="run s3cr3t-value"),
        WorkerExit(tenant="a", code=1, reason="exit code 1: bad --key=s3cr3t-value", remedy="look for s3cr3t-value"),
        msg.Ready(size=None, solo_ms=1.0, notes=("it printed s3cr3t-value",)),
    ],
    ids=lambda said: type(said).__name__,
)
@pytest.mark.parametrize("keeps", [False, True])
def test_what_a_tenant_was_given_in_secret_is_in_nothing_that_is_said_of_it(
    said: msg.FromWorker | WorkerExit, keeps: bool
) -> None:
    """A token that a program prints as it dies would stand in run.json and the report, for all who read these."""
    plan = make_plan("a", rounds=1)
    work = Program(command=("serve", "--key=s3cr3t-value"), env={"KEY": "s3cr3t-value", "N": "1"}, keep_values=keeps)
    tenants = tuple(msgspec.structs.replace(tenant, work=work) for tenant in plan.tenants)
    puppets = Puppets(msgspec.structs.replace(plan, tenants=tenants))
    puppets.join()
    puppets.tell(said) if isinstance(said, WorkerExit) else puppets.say("a", said)
    puppets.pass_time(10)
    told = repr(([one for one in puppets.actions if isinstance(one, ev.Log)], puppets.machine.outcome))
    assert ("s3cr3t-value" in told) == keeps
    assert (HIDDEN in told) != keeps
    assert "exit code 1" in told or "it printed" in told or "last line" in told, "the rest of it stays"


@pytest.mark.parametrize(("subject", "ends"), [("fft", True), ("gemm", False), ("", False)])
def test_a_run_about_a_tenant_without_iterations_ends_before_it_measures(subject: str, ends: bool) -> None:
    """Otherwise a program that says nothing would be run for minutes, for a table without a figure."""
    puppets = Puppets(make_plan(subject=subject))
    for name in ("fft", "gemm"):
        puppets.join(name)
    puppets.say("fft", msg.Ready(size=None, solo_ms=None))
    if ends:
        assert (puppets.outcome.kind, puppets.outcome.exit_code) == ("failed", 4)
        assert "fft has no iterations" in puppets.outcome.reason
        assert "KTS_SETTLE_S" in puppets.outcome.remedy
    else:
        assert puppets.machine.outcome is None


@pytest.mark.parametrize(("solo_ms", "ends"), [(3000.0, True), (600.0, False)])
def test_a_run_whose_blocks_hold_no_iteration_ends_before_it_measures(solo_ms: float, ends: bool) -> None:
    """Otherwise a training step of seconds would be measured for minutes, and every figure refused."""
    plan = make_plan(subject="fft")
    own = msgspec.structs.replace(plan.tenants[0], work=Program(command=("x",)), iterations=None, seconds=4.0)
    puppets = Puppets(msgspec.structs.replace(plan, tenants=(own, plan.tenants[1])))
    for name in ("fft", "gemm"):
        puppets.join(name)
    puppets.say("fft", msg.Ready(size=None, solo_ms=solo_ms))
    assert (puppets.machine.outcome is not None) == ends
    if ends:
        assert "takes 3 s alone: a block of 2 s" in puppets.outcome.reason
        assert "--iterations" in puppets.outcome.remedy
