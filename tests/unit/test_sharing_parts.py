"""GPU instances that kts makes: equal ones, on an empty GPU alone, and gone afterwards whoever is killed. On a stand-in
for NVML whose GPU is a file, so that a killed process leaves what it made."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace
from tests.helpers_stats import make_plan
from tests.helpers_wait import until

import kts
from kts import sharing
from kts.cli.run import ModeOptions
from kts.errors import SetupError, UsageError
from kts.model.sharing_facts import SharedMachine
from kts.plan import in_modes
from kts.sharing import folders, mig, parse, parts, state

STANDIN = Path(__file__).parent.parent / "standin_nvml"
THEIRS = {"id": 5, "profile": 14, "start": 0, "size": 2, "uuid": "MIG-theirs"}


class TheGpu:
    """The file. ``keys``: what of it is not as usual."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(instances=[])

    def set(self, **keys: Any) -> None:
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.file.write_text(json.dumps(known | keys))

    @property
    def instances(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.file.read_text())["instances"]
        return found


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TheGpu:
    """Of this process, and of those that it starts."""
    monkeypatch.setenv("STANDIN_NVML", str(tmp_path / "gpu.json"))
    monkeypatch.setenv("PYTHONPATH", f"{STANDIN}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(mig, "load_pynvml", _standin)
    return TheGpu(tmp_path / "gpu.json")


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where records are."""
    with tempfile.TemporaryDirectory(prefix="kts-t-") as short:
        monkeypatch.setattr(folders, "_base", lambda: Path(short))
        yield Path(short)


def _standin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("standin_pynvml", STANDIN / "pynvml.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _machine(base: Path) -> SharedMachine:
    """Without the daemons of MPS that other tests have at the same time: of no process at all."""
    return state.look("cuda", _standin, base)


def test_equal_parts_are_there_meanwhile_and_the_gpu_is_then_as_before(gpu: TheGpu, base: Path) -> None:
    """Else a run would leave a GPU cut that was not, or compare tenants on unlike parts."""
    before = _machine(base)
    with parts.made(2) as note:
        assert [(one["profile"], one["uuid"][:4]) for one in gpu.instances] == [(9, "MIG-")] * 2
        assert _machine(base).gpus[0].settings["GPU instances"] == "1, 2"
        with mig.prepared(in_modes(make_plan(), parse("mig")).modes) as held:
            assert {env[mig.VISIBLE] for env in held.env.values()} == {one["uuid"] for one in gpu.instances}
    assert note == "MIG: kts made 2 of MIG 3g.71gb on GPU-1, which had none, for this run alone"
    assert not before.changes(_machine(base))
    assert not list(base.iterdir())


@pytest.mark.parametrize(("count", "profile"), [(1, 0), (3, 14), (4, 15), (7, 19)])
def test_parts_are_as_large_as_so_many_can_be(gpu: TheGpu, count: int, profile: int) -> None:
    """By multiprocessors, then by memory: else tenants would be measured on less than a user would give them."""
    with mig.session() as nvml:
        assert parts._room(nvml, count)[1].id == profile
    assert gpu.instances == []


@pytest.mark.parametrize(
    ("state_", "count", "told"),
    [
        ({"mig": [0, 0]}, 2, ("GPU-1 is not in MIG mode$", "nvidia-smi -i GPU -mig 1")),
        ({"mig": [0, 1]}, 2, ("not in MIG mode, and will be after a reset", "kts does not")),
        ({"refuse": {"nvmlDeviceGetMigMode": 3}}, 2, ("GPU-1 has no MIG$", "-mig 1")),
        ({"instances": [THEIRS]}, 2, ("GPU-1 has 1 GPU instances that are not kts's", "if they are yours")),
        ({}, 8, ("GPU-1 cannot be cut into 8", "fewer tenants")),
        ({"refuse": {"nvmlDeviceGetGpuInstances": 4}}, 2, ("this user may not", "as root")),
        ({"refuse": {"nvmlDeviceCreateGpuInstance": 4}}, 2, ("no part 1 of 2 .*: this user may not", "as root")),
        ({"refuse": {"nvmlGpuInstanceCreateComputeInstance": 19}}, 2, ("no part 1 of 2 .*NVML error 19", "who else")),
        ({"room": 1}, 2, ("no part 2 of 2 .*NVML error 23", "who else")),
    ],
)
def test_what_cannot_be_is_refused_in_words_and_leaves_nothing(
    gpu: TheGpu, base: Path, state_: dict[str, Any], count: int, told: tuple[str, str]
) -> None:
    """No MIG, no MIG mode, somebody's parts, too many tenants, no permission, a GPU that is busy, half a set."""
    gpu.set(**state_)
    before = gpu.instances
    with pytest.raises(SetupError, match=told[0]) as refused, parts.made(count):
        pass
    assert told[1] in refused.value.remedy
    assert refused.value.exit_code == 4
    assert gpu.instances == before
    assert not list(base.iterdir())


def test_parts_that_are_there_are_used_and_stay(gpu: TheGpu) -> None:
    gpu.set(instances=[THEIRS])
    with parts.made(1) as note:
        assert note == ""
    assert gpu.instances == [THEIRS]


KILLED = """
import os, signal, subprocess, sys
from pathlib import Path
from kts.sharing import folders, parts
folders._base = lambda: Path(sys.argv[1])
start = subprocess.Popen
def kept(*given, **more):
    global keeper
    keeper = start(*given, **more)
    return keeper
subprocess.Popen = kept
if sys.argv[2] == "both":
    keep = parts._keep
    def then(folder, record):
        os.kill(keeper.pid, signal.SIGKILL)
        keep(folder, record)
    parts._keep = then
with parts.made(2):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(base: Path, who: str) -> None:
    """A run, after it has made its parts, or where the stand-in ends it; ``both``: together with its keeper."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(base), who], capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_the_parts_of_a_killed_run_go_with_it(gpu: TheGpu, base: Path) -> None:
    """Else a kill -9 would leave a GPU cut for whoever comes next."""
    killed(base, "kts")
    until(lambda: not gpu.instances, "the keeper takes the parts away")
    until(lambda: not list(base.iterdir()), "and then the record")


@pytest.mark.parametrize("at", ["", "nvmlDeviceCreateGpuInstance", "nvmlGpuInstanceCreateComputeInstance"])
def test_what_a_run_made_that_was_killed_with_its_keeper_the_next_takes_away(gpu: TheGpu, base: Path, at: str) -> None:
    """Also what was made a moment before and is in no record yet; and nothing of anybody else's."""
    gpu.set(kill=at)
    killed(base, "both")
    left = gpu.instances
    assert len(left) == (1 if at else 2)
    gpu.set(kill="", instances=[*left, THEIRS])
    sharing.end_orphans()
    assert gpu.instances == [THEIRS]
    assert not list(base.iterdir())


def left_over(base: Path) -> Path:
    """What a run that was killed with its keeper has left: two parts, and the record."""
    folder = base / f"{folders._prefix(parts.KIND)}1-1-left"  # process 1 began at another time
    folder.mkdir()
    with mig.session() as nvml:
        wanted = parts.MadeParts("GPU-1", parts._boot(), 9, "MIG 3g.71gb", 2)
        parts._make(nvml, "GPU-1", wanted, lambda now: parts._keep(folder, now))
    return folder


def test_a_part_that_somebody_made_in_its_place_stays(gpu: TheGpu, base: Path) -> None:
    """An administrator may have cut the GPU anew meanwhile: the device in it has another UUID."""
    left_over(base)
    anew = [one | {"uuid": f"MIG-anew-{one['id']}"} for one in gpu.instances]
    gpu.set(instances=anew)
    parts.end_orphans()
    assert gpu.instances == anew


def test_a_part_in_use_stays_in_the_record_until_it_is_free(gpu: TheGpu, base: Path) -> None:
    """A killed run's tenants compute for some seconds yet: what is given up on once would stay for ever."""
    record = left_over(base)
    gpu.set(refuse={"nvmlComputeInstanceDestroy": 19})
    assert "NVML error 19" in parts.put_back(record, patience_s=0)
    assert len(gpu.instances) == 2
    gpu.set(refuse={})
    assert parts.end_orphans() == [record]
    assert gpu.instances == []


def test_unasked_nothing_is_made_and_asked_for_nothing_is_refused(gpu: TheGpu) -> None:
    plan = replace(in_modes(make_plan(), parse("exclusive,mig")), device="auto")
    with sharing.reconfigured(plan, allowed=False) as made:
        assert (made.notes, made.before, gpu.instances) == ((), None, [])
    for other in (in_modes(make_plan(), parse("time-slicing")), replace(plan, device="cpu")):
        with pytest.raises(UsageError, match="for the mode mig"), sharing.reconfigured(other, allowed=True):
            pass
    with (
        pytest.raises(UsageError, match="mig beside mps"),
        sharing.reconfigured(in_modes(replace(make_plan(), device="cuda"), parse("mig,mps")), allowed=True),
    ):
        pass
    assert gpu.instances == []
    with pytest.raises(UsageError, match="for the mode mig"):
        kts.run("demo", device="cpu", modes="exclusive,cpu-scheduler", allow_reconfigure=True)
    for on, modes in (("k8s", "mig"), ("local", "")):
        with pytest.raises(UsageError, match="of a GPU of this machine"):
            ModeOptions(modes=modes, allow_reconfigure=True).check(on, foretells=False, many=False)
