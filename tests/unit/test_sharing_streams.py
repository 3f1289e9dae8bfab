"""Tenants as threads of one process: who may be one, whose stream goes first, and what proves it."""

# ruff: noqa: N802 - the driver's names
from __future__ import annotations

import contextlib
import gc
import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.helpers_cuda import FakeCuda
from tests.helpers_stats import FakeRun, make_plan, make_run
from tests.helpers_wait import until

from kts.backends.local import LocalBackend, shares_by_session
from kts.backends.placement import Placement
from kts.conduct.ports import Endpoint
from kts.errors import SetupError, UsageError
from kts.model.mode import MPS, STREAMS, TIGHTEST, TIME_SLICING, Evidence, Mode
from kts.model.plan import Crew, Plan, Program, Slo
from kts.model.run import DeviceInfo, WorkerInfo
from kts.plan import in_modes
from kts.sharing import check, parse, prepared
from kts.sharing.streams import CONNECTIONS
from kts.stats import analyse
from kts.stats.choosing import modes_summary
from kts.stats.modes import views
from kts.worker import crew as carrying
from kts.worker.crew import Carrier, CrewMember, join_all
from kts.worker.detect import StreamWish
from kts.worker.devices.cuda import OwnStream
from kts.worker.host import HostReader
from kts.worker.loop import no_garbage_collection
from kts.worker.prepare import MEMBERS
from kts.worker.sharing import PIPE

GPU = DeviceInfo(kind="cuda", uuid="GPU-1", name="H", label="H", library="torch", stopwatch="x")
CPU = msgspec.structs.replace(GPU, kind="cpu", label="CPU core 1 (x), not a GPU")


def with_slos(**p99_ms: float) -> Plan:
    plan = make_plan(["fft", "gemm", "tiny"])
    tenants = tuple(msgspec.structs.replace(t, slo=Slo(p99_ms=p99_ms.get(t.name))) for t in plan.tenants)
    return msgspec.structs.replace(plan, tenants=tenants)


# who is in it, and who goes first


def test_a_mode_of_streams_has_one_process_for_all_its_tenants() -> None:
    """Else its tenants would be processes that take turns, and be called streams."""
    plan = in_modes(make_plan(), parse("exclusive,time-slicing,streams,again=streams"))
    assert [crew.tenants for crew in plan.crews] == [("fft@streams", "gemm@streams"), ("fft@again", "gemm@again")]
    assert make_plan().crews == ()
    assert plan.twin("gemm@streams") == "gemm"


def test_the_tightest_slo_has_priority_or_who_is_named() -> None:
    """Else priority would go to a tenant that nobody promised anything, or to nobody."""
    plan = in_modes(with_slos(fft=9.0, tiny=3.0), parse("streams,streams:priority,streams:priority:gemm"))
    assert [(one.mode.name, one.mode.first) for one in plan.modes] == [
        ("streams", ""),
        ("streams-priority", "tiny"),
        ("streams-priority-gemm", "gemm"),
    ]
    assert [crew.first for crew in plan.crews] == ["", "tiny@streams-priority", "gemm@streams-priority-gemm"]
    assert parse("x=streams:priority") == (Mode(name="x", kind=STREAMS, first=TIGHTEST),)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("streams:50", "streams have a priority, or none"),
        ("streams:priority:", "streams have a priority, or none"),
        ("streams:priority", "no tenant has an SLO"),
        ("streams:priority:chat", "no tenant chat"),
    ],
)
def test_what_is_no_priority_is_refused(words: str, said: str) -> None:
    """Else a mode would be measured that nobody asked for."""
    with pytest.raises(UsageError, match=said):
        in_modes(make_plan(), parse(words))


def test_a_program_cannot_be_a_thread_of_ours_and_is_named() -> None:
    """Else it would run in a process of its own and be called streams."""
    plan = make_plan()
    program = msgspec.structs.replace(plan.tenants[1], work=Program(command=("x",)))
    plan = msgspec.structs.replace(plan, tenants=(plan.tenants[0], program))
    in_modes(plan, parse("time-slicing,mps"))
    with pytest.raises(UsageError, match="gemm runs a program"):
        in_modes(plan, parse("time-slicing,streams"))


def test_a_cpu_core_has_threads_and_no_priority_among_streams() -> None:
    """Else a stand-in would claim what it does not have."""
    on_cpu = {"device": "cpu"}
    check(msgspec.structs.replace(in_modes(make_plan(), parse("cpu-scheduler,streams")), **on_cpu))
    with pytest.raises(UsageError, match="no streams, and so no priority"):
        check(msgspec.structs.replace(in_modes(make_plan(), parse("streams:priority:fft")), **on_cpu))


