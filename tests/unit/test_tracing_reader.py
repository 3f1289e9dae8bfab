"""Rings of traced processes: all events once and in order, what is lost counted, and no ring that ends the worker."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import helpers_rings
from tests.helpers_fuzz import mutations
from tests.helpers_rings import ENDED, EVENT_BYTES, EVENTS_OFFSET, HEAD, LOST, Writer

from kts.worker.keeper import descendants
from kts.worker.tracing import control
from kts.worker.tracing.layout import CONTROL, Kind, Level, Reason, State
from kts.worker.tracing.reader import Tracing

CAPACITY = 8
NUMBER = int(os.environ.get("KTS_FUZZ", "0"))
LONGEST_S = 3.0
WRITER = Path(helpers_rings.__file__)


@pytest.fixture
def tracing() -> Iterator[Tracing]:
    trace = Tracing(CAPACITY)
    yield trace
    trace.close()


def folder_of(tracing: Tracing) -> Path:
    assert tracing.folder is not None
    return tracing.folder


def seqs(tracing: Tracing) -> list[int]:
    return [int(seq) for batch in tracing.read() for seq in batch.events["seq"]]


def ended_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


# -------------------------------------------------------------------------------------------- in order, once, counted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 20), st.just("read")), max_size=40))
def test_every_event_that_found_room_is_read_once_and_in_order_and_all_others_are_counted(
    steps: list[int | str],
) -> None:
    tracing = Tracing(CAPACITY)
    try:
        writer = Writer(folder_of(tracing), CAPACITY)
        tried, read = 0, []
        for step in [*steps, "read"]:
            if isinstance(step, int):
                writer.put(step)
                tried += step
            else:
                read += seqs(tracing)
        assert read == list(range(1, len(read) + 1))
        assert len(read) + tracing.lost == tried
        writer.close()
    finally:
        tracing.close()


FEW = st.just(0) | st.integers(0, 20)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(FEW, FEW, FEW, st.booleans()), min_size=1, max_size=12))
def test_it_is_said_between_which_events_some_are_missing(rounds: list[tuple[int, int, int, bool]]) -> None:
    """Also where the program goes on while the worker reads, and where what it writes cannot be."""
    tracing = Tracing(CAPACITY)
    try:
        writer = Writer(folder_of(tracing), CAPACITY)
        tracing.read()
        ring = tracing._rings[writer.pid, writer.began_ns]
        seen, broken = [-1], set()
        for before, between, within, spoilt in [*rounds, (1, 0, 0, False)]:
            writer.put(before)
            if spoilt and (number := writer.reserve()) is not None:
                writer.publish(number, kind=99)
            writer.put(between)
            ring._read_names = lambda within=within: writer.put(within)  # between what it looks at and what it takes
            for batch in tracing.read():
                broken |= {len(seen) + int(at) for at in batch.breaks}
                seen += batch.events["detail"].tolist()
        missing = {at for at, call in enumerate(seen[1:], 1) if call != seen[at - 1] + 1}
        assert missing <= broken
        assert len(broken) <= 2 * tracing.lost
        writer.close()
    finally:
        tracing.close()


def test_an_event_has_what_its_writer_wrote(tracing: Tracing) -> None:
    writer = Writer(folder_of(tracing), CAPACITY)
    assert seqs(tracing) == []
    writer.put(2)
    at = writer.name("step")
    number = writer.reserve()
    assert number is not None
    writer.publish(number, kind=Kind.RANGE, detail=at)
    (batch,) = tracing.read()
    assert batch.events["kind"].tolist() == [Kind.LAUNCH, Kind.LAUNCH, Kind.RANGE]
    assert batch.events["begin_ns"].tolist() == [10, 20, 30]
    assert batch.events["end_ns"].tolist() == [11, 22, 33]
    assert batch.names[int(batch.events["detail"][2])] == "step"
    process = batch.process
    assert (process.pid, process.program, process.state) == (os.getpid(), "python a.py", State.RECORDING)
    assert (process.level, process.calls, process.lost, process.alive) == (Level.CALLS, 3, 0, True)
    writer.put(CAPACITY)  # over what it has read
    assert batch.events["begin_ns"].tolist() == [10, 20, 30]


def test_a_refusal_comes_with_its_words(tracing: Tracing) -> None:
    writer = Writer(folder_of(tracing), CAPACITY)
    writer.state(State.REFUSED, Reason.OTHER_PROFILER, b"CUPTI has \x1b[2J a subscriber")
    tracing.read()
    (process,) = tracing.processes
    assert (process.state, process.reason) == (State.REFUSED, Reason.OTHER_PROFILER)
    assert process.why == "CUPTI has \\x1b[2J a subscriber"


def test_a_process_without_room_for_a_ring_says_so(tracing: Tracing) -> None:
    writer = Writer(folder_of(tracing), CAPACITY)
    writer.state(State.REFUSED, Reason.NO_MEMORY, b"no room for the ring")
    os.truncate(writer.path, 4096)
    assert tracing.read() == []
    (process,) = tracing.processes
    assert (process.reason, process.why, process.alive) == (Reason.NO_MEMORY, "no room for the ring", True)


# --------------------------------------------------------------------------------------------------- writers that die


def test_an_event_that_is_being_written_holds_back_those_behind_it_until_it_is_whole(tracing: Tracing) -> None:
    writer = Writer(folder_of(tracing), CAPACITY)
    writer.put(2)
    number = writer.reserve()
    assert number == 3
    writer.put(2)
    assert seqs(tracing) == [1, 2]
    assert seqs(tracing) == []
    writer.publish(number)
    assert seqs(tracing) == [3, 4, 5]
    assert tracing.lost == 0


@pytest.mark.parametrize("how", ["its pid is gone", "it says so", "its pid is another process", "exec"])
def test_an_event_whose_writer_died_is_counted_and_those_behind_it_are_read(tracing: Tracing, how: str) -> None:
    folder = folder_of(tracing)
    if how == "its pid is gone":
        writer = Writer(folder, CAPACITY, pid=ended_pid())
    elif how == "its pid is another process":
        writer = Writer(folder, CAPACITY, began_ns=1)
    else:
        writer = Writer(folder, CAPACITY)
    writer.put(1)
    writer.reserve()
    writer.put(1)
    if how == "it says so":
        writer.state(ENDED)
    if how == "exec":
        assert seqs(tracing) == [1]
        Writer(folder, CAPACITY, began_ns=writer.began_ns + 1)
        tracing.read()
        assert (tracing.processes[0].alive, tracing.processes[0].lost) == (False, 1)
    else:
        assert seqs(tracing) == [1, 3]
    assert tracing.lost == 1
    assert not writer.path.exists()  # what is read to its end leaves no memory taken


def test_a_process_killed_at_any_instant_leaves_whole_events_only(
    tracing: Tracing, request: pytest.FixtureRequest
) -> None:
    rng = random.Random(5)
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-S", WRITER, folder_of(tracing), "64"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        pid = int(process.stdout.readline().split("-")[0])
        wanted, last, kept = rng.randrange(200, 3000), 0, 0
        request.addfinalizer(process.kill)
        while True:
            for batch in tracing.read():
                assert batch.process.pid == pid
                numbers = batch.events["seq"].astype(np.int64)
                assert (batch.events["begin_ns"] == 10 * numbers).all()
                assert (batch.events["end_ns"] - batch.events["begin_ns"] == numbers % 7).all()
                assert numbers[0] > last
                kept, last = kept + len(numbers), int(numbers[-1])
            mine = next(one for one in tracing.processes if one.pid == pid)
            if not mine.alive:
                break
            if kept >= wanted:
                process.send_signal(signal.SIGKILL)
                process.wait()
        assert last <= kept + mine.lost <= mine.calls
        assert kept + mine.lost >= mine.calls - 1  # it may die between counting a call and finding room for it
        process.stdout.close()


ELSEWHERE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpers_rings import Writer
writer = Writer(Path(sys.argv[2]), 8, pid=int(sys.argv[3]))
writer.put(1)
writer.reserve()
print(flush=True)
sys.stdin.read()
"""


