"""The live source on a kernel made of files: what it attaches to, whom calls belong to, what it does in need."""

from __future__ import annotations

import errno
import inspect
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_tracefs import KernelOfFiles, ProcOfFiles, began, elf, ended, entry, returned

from kts.errors import SetupError
from kts.watch.calls import FUNCTIONS, WatchedProcess
from kts.watch.source.elf import function_offsets
from kts.watch.source.libraries import points
from kts.watch.source.live import LiveSource
from kts.watch.source.tracefs import Tracefs, default_tracefs
from kts.watch.source.whose import container_and_pod

S = 10**9
DRIVER = {"cuInit": 0, "cuLaunchKernel": 16, "cuStreamSynchronize": 32, "cuCtxSynchronize": 48, "cuMemcpyAsync": 64}
LAUNCH, WAIT = "e0", "e22"
WAITED = "r22"
assert FUNCTIONS[22].name == "cuStreamSynchronize"


@dataclass
class Node:
    """A kernel, its processes, and a clock that stands until it is set."""

    kernel: KernelOfFiles
    proc: ProcOfFiles
    library: Path
    now_ns: int = 100 * S

    def source(self, **more: object) -> LiveSource:
        return LiveSource(
            tracefs=self.kernel,
            proc=self.proc.root,
            clock=lambda: self.now_ns,
            **more,  # type: ignore[arg-type]
        )

    def later(self, seconds: float = 1.0) -> None:
        self.now_ns += int(seconds * S)

    def launches(self, tid: int, *ago_s: float, cpu: int = 0, library: int = 1) -> None:
        number = self.kernel.number(LAUNCH, library)
        self.kernel.happen(cpu, [(self.now_ns - int(s * S), entry(number, tid)) for s in ago_s])


@pytest.fixture
def node(tmp_path: Path) -> Node:
    proc = ProcOfFiles(tmp_path / "proc")
    proc.begin(os.getpid(), 1)
    library = elf(tmp_path / "libcuda.so.1", DRIVER)
    proc.begin(500, 77, command="llama", threads=(501,))
    proc.load(500, library, inode=9)
    return Node(KernelOfFiles(tmp_path / "tracing", proc.root), proc, library)


def probes(node: Node) -> list[str]:
    return (node.kernel.root / "uprobe_events").read_text().splitlines()


def test_calls_of_all_cpus_come_by_time_with_their_process(node: Node) -> None:
    """Else a wait would end before it began."""
    with node.source() as source:
        enter, leave = node.kernel.number(WAIT), node.kernel.number(WAITED)
        at = node.now_ns
        node.kernel.happen(0, [(at + 10, entry(node.kernel.number(LAUNCH), 500)), (at + 40, returned(leave, 501))])
        node.kernel.happen(1, [(at + 20, entry(enter, 501))])
        node.later()
        piece = source.take()
    assert [tuple(call) for call in piece.calls.tolist()] == [
        (at + 10, 1, 500, 0, 0),
        (at + 20, 1, 501, 22, 0),
        (at + 40, 1, 501, 22, 1),
    ]
    assert [(one.pid, one.began_ticks, one.command) for one in piece.processes] == [(500, 77, "llama")]
    assert piece.lost == 0


def test_calls_wait_until_no_cpu_can_tell_of_an_earlier_one(node: Node) -> None:
    """Else a piece would not be all up to its time."""
    with node.source() as source:
        node.later()
        node.launches(500, 0.5, 0.001)
        first = source.take()
        node.later()
        second = source.take()
    assert (len(first.calls), len(second.calls)) == (1, 1)
    assert first.calls["ns"][0] <= first.until_ns < second.calls["ns"][0] <= second.until_ns


def test_only_what_the_library_has_is_watched_and_only_waits_return(node: Node) -> None:
    """Else older and newer drivers could not be watched, or each call would cost twice."""
    with node.source():
        assert sorted(line.split()[0].split("/")[1] for line in probes(node)) == sorted(
            [LAUNCH, "e14", WAIT, WAITED, "e25", "r25"]
        )


def test_no_probe_reads_anything_of_a_program(node: Node) -> None:
    """Else a watch could hold what a program computes: a probe reads what stands behind its place, and nothing may."""
    with node.source():
        lines = probes(node)
    assert lines
    assert all(re.fullmatch(r"[pr]:kts_\w+/[er]\d+ /\S+:0x[0-9a-f]+", line) for line in lines)


