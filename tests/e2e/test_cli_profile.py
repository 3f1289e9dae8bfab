"""`kts profile`, whole."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_cli import DEADLINE_S, TINY, errors, kts, start
from tests.helpers_wait import until

from kts.physics.files import decode_profile
from kts.physics.values import Iterations
from kts.store import open_run
from kts.worker.detect import cuda_devices, installed

pytestmark = pytest.mark.e2e

MIXED = """\
rounds: 2
precision: null
tenants:
  fft: {workload: fft, size: 256, think_ms: 2, iterations: 200, replicas: 2}
  chat: {workload: decode, d_model: 64, layers: 2, context: 32, arrivals: poisson, rate_hz: 100, iterations: 200}
"""


def test_profiles_are_files_that_agree_with_a_run(tmp_path: Path) -> None:
    """Else predictions would be made from another tenant than the one that runs. Replicas are one kind: one profile."""
    (tmp_path / "x.yaml").write_text(MIXED, encoding="utf-8")
    done = kts("profile", "x.yaml", "--device", "cpu", "--seconds", "1", "--out", "made", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [one["tenant"] for one in json.loads(done.stdout)] == ["fft", "chat"]
    ran = kts("run", "x.yaml", "--device", "cpu", "--out", "run", "--no-figures", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    run = open_run(tmp_path / "run")
    for name, runs_as in (("fft", "fft-1"), ("chat", "chat")):
        raw = (tmp_path / "made" / f"{name}.profile.json").read_bytes()
        made = decode_profile(raw, name)
        assert made.provenance is not None
        assert [(one.kind, one.name) for one in made.provenance.made_from] == [("experiment", "x"), ("tenant", name)]
        assert made.method == "burst"
        assert made.gpu.kind == "cpu"
        alone = [b.index for b in run.blocks if b.condition == f"solo-{runs_as}"]
        measured = np.concatenate([run.records(runs_as, index)["device_ms"] for index in alone])
        tenant = run.info.plan.tenant(runs_as)
        assert (made.workload, made.size, made.arrivals) == (tenant.work.workload, tenant.work.size, tenant.arrivals)
        # The same work in the same unit; how fast a shared machine does it varies from one moment to the next.
        assert 0.25 < np.median(made.iterations.duration_ms) / np.median(measured) < 4
    predicted = kts("predict", "fft*2+chat", "--profiles", "made", "--assume", "3,0.01,0.01", "--json", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr


def test_profiles_are_never_replaced_unasked_and_mistakes_are_one_line(tmp_path: Path) -> None:
    """Else a second call would destroy what took minutes; and a wrong name would be found out after them."""
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    there = tmp_path / "profiles" / "tiny" / "gemm.profile.json"
    there.parent.mkdir(parents=True)
    there.write_text("mine", encoding="utf-8")
    refused = kts("profile", "tiny.yaml", "--device", "cpu", cwd=tmp_path)
    assert refused.returncode == 2
    assert "is there already" in errors(refused)[0]
    assert there.read_text(encoding="utf-8") == "mine"
    stranger = kts("profile", "tiny.yaml", "--tenant", "gem", cwd=tmp_path)
    assert stranger.returncode == 2
    assert "no tenant 'gem'" in errors(stranger)[0]
    one = kts("profile", "tiny.yaml", "--tenant", "fft", "--seconds", "0.2", "--device", "cpu", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    assert [path.name for path in sorted(there.parent.iterdir())] == ["fft.profile.json", "gemm.profile.json"]


def test_a_tenant_that_fails_is_told_as_in_a_run(tmp_path: Path) -> None:
    """Else a wish that cannot be met would end in a worker's log that nobody keeps."""
    (tmp_path / "x.yaml").write_text(
        "tenants:\n  a: {workload: command, command: 'false'}\n  b: {workload: fft, size: 131072}\n", encoding="utf-8"
    )
    for name, word in (("a", "ended with exit code 1"), ("b", "needs")):
        done = kts("profile", "x.yaml", "--tenant", name, "--device", "cpu", cwd=tmp_path)
        assert done.returncode == 5, done.stderr
        assert word in errors(done)[0]
        assert "Traceback" not in done.stderr


