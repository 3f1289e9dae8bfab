"""Who runs on which core."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from tests.helpers_conduct import make_plan

from kts.backends.local import placed, strangers, tenants_device
from kts.backends.placement import place, topology
from kts.errors import SetupError
from kts.model.plan import PROGRAM, Kernel, Plan, Program
from kts.worker.detect import CudaDevice, CudaDriver, resolved


def test_on_the_cpu_device_all_tenants_share_one_core_and_the_conductor_has_another() -> None:
    """Otherwise tenants would not contend, or the conductor would disturb them."""
    placement = place(["a", "b"], "cpu", [0, 1])
    assert placement.tenants == {"a": (1,), "b": (1,)}
    assert placement.conductor == (0,)
    assert placement.note == ""


def test_one_core_alone_is_used_and_said() -> None:
    """Otherwise the conductor's own use of the core would pass for the neighbour's."""
    placement = place(["a", "b"], "cpu", [3])
    assert placement.tenants == {"a": (3,), "b": (3,)}
    assert placement.conductor == (3,)
    assert "conductor" in placement.note


def test_the_conductor_keeps_off_the_other_hardware_thread_of_the_cpu_device() -> None:
    """Otherwise the conductor slows the tenants' core down unseen."""
    placement = place(["a"], "cpu", [0, 1, 2, 3], {0: 0, 2: 0, 1: 1, 3: 1})
    assert placement.tenants == {"a": (3,)}
    assert placement.conductor == (0, 2)


def test_beside_a_gpu_each_tenant_has_a_physical_core_of_its_own() -> None:
    """Otherwise contention for the CPU would be reported as contention for the GPU."""
    siblings = {core: core % 4 for core in range(8)}
    placement = place(["a", "b"], "cuda", range(8), siblings)
    assert placement.tenants == {"a": (2, 6), "b": (3, 7)}
    assert sorted(placement.conductor) == [0, 1, 4, 5]
    assert placement.note == ""


def test_hardware_threads_are_the_second_choice_and_said() -> None:
    """Otherwise a reader would take threads of one core for cores."""
    placement = place(["a", "b"], "cuda", [0, 1, 2, 3], {0: 0, 1: 0, 2: 2, 3: 2})
    assert len({*placement.tenants["a"], *placement.tenants["b"], *placement.conductor}) == 4
    assert "hardware threads" in placement.note


def test_programs_share_what_is_left_and_kernels_have_a_core_each() -> None:
    """Otherwise a program's threads wait for each other on one core while ten are idle, as nowhere else."""
    placement = place(["a", "b", "k"], "cuda", range(16), programs={"a", "b"})
    assert placement.tenants == {"a": tuple(range(3, 9)), "b": tuple(range(9, 15)), "k": (15,)}
    assert placement.conductor == (0, 1, 2)
    six = place(list("abcdef"), "cuda", range(16), programs=set("abcdef"))
    assert {len(cores) for cores in six.tenants.values()} == {2}
    assert {len(cores) for cores in place(list("ab"), "cuda", range(4), programs={"a", "b"}).tenants.values()} == {1}


def test_a_tenant_alone_has_the_cores_that_it_has_in_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a profile is of a program with more threads at work than its run has room for."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr("kts.backends.local.topology", lambda _: {})
    monkeypatch.setattr("kts.backends.local.tenants_device", lambda _: "cuda")
    works = [Program(command=["a"]), Program(command=["b"])]
    tenants = tuple(
        msgspec.structs.replace(one, work=work) for one, work in zip(make_plan().tenants, works, strict=True)
    )
    whole = msgspec.structs.replace(make_plan(), tenants=tenants)
    for tenant in tenants:
        replica = msgspec.structs.replace(tenant, name="a-replica")
        alone = msgspec.structs.replace(whole, tenants=(replica,))
        assert placed(alone, whole).tenants == {"a-replica": placed(whole).tenants[tenant.name]}
        assert len(placed(alone).tenants["a-replica"]) > len(placed(whole).tenants[tenant.name])


@pytest.mark.parametrize("cores", [[0], [0, 1]])
def test_too_few_cores_are_shared_and_said(cores: list[int]) -> None:
    """Otherwise two cores for three processes would pass for undisturbed tenants."""
    placement = place(["a", "b"], "cuda", cores)
    assert placement.tenants == {"a": tuple(cores), "b": tuple(cores)}
    assert "share" in placement.note


def test_topology_reads_the_first_sibling_and_leaves_out_what_is_unknown(tmp_path: Path) -> None:
    """Otherwise a container without /sys could not measure at all."""
    for core, text in ((0, "0,4\n"), (4, "0,4\n"), (1, "1-2\n"), (5, "?\n")):
        folder = tmp_path / f"cpu{core}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(text)
    assert topology([0, 1, 4, 5, 9], tmp_path) == {0: 0, 4: 0, 1: 1}


@pytest.fixture
def gpu_without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, and neither torch nor cupy."""
    gpu = CudaDevice(index=0, name="GPU", uuid="GPU-1", memory_bytes=1)
    monkeypatch.setattr("kts.worker.detect.cuda_driver", lambda: CudaDriver(devices=(gpu,)))
    monkeypatch.setattr("kts.worker.detect.installed", lambda _: False)


def _plan(*workloads: str) -> Plan:
    plan = make_plan(device="auto")
    work = [Program(command=("true",)) if w == PROGRAM else Kernel(workload=w) for w in workloads]
    tenants = [msgspec.structs.replace(t, work=w) for t, w in zip(plan.tenants, work, strict=True)]
    return msgspec.structs.replace(plan, tenants=tuple(tenants))


@pytest.mark.usefixtures("gpu_without_library")
def test_programs_of_the_user_need_no_array_library() -> None:
    """Otherwise a GPU cannot be shared between two served models unless torch is installed beside kts."""
    assert tenants_device(_plan(PROGRAM, PROGRAM)) == "cuda"
    with pytest.raises(SetupError, match="neither torch nor cupy"):
        tenants_device(_plan("fft", PROGRAM))


def test_auto_is_decided_once_for_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nobody can read from a run what "auto" was, or two places may decide otherwise."""
    monkeypatch.setattr("kts.worker.detect.cuda_driver", lambda: CudaDriver(problem="none here"))
    plan = resolved(_plan("fft", PROGRAM))
    fft, program = plan.tenants
    assert (plan.device, fft.work) == ("cpu", Kernel(workload="fft", library="numpy"))
    assert program.work == Program(command=("true",))
    gpu = CudaDevice(index=0, name="GPU", uuid="GPU-1", memory_bytes=1)
    monkeypatch.setattr("kts.worker.detect.cuda_driver", lambda: CudaDriver(devices=(gpu,)))
    monkeypatch.setattr("kts.worker.detect.installed", lambda name: name == "cupy")
    assert resolved(_plan("fft", PROGRAM)).device == "cuda"
    mixed = resolved(msgspec.structs.replace(plan, device="auto"))
    assert mixed.device == "auto", "numpy was asked for: no device is that of all"
    assert resolved(plan) == plan


def test_only_the_workers_of_another_kts_are_strangers(tmp_path: Path) -> None:
    """Otherwise two runs at once spoil each other unseen, or every run reports itself."""
    worker, other = b"python\0-m\0kts.worker\0--join\0", b"python\0-m\0kts.worker\0fft\0"
    for pid, parent, line in ((10, os.getpid(), worker), (11, 1, worker), (12, 1, other), (13, 1, b"")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_bytes(line)
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} 1 1")
    (tmp_path / "14").mkdir()  # ended while we looked
    (tmp_path / "self").mkdir()
    assert strangers(tmp_path) == [11]