def test_nothing_is_left(node: Node) -> None:
    """Else every call of every program would go on paying for nobody."""
    with node.source():
        assert probes(node)
    assert probes(node) == []
    assert list((node.kernel.root / "instances").iterdir()) == []


def test_what_a_killed_one_left_is_removed_and_others_things_are_not(node: Node) -> None:
    """Else kill -9 would leave probes behind for ever, or another tracer would lose its own."""
    node.proc.begin(900, 5)
    source = node.source()
    source.__enter__()  # and then it is killed: nothing is closed
    left = node.kernel.name
    node.kernel._mkdir(node.kernel.root / "instances" / "bpftrace_1")
    others = f"p:probe_libc/malloc {node.library}:0x10\n"
    living = "p:kts_900_5_l1/e0 /x:0x10\n"
    path = node.kernel.root / "uprobe_events"
    path.write_text(path.read_text() + others + living)
    node.proc.begin(os.getpid(), 2)  # the same pid, another process
    again = KernelOfFiles(node.kernel.root, node.proc.root)
    assert again.name != left
    with LiveSource(tracefs=again, proc=node.proc.root, clock=lambda: node.now_ns) as second:
        notes = second.take().notes
    assert any(left in note and "killed" in note for note in notes)
    assert path.read_text() == others + living
    assert [place.name for place in (node.kernel.root / "instances").iterdir()] == ["bpftrace_1"]


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("uprobe_events", "CONFIG_UPROBE_EVENTS"),
        ("trace_clock", "not mounted"),
        ("instances", "no instances"),
        ("", "no tracefs"),
    ],
)
def test_what_the_kernel_lacks_is_said(node: Node, missing: str, says: str) -> None:
    """Else a user would see an errno, or wait for calls that never come."""
    target = node.kernel.root / missing
    target.rename(target.with_name(target.name + "-gone"))
    with pytest.raises(SetupError, match=says) as caught, node.source():
        pass
    assert caught.value.remedy


@pytest.mark.parametrize(("number", "says"), [(errno.EACCES, "root"), (errno.EPERM, "locked down")])
def test_rights_that_lack_are_said(node: Node, monkeypatch: pytest.MonkeyPatch, number: int, says: str) -> None:
    """Else a lock-down would look like a missing right, and cost somebody a day."""

    def refuse(*_: object) -> None:
        raise PermissionError(number, os.strerror(number))

    monkeypatch.setattr(node.kernel, "_mkdir", refuse)
    with pytest.raises(SetupError) as caught, node.source():
        pass
    assert says in caught.value.what + caught.value.remedy


def test_a_pod_without_the_nodes_process_numbers_is_refused(node: Node) -> None:
    """Else calls would be given to processes that only have the same number in the pod."""
    place = node.proc.root / "self" / "ns"
    place.mkdir(parents=True)
    (place / "pid").symlink_to("pid:[4026532999]")
    with pytest.raises(SetupError, match="numbers of its own") as caught, node.source():
        pass
    assert "hostPID" in caught.value.remedy


def test_times_are_of_a_clock_that_nobody_sets(node: Node) -> None:
    """Else a step of the wall clock would be a wait of hours, or one that ends before it began."""
    with node.source():
        assert (node.kernel.instance / "trace_clock").read_text() == "mono"
    assert inspect.signature(LiveSource).parameters["clock"].default is time.monotonic_ns


def test_lost_calls_are_counted_once(node: Node) -> None:
    """Else a full ring would be a quiet GPU, or be counted with each piece."""
    with node.source() as source:
        node.kernel.tell_lost(0, 70)
        node.kernel.tell_lost(1, 5)
        lost = []
        for _ in range(2):
            node.later()
            lost.append(source.take().lost)
    assert lost == [75, 0]


def test_a_reused_pid_is_another_process(node: Node) -> None:
    """Else a new tenant would inherit the tail of a dead one."""
    with node.source() as source:
        node.later()
        node.launches(500, 0.5)
        first = source.take()
        node.kernel.happen(0, [(node.now_ns, ended(500)), (node.now_ns + 1, ended(501))])
        node.proc.begin(500, 99, command="bert")
        node.proc.load(500, node.library, inode=9)
        node.later(3)
        node.launches(500, 0.5)
        second = source.take()
        node.later(3)
        third = source.take()
    assert [one.number for one in first.processes] == [1]
    assert (second.gone, third.gone) == ((), (1,))
    assert [(one.number, one.began_ticks, one.command) for one in second.processes] == [(2, 99, "bert")]
    assert second.calls["process"].tolist() == [2]


