"""A mode is named by what shows it; what was only asked for is said to be no more than that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pynvml
import pytest
from tests.helpers_store import make_plan

from kts import files
from kts.k8s.objects import sharingmode
from kts.k8s.objects.settings import ClusterSettings
from kts.model.mode import Evidence, SharingMode
from kts.model.run import DeviceInfo, RunInfo, WorkerInfo
from kts.store import runfile
from kts.worker import sharing

UUID = "GPU-0f"


def info(run: str) -> RunInfo:
    """A run that has just begun."""
    return RunInfo(schema=3, id=run, kts="0", backend="local", mode=SharingMode(), created_ns=1, plan=make_plan())


def shows(mode: str, *, told: bool = False) -> Evidence:
    """Evidence for a mode."""
    return Evidence(mode=mode, seen="x", by="y", at_ns=1, told=told)


MODES = {
    "nothing asked, nothing seen": (SharingMode(), "", "unknown"),
    "asked": (SharingMode(asked="time-slicing"), "", "asked for time-slicing, not proven"),
    "seen": (SharingMode(asked="time-slicing", evidence=(shows("time-slicing"),)), "time-slicing", "time-slicing"),
    "another seen": (SharingMode(asked="time-slicing", evidence=(shows("mps"),)), "mps", "mps"),
    "told": (SharingMode(asked="time-slicing", evidence=(shows("mps", told=True),)), "mps", "mps"),
    "seen against told": (
        SharingMode(evidence=(shows("time-slicing", told=True), shows("mps"), shows("mps"))),
        "mps",
        "mps",
    ),
    "two seen": (
        SharingMode(evidence=(shows("time-slicing"), shows("mps"))),
        "",
        "time-slicing and mps: the evidence disagrees",
    ),
    "recorded": (SharingMode(recorded="dra"), "dra", "dra"),
}


@pytest.mark.parametrize(("mode", "name", "words"), MODES.values(), ids=MODES)
def test_only_evidence_names_a_mode(mode: SharingMode, name: str, words: str) -> None:
    """Else a run on a node whose plugin uses MPS would be reported as time-slicing, since that was asked for."""
    assert (mode.name, mode.words()) == (name, words)


@pytest.mark.parametrize("word", ["time-slicing", "cpu-scheduler", "mps", "dra", "unknown", "anything"])
def test_an_older_run_says_the_word_it_was_recorded_with(tmp_path: Path, word: str) -> None:
    """Else every old report would change."""
    content = msgspec.json.decode(files.encode(info("old")))
    content |= {"schema": 2, "mode": word}
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(content))
    assert runfile.read(tmp_path).sharing.words() == word


def test_evidence_comes_back_from_run_json(tmp_path: Path) -> None:
    """Else nobody could ask later why the mode is called so."""
    mode = SharingMode(asked="time-slicing", evidence=(shows("mps", told=True),))
    runfile.write(tmp_path, msgspec.structs.replace(info("new"), mode=mode))
    assert runfile.read(tmp_path).mode == mode


def worker(kind: str, *seen: Evidence) -> WorkerInfo:
    """A worker that saw that."""
    device = DeviceInfo(kind=kind, uuid=UUID, name="x", label="CPU core 1", library="l")  # type: ignore[arg-type]
    return WorkerInfo(tenant="a", pid=1, hostname="h", device=device, sharing=seen)


def of_run(mode: SharingMode, *workers: WorkerInfo) -> RunInfo:
    """A run with these workers."""
    return msgspec.structs.replace(info("r"), mode=mode, workers=workers)


def test_what_workers_saw_belongs_to_the_run() -> None:
    """Else what was seen where it happens would not reach the report."""
    asked = SharingMode(asked="time-slicing", evidence=(shows("time-slicing", told=True),))
    assert of_run(asked, worker("cuda", shows("mps"))).sharing.words() == "mps"
    assert of_run(asked, worker("cuda")).sharing.words() == "time-slicing"


def test_a_cpu_core_is_shared_by_the_scheduler_once_a_tenant_is_on_it() -> None:
    """Else the CPU device would never be proven, or a GPU run that fell to the CPU would be called time-slicing."""
    asked = SharingMode(asked="cpu-scheduler")
    assert of_run(asked).sharing.words() == "asked for cpu-scheduler, not proven"
    assert of_run(asked, worker("cpu")).sharing.words() == "cpu-scheduler"
    assert of_run(SharingMode(), worker("cpu")).sharing.words() == "unknown"


class Nvml(SimpleNamespace):
    """NVML that lists so many processes and clients of MPS on one GPU."""

    NVMLError = pynvml.NVMLError

    def __init__(self, own: int = 0, clients: int = 0, *, cut: bool | None = False, fails: str = "") -> None:
        super().__init__(own=own, clients=clients, cut=cut, fails=fails)

    def nvmlInit(self) -> None:  # noqa: N802
        if self.fails == "init":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if self.fails == "handle":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    def nvmlDeviceGetMigMode(self, handle: str) -> tuple[bool, bool]:  # noqa: N802, ARG002
        if self.cut is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return self.cut, self.cut

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[int]:  # noqa: N802, ARG002
        return [0] * self.own

    def nvmlDeviceGetMPSComputeRunningProcesses(self, handle: str) -> list[int]:  # noqa: N802, ARG002
        if self.fails == "mps":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        return [0] * self.clients


GPU = DeviceInfo(kind="cuda", uuid=UUID, name="NVIDIA H200", label="NVIDIA H200", library="torch")
SEEN: dict[str, tuple[Nvml, str]] = {
    "processes of their own": (Nvml(2), "time-slicing"),
    "a GPU that cannot be cut": (Nvml(1, cut=None), "time-slicing"),
    "clients of MPS": (Nvml(1, 2), "mps"),
    "nobody computes": (Nvml(0), ""),
    "a GPU that is cut": (Nvml(2, cut=True), ""),
    "no NVML": (Nvml(2, fails="init"), ""),
    "another's GPU": (Nvml(2, fails="handle"), ""),
    "an old driver": (Nvml(2, fails="mps"), ""),
}


@pytest.mark.parametrize(("nvml", "mode"), SEEN.values(), ids=SEEN)
def test_a_tenant_says_what_nvml_shows_it(tmp_path: Path, nvml: Nvml, mode: str) -> None:
    """Else time-slicing would be proven by nothing, or MPS be missed."""
    if mode == "mps":
        (tmp_path / "control").touch()  # where there is none, nobody is its client
    seen = sharing.seen_from("a", GPU, {sharing.PIPE: str(tmp_path)}, lambda: nvml)
    assert [one.mode for one in seen] == ([mode] if mode else [])
    assert all(one.by == "tenant a" and UUID in one.seen and not one.told for one in seen)


def test_a_pipe_of_mps_is_a_word_for_it_and_forbids_to_say_time_slicing(tmp_path: Path) -> None:
    """Else a daemon whose clients NVML does not list would be called time-slicing."""
    (tmp_path / "control").touch()
    (one,) = sharing.seen_from("a", GPU, {sharing.PIPE: str(tmp_path)}, lambda: Nvml(2))
    assert (one.mode, one.told, str(tmp_path) in one.seen) == ("mps", True, True)


@pytest.mark.parametrize(("name", "uuid"), [("NVIDIA H100 MIG 1g.10gb", UUID), ("NVIDIA H100", "MIG-1")])
def test_a_mig_device_is_known_by_its_name_or_uuid(name: str, uuid: str) -> None:
    """Else a part of a GPU would be measured as time-slicing."""
    device = msgspec.structs.replace(GPU, name=name, uuid=uuid)
    assert [one.mode for one in sharing.seen_from("a", device, {}, lambda: Nvml(2))] == ["mig"]


def test_before_a_run_nothing_is_proven_on_the_cpu() -> None:
    """Else a word would be written because of what was configured."""
    assert sharing.before("cpu") == SharingMode(asked="cpu-scheduler")


def node(**labels: str) -> dict[str, Any]:
    """A node with labels of NVIDIA's plugin."""
    return {
        "metadata": {"name": "n", "labels": {f"nvidia.com/gpu.{k.replace('_', '-')}": v for k, v in labels.items()}}
    }