def test_a_living_process_that_is_not_seen_here_is_not_taken_for_dead(tracing: Tracing) -> None:
    """Its pid is of another namespace, as in a pod: the lock that it holds tells."""
    folder = folder_of(tracing)
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", ELSEWHERE, str(WRITER.parent), str(folder), str(ended_pid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert seqs(tracing) == [1]
    assert tracing.processes[0].alive
    process.communicate()
    assert seqs(tracing) == []
    assert (tracing.processes[0].alive, tracing.lost) == (False, 1)


def test_thousands_of_processes_need_no_more_files_than_there_may_be(tracing: Tracing) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    pid = ended_pid()
    for number in range(500):
        writer = Writer(folder_of(tracing), 1, pid=pid, began_ns=1000 + number)
        writer.put(2)
        writer.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, hard))
    try:
        read = 0
        while any(folder_of(tracing).glob("*.ring")):
            batches = tracing.read()
            assert batches, "it gets no further"
            read += sum(len(batch.events) for batch in batches)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (read, tracing.lost, len(tracing.processes)) == (500, 500, 500)


# ------------------------------------------------------------------------------------------------------ damaged rings


def a_ring(folder: Path) -> Writer:
    writer = Writer(folder, CAPACITY)
    writer.name("step")
    writer.put(CAPACITY + 3)
    return writer


