"""A program that starts four times slower than it goes on: none of its first 200 iterations is in any figure."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_cli import kts

from kts.physics.recorded import measured, profile_of, solo
from kts.stats.steadiness import since_ns
from kts.store import open_run

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

MS = 2.0
PROGRAM = f"""
import pathlib, sys, time
slow, even = int(sys.argv[2]), sys.argv[3] == "even"
for i in range(1_000_000):
    if i == slow:
        pathlib.Path(sys.argv[1]).write_text(str(time.monotonic_ns()))
    begun = time.time_ns()
    took_ms = {MS} * (4 if i < slow else 1)
    time.sleep(took_ms / 1e3)
    ended = begun + int(took_ms * 1e6) if even else time.time_ns()
    print(f"KTS_APP,v1,program,{{i}},{{begun}},{{ended}},nan,run", flush=True)
"""
"""Its first ``slow`` iterations take four times as long. ``even``: as it tells, each as long as the one before."""


@pytest.mark.parametrize(
    ("settle_s", "slow", "course"),
    [(0.3, 200, "noisy"), (30, 200, "noisy"), (30, 256, "even")],
    ids=["it reaches into the run", "calibration waits for its end", "calibration waits though it is even"],
)
def test_no_figure_of_a_run_or_a_prediction_holds_an_iteration_of_the_slow_start(
    settle_s: float, slow: int, course: str, tmp_path: Path
) -> None:
    """Otherwise the start of a program is taken for its life, as real ones showed: wrong by several times."""
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "slow.yaml").write_text(
        f"""
name: slow
device: cpu
rounds: 4
precision: null
tenants:
  program:
    workload: command
    command: [{sys.executable}, program.py, warm_ns, '{slow}', {course}]
    seconds: 3.2
    settle_seconds: {settle_s}
  tiny: {{workload: tiny, think_ms: 4, seconds: 3.2}}
""",
        encoding="utf-8",
    )
    done = kts("run", "slow.yaml", "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "out")
    warm_ns = int((tmp_path / "warm_ns").read_text(encoding="utf-8"))
    program = json.loads(done.stdout)["tenants"]["program"]
    begun = [run.records("program", block.index)["submit_ns"] for block in run.blocks]
    if settle_s > 1:
        assert min(int(rows[0]) for rows in begun if len(rows)) >= warm_ns
        assert program["overlap"]["unsteady"] < 50, "more than a hiccup of the host was left out"
    else:
        assert program["steadiness"]["kind"] == "warm-up"
        assert since_ns(run)["program"] >= warm_ns
        assert program["overlap"]["unsteady"] > 50
        assert "steady-state.png" in {path.name for path in (tmp_path / "out").rglob("*")}
        assert "Steady state" in (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    kept = sum(int(np.count_nonzero(rows >= warm_ns)) for rows in begun)
    counted = program["response"]["solo"]["n"] + program["response"]["shared"]["n"]
    assert 0.8 * kept <= counted <= kept
    assert program["response"]["solo"]["p50"]["estimate"] < 2 * MS
    every = [solo(run, "program").service_ms, *(mix["program"].service_ms for mix in measured(run).values())]
    assert sum(map(len, every)) == counted
    assert np.median(profile_of(run, "program").iterations.busy_ms) < 2 * MS
