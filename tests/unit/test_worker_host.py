"""What a worker reads of its host: of its own process, and of the programs that it started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.helpers_wait import until

from kts.units import NS_PER_MS, NS_PER_S
from kts.wire.messages import HostCounters
from kts.worker.cgroup import cpu_groups, own_group
from kts.worker.clocks import scheduled_ns
from kts.worker.host import Container, Family, HostReader, boot_id, throttled_ns, waited_ns

A_PARENT = """
import subprocess, sys, threading
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
print(flush=True)
spin()
"""

needs_schedstat = pytest.mark.skipif(scheduled_ns() == (None, None), reason="this kernel has no schedstat")


@contextlib.contextmanager
def running(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in its own process group on one core, once it has printed a line."""
    core = min(os.sched_getaffinity(0))
    command = ["taskset", "-c", str(core), sys.executable, "-c", code]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert program.stdout is not None
        program.stdout.readline()
        yield program
    finally:
        os.killpg(program.pid, 9)
        program.communicate()


def read_until(reader: HostReader, enough: Callable[[HostCounters], bool]) -> HostCounters:
    """The first reading that is enough."""

    def reading() -> HostCounters | None:
        now = reader.read()
        return now if enough(now) else None

    found: HostCounters = until(reading, "the kernel counts as much", pause_s=0)
    return found


@needs_schedstat
def test_all_threads_and_children_of_a_program_count_and_this_process_does_not() -> None:
    """Else the work of a program in processes of its own would have no figure, or its worker's would be it."""
    with running(A_PARENT) as program, contextlib.closing(HostReader(own=False)) as reader:
        family = Family()
        until(lambda: family.of(program.pid), "it has children")
        assert program.pid in family.of(os.getpid())
        reader.read()
        begin_ns = time.process_time_ns()
        found = read_until(reader, lambda now: now.counters["waiting_threads"] > 100 * NS_PER_MS)
        own_ns = time.process_time_ns() - begin_ns
        wall_ns = found.monotonic_ns
    assert found.counters["waiting_threads"] > 100 * NS_PER_MS
    assert 0 < found.counters["running_threads"] < wall_ns
    assert own_ns > 0
    assert found.moments.keys() <= {"blocked_threads", "core_loop_us"}


@needs_schedstat
def test_the_threads_that_waited_longest_are_named_and_counted_from_the_blocks_begin() -> None:
    """Else nobody could tell whether the main thread had no core, or one that nobody waits for."""
    with running(A_PARENT) as program, contextlib.closing(HostReader(own=False)) as reader:
        read_until(reader, lambda now: now.counters.get("waiting_threads", 0) > 20 * NS_PER_MS)
        before = reader.read().counters["waiting_threads"]
        reader.block_begins()
        now = read_until(reader, lambda now: now.counters["waiting_threads"] > before + 100 * NS_PER_MS)
        told = reader.longest_waits()
        after = reader.read().counters["waiting_threads"]
    assert {(one.pid, one.tid) for one in told if one.pid == one.tid} >= {(program.pid, program.pid)}
    assert len({one.tid for one in told}) == 3
    assert [one.waited_ns for one in told] == sorted((one.waited_ns for one in told), reverse=True)
    assert 0.9 * (now.counters["waiting_threads"] - before) <= sum(one.waited_ns for one in told) <= after - before
    assert all(one.name.startswith("python") for one in told)


def test_a_worker_that_computes_itself_is_read_alone() -> None:
    """Else a helper process of its would be charged to it."""
    with running("print(flush=True)\nwhile True: pass"), contextlib.closing(HostReader(own=True)) as reader:
        before, begin_ns = reader.read(), time.process_time_ns()
        assert before.untold
        found = read_until(reader, lambda _: time.process_time_ns() - begin_ns > 50 * NS_PER_MS)
        used_ns = time.process_time_ns() - begin_ns
    grown_ns = found.counters["running_threads"] - before.counters["running_threads"]
    assert grown_ns == pytest.approx(used_ns, rel=0.2)
    assert (found.moments.keys() <= {"core_loop_us"}, found.untold) == (True, {})