def sound(tracing: Tracing) -> None:
    """Reads; whatever comes is a list of events that can be."""
    began = time.thread_time()
    for _ in range(3):
        for batch in tracing.read():
            assert len(batch.events) <= CAPACITY
            assert np.isin(batch.events["kind"], list(Kind)).all()
            assert (batch.events["begin_ns"] <= batch.events["end_ns"]).all()
    assert isinstance(tracing.lost, int)
    assert time.thread_time() - began < LONGEST_S


def test_a_ring_with_any_bytes_changed_is_read_or_said_to_be_damaged(tmp_path: Path) -> None:
    writer = a_ring(tmp_path)
    valid = writer.path.read_bytes()
    writer.path.unlink()
    number = NUMBER or 60
    for mutated in mutations(valid, 1, number, text=False):
        _read_mutated(writer, mutated)
    # the header is a small part of the file: as many for it alone
    for header in mutations(valid[:1288], 2, number, text=False):
        _read_mutated(writer, header[:1288].ljust(1288, b"\0") + valid[1288:])
        _read_mutated(writer, header + valid[1288:])


def _read_mutated(writer: Writer, raw: bytes) -> None:
    """At once, and as what has become of a ring that was being read."""
    for later in (False, True):
        tracing = Tracing(CAPACITY)
        try:
            path = folder_of(tracing) / writer.path.name
            if later:
                other = Writer(folder_of(tracing), CAPACITY, writer.pid, writer.began_ns)
                other.put(3)
                sound(tracing)
                other.close()
            with path.open("r+b" if later else "wb") as file:
                file.write(raw)
                file.truncate()
            sound(tracing)
        finally:
            tracing.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [*range(0, 64, 4), HEAD, LOST, 1152, 1216, 1220, 1224, 1280, EVENTS_OFFSET, EVENTS_OFFSET + 8]
            ),
            st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**31, 2**32, 2**63, 2**64 - 1, 2**64 - CAPACITY]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_header_with_any_numbers_is_read_or_said_to_be_damaged(changes: list[tuple[int, int]]) -> None:
    tracing = Tracing(CAPACITY)
    try:
        writer = a_ring(folder_of(tracing))
        for offset, value in changes:
            writer.page[offset : offset + 8] = value.to_bytes(8, "little")
        sound(tracing)
        for offset, value in changes:
            writer.page[offset : offset + 8] = (value ^ 0x55).to_bytes(8, "little")
        sound(tracing)
        writer.close()
    finally:
        tracing.close()