@pytest.mark.parametrize(
    ("labels", "mode"),
    [
        ({"sharing_strategy": "mps"}, "mps"),
        ({"sharing_strategy": "time-slicing"}, "time-slicing"),
        ({"sharing_strategy": "none"}, "exclusive"),
        ({"sharing_strategy": "odd"}, ""),
        ({"replicas": "4"}, ""),
        ({}, ""),
    ],
)
def test_a_nodes_labels_are_its_word(labels: dict[str, str], mode: str) -> None:
    """Else a run on a node that shares by MPS would be called time-slicing, as it was asked for."""
    seen = sharingmode.by_node(node(**labels), "nvidia.com/gpu", 1)
    assert [(one.mode, one.told) for one in seen] == ([(mode, True)] if mode else [])


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ([{"opaque": {"parameters": {"sharing": {"strategy": "MPS"}}}}], ["mps"]),
        ([{"opaque": {"parameters": {"sharing": {"strategy": "TimeSlicing"}}}}] * 2, ["time-slicing"]),
        ([{"opaque": {"parameters": {"sharing": None}}}, {"opaque": "x"}, None], []),
        ([{"opaque": {"parameters": {"sharing": {"strategy": ["MPS"]}}}}], []),
        ([{"opaque": {"parameters": {"sharing": {"strategy": "Other"}}}}], []),
        (None, []),
    ],
)
def test_a_claim_says_how_its_device_is_to_be_shared(config: Any, modes: list[str]) -> None:
    """Else a claim that shares by MPS would look like any other, or an odd one end the run."""
    claim = {"metadata": {"name": "c"}, "spec": {"devices": {"config": config}}}
    assert [one.mode for one in sharingmode.by_claim(claim, 1)] == modes


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        (ClusterSettings(), "time-slicing"),
        (ClusterSettings(resource="nvidia.com/gpu.shared"), "time-slicing"),
        (ClusterSettings(resource="nvidia.com/mig-1g.5gb"), "mig"),
        (ClusterSettings(resource="", claim="c"), "dra"),
        (ClusterSettings(resource=""), "unknown"),
    ],
)
def test_on_a_cluster_asking_is_not_seeing(settings: ClusterSettings, asked: str) -> None:
    """Else the manifest itself would be the proof."""
    plan = msgspec.structs.replace(info("r").plan, device="cuda")
    mode = sharingmode.asked(plan, settings)
    assert (mode.asked, mode.name, mode.evidence) == (asked, "", ())