def test_processes_that_ended_take_nothing_back() -> None:
    """Else counters would shrink, and a whole span be lost with each thread that ends."""
    with contextlib.closing(HostReader(own=False)) as reader:
        with running(A_PARENT) as program:
            until(lambda: Family().of(program.pid), "it has children")
            reader.read()
            before = read_until(reader, lambda now: now.counters.get("running_threads", 0) > 20 * NS_PER_MS)
        after = reader.read()
    for name, counter in before.counters.items():
        assert after.counters[name] >= counter


def test_without_a_process_of_its_own_a_worker_says_so() -> None:
    """Else a program in a container of its own would seem idle."""
    reads = (
        "from kts.worker.host import HostReader\n"
        "found = HostReader(own=False).read()\n"
        "print(len(found.counters), len(found.moments), found.untold['running_threads'])"
    )  # in a process that surely has no child
    done = subprocess.run([sys.executable, "-c", reads], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 0 ")
    assert "container of its own" in done.stdout


def test_it_rests_longer_than_it_reads() -> None:
    """Else a program of hundreds of threads would cost its worker's core; or, where it waits for a core itself, a busy
    machine would not be looked at."""
    times, used = iter([0, 9_000_000, 9_049_999, 9_050_000]), iter([0, 0, 0, 1000])
    with contextlib.closing(HostReader(own=True, clock=times.__next__, used=used.__next__)) as reader:
        reader.read()  # begins, ends; used: begins, has looked for processes, ends
        assert not reader.due()
        assert reader.due()


class Machine:
    """Files of the kernel about this process, in a cgroup of version 2 with a limit and pressure."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        own = self.proc / str(os.getpid())
        (own / "task/7").mkdir(parents=True)
        (own / "cgroup").write_text("0::/pods/one\n")
        (own / "task/7/schedstat").write_text("10 20 3\n")
        self.group = self.groups / "pods/one"
        self.group.mkdir(parents=True)
        (self.group / "cgroup.events").write_text("populated 1\n")
        (self.group / "cpu.max").write_text("50000 100000\n")
        self.write(throttled_us=0, io_us=0)

    def write(self, throttled_us: int, io_us: int) -> None:
        """What the cgroup tells now."""
        (self.group / "cpu.stat").write_text(f"usage_usec 5\nnr_periods 9\nthrottled_usec {throttled_us}\n")
        for what, total in (("cpu", 0), ("io", io_us), ("memory", 0)):
            text = f"some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 total=9\n"
            (self.group / f"{what}.pressure").write_text(text)

    def reader(self) -> HostReader:
        """Of this process."""
        return HostReader(own=True, proc=self.proc, groups=self.groups)


def test_quota_and_pressure_of_its_cgroup_are_counted(tmp_path: Path) -> None:
    """Else a tenant that its own limit holds back would be told that a neighbour has its core."""
    machine = Machine(tmp_path)
    with contextlib.closing(machine.reader()) as reader:
        before = reader.read()
        machine.write(throttled_us=700, io_us=300)
        after = reader.read()
    assert before.untold == {}
    assert after.counters["throttled_cores"] - before.counters["throttled_cores"] == 700_000
    assert after.counters["cgroup_io_pressure_ratio"] - before.counters["cgroup_io_pressure_ratio"] == 300_000
    assert after.counters["waiting_threads"] == before.counters["waiting_threads"]


def test_a_cgroup_without_limit_or_pressure_has_reasons_and_no_zeros(tmp_path: Path) -> None:
    """Else "throttled 0 %" would stand where a limit that does not show may hold it back."""
    machine = Machine(tmp_path)
    (machine.group / "cpu.max").write_text("max 100000\n")
    (machine.group / "io.pressure").unlink()
    with contextlib.closing(machine.reader()) as reader:
        found = reader.read()
        machine.write(throttled_us=20, io_us=0)
        after = reader.read()
    assert found.counters.keys() & {"throttled_cores", "cgroup_io_pressure_ratio"} == set()
    assert found.untold.keys() == {"throttled_cores", "cgroup_io_pressure_ratio"}
    assert after.counters["throttled_cores"] == 20_000  # a limit that was set meanwhile


def test_where_no_limit_can_hold_it_back_that_is_told(tmp_path: Path) -> None:
    """Else a quota that is set in the middle of a run could not be compared with the time before it."""
    machine = Machine(tmp_path)
    (machine.group / "cpu.max").write_text("max 100000\n")
    (machine.groups / "cgroup.procs").write_text("")
    with contextlib.closing(machine.reader()) as reader:
        before = reader.read()
        (machine.group / "cpu.max").write_text("50000 100000\n")
        machine.write(throttled_us=20, io_us=0)
        after = reader.read()
    assert (before.counters["throttled_cores"], after.counters["throttled_cores"]) == (0, 20_000)
    assert before.untold == {}


def test_a_process_that_is_moved_takes_no_counter_of_the_new_cgroup_with_it(tmp_path: Path) -> None:
    """Else what the quota did to others, before, would be done to it in that moment."""
    machine = Machine(tmp_path)
    other = machine.groups / "other"
    other.mkdir()
    (other / "cpu.max").write_text("50000 100000\n")
    (other / "cpu.stat").write_text("throttled_usec 5000000\n")
    times = iter(range(0, 100_000_000_000, 500_000_000))
    with contextlib.closing(
        HostReader(own=True, proc=machine.proc, groups=machine.groups, clock=times.__next__)
    ) as one:
        one.read()
        (machine.proc / str(os.getpid()) / "cgroup").write_text("0::/other\n")
        for _ in range(3):
            moved = one.read()
        (other / "cpu.stat").write_text("throttled_usec 5000007\n")
        after = one.read()
    assert moved.counters["throttled_cores"] == 0
    assert after.counters["throttled_cores"] == 7000


def test_a_program_in_another_container_is_read_where_that_shows_it(tmp_path: Path) -> None:
    """Else a tenant in an image of its own would have no figures of its host, and its worker's limits for its own."""
    groups = tmp_path / "cgroup"
    groups.mkdir()
    for name, text in {
        "cgroup.events": "populated 1\n",
        "cpu.max": "150000 100000\n",
        "cpu.stat": "throttled_usec 5\n",
        "cpu.pressure": "some avg10=0.00 total=7\n",
    }.items():
        (groups / name).write_text(text)
    proc = tmp_path / "proc"
    _process(proc, pid=1, parent=0, ticks=500)  # the launcher
    _process(proc, pid=7, parent=1, ticks=20)
    _process(proc, pid=8, parent=7, ticks=1)
    _process(proc, pid=os.getpid(), parent=0, ticks=900)  # a stranger of that number
    (proc / "1/status").write_text("Name:\tlauncher\nCpus_allowed:\tf\nCpus_allowed_list:\t0-1,3\n")
    there = Container(proc, groups, 1)
    assert (there.cores(), there.cpu_limit()) == ({0, 1, 3}, 1.5)
    with contextlib.closing(HostReader(own=False, container=there)) as reader:
        before = reader.read()
        _process(proc, pid=7, parent=1, ticks=23)
        _process(proc, pid=8, parent=7, ticks=3)
        (groups / "cpu.stat").write_text("throttled_usec 9\n")
        after = reader.read()
    tick_ns = NS_PER_S // os.sysconf("SC_CLK_TCK")
    grown = {name: count - before.counters[name] for name, count in after.counters.items()}
    assert grown["running_threads"] == 5 * tick_ns
    assert (grown["throttled_cores"], grown["cgroup_cpu_pressure_ratio"]) == (4000, 0)
    assert "running_threads" not in before.untold


def test_pressure_is_that_of_every_cgroup_in_which_the_program_has_processes(tmp_path: Path) -> None:
    """Else a program whose launcher stays in another cgroup would have that one's pressure: none."""
    proc, groups, parent = tmp_path / "proc", tmp_path / "cgroup", os.getpid()
    for pid, group in ((parent + 1, "launcher"), (parent + 2, "reads")):
        _process(proc, pid=pid, parent=parent, ticks=1)
        (proc / str(pid) / "cgroup").write_text(f"0::/{group}\n")
        (groups / group).mkdir(parents=True)
        (groups / group / "cgroup.events").write_text("populated 1\n")
        (groups / group / "io.pressure").write_text("some avg10=0.00 total=0\n")
    with contextlib.closing(HostReader(own=False, proc=proc, groups=groups)) as reader:
        reader._cpu_ns_of = lambda _: 0  # type: ignore[method-assign]  # no clock of these processes
        before = reader.read()
        (groups / "reads/io.pressure").write_text("some avg10=0.00 total=900\n")
        after = reader.read()
    assert after.counters["cgroup_io_pressure_ratio"] - before.counters["cgroup_io_pressure_ratio"] == 900_000


def test_threads_whose_state_does_not_show_are_not_said_to_be_awake(tmp_path: Path) -> None:
    """Else a program that waits for a disk all the time would read as one that never does."""
    proc, pid = tmp_path / "proc", os.getpid() + 1
    _process(proc, pid=pid, parent=os.getpid(), ticks=1)
    with contextlib.closing(HostReader(own=False, proc=proc, groups=tmp_path)) as reader:
        reader._cpu_ns_of = lambda _: 0  # type: ignore[method-assign]  # no clock of these processes
        shown = reader.read()
        (proc / str(pid) / "task" / str(pid) / "stat").unlink()
    with contextlib.closing(HostReader(own=False, proc=proc, groups=tmp_path)) as reader:
        reader._cpu_ns_of = lambda _: 0  # type: ignore[method-assign]
        hidden = reader.read()
    assert shown.moments == {"blocked_threads": 0.0}
    assert hidden.moments == {}
    assert "what they wait in" in hidden.untold["blocked_threads"]


def _process(proc: Path, *, pid: int, parent: int, ticks: int) -> None:
    """A process that has used the CPU for that long, of one thread."""
    place = proc / str(pid)
    (place / "task" / str(pid)).mkdir(parents=True, exist_ok=True)
    words = ["S", str(parent), *["0"] * 9, str(ticks), *["0"] * 40]
    for folder in (place, place / "task" / str(pid)):
        (folder / "stat").write_text(f"{pid} (a b) {' '.join(words)}\n")
        (folder / "schedstat").write_text("10 20 3\n")


def test_nothing_that_the_kernel_tells_ends_a_run(tmp_path: Path) -> None:
    """Else telemetry would cost the measurement."""
    with contextlib.closing(HostReader(own=False, proc=tmp_path / "none")) as reader:
        found = reader.read()
        assert not reader.due()
    assert found.counters == {}
    assert "FileNotFoundError" in found.untold["running_threads"]


def test_the_limits_that_hold_are_those_of_all_parents(tmp_path: Path) -> None:
    """Else the quota of a pod would be missed where its container has none, and version 1 altogether."""
    machine = Machine(tmp_path)
    told, groups = machine.proc / str(os.getpid()) / "cgroup", machine.groups
    assert cpu_groups(told, groups) == ((machine.group, machine.group.parent, groups), True, False)
    (machine.group / "cpu.max").write_text("max 100000\n")
    assert not cpu_groups(told, groups).limited
    (machine.group.parent / "cpu.max").write_text("50000 100000\n")
    assert cpu_groups(told, groups).limited
    (groups / "cgroup.procs").write_text("")
    assert cpu_groups(told, groups) == ((machine.group, machine.group.parent), True, True)
    told.write_text("1:cpu,cpuacct:/a\n0::/\n")
    (groups / "cpu" / "a").mkdir(parents=True)
    (groups / "cpu/a/cpu.cfs_quota_us").write_text("-1\n")
    assert cpu_groups(told, groups) == ((groups / "cpu/a", groups / "cpu"), False, False)
    (groups / "cpu/a/cpu.cfs_quota_us").write_text("30000\n")
    (groups / "cpu/release_agent").write_text("\n")
    assert cpu_groups(told, groups) == ((groups / "cpu/a",), True, True)


def test_the_root_of_a_machine_is_nobodys_cgroup(tmp_path: Path) -> None:
    """Else the pressure of the whole machine would be called the tenant's."""
    machine = Machine(tmp_path)
    told = machine.proc / str(os.getpid()) / "cgroup"
    assert own_group(told, machine.groups) == machine.group
    told.write_text("0::/\n")
    (machine.groups / "cpu.pressure").write_text("some avg10=0.00 total=5\n")
    assert own_group(told, machine.groups) is None
    assert own_group(tmp_path / "nothing", machine.groups) is None


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("usage_usec 1\nthrottled_usec 12\n", 12_000),
        ("nr_periods 3\nnr_throttled 1\nthrottled_time 34\n", 34),
        ("usage_usec 1\n", None),
        ("", None),
    ],
)
def test_throttled_time_of_both_versions(text: str, ns: int | None) -> None:
    """Else microseconds would be taken for nanoseconds."""
    assert throttled_ns(text) == ns