@pytest.mark.parametrize("bytes_left", [0, 100, 4096, EVENTS_OFFSET, EVENTS_OFFSET + 3 * EVENT_BYTES])
def test_a_ring_that_shrinks_while_it_is_read_ends_nothing(tracing: Tracing, bytes_left: int) -> None:
    writer = a_ring(folder_of(tracing))
    other = Writer(folder_of(tracing), CAPACITY, pid=os.getppid())
    assert len(seqs(tracing)) == CAPACITY
    os.truncate(writer.path, bytes_left)
    other.put(1)
    assert seqs(tracing) == [1]
    damaged = next(one for one in tracing.processes if one.pid == writer.pid)
    assert damaged.why == "its ring is damaged: its file has changed its size"
    assert not damaged.alive


def test_what_is_no_ring_is_left_alone(tracing: Tracing) -> None:
    folder = folder_of(tracing)
    os.mkfifo(folder / "11-1.ring")
    (folder / "12-1.ring").mkdir()
    (folder / "13-1.ring").symlink_to("/etc/passwd")
    (folder / "14-1.ring").write_bytes(b"")
    (folder / "x-1.ring").write_bytes(b"x" * 100_000)
    (folder / "15-1.ring").write_bytes(b"x" * 100_000)
    writer = a_ring(folder)
    assert len(seqs(tracing)) == CAPACITY
    writer.path.unlink()  # the program removed it; what is mapped stays
    writer.put(1)
    assert len(seqs(tracing)) == 1
    assert all(not process.alive for process in tracing.processes if process.pid < 20)


def test_an_event_that_cannot_be_is_counted_and_not_handed_on(tracing: Tracing) -> None:
    writer = Writer(folder_of(tracing), CAPACITY)
    writer.put(3)
    at = EVENTS_OFFSET + EVENT_BYTES
    writer.page[at + 16 : at + 24] = (1).to_bytes(8, "little")  # ends before it begins
    assert seqs(tracing) == [1, 3]
    assert tracing.lost == 1


# --------------------------------------------------------------------------------------------- folder and environment


def test_the_folder_is_this_users_alone_and_goes_at_the_end() -> None:
    tracing = Tracing(16, Level.KERNELS)
    folder = folder_of(tracing)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    values = np.frombuffer((folder / "control").read_bytes(), CONTROL, 1)[0]
    assert (values["magic"], values["version"], values["gate"]) == (b"KTSCTRL", 1, 0)
    assert (values["level"], values["capacity"]) == (Level.KERNELS, 16)
    tracing.close()
    tracing.close()
    assert not folder.exists()
    assert tracing.read() == []


def test_a_given_folder_stays_and_others_may_read_its_control(tmp_path: Path) -> None:
    tracing = Tracing(16, folder=tmp_path)
    a_ring(tmp_path)
    assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o644
    tracing.close()
    assert list(tmp_path.iterdir()) == []


def test_without_room_in_shared_memory_it_lies_among_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([4096, 4096, 10, 1, 1, 0, 0, 0, 0, 255]))
    tracing = Tracing(16)
    assert folder_of(tracing).parent != Path("/dev/shm")
    assert tracing.why == ""
    tracing.close()


def test_without_room_anywhere_nothing_is_injected_and_why_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    tracing = Tracing(16)
    assert tracing.why == "no room for a trace: [Errno 28] No space left on device"
    assert tracing.env({}, Path("/x/libkts_trace.so"), None) == {}
    tracing.gate(closed=True)
    tracing.raise_level()
    assert (tracing.read(), tracing.processes, tracing.lost) == ([], [], 0)
    tracing.close()


def test_what_a_killed_worker_left_is_removed_and_what_a_living_one_uses_is_not() -> None:
    code = "from kts.worker.tracing.reader import Tracing\nprint(Tracing(16).folder, flush=True)\ninput()"
    workers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    left, used = (Path(worker.stdout.readline().strip()) for worker in workers if worker.stdout)
    for sweeper in descendants(workers[0].pid):
        os.kill(sweeper, signal.SIGKILL)
    workers[0].kill()
    workers[0].communicate()
    assert left.exists()
    Tracing(16).close()
    assert not left.exists()
    assert used.exists()
    workers[1].communicate("\n")


