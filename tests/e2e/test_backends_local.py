"""Real workers that are killed, frozen or orphaned in the middle of a block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from tests.helpers_conduct import MemorySink, SilentWatcher, make_plan
from tests.helpers_wait import until

from kts.backends.local import LocalBackend
from kts.conduct.driver import conduct
from kts.conduct.ports import Progress
from kts.conduct.roster import Limits
from kts.model.mode import Mode
from kts.model.plan import Plan, Program
from kts.model.run import Outcome
from kts.plan import in_modes

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measuring needs Linux"),
]

PLAN = make_plan(rounds=200, iterations=200 * 50, think_ms=2.0)
STREAMS = in_modes(PLAN, [Mode(name="streams", kind="streams")])


def hit_in_a_block(
    number: signal.Signals, log_dir: Path, limits: Limits, plan: Plan = PLAN, whose: str = "gemm"
) -> tuple[Outcome, MemorySink]:
    """Runs ``plan`` and sends ``number`` to one tenant's worker in a block of its own after the first round."""
    sink = MemorySink()
    hit: list[int] = []

    def hit_once(progress: Progress) -> None:
        gemm = next((t for t in progress.tenants if t.tenant == whose), None)
        if not hit and len(sink.blocks) >= 3 and gemm is not None and gemm.active:
            hit.append(sink.workers[whose].pid)
            os.kill(hit[0], number)

    outcome = conduct(plan, LocalBackend(log_dir), sink, SilentWatcher(hit_once), None, limits=limits)
    assert hit
    assert not Path(f"/proc/{hit[0]}").exists()
    return outcome, sink


def assert_earlier_blocks_kept(outcome: Outcome, sink: MemorySink) -> None:
    assert (outcome.kind, outcome.exit_code) == ("incomplete", 5), outcome
    assert [b.valid for b in sink.blocks] == [True] * (len(sink.blocks) - 1) + [False]
    for block in sink.blocks[:-1]:
        for tenant, count in block.counts.items():
            assert sink.count(tenant, block.index) == count >= 50


def test_a_worker_that_is_killed_spoils_its_block_only(tmp_path: Path) -> None:
    """Otherwise kill -9 of a worker loses the run, or passes for success."""
    outcome, sink = hit_in_a_block(signal.SIGKILL, tmp_path, Limits())
    assert "gemm ended before the run did: killed by SIGKILL" in outcome.reason
    assert_earlier_blocks_kept(outcome, sink)


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGKILL, "killed by SIGKILL"), (signal.SIGTERM, "stopped by SIGTERM")]
)
def test_the_end_of_a_process_is_that_of_all_the_tenants_that_it_carries(
    number: signal.Signals, how: str, tmp_path: Path
) -> None:
    """Otherwise a tenant whose process is gone is waited for, or a thread outlives the signal that ends its process."""
    outcome, sink = hit_in_a_block(number, tmp_path, Limits(), STREAMS, "gemm@streams")
    assert "@streams ended before the run did" in outcome.reason
    assert how in outcome.reason
    assert outcome.remedy.startswith("see the log of fft@streams in the run directory")
    assert sink.workers["fft@streams"].pid == sink.workers["gemm@streams"].pid != sink.workers["gemm"].pid
    assert_earlier_blocks_kept(outcome, sink)


def test_a_worker_that_is_frozen_is_found_out_and_removed(tmp_path: Path) -> None:
    """Otherwise a hung device hangs the run."""
    outcome, sink = hit_in_a_block(signal.SIGSTOP, tmp_path, Limits(hang_s=5))
    assert "gemm gave no sign of life" in outcome.reason
    assert_earlier_blocks_kept(outcome, sink)


LOSES_ITS_DEVICE = """
import os, sys
from kts.worker.devices import cpu
from kts.worker import __main__

wait, waited = cpu.Cpu.wait, []

def wait_or_lose(device):
    waited.append(1)
    if os.environ["KTS_TENANT"] == "gemm" and len(waited) > 400:
        raise RuntimeError("CUDA error: unspecified launch failure\\nCompile with TORCH_USE_CUDA_DSA")
    wait(device)

cpu.Cpu.wait = wait_or_lose
sys.exit(__main__.main(["--join"]))
"""