def test_pressure_that_is_switched_off_is_none() -> None:
    """Else a kernel started with psi=0 would seem without pressure."""
    assert waited_ns("") is None
    assert waited_ns("full avg10=0.00 total=3\n") is None
    assert waited_ns("some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n") == 3000


def test_all_processes_of_a_machine_name_the_same_start() -> None:
    """Else the conductor's cores would not be known to be the tenants', or another machine's would."""
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def core_of(asked: list[int | None], took_us: float = 9.0) -> Callable[[int | None], float]:
    """A loop that keeps on which core it was asked for."""

    def loop(core: int | None) -> float:
        asked.append(core)
        return took_us

    return loop


@needs_schedstat
def test_the_core_that_is_looked_at_is_that_of_the_thread_that_ran_most() -> None:
    """Else a slow core is told of the worker's, or of one on which a thread sleeps."""
    asked: list[int | None] = []
    code = "import threading, time\nthreading.Thread(target=lambda: time.sleep(99), daemon=True).start()\n"
    with (
        running(f"{code}print(flush=True)\nwhile True: pass"),
        contextlib.closing(HostReader(own=False, loop=core_of(asked))) as reader,
    ):
        found = read_until(reader, lambda now: "core_loop_us" in now.moments)
    assert found.moments["core_loop_us"] == 9.0
    assert set(asked) == {min(os.sched_getaffinity(0))}


def test_a_core_is_looked_at_no_more_often_than_a_p99_can_bear() -> None:
    """Else the looks would be among the slowest iterations. A worker that computes itself is where it looks."""
    asked: list[int | None] = []
    now_ns = [0]
    with contextlib.closing(HostReader(own=True, clock=lambda: now_ns[0], loop=core_of(asked))) as reader:
        told = []
        for now_ns[0] in range(0, NS_PER_S, 50 * NS_PER_MS):
            told += reader.read().moments.values()
    assert asked == [None] * 4
    assert told == [9.0] * 4


def test_a_core_where_its_worker_may_not_run_is_said_once() -> None:
    """Else a container that has other cores than its program ends the run, or asks for ever."""
    asked: list[int | None] = []

    def refused(core: int | None) -> float:
        asked.append(core)
        raise OSError(22, "Invalid argument")

    with contextlib.closing(HostReader(own=True, loop=refused)) as reader:
        first, then = reader.read(), reader.read()
    assert first.untold["core_loop_us"] == "no speed of its core: its worker may not run there"
    assert (first.moments, then.moments, len(asked)) == ({}, {}, 1)
    assert first.counters
