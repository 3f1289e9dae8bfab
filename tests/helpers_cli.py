"""Running `kts` as a user does, in a process of its own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np

from kts.cli.main import main
from kts.model.mode import SharingMode
from kts.model.records import RECORD
from kts.model.run import BlockOutcome, DeviceInfo, Outcome, WorkerInfo
from kts.plan import block_seed, blocks_of_round, build
from kts.spec import load_text
from kts.store import create

KTS = (sys.executable, "-c", "import sys; from kts.cli.main import main; sys.exit(main())")
DEADLINE_S = 400

TINY = """\
name: tiny
rounds: 2
precision: null
tenants:
  fft: {workload: fft, size: 32, think_ms: 1, iterations: 400, slo: {deadline_ms: 50}}
  gemm: {workload: gemm, size: 48, think_ms: 1, iterations: 400}
"""


def kts(*arguments: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """One `kts` command, finished: its exit code, stdout and stderr."""
    return subprocess.run(
        [*KTS, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def kts_here(*arguments: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, a second or two sooner: for tests of what a command answers, and not of its process."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    here = contextlib.chdir(cwd or Path.cwd())
    with here, patch.dict(os.environ, env), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*map(str, arguments)])
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(arguments, code, *said)


def start(*arguments: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    """One `kts` command, running, in a process group of its own."""
    return subprocess.Popen(
        [*KTS, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def errors(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines that begin with ``error:``, without that."""
    return [line.removeprefix("error: ") for line in result.stderr.splitlines() if line.startswith("error: ")]


def record(
    directory: Path, *, alone: float = 1.0, together: float = 1.0, seed: int = 0, gpu: str = "", driver: str = ""
) -> Path:
    """A finished run of `TINY` in ``directory``, its latencies drawn instead of measured.

    ``alone``, ``together``: by what they are multiplied, and in shared blocks once more. ``gpu``: as if on such a one.
    """
    plan = build(load_text(TINY, source="tiny").experiment)
    device = DeviceInfo(kind="cpu", uuid="cpu:test:0", name="CPU", label="CPU core 0, not a GPU", library="numpy")
    if gpu:
        uuid = f"GPU-{seed:08d}"
        device = DeviceInfo(kind="cuda", uuid=uuid, name=gpu, label=gpu, library="torch", driver=driver)
    sink = create(
        directory,
        plan=plan,
        backend="local",
        mode=SharingMode(recorded="cpu-scheduler"),
        experiment_text=TINY,
        environment={},
    )
    for tenant in plan.tenants:
        sink.worker(WorkerInfo(tenant=tenant.name, pid=1, hostname="test", device=device, solo_ms=1.0))
    now_ns = 1_000_000_000
    for block in (block for number in range(plan.rounds) for block in blocks_of_round(plan, number)):
        start_ns, counts = now_ns, {}
        for name, quota in block.quotas.items():
            n = counts[name] = quota.iterations or 0
            draw = np.random.default_rng(block_seed(plan, block, name) + seed)
            factor = alone * len(block.tenants) * (together if len(block.tenants) > 1 else 1.0)
            latency_ns = (1e6 * factor * draw.lognormal(0, 0.3, n)).astype(np.int64)
            submit_ns = start_ns + np.cumsum(latency_ns + 1_000_000) - latency_ns
            records = np.zeros(n, RECORD)
            records["i"], records["submit_ns"], records["due_ns"] = np.arange(n), submit_ns, submit_ns
            records["retire_ns"], records["device_ms"] = submit_ns + latency_ns, latency_ns / 1e6
            sink.records(name, block.index, 0, records)
            now_ns = max(now_ns, int(records["retire_ns"][-1]))
        sink.block(
            BlockOutcome(
                index=block.index,
                round=block.round,
                condition=block.condition,
                start_ns=start_ns,
                end_ns=now_ns,
                valid=True,
                counts=counts,
            )
        )
    sink.close(Outcome(kind="complete"))
    return directory
