"""Programs that start four times slower than they go on: none of their first 200 iterations is in any figure."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

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
STARTS = {
    "it reaches into the run": (0.3, 200, "noisy"),
    "calibration waits for its end": (30, 200, "noisy"),
    "calibration waits though it is even": (30, 256, "even"),
}
"""Seconds that calibration waits at most, and the program's arguments."""
NAMES = dict(zip(STARTS, "abc", strict=True))


@functools.cache
def _ran(folder: Path, *titles: str) -> dict[str, Any]:
    """The summary of a run in ``folder`` of those that began so, beside one that rests most of the time."""
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    tenants: dict[str, Any] = {"tiny": {"workload": "tiny", "think_ms": 4, "seconds": 1.6}}
    for title in titles:
        settle_s, slow, course = STARTS[title]
        command = [sys.executable, "program.py", f"{NAMES[title]}.warm_ns", str(slow), course]
        tenants[NAMES[title]] = {
            "workload": "command", "command": command, "seconds": 3.2, "settle_seconds": settle_s
        }  # fmt: skip
    asked = {"name": "slow", "device": "cpu", "rounds": 4, "precision": None, "tenants": tenants}
    (folder / "slow.yaml").write_text(json.dumps(asked), encoding="utf-8")
    drawn = ("--no-figures",) if len(titles) > 1 else ()
    done = kts("run", "slow.yaml", "--out", "out", "--json", *drawn, cwd=folder)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module", name="folders")
def _folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Of the run that a slow start reaches into, and of that which waits."""
    return {waits: tmp_path_factory.mktemp("run") for waits in (False, True)}


@pytest.mark.parametrize("title", STARTS)
def test_no_figure_of_a_run_or_a_prediction_holds_an_iteration_of_the_slow_start(
    title: str, folders: dict[bool, Path]
) -> None:
    """Otherwise the start of a program is taken for its life, as real ones showed: wrong by several times."""
    name, waits = NAMES[title], STARTS[title][0] > 1
    folder = folders[waits]
    summary = _ran(folder, *(other for other in STARTS if (STARTS[other][0] > 1) is waits))
    run = open_run(folder / "out")
    warm_ns = int((folder / f"{name}.warm_ns").read_text(encoding="utf-8"))
    program = summary["tenants"][name]
    begun = [run.records(name, block.index)["submit_ns"] for block in run.blocks if name in block.counts]
    if waits:
        assert min(int(rows[0]) for rows in begun if len(rows)) >= warm_ns
        assert program["overlap"]["unsteady"] < 50, "more than a hiccup of the host was left out"
    else:
        assert program["steadiness"]["kind"] == "warm-up"
        assert since_ns(run)[name] >= warm_ns
        assert program["overlap"]["unsteady"] > 50
        assert "steady-state.png" in {path.name for path in (folder / "out").rglob("*")}
        assert "Steady state" in (folder / "out" / "results.md").read_text(encoding="utf-8")
    kept = sum(int(np.count_nonzero(rows >= warm_ns)) for rows in begun)
    counted = program["response"]["solo"]["n"] + program["response"]["shared"]["n"]
    assert 0.8 * kept <= counted <= kept
    assert program["response"]["solo"]["p50"]["estimate"] < 2 * MS
    every = [solo(run, name).service_ms, *(mix[name].service_ms for mix in measured(run).values())]
    assert sum(map(len, every)) == counted
    assert np.median(profile_of(run, name).iterations.busy_ms) < 2 * MS