def test_a_device_that_is_lost_spoils_its_block_only_and_is_named(tmp_path: Path) -> None:
    """Otherwise a GPU that falls off the bus loses the run, hangs it, or reads like a bug of kts."""
    sink = MemorySink()
    backend = LocalBackend(tmp_path, worker=("-c", LOSES_ITS_DEVICE))
    outcome = conduct(PLAN, backend, sink, SilentWatcher(), None)
    assert outcome.reason == "tenant gemm: the device is lost: CUDA error: unspecified launch failure"
    assert "nvidia-smi" in outcome.remedy
    assert len(sink.blocks) > 3
    assert_earlier_blocks_kept(outcome, sink)


def test_a_worker_that_cannot_set_up_says_why(tmp_path: Path) -> None:
    """Otherwise the user sees 'exit code 4' and nothing else."""
    plan = make_plan(size=200_000)
    outcome = conduct(plan, LocalBackend(tmp_path), MemorySink(), SilentWatcher(), None)
    assert (outcome.kind, outcome.exit_code) == ("failed", 4)
    assert "tenant fft" in outcome.reason
    assert "size 200000" in outcome.reason
    assert outcome.remedy


@pytest.mark.parametrize("design", ["interleaved", "classic"])
def test_a_silent_program_is_a_neighbour_in_every_shared_block(tmp_path: Path, design: str) -> None:
    """Otherwise a neighbour that counts nothing ends its blocks at once, or never."""
    plan = make_plan("fft", "noise", rounds=2, design=design)
    silent = Program(command=("sleep", "600"), env={"KTS_SETTLE_S": "0.2"})
    tenants = (plan.tenants[0], msgspec.structs.replace(plan.tenants[1], work=silent))
    plan = msgspec.structs.replace(plan, tenants=tenants)
    sink = MemorySink()
    outcome = conduct(plan, LocalBackend(tmp_path), sink, SilentWatcher(), None)
    assert outcome.kind == "complete", outcome
    shared = [block for block in sink.blocks if len(block.counts) == 2]
    assert len(shared) == 2
    assert all(block.counts["noise"] == 0 and block.counts["fft"] >= 10 for block in shared)


def test_a_run_from_a_thread_works_without_signals(tmp_path: Path) -> None:
    """Otherwise kts can be used from a main thread only."""
    outcomes: list[Outcome] = []
    plan = make_plan("a", rounds=1)
    thread = threading.Thread(
        target=lambda: outcomes.append(conduct(plan, LocalBackend(tmp_path), MemorySink(), SilentWatcher(), None))
    )
    thread.start()
    thread.join(120)
    assert [o.kind for o in outcomes] == ["complete"]


PROGRAM = """
import sys
from pathlib import Path
from kts.backends.local import LocalBackend
from kts.conduct.driver import conduct
from tests.helpers_conduct import MemorySink, SilentWatcher, make_plan

sink = MemorySink()
told = []

def tell(progress):
    if sink.blocks and not told:
        told.append(print(*[w.pid for w in sink.workers.values()], flush=True))

plan = make_plan(rounds=500, iterations=500 * 50, think_ms=2.0)
outcome = conduct(plan, LocalBackend(Path(sys.argv[1])), sink, SilentWatcher(tell), None)
print(outcome.kind, outcome.exit_code, sink.blocks[0].valid, sink.blocks[-1].reason)
"""


def start_program(log_dir: Path) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    command = [sys.executable, "-c", PROGRAM, str(log_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=root, start_new_session=True)


def test_ctrl_c_reaches_kts_alone_and_ends_the_run_in_order(tmp_path: Path) -> None:
    """Otherwise workers die of the terminal's Ctrl-C before kts can say that it was interrupted."""
    with start_program(tmp_path) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        assert len(pids) == 2
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=400)
    assert out.split() == ["interrupted", "130", "True", "interrupted"]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_no_worker_outlives_a_killed_kts(tmp_path: Path) -> None:
    """Otherwise kill -9 of kts leaves tenants on the device, which disturb all that is measured after."""
    with start_program(tmp_path) as process:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        assert len(pids) == 2
        process.kill()
        process.wait(60)
        until(lambda: not any(_alive(pid) for pid in pids), "the workers are gone")


def _alive(pid: str) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