def test_a_thread_that_ended_before_it_was_looked_up_is_its_processs(node: Node) -> None:
    """Else what pools of short threads call would be nobody's."""
    with node.source() as source:
        at = node.now_ns
        launch = node.kernel.number(LAUNCH)
        node.kernel.happen(0, [(at + 5, began(500, 700)), (at + 9, entry(launch, 700)), (at + 12, ended(700))])
        node.kernel.happen(1, [(at + 2, entry(launch, 500))])
        node.later()
        piece = source.take()
    assert piece.calls["process"].tolist() == [1, 1]
    assert piece.lost == 0


def test_calls_of_processes_that_nobody_knows_count_as_lost(node: Node) -> None:
    """Else what came and went within a second would never have been."""
    with node.source() as source:
        node.later()
        node.launches(4321, 0.5, 0.4)
        piece = source.take()
    assert (len(piece.calls), piece.lost) == (0, 2)
    assert any("ended before" in note for note in piece.notes)


def test_beyond_the_bound_the_busiest_process_is_left_out_and_told(node: Node) -> None:
    """Else a loop of tiny kernels would cost the node a core, or others' calls."""
    node.proc.begin(600, 3, command="tiny")
    with node.source(most_calls_s=50) as source:
        told = []
        for _ in range(5):
            node.later()
            node.launches(600, *np.linspace(0.9, 0.2, 90).tolist())
            node.launches(500, 0.5, 0.4, cpu=1)
            told.append(source.take())
        busy = next(one.number for piece in told for one in piece.processes if one.pid == 600)
        assert [piece.unwatched for piece in told] == [(), (), (busy,), (), ()]
        assert any("tiny" in note and "left out" in note for note in told[2].notes)
        assert len(told[-1].calls) == 2
        assert (node.kernel.instance / "set_event_notrace_pid").read_text() == "600\n"
        assert (node.kernel.instance / "options" / "event-fork").read_text() == "1"


def test_a_driver_that_is_replaced_is_watched_and_the_old_one_let_go(node: Node, tmp_path: Path) -> None:
    """Else an upgrade would blind the watch until somebody restarts it."""
    with node.source() as source:
        source.take()
        node.proc.end(500)
        newer = elf(tmp_path / "newer", {"cuInit": 0, "cuLaunchKernel": 160})
        node.proc.begin(800, 5, command="new")
        node.proc.load(800, newer, inode=10)
        node.later(3)
        notes = source.take().notes
        assert any("no longer watched" in note for note in notes)
        assert [line for line in probes(node) if "_l1/" in line] == []
        assert len([line for line in probes(node) if "_l2/" in line]) == 1
        node.later()
        node.launches(800, 0.5, library=2)
        assert len(source.take().calls) == 1


def test_a_file_that_containers_show_as_two_is_counted_once(node: Node) -> None:
    """Else each call would count twice where an overlay gives one file two numbers."""
    node.proc.begin(800, 5)
    node.proc.load(800, node.library, inode=10)
    with node.source() as source:
        node.later()
        rows = []
        for ago_ns, ip in ((5 * 10**8, 0x7F01), (4 * 10**8, 0x7F02)):
            for library in (1, 2):  # one trap tells both, one right after the other
                number = node.kernel.number(LAUNCH, library)
                rows.append((node.now_ns - ago_ns + 700 * library, entry(number, 500, ip)))
        node.kernel.happen(0, rows)
        piece = source.take()
        assert len(piece.calls) == 2
        assert any("same file" in note for note in piece.notes)
        assert {line.split("/")[0][-3:] for line in probes(node)} == {"_l1"}
        node.later(3)
        source.take()
        assert {line.split("/")[0][-3:] for line in probes(node)} == {"_l1"}  # and it is not tried again


def test_one_file_under_two_names_is_watched_until_nobody_has_either(node: Node) -> None:
    """Else the end of the first container would hide what the second calls."""
    node.proc.begin(800, 5)
    node.proc.load(800, node.library, inode=10)
    with node.source() as source:
        node.later()
        at = node.now_ns - 5 * 10**8
        node.kernel.happen(0, [(at + one, entry(node.kernel.number(LAUNCH, one), 800)) for one in (1, 2)])
        source.take()
        node.proc.end(500)
        node.later(3)
        source.take()
        node.later()
        node.launches(800, 0.5)
        assert len(source.take().calls) == 1
        node.proc.end(800)
        node.later(3)
        source.take()
        assert probes(node) == []