def test_a_program_with_an_injection_of_its_own_keeps_it(tracing: Tracing) -> None:
    library, cupti = Path("/x/libkts_trace.so"), Path("/y/libcupti.so.12")
    assert tracing.env({}, library, cupti) == {
        "KTS_TRACE_DIR": str(tracing.folder),
        "KTS_CUPTI": str(cupti),
        "CUDA_INJECTION64_PATH": str(library),
        "NVTX_INJECTION64_PATH": str(library),
    }
    assert (tracing.why, tracing.why_no_ranges) == ("", "")
    own = {"CUDA_INJECTION64_PATH": "/opt/own.so", "LD_PRELOAD": "/opt/other.so"}
    added = tracing.env(own, library, None)
    assert added == {"KTS_TRACE_DIR": str(tracing.folder), "NVTX_INJECTION64_PATH": str(library)}
    assert tracing.why == "the program sets CUDA_INJECTION64_PATH=/opt/own.so itself"
    assert tracing.why_no_ranges == ""


def test_whoever_reads_the_figures_is_told_what_is_not_seen(tracing: Tracing) -> None:
    assert tracing.notes() == ("its launches are not seen: no process of it has begun to use CUDA",)
    for number in range(3):
        refused = Writer(folder_of(tracing), CAPACITY, began_ns=10**6 + number)
        refused.state(State.REFUSED, Reason.OTHER_PROFILER, b"another profiler uses CUPTI")
    assert tracing.notes() == ("its launches are not seen: another profiler uses CUPTI",)
    damaged = a_ring(folder_of(tracing))
    tracing.read()
    os.truncate(damaged.path, 100)
    assert tracing.notes() == (
        "a process of it (python a.py) is not seen: another profiler uses CUPTI",
        "a process of it (python a.py) is seen in part: its ring is damaged: its file has changed its size",
    )
    tracing.env({"CUDA_INJECTION64_PATH": "/own.so"}, Path("/x.so"), None)
    assert tracing.notes() == ("its launches are not seen: the program sets CUDA_INJECTION64_PATH=/own.so itself",)


# ----------------------------------------------------------------------------------------------------- gate and level


WAITER = """
import ctypes, mmap, os, sys
page = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 4096, prot=mmap.PROT_READ)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
at = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, os.open(sys.argv[1], os.O_RDONLY), 0)
print("waits", flush=True)
while (gate := int.from_bytes(page[12:16], "little")):
    libc.syscall(int(sys.argv[2]), ctypes.c_void_p(at + 12), 0, gate, None, None, 0)
print("goes on", flush=True)
"""


def test_opening_the_gate_wakes_who_waits_at_it(tracing: Tracing) -> None:
    tracing.gate(closed=True)
    number = control._FUTEX[os.uname().machine]
    argv = [sys.executable, "-c", WAITER, str(folder_of(tracing) / "control"), str(number)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        pass
    assert select.select([process.stdout], [], [], 0) == ([], [], [])
    tracing.gate(closed=False)
    assert process.communicate(timeout=180)[0] == "goes on\n"


def test_a_higher_level_is_asked_for_in_the_control_file(tracing: Tracing) -> None:
    path = folder_of(tracing) / "control"
    tracing.raise_level()
    level = np.frombuffer(path.read_bytes(), CONTROL, 1)["level"]
    assert level == Level.KERNELS


def test_all_futexes_are_those_of_this_machine() -> None:
    """A number that is wrong wakes nobody, and says nothing."""
    number = control._FUTEX[os.uname().machine]
    word = ctypes.c_uint32(0)
    assert ctypes.CDLL(None).syscall(number, ctypes.byref(word), 1, 1, None, None, 0) == 0