def test_a_program_of_the_users_own_is_profiled_by_what_it_prints(tmp_path: Path) -> None:
    """Else `command` tenants could not be predicted."""
    (tmp_path / "own.py").write_text(
        "import time\n"
        "for i in range(10**6):\n"
        "    begin = time.time_ns(); time.sleep(0.002); end = time.time_ns()\n"
        "    print(f'KTS_APP,v1,OWN,{i},{begin},{end},1.500000,', flush=True); time.sleep(0.003)\n",
        encoding="utf-8",
    )
    (tmp_path / "x.yaml").write_text(
        "tenants:\n  own: {workload: command, command: 'python3 own.py'}\n  b: {workload: fft}\n", encoding="utf-8"
    )
    arguments = ("x.yaml", "--tenant", "own", "--device", "cpu", "--seconds", "0.5", "--out", "made")
    done = kts("profile", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = decode_profile((tmp_path / "made" / "own.profile.json").read_bytes(), "own")
    assert (made.iterations.duration_ms == 1.5).all()
    assert made.workload == "command"


def test_ctrl_c_ends_the_worker_and_keeps_what_is_done(tmp_path: Path) -> None:
    """Else an impatient user would leave a worker on the device, which disturbs what comes next."""
    (tmp_path / "tiny.yaml").write_text(TINY, encoding="utf-8")
    process = start("profile", "tiny.yaml", "--device", "cpu", "--seconds", "0.5", "--out", "made", cwd=tmp_path)
    done = tmp_path / "made" / "fft.profile.json"
    until(done.exists, "the first tenant is profiled", living=process)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    assert decode_profile(done.read_bytes(), "fft").tenant == "fft"
    until(lambda: str(tmp_path) not in _workers(), "the kernel ends one that kts had not yet noted")


def _workers() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode()
            if "--profile" in command and "kts.worker" in command:
                found.append(str((entry / "cwd").readlink()))
        except OSError:
            continue
    return found


GPU = """\
device: cuda
library: torch
tenants:
  fft: {workload: fft, target_ms: 3.6, think_ms: 20}
  blink: {workload: tiny, think_ms: 2}
  eager: {workload: decode, think_ms: 10}
  graph: {workload: decode, think_ms: 10, graph: true}
"""


def _alone_ms(them: Iterations, k: int) -> float:
    """How long iteration k takes on a GPU of its own: each launch begins when its host hands it over and the one before
    has ended, so that a GPU which waits for its host in the middle counts, too."""
    end_ms = 0.0
    for launch in range(them.first[k], them.first[k + 1]):
        end_ms = max(end_ms, them.offset_ms[launch]) + them.duration_ms[launch]
    return float(end_ms + them.retire_ms[k])


@pytest.mark.gpu
def test_on_a_gpu_the_launches_are_traced_and_the_tracer_is_taken_out(tmp_path: Path) -> None:
    """Else an eager decoder would be one burst to the simulator, which errs by 15 to 30 %."""
    if not (cuda_devices() and installed("torch")):
        pytest.skip("no CUDA device with torch")
    (tmp_path / "x.yaml").write_text(GPU, encoding="utf-8")
    done = kts("profile", "x.yaml", "--seconds", "6", "--out", "made", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = {
        name: decode_profile((tmp_path / "made" / f"{name}.profile.json").read_bytes(), name)
        for name in ("fft", "blink", "eager", "graph")
    }
    for name, one in made.items():
        them = one.iterations
        assert one.method == "launches", one.how
        alone = [_alone_ms(them, k) for k in range(them.n)]
        assert np.median(alone) == pytest.approx(np.median(one.solo_service.ms), rel=0.05), name
        assert one.sm_clock_mhz is None or 100 < one.sm_clock_mhz < 5000
        assert one.memory_bytes
        assert one.memory_bytes > 0
    counts = {name: np.median(np.diff(one.iterations.first)) for name, one in made.items()}
    assert 100 <= counts["eager"] <= 140
    assert counts["graph"] == 1
    assert counts["blink"] == 3
    assert np.median(made["fft"].iterations.busy_ms) == pytest.approx(np.median(made["fft"].solo_device.ms), rel=0.1)
    assert made["eager"].tracer_inflation > 1.0
    assert np.median(made["eager"].iterations.busy_ms) < 0.7 * np.median(made["eager"].solo_device.ms)