def test_a_library_whose_process_ended_too_soon_is_tried_with_the_next(node: Node) -> None:
    """Else one short-lived process would hide a driver from the watch for ever."""
    place = node.proc.root / "500" / "map_files"
    place.rename(place.with_name("gone"))
    with node.source() as source:
        assert any(note.startswith("not watched") for note in source.take().notes)
        node.proc.begin(800, 5)
        node.proc.load(800, node.library, inode=9)
        node.later(3)
        assert any(note.startswith("watched") for note in source.take().notes)


def test_a_thread_that_calls_two_libraries_in_turn_is_believed(node: Node) -> None:
    """Else calls of a program with two drivers in it would count half."""
    node.proc.begin(800, 5)
    node.proc.load(800, node.library, inode=10)
    with node.source() as source:
        node.later()
        rows = []
        for k in range(6):
            number = node.kernel.number(LAUNCH, 1 + k % 2)
            rows.append((node.now_ns - 5 * 10**8 + k, entry(number, 500, 0x7F00 + k % 2)))
        node.kernel.happen(0, rows)
        assert len(source.take().calls) == 6


def test_what_only_looks_like_a_driver_is_left_alone_and_named(node: Node, tmp_path: Path) -> None:
    """Else any file of that name in any container would get probes."""
    node.proc.begin(800, 5)
    node.proc.load(800, elf(tmp_path / "other", {"malloc": 0}), inode=11)
    (tmp_path / "text").write_text("not a library" * 20)
    node.proc.begin(801, 6)
    node.proc.load(801, tmp_path / "text", inode=12)
    with node.source() as source:
        notes = source.take().notes
    assert sum(note.startswith("not watched") for note in notes) == 2


def test_a_kernel_that_refuses_probes_of_one_library_says_so(node: Node) -> None:
    """Else a node where nothing is seen would look idle."""
    node.kernel.refuse_probes = errno.EINVAL
    with node.source() as source:
        notes = source.take().notes
    assert any(note.startswith("not watched") for note in notes)
    assert probes(node) == []


def test_tracing_that_another_turned_off_is_turned_on_and_told(node: Node) -> None:
    """Else another tracer's clean-up would end the watch in silence, or have a reused number inherit from the dead."""
    with node.source() as source:
        group = node.kernel.group(1)
        for switch in ("tracing_on", f"events/{group}/enable", "events/sched/sched_process_exit/enable"):
            source.take()
            (node.kernel.instance / switch).write_text("0")
            node.later(3)
            assert any("turned off" in note for note in source.take().notes), switch
            assert (node.kernel.instance / switch).read_text() == "1"


def test_probes_that_another_removed_are_made_anew_and_told(node: Node) -> None:
    """Else all programs would seem idle, and nobody would know, once another tracer has removed everybody's probes."""
    with node.source() as source:
        before = len(probes(node))
        (node.kernel.instance / "events" / node.kernel.group(1) / "enable").write_text("0")
        for event in (LAUNCH, WAIT):
            node.kernel._write(node.kernel.root / "uprobe_events", f"-:{node.kernel.group(1)}/{event}\n")
        node.later(3)
        notes = source.take().notes
        assert len(probes(node)) == before
        node.later()
        node.launches(500, 0.5, library=2)
        assert source.take().calls["thread"].tolist() == [500]
    assert any("removed probes" in note for note in notes)
    assert probes(node) == []


