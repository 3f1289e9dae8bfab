"""Whether a GPU is as it was: what is looked at, what counts as a change, and how it is kept and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pynvml
import pytest
from msgspec.structs import replace
from tests.helpers_stats import make_plan

from kts import sharing
from kts.errors import DataError, SetupError
from kts.model.sharing_facts import SHARING_VERSION, MpsProcess, SharedMachine, SharingFacts, Trial
from kts.plan import in_modes
from kts.report import markdown
from kts.report.document import Document
from kts.report.isolation import isolation_elements
from kts.sharing import parse, state
from kts.store.layout import SHARING
from kts.store.sharingfile import read_sharing, write_sharing
from kts.worker.detect import CudaDevice


class OneGpu:
    """As much of ``pynvml`` as is asked, with a GPU whose settings can be changed. ``absent``: what it refuses."""

    NVMLError = pynvml.NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM = pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM

    def __init__(self) -> None:
        self.compute, self.mig, self.limit, self.instances = 0, [0, 0], 700_000, ["MIG-a"]
        self.absent: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByIndex": lambda _: "handle",
            "nvmlDeviceGetUUID": lambda handle: "GPU-1" if handle == "handle" else handle,
            "nvmlDeviceGetName": lambda _: "Test GPU",
            "nvmlDeviceGetComputeMode": lambda _: self.compute,
            "nvmlDeviceGetMigMode": lambda _: self.mig,
            "nvmlDeviceGetMaxMigDeviceCount": lambda _: len(self.instances),
            "nvmlDeviceGetMigDeviceHandleByIndex": lambda _, index: self.instances[index],
            "NVML_GPU_INSTANCE_PROFILE_COUNT": 0,
            "nvmlDeviceGetPersistenceMode": lambda _: 1,
            "nvmlDeviceGetPowerManagementLimit": lambda _: self.limit,
            "nvmlDeviceGetApplicationsClock": lambda _, which: 1980 if which == pynvml.NVML_CLOCK_SM else 3201,
            "nvmlDeviceGetEccMode": lambda _: (1, 1),
            "nvmlDeviceGetComputeRunningProcesses": lambda _: [1, 2],
        }
        if name in self.absent:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return answers[name] if name in answers else getattr(pynvml, name)  # the rest is there, and never called


@pytest.fixture
def nvml() -> OneGpu:
    return OneGpu()


def seen(nvml: OneGpu, tmp_path: Path) -> SharedMachine:
    return state.look("cuda", lambda: nvml, tmp_path)


def mps(folder: Path, pid: int, comm: str = "nvidia-cuda-mps-control", state: str = "S") -> None:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "comm").write_text(f"{comm}\n")
    (folder / str(pid) / "stat").write_text(f"{pid} (x) {state} 1 {' '.join(['0'] * 17)} 77 0")


def test_a_gpu_that_is_left_as_it_was_has_no_changes(nvml: OneGpu, tmp_path: Path) -> None:
    before = seen(nvml, tmp_path)
    assert before.gpus[0].settings == {
        "compute mode": "default",
        "MIG mode": "off",
        "MIG devices": "MIG-a",
        "GPU instances": "none",
        "persistence mode": "on",
        "power limit": "700 W",
        "application clocks": "1980 and 3201 MHz",
        "ECC": "on",
    }
    assert before.computing == 2
    assert not before.changes(replace(seen(nvml, tmp_path), at_ns=9, computing=7))


def test_each_setting_that_is_not_as_it_was_is_named_with_both_values(nvml: OneGpu, tmp_path: Path) -> None:
    """Else a run could leave a GPU that nobody else can use, and say that all is well."""
    mps(tmp_path, 12)
    mps(tmp_path, 14, "bash")
    before = seen(nvml, tmp_path)
    nvml.compute, nvml.limit, nvml.instances, nvml.mig = 3, 500_000, [], [0, 1]
    nvml.absent = {"nvmlDeviceGetPersistenceMode"}
    (tmp_path / "12" / "comm").write_text("sh\n")
    mps(tmp_path, 13, "nvidia-cuda-mps-server")
    uid = tmp_path.stat().st_uid
    assert before.changes(seen(nvml, tmp_path)) == (
        "GPU-1: compute mode was default, is exclusive process",
        "GPU-1: MIG mode was off, is off, on after a reset",
        "GPU-1: MIG devices was MIG-a, is none",
        "GPU-1: persistence mode was on, is not told",
        "GPU-1: power limit was 700 W, is 500 W",
        f"nvidia-cuda-mps-control (process 12 of user {uid}) was there and is gone",
        f"nvidia-cuda-mps-server (process 13 of user {uid}) was not there and is",
    )
    nvml.absent = {"nvmlDeviceGetCount"}
    (gone, *_) = before.changes(seen(nvml, tmp_path))
    assert gone.startswith("Test GPU (GPU-1) is gone: NVML does not tell")


def test_what_is_left_of_a_daemon_that_has_ended_is_no_daemon(nvml: OneGpu, tmp_path: Path) -> None:
    """Its parent asks how it ended seconds later: else the run would be said to share the GPU with who computes through
    it, or to have left it behind."""
    mps(tmp_path, 12, state="Z")
    mps(tmp_path, 13)
    assert [one.pid for one in seen(nvml, tmp_path).mps] == [13]


def test_without_nvml_nothing_is_claimed(tmp_path: Path) -> None:
    def absent() -> object:
        raise ImportError("no pynvml")

    blind = state.look("cuda", absent, tmp_path)
    assert blind.missing == "NVML does not start here (no pynvml)"
    told = shown(facts(blind))
    assert "was not compared: NVML does not start here (no pynvml)" in told
    assert "as it was before (by NVML)" not in told


def facts(before: SharedMachine, **trials: tuple[Trial, ...]) -> SharingFacts:
    return SharingFacts(schema=SHARING_VERSION, before=before, after=replace(before, at_ns=2), trials=trials)


def shown(of: SharingFacts | None) -> str:
    return " ".join(markdown.render(Document(elements=tuple(isolation_elements(of)))).split())


def test_what_was_tried_and_left_is_shown(nvml: OneGpu, tmp_path: Path) -> None:
    fell = Trial(
        harm="fault", others="fall", victim="v", bystander="b", newcomer=True, shown="mps"
    )  # fmt: skip
    skipped = Trial(harm="memory", others="not-tried", why="w")
    told = shown(facts(seen(nvml, tmp_path), mps=(skipped, fell)))
    assert "| mps | - | not tried | others fall |" in told
    assert "mps, one faults: v; the one beside it: b; a newcomer can compute; shown: mps" in told
    assert "mps, one takes all memory: not tried: w" in told
    assert "The GPU is as it was before (by NVML): Test GPU GPU-1: compute mode default" in told
    nvml.compute = 1
    changed = replace(facts(seen(OneGpu(), tmp_path)), after=seen(nvml, tmp_path))
    assert "- GPU-1: compute mode was default, is exclusive thread" in shown(changed)
    assert "The GPU is as it was" not in shown(changed)
    assert "is not known" in shown(None)


def test_sharing_json_reads_back_and_damage_is_refused_in_words(nvml: OneGpu, tmp_path: Path) -> None:
    kept = facts(seen(nvml, tmp_path), mps=(Trial(harm="kill", others="go-on"),))
    assert read_sharing(tmp_path) is None
    write_sharing(tmp_path, kept)
    assert read_sharing(tmp_path) == kept
    (tmp_path / SHARING).write_text("{}")
    with pytest.raises(DataError, match="not how a run shared"):
        read_sharing(tmp_path)
    (tmp_path / SHARING).write_text(
        (tmp_path / SHARING).read_text().replace("{}", '{"schema": 99, "before": 1, "after": 1}')
    )
    with pytest.raises(DataError, match="newer kts"):
        read_sharing(tmp_path)


def test_a_gpu_that_lets_one_process_in_is_refused_before_anything_is_prepared(
    nvml: OneGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the second tenant would fail with an error of CUDA's that names no mode."""
    nvml.compute = 3
    machine = seen(nvml, tmp_path)
    monkeypatch.setattr(state, "look", lambda _: machine)
    device = CudaDevice(index=0, name="Test GPU", uuid="GPU-1", memory_bytes=1)
    monkeypatch.setattr(sharing, "cuda_devices", lambda: [device])
    plan = replace(in_modes(make_plan(), parse("time-slicing")), device="cuda")
    with pytest.raises(SetupError, match=r"GPU-1. is exclusive process"), sharing.prepared(plan):
        pass
    monkeypatch.setattr(sharing, "cuda_devices", lambda: [])  # it is of another GPU
    with sharing.prepared(plan) as held:
        assert held.before is not None


def test_somebody_elses_daemon_is_named_in_the_run(
    nvml: OneGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clients share the GPU with the tenants, and no mode of the run says so."""
    theirs = MpsProcess(pid=12, began="7", uid=1234, name="nvidia-cuda-mps-control")
    machine = replace(seen(nvml, tmp_path), mps=(theirs,))
    monkeypatch.setattr(state, "look", lambda _: machine)
    with sharing.prepared(in_modes(make_plan(), parse("time-slicing"))) as held:
        (said,) = held.trouble()
    assert said.startswith("MPS: nvidia-cuda-mps-control (process 12 of user 1234) is not of this run")
