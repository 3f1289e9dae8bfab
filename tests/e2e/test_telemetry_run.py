"""Telemetry of real workers on the CPU device: what the kernel's scheduler says comes through to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers_cli import kts

from kts.model.records import optional_columns
from kts.store import open_run

pytestmark = pytest.mark.e2e

BUSY = """\
name: busy
rounds: 3
precision: null
tenants:
  fft: {workload: fft, size: 64, seconds: 1.5}
  gemm: {workload: gemm, size: 64, seconds: 1.5}
"""
TRIES = 3
"""Other programs on this machine may take the core during a solo block; hardly in each of three runs."""


def measured(folder: Path) -> dict[str, Any]:
    """The summary of a new run of two tenants that never sleep."""
    (folder / "busy.yaml").write_text(BUSY, encoding="utf-8")
    done = kts("run", "busy.yaml", "--out", "out", "--overwrite", "--device", "cpu", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def means(summary: dict[str, Any], role: str, side: str) -> list[float]:
    """A role's mean of every tenant."""
    return [
        figure[side]["block_mean"]
        for tenant in summary["tenants"].values()
        for figure in tenant["activity"]
        if figure["role"] == role
    ]


@pytest.mark.alone
def test_tenants_that_never_sleep_wait_for_each_other_and_the_report_says_so(tmp_path: Path) -> None:
    """Else what sharing a core costs would not be seen where it comes from, or be laid to the wrong tenant."""
    for _ in range(TRIES):
        summary = measured(tmp_path)
        ran, waited = means(summary, "cpu-run", "shared"), means(summary, "cpu-wait", "shared")
        assert len(ran) == len(waited) == 2
        assert sum(ran) < 1.1  # one core
        assert all(r + w == pytest.approx(1, abs=0.15) for r, w in zip(ran, waited, strict=True))
        assert sum(waited) / 2 > 0.4  # (n - 1) / n, and more if others take the core
        if sum(means(summary, "cpu-wait", "solo")) < sum(waited):
            break
    else:
        pytest.fail("solo tenants waited as long as shared ones, three times")
    for tenant in summary["tenants"].values():
        (wait,) = (figure for figure in tenant["activity"] if figure["role"] == "cpu-wait")
        assert wait["scope"] == "tenant"
        assert wait["shared"]["covered"] > 0.8
        assert {block["condition"] for block in wait["blocks"]} >= {"shared-fft+gemm"}
    of_a_gpu = {"gpm", "nvml", "nvml-process", "nvml-xid"}
    assert {state["source"] for state in summary["telemetry"] if state["missing"]} == of_a_gpu
    results = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert "waiting for the CPU core" in results
    assert "not there: NVML GPM, NVML, NVML per process" in results
    assert (tmp_path / "out" / "telemetry.parquet").exists()
    assert (tmp_path / "out" / "plots" / "activity.png").exists()
    assert not (tmp_path / "out" / "telemetry.journal").exists()
    run = open_run(tmp_path / "out")
    for block in run.info.blocks:
        for tenant in block.counts:
            records = run.records(tenant, block.index)
            spent_ns = records["cpu_ns"] + records["cpu_wait_ns"]
            left_ns = records["retire_ns"] - records["submit_ns"] - spent_ns
            assert left_ns.min() >= 0
            assert np.median(left_ns) < 100_000  # a thread that never sleeps runs or waits
    for tenant in summary["tenants"].values():
        activity = {one["metric"]: one["shared"]["block_mean"] for one in tenant["activity"]}
        assert activity["others_cores"] == pytest.approx(activity["busy_cores"] - activity["running_threads"], abs=0.15)


def test_without_telemetry_there_is_none(tmp_path: Path) -> None:
    """Else the option would be taken and samples be made all the same."""
    short = BUSY.replace("seconds: 1.5", "iterations: 50").replace("rounds: 3", "rounds: 1")
    (tmp_path / "short.yaml").write_text(short, encoding="utf-8")
    options = ("--device", "cpu", "--json", "--no-figures", "--no-telemetry")
    done = kts("run", "short.yaml", "--out", "out", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert "telemetry" not in summary
    assert all("activity" not in tenant for tenant in summary["tenants"].values())
    assert not list((tmp_path / "out").glob("telemetry*"))
    assert optional_columns(open_run(tmp_path / "out").records("fft", 0).dtype) == ()


def test_a_program_in_processes_of_its_own_is_not_taken_for_its_worker(tmp_path: Path) -> None:
    """Else the thread that reads what the program prints would be reported as the tenant."""
    text = (
        "name: own\nrounds: 1\nprecision: null\ntenants:\n"
        "  mine: {workload: command, command: [sleep, '600'], env: {KTS_SETTLE_S: '1'}, seconds: 1}\n"
        "  fft: {workload: fft, size: 64, seconds: 1}\n"
    )
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    done = kts("run", "own.yaml", "--out", "out", "--device", "cpu", "--json", "--no-figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    activity = {one["metric"]: one for one in summary["tenants"]["mine"]["activity"]}
    assert not {one["role"] for one in activity.values()} & {"cpu-run", "cpu-wait"}
    assert activity["running_threads"]["solo"]["block_mean"] < 0.5
    assert summary["tenants"]["fft"]["activity"]
