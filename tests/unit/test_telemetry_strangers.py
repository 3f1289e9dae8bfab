"""Processes on the GPU that are not the run's: told apart by number, or counted; nothing where NVML lists none."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.helpers_telemetry import UUID, Clock, FakeNvml, proc_of
from tests.helpers_wait import until

from kts.model.neighbours import Look
from kts.model.run import DeviceInfo, WorkerInfo
from kts.telemetry.strangers import Strangers

GPU = DeviceInfo(kind="cuda", uuid=UUID, name="GPU", label="GPU", library="torch")


@pytest.fixture(name="proc")
def _proc(tmp_path: Path) -> Callable[..., Path]:
    """Makes a /proc with these processes: pid, parent, command."""
    return partial(proc_of, tmp_path)


def looks(listed: list[int], proc: Path, *, host: str = "", countable: bool = True, waits: bool = True) -> list[Look]:
    """What is told of these, with tenants a and b, processes 11 and 12; ``waits``: for a look, before the end."""
    nvml = FakeNvml(Clock())
    nvml.listed = listed
    told: list[Look] = []
    strangers = Strangers(told.append, ("a", "b"), countable=countable, nvml=nvml, every_s=0.01, proc=proc)
    for tenant, pid in (("a", 11), ("b", 12)):
        strangers.worker(WorkerInfo(tenant=tenant, pid=pid, hostname=host or socket.gethostname(), device=GPU))
    if waits:
        until(lambda: told, "a look is told")
    strangers.close()
    assert nvml.opened == 0
    return told


def test_a_stranger_is_named_and_the_runs_own_are_not(proc: Callable[..., Path]) -> None:
    """Else a desktop's or a colleague's process would be in the figures, or a tenant's own child a stranger."""
    folder = proc(
        (11, 1, "python3"), (12, 1, "python3"), (13, 12, "child"), (14, 1, "ollama"), (15, 1, "nvidia-cuda-mps-server")
    )
    (seen,) = {look.others for look in looks([11, 12, 13, 14, 15], folder)}
    assert [one.who for one in seen] == ["process 14 (ollama)"]


def test_a_tenant_that_does_not_compute_hides_no_stranger(proc: Callable[..., Path]) -> None:
    """Else beside programs, whose workers compute nothing themselves, and beside idle tenants nobody would look."""
    folder = proc((11, 1, "kts"), (12, 1, "kts"), (21, 11, "llama"), (14, 1, "ollama"))
    assert {tuple(one.who for one in look.others) for look in looks([14, 21], folder)} == {("process 14 (ollama)",)}


def test_with_nobody_else_the_look_still_counts(proc: Callable[..., Path]) -> None:
    """Else nobody could tell a quiet GPU from one at which nobody looked."""
    told = looks([11, 12], proc((11, 1, "a"), (12, 1, "b")))
    assert {(look.others, look.problem) for look in told} == {((), "")}


def test_a_container_proves_no_absence(proc: Callable[..., Path]) -> None:
    """Else a list of one's own processes alone would pass for an empty GPU."""
    folder = proc((11, 1, "a"), (12, 1, "b"))
    assert not any(look.whole for look in looks([11, 12], folder))
    (folder / "self" / "ns").mkdir(parents=True)
    (folder / "self" / "ns" / "pid").symlink_to("/proc/self/ns/pid")
    initial = (folder / "self" / "ns" / "pid").stat().st_ino == 0xEFFFFFFC
    assert all(look.whole == initial for look in looks([11, 12], folder))


@pytest.mark.parametrize(
    ("listed", "words"), [([901, 902], []), ([901, 902, 903], ["1 process more than the run's 2"])]
)
def test_numbers_of_another_namespace_are_counted(
    listed: list[int], words: list[str], proc: Callable[..., Path]
) -> None:
    """Else pods, where NVML has the host's numbers, would be told nothing though it lists everybody."""
    told = looks(listed, proc(), host="a-pod")
    assert {tuple(one.who for one in look.others) for look in told} == {tuple(words)}
    assert all(look.whole for look in told)


def test_numbers_that_are_ours_by_chance_are_not_believed(proc: Callable[..., Path]) -> None:
    """Else in a container, where NVML has the host's numbers, a stranger of a tenant's number would pass for it."""
    folder = proc((11, 1, "a"), (12, 1, "b"))
    (only,) = looks([11, 901], folder, countable=False, waits=False)
    assert only.problem


@pytest.mark.parametrize(
    ("listed", "countable"),
    [([], True), ([901], True), ([901, 902, 903], False)],
    ids=["none", "not all", "uncountable"],
)
def test_a_list_without_the_runs_own_is_no_look(listed: list[int], countable: bool, proc: Callable[..., Path]) -> None:
    """Else a mock, a container or a program of many processes would prove absence, or make up a stranger."""
    (only,) = looks(listed, proc(), host="a-pod", countable=countable, waits=False)
    assert only.problem


def test_a_gpu_that_cannot_be_asked_is_a_problem() -> None:
    """Else an old driver would end the run, or count as a watch."""
    nvml = FakeNvml(Clock())
    nvml.refused["nvmlInit"] = nvml.NVML_ERROR_DRIVER_NOT_LOADED
    told: list[Look] = []
    strangers = Strangers(told.append, ("a",), countable=True, nvml=nvml)
    strangers.worker(WorkerInfo(tenant="a", pid=1, hostname="x", device=GPU))
    until(lambda: told, "a look is told")
    strangers.close()
    assert "NVML does not start" in told[0].problem