def test_streams_get_queues_of_their_own_and_are_kept_from_a_daemon() -> None:
    """Else a ninth stream would wait for another's, or the process be a client of somebody's MPS."""
    with prepared(in_modes(make_plan(), parse("time-slicing,streams"))) as held:
        env = held.env
        assert env["fft@streams"][CONNECTIONS] == "32"
        assert not list(Path(env["fft@streams"][PIPE]).iterdir())
        assert CONNECTIONS not in env["fft"]


# the worker's side


class Streams(FakeCuda):
    """Numbers streams from 1; all are of context 77."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.priorities: list[int] = []

    def do_cuCtxGetStreamPriorityRange(self, least: Any, greatest: Any) -> None:
        least._obj.value, greatest._obj.value = 0, -5

    def do_cuStreamCreateWithPriority(self, out: Any, flags: int, priority: Any) -> None:
        assert flags == 1, "a stream that waits for the default one"
        self.priorities.append(priority.value)
        out._obj.value = len(self.priorities)

    def do_cuStreamGetPriority(self, stream: Any, out: Any) -> None:
        out._obj.value = self.priorities[stream.value - 1]

    def do_cuStreamGetCtx(self, _stream: Any, out: Any) -> None:
        out._obj.value = 77


def test_whose_stream_goes_first_has_the_greatest_priority_of_the_gpu() -> None:
    """Else streams:priority would be streams."""
    gpu = Streams()
    wishes: tuple[StreamWish, ...] = ("equal", "first", "behind")
    streams = [OwnStream(wish, gpu) for wish in wishes]
    assert [one.priority for one in streams] == [0, -5, 0]
    assert len({one.handle for one in streams}) == 3
    assert {one.context for one in streams} == {77}


def test_a_gpu_that_gives_no_stream_says_so() -> None:
    with pytest.raises(SetupError, match="no stream of its own: cuStreamCreateWithPriority gives CUDA_ERROR_2"):
        OwnStream("equal", Streams(refuse={"cuStreamCreateWithPriority": 2}))


def crew_of(*streams: OwnStream | None, threads: bool = True) -> Carrier:
    """A crew whose tenants are there: t0 on the first stream, and so on, each in a thread of its own or all in one."""
    crew = Carrier([CrewMember(tenant=f"t{k}", cores=(0,)) for k in range(len(streams))])
    together = threading.Barrier(len(streams))

    def come(name: str, stream: OwnStream | None) -> None:
        crew.came(name, stream)
        if threads:
            together.wait(120)  # a thread that ended may give its number to the next

    each = [threading.Thread(target=come, args=(f"t{k}", stream)) for k, stream in enumerate(streams)]
    for thread in each if threads else ():
        thread.start()
    for thread in each if threads else ():
        thread.join()
    if not threads:
        for k, stream in enumerate(streams):
            come(f"t{k}", stream)
    return crew


def seen(
    crew: Carrier, device: DeviceInfo, monkeypatch: pytest.MonkeyPatch, also: str = TIME_SLICING
) -> dict[str, str]:
    """Evidence by mode, beside that of ``also`` which a process by itself would see."""
    alone = Evidence(mode=also, seen="NVML lists 3 computing processes", by="t0", at_ns=1)
    monkeypatch.setattr(carrying, "seen_from", lambda *_: (alone,))
    return {one.mode: one.seen for one in crew.seen("t0", device)}


def test_one_process_with_a_thread_and_a_stream_for_each_proves_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the mode could not be proven, or other processes' turns would stand against it."""
    gpu = Streams()
    found = seen(crew_of(OwnStream("first", gpu), OwnStream("behind", gpu)), GPU, monkeypatch)
    assert list(found) == [STREAMS]
    assert f"process {os.getpid()} carries all 2 tenants" in found[STREAMS]
    assert "on stream 0x1 of priority -5" in found[STREAMS]
    assert "no streams" in seen(crew_of(None, None), CPU, monkeypatch)[STREAMS]


