"""A run in modes on the stand-in for a GPU whose MPS daemon is killed: what was measured is kept, and nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.helpers_cli import KTS
from tests.helpers_tracer import standin
from tests.helpers_wait import until

from kts.sharing import folders, mps
from kts.worker.keeper import descendants

pytestmark = pytest.mark.e2e

EXPERIMENT = """\
name: two
device: cuda
rounds: 200
precision: null
tenants:
  a: &program
    workload: command
    command: [{program}, iterations=0, trips=2, kernel_us=1000, lines=1]
    seconds: 40
    settle_seconds: 0.2
    warmup: 1
    trace: "off"
  b: *program
"""


def test_a_daemon_that_is_killed_costs_the_block_and_no_other(tmp_path: Path) -> None:
    """Else one fault under MPS would cost what was measured in every mode, or leave a daemon to whoever comes next."""
    made = standin()
    (tmp_path / "two.yaml").write_text(EXPERIMENT.format(program=made.program))
    env = {
        **os.environ,
        "PATH": f"{Path(__file__).parent.parent / 'standin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(made.cuda),
    }
    argv = [*KTS, "run", "two.yaml", "--modes", "time-slicing,mps", "--out", "run", "--json", "--no-figures"]
    said = (tmp_path / "stderr").open("w")
    with said, subprocess.Popen(argv, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=said, text=True) as running:
        try:
            until(lambda: running.poll() is not None or whole_round(tmp_path / "run"), "a round")
            before = blocks(tmp_path / "run")
            (daemon,) = [pid for pid in descendants(running.pid) if pipe_of(pid)]
            pipe = Path(pipe_of(daemon))
            os.kill(daemon, signal.SIGKILL)
            running.communicate(timeout=400)
        finally:
            running.kill()
    assert running.returncode == 5, (tmp_path / "stderr").read_text()
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["outcome"]["kind"] == "incomplete"
    assert any(note.startswith("MPS: the daemon that kts started ended") for note in run["notes"])
    kept = [block for block in run["blocks"] if block["valid"]]
    assert {block["condition"] for block in kept} == {"solo-a", "solo-b", "shared-a+b", "shared-a+b@mps"}
    assert [block["index"] for block in kept[: len(before)]] == before
    told = json.loads((tmp_path / "run" / "modes.json").read_text())
    assert [one["mode"]["name"] for one in told["modes"]] == ["time-slicing", "mps"]
    assert told["modes"][1]["proves"], "the daemon listed the programs among its clients"
    assert all(one["tenants"]["a"]["shared_p99"] for one in told["modes"])
    assert not mps.processes(pipe)
    assert not pipe.parent.exists()
    assert not [left for left in folders.orphans(mps.KIND) if left == pipe.parent]


def whole_round(run: Path) -> bool:
    return len(blocks(run)) >= 4


def blocks(run: Path) -> list[int]:
    """Those that are valid, as far as run.json has them."""
    path = run / "run.json"
    known: Mapping[str, list[dict[str, int]]] = json.loads(path.read_text()) if path.is_file() else {}
    return [block["index"] for block in known.get("blocks", ()) if block["valid"]]


def pipe_of(pid: int) -> str:
    """The directory of pipes of a process of MPS; empty of all others."""
    try:
        if not Path(f"/proc/{pid}/comm").read_text().startswith("nvidia-cuda-mps"):
            return ""
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    name = b"CUDA_MPS_PIPE_DIRECTORY="
    return next((one.removeprefix(name).decode() for one in variables if one.startswith(name)), "")