def test_names_and_gpus_come_when_they_are_known(node: Node) -> None:
    """Else a pod that the kubelet told of a second late would be a number for ever."""
    uid = "2c48913c-b29f-11e7-9350-020968147796"
    text = f"0::/kubepods.slice/kubepods-pod{uid.replace('-', '_')}.slice/cri-containerd-{'a' * 64}.scope\n"
    node.proc.begin(600, 3, cgroup=text)
    known: list[str] = []

    def names(one: WatchedProcess) -> WatchedProcess:
        return WatchedProcess(
            number=one.number,
            pid=one.pid,
            began_ticks=one.began_ticks,
            command=one.command,
            container=one.container,
            pod_uid=one.pod_uid,
            gpus=one.gpus,
            **({"pod": "p", "namespace": "n", "container_name": "c"} if known else {}),
        )

    with node.source(names=names, gpus=lambda: {600: ("GPU-1",)} if known else {}) as source:
        node.later()
        node.launches(600, 0.5)
        first = source.take().processes
        known.append("now")
        node.later(3)
        second = source.take().processes
    assert [(one.pod_uid, one.container, one.pod, one.gpus) for one in first] == [(uid, "a" * 64, "", ())]
    assert [(one.unit, one.gpus) for one in second] == [("n/p/c", ("GPU-1",))]


UID = "2c48913c-b29f-11e7-9350-020968147796"
U = UID.replace("-", "_")
C = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("path", "container", "pod"),
    [
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{U}.slice/cri-containerd-{C}.scope",
            C,
            UID,
        ),
        (f"/kubepods/besteffort/pod{UID}/{C}", C, UID),
        (f"/../../kubepods-besteffort-pod{U}.slice/crio-{C}.scope", C, UID),
        (
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{U}.slice/cri-containerd-{C}.scope/sub",
            C,
            UID,
        ),
        (f"/kubepods/burstable/pod{'ab' * 16}/{C}", C, "ab" * 16),
        (f"/system.slice/docker-{C}.scope", C, ""),
        (f"/docker/{C}", C, ""),
        (f"/machine.slice/libpod-{C}.scope/container", C, ""),
        ("/user.slice/user-0.slice/session-1.scope", "", ""),
        (f"/docker/{'f' * 64}/kubepods/pod{UID}/{C}", C, UID),
    ],
)
def test_container_and_pod_are_found_in_every_form_of_cgroup(path: str, container: str, pod: str) -> None:
    """Else the pods of one kind of cluster would be nameless."""
    assert container_and_pod(f"0::{path}\n") == (container, pod)
    assert container_and_pod(f"12:pids:{path}\n1:name=systemd:{path}\n0::/\n") == (container, pod)


def test_two_names_of_one_place_are_one_probe(tmp_path: Path) -> None:
    """Else each such call would be seen twice."""
    path = elf(tmp_path / "l", {"cuInit": 0, "cuLaunchKernel": 16, "cuCtxSynchronize": 32, "cuCtxSynchronize_v2": 32})
    assert [(point.event, point.offset) for point in points(path)] == [("e0", 0x1010), ("e25", 0x1020), ("r25", 0x1020)]


def test_functions_are_found_where_they_lie_in_the_file(tmp_path: Path) -> None:
    """Else a probe would be set into the middle of other code."""
    path = elf(tmp_path / "l", {"cuInit": 0, "cuLaunchKernel": 0x20}, address=0x7000, code=0x1800)
    with path.open("rb") as file:
        assert function_offsets(file.fileno(), {"cuLaunchKernel", "cuGraphLaunch"}) == {"cuLaunchKernel": 0x1820}


@pytest.mark.parametrize("seed", range(60))
def test_a_library_that_is_damaged_is_refused_or_read(tmp_path: Path, seed: int) -> None:
    """Else a file in anybody's container could end the watch of the node."""
    rng = np.random.default_rng(seed)
    content = bytearray(elf(tmp_path / "l", DRIVER).read_bytes())
    table = int.from_bytes(content[40:48], "little")
    for _ in range(4):
        at = rng.choice([rng.integers(64), table + rng.integers(192), rng.integers(len(content))])
        content[at] = rng.integers(256)
    (tmp_path / "l").write_bytes(content[: rng.integers(64, len(content)) if seed % 3 == 0 else len(content)])
    with (tmp_path / "l").open("rb") as file:
        try:
            found = function_offsets(file.fileno(), DRIVER)
        except ValueError:
            return
    assert set(found) <= set(DRIVER)


def test_the_folder_is_the_one_that_is_named() -> None:
    """Else a pod that mounts it elsewhere could not watch."""
    assert default_tracefs({"KTS_TRACEFS": "/tracing"}) == Path("/tracing")
    assert default_tracefs({}).name == "tracing"


def test_an_own_name_says_who_made_it(node: Node) -> None:
    """Else nobody could tell what is left over from what is in use."""
    assert Tracefs(node.kernel.root, node.proc.root).name == f"kts_{os.getpid()}_1"