@pytest.mark.parametrize("wrong", ["missing", "one thread", "one stream", "two contexts", "default stream"])
def test_what_is_not_so_is_no_evidence(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a mode would be proven by its name."""
    gpu = Streams()
    one, other = OwnStream("equal", gpu), OwnStream("equal", gpu)
    crew = crew_of(
        one,
        {"one stream": one, "default stream": None}.get(wrong, other),
        threads=wrong != "one thread",
    )
    if wrong == "missing":
        crew = Carrier([CrewMember(tenant="t0", cores=(0,)), CrewMember(tenant="t1", cores=(0,))])
        crew.came("t0", one)
    if wrong == "two contexts":
        numbers = itertools.count()
        monkeypatch.setattr(OwnStream, "context", property(lambda _: next(numbers)))
    assert not seen(crew, GPU, monkeypatch)


def test_a_client_of_mps_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process that a daemon took in would be streams alone."""
    assert list(seen(crew_of(None, None), CPU, monkeypatch, also=MPS)) == [MPS, STREAMS]


@pytest.mark.parametrize("text", ["", "{", "[]", '[{"tenant":"a","cores":[0]},{"tenant":"a","cores":[0]}]', "[1]"])
def test_what_names_no_tenants_is_refused(text: str) -> None:
    """Else a process would wait for nobody, or two threads for one seat."""
    with pytest.raises(UsageError, match=MEMBERS):
        join_all({MEMBERS: text})


def test_nothing_is_collected_until_the_last_blocks_end() -> None:
    """Else the end of one tenant's block would bring collections into a neighbour's."""
    assert gc.isenabled()
    first, second = no_garbage_collection(), no_garbage_collection()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_a_thread_is_charged_with_its_own_work_alone() -> None:
    """Else each tenant of a process would be told to have used what all of them used."""
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            np.dot(np.ones((64, 64)), np.ones((64, 64)))

    busy = threading.Thread(target=spin)
    try:
        with contextlib.closing(HostReader(own=True, thread=True)) as reader:
            busy.start()
            mine_ns, before = time.thread_time_ns(), reader.read()
            others_ns = time.process_time_ns() - time.thread_time_ns()
            until(lambda: time.process_time_ns() - time.thread_time_ns() - others_ns >= 30_000_000, "the other works")
            after, used_ns = reader.read(), time.thread_time_ns() - mine_ns
    finally:
        over.set()
        busy.join()
    grown_ns = after.counters["running_threads"] - before.counters["running_threads"]
    assert 0 < grown_ns <= used_ns
    assert len(reader._threads) <= 1


# the conductor's side


def measured(pids: Callable[[str], int]) -> FakeRun:
    plan = in_modes(make_plan(rounds=4), parse("time-slicing,streams"))
    rng = np.random.default_rng(3)
    run = make_run(plan, lambda *_: (10 * rng.lognormal(0, 0.1, 150), None))

    def told(worker: WorkerInfo) -> WorkerInfo:
        mode = STREAMS if worker.tenant.endswith("@streams") else TIME_SLICING
        sharing = (Evidence(mode=mode, seen="x", by=worker.tenant, at_ns=1),)
        return msgspec.structs.replace(worker, sharing=sharing, pid=pids(worker.tenant))

    run.info = msgspec.structs.replace(run.info, workers=tuple(map(told, run.info.workers)))
    return run


def shown(run: FakeRun) -> tuple[bool, str]:
    summary = modes_summary(run, {name: analyse(view).summary for name, view in views(run).items()})
    return summary.mode("streams").proves, summary.mode("streams").shown


def test_streams_of_several_processes_are_not_proven() -> None:
    """Else the word of two processes would count for what one of them alone can be."""
    assert shown(measured(lambda tenant: 7 if "@" in tenant else hash(tenant))) == (True, "streams")
    numbers = itertools.count(7)
    assert shown(measured(lambda _: next(numbers))) == (False, "asked for streams, but its tenants were in 2 processes")


def test_a_crews_process_is_told_who_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its threads would have each other's cores, or the wrong stream."""
    backend = LocalBackend(tmp_path)
    given: list[dict[str, str]] = []

    class Process:
        pid, returncode = 1, 0

    def popen(_: Any, *, env: dict[str, str], **__: Any) -> Process:
        given.append(env)
        return Process()

    monkeypatch.setattr("kts.backends.local.subprocess.Popen", popen)
    plan = in_modes(make_plan(), parse("time-slicing,streams:priority:gemm"))
    cores = {"fft": (2,), "gemm": (3, 4), "fft@streams-priority-gemm": (2,), "gemm@streams-priority-gemm": (3, 4)}
    placement = Placement(tenants=cores, conductor=(0, 1))
    endpoint = Endpoint(host="h", port=1, token="t")
    backend._spawn(plan.crews[0], endpoint, placement)
    backend._spawn(Crew(tenants=("fft",)), endpoint, placement)
    members = msgspec.json.decode(given[0][MEMBERS], type=tuple[CrewMember, ...])
    assert members == (
        CrewMember(tenant="fft@streams-priority-gemm", cores=(2,), stream="behind"),
        CrewMember(tenant="gemm@streams-priority-gemm", cores=(3, 4), stream="first"),
    )
    assert (given[0]["KTS_CORES"], given[0]["OMP_NUM_THREADS"]) == ("2,3,4", "2")
    assert MEMBERS not in given[1]


def test_a_kernel_that_shares_by_sessions_is_told_of(tmp_path: Path) -> None:
    """Else what other programs take from one process, and not from several, would be taken for a cost of streams."""
    told = tmp_path / "sys/kernel/sched_autogroup_enabled"
    assert not shares_by_session(tmp_path)
    told.parent.mkdir(parents=True)
    told.write_text("0\n")
    assert not shares_by_session(tmp_path)
    told.write_text("1\n")
    assert shares_by_session(tmp_path)
