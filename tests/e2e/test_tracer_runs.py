"""`kts run` of traced programs that refuse, multiply, end early or are too fast for their ring, on the stand-in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.helpers_cli import DEADLINE_S, kts, start
from tests.helpers_tracer import standin
from tests.helpers_wait import until

from kts.errors import KtsError
from kts.store.reader import open_run

pytestmark = pytest.mark.e2e
BESIDE = {"workload": "tiny", "size": 32, "iterations": 60, "think_ms": 5}
OPTIONS = ("--device", "cpu", "--no-figures", "--no-telemetry", "--json")


def tenant(env: dict[str, str] | None = None, **shape: Any) -> dict[str, Any]:
    made = standin()
    shape = {"iterations": 0, "kernel_us": 200, "trips": "2", **shape}
    more = {**made.env(), "KTS_CUPTI": str(made.cupti), "KTS_SETTLE_S": "3", **(env or {})}
    return {"workload": "command", "command": made.argv(**shape), "env": more, "trace": "calls", "iterations": 60}


def experiment(folder: Path, rounds: int = 1, **tenants: dict[str, Any]) -> Path:
    text = json.dumps({"name": "hard", "rounds": rounds, "precision": None, "tenants": tenants})
    (folder / "hard.yaml").write_text(text, encoding="utf-8")
    return folder / "hard.yaml"


def test_programs_of_which_nothing_is_seen_are_measured_and_the_reader_is_told_why(tmp_path: Path) -> None:
    """Else a run beside a profiler would fail, or its figures lack launches without a word."""
    path = experiment(
        tmp_path,
        taken=tenant({"STANDIN_TAKEN": "1"}, lines=1),
        own=tenant({"CUDA_INJECTION64_PATH": "/nowhere/own.so"}, lines=1),
        many=tenant(processes=2, spawn=20),
        lives=tenant(iterations=150, lines=0),
    )
    done = kts("run", path, "--out", tmp_path / "run", *OPTIONS)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    notes = "\n".join(run.info.notes)
    assert "taken: its launches are not seen: another profiler uses CUPTI in this process" in notes
    assert "own: its launches are not seen: the program sets CUDA_INJECTION64_PATH=*** itself" in notes
    assert "many: an iteration is a round trip: 2 launches" in notes
    assert "lives: its launches" not in notes
    assert notes.count("own: its launches") == 1
    for text in ("another profiler uses CUPTI", "CUDA_INJECTION64_PATH=*** itself"):
        assert text in done.stderr
    for name, tenant_summary in json.loads(done.stdout)["tenants"].items():
        assert tenant_summary["response"]["solo"]["n"] > 40, name


def test_calls_that_a_ring_lost_are_in_the_run_and_refuse_the_p99_that_they_could_move(tmp_path: Path) -> None:
    """Else iterations that were never seen, the slowest perhaps, would make a better tail."""
    busy = tenant({"KTS_TRACE_EVENTS": "64"}, kernel_us=20) | {"iterations": 800}
    path = experiment(tmp_path, busy=busy, beside=BESIDE)
    done = kts("run", path, "--out", tmp_path / "run", *OPTIONS)
    assert done.returncode == 0, done.stderr
    blocks = open_run(tmp_path / "run").blocks
    assert sum(block.events_lost.get("busy", 0) for block in blocks) > 64
    assert sum(block.lost.get("busy", 0) for block in blocks) > 1
    summary = json.loads(done.stdout)
    assert "could not be read" in summary["tenants"]["busy"]["response"]["solo"]["p99"]["refused"]
    assert "trace-lost" in [warning["code"] for warning in summary["warnings"]]
    assert "calls to the GPU that were seen and not kept" in done.stderr


def test_a_traced_program_that_dies_ends_the_run_with_its_own_end_and_keeps_what_was_measured(tmp_path: Path) -> None:
    told = tmp_path / "die"
    dies = tenant({"KTS_SETTLE_S": "1"}, crash="segv", crash_when=told, kernel_us=500)
    often = {"iterations": 60 * 1000}  # 60 in each of the rounds, which are more than can be over before it dies
    path = experiment(tmp_path, rounds=1000, dies=dies | often, beside=BESIDE | often)
    process = start("run", path, "--out", tmp_path / "run", *OPTIONS)
    try:
        until(lambda: measured(tmp_path / "run", "dies") or process.poll() is not None, "it is measured")
        told.touch()
        _, said = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 5, said
    (error,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert "was killed by SIGSEGV" in error
    assert measured(tmp_path / "run", "dies")


def measured(run: Path, tenant: str) -> bool:
    """Whether a block of the run holds iterations of the tenant."""
    try:
        blocks = open_run(run).blocks
    except KtsError:
        return False  # not there yet
    return any(block.valid and block.counts.get(tenant) for block in blocks)
