"""`kts run --modes` as a user calls it: the same tenants in several modes, in turns, by real processes."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
from tests.helpers_cli import errors, kts

pytestmark = pytest.mark.e2e

EXPERIMENT = """\
name: two
device: cpu
rounds: 3
precision: null
tenants:
  fft: {workload: fft, size: 48, think_ms: 0.5, iterations: 450, slo: {p99_ms: 5000}}
  gemm: {workload: gemm, size: 48, think_ms: 0.5, iterations: 450}
"""


def test_modes_are_measured_in_turns_and_each_is_reported_by_itself(tmp_path: Path) -> None:
    """The way from the option to the choice. A CPU core has no mode of a GPU: here stand its scheduler under two
    names, and threads of one process."""
    (tmp_path / "two.yaml").write_text(EXPERIMENT)
    modes = "exclusive,a=cpu-scheduler,b=cpu-scheduler,streams"
    done = kts("run", "two.yaml", "--modes", modes, "--try-isolation", "--out", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [one["mode"]["name"] for one in told["modes"]] == ["exclusive", "a", "b", "streams"]
    assert [one["proves"] for one in told["modes"]] == [True] * 4
    assert not told["is_gpu"]
    assert "not a GPU" in told["device"]
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    by_round = [sorted(block["condition"] for block in run["blocks"] if block["round"] == k) for k in range(3)]
    shared = ["shared-fft+gemm", "shared-fft+gemm@b", "shared-fft+gemm@streams"]
    assert by_round == [[*shared, "solo-fft", "solo-gemm"]] * 3
    pids = {worker["tenant"]: worker["pid"] for worker in run["workers"]}
    assert pids["fft@streams"] == pids["gemm@streams"]
    assert len(pids) == 6
    assert len(set(pids.values())) == 5
    alone = [one["tenants"]["fft"]["alone_p99"] for one in told["modes"]]
    assert alone[0] == alone[1] == alone[2]
    assert told["modes"][0]["tenants"]["fft"]["df99"]["estimate"] == 1
    for name in ("a", "b", "streams"):
        single = json.loads((tmp_path / "run" / "modes" / name / "summary.json").read_text())
        assert single["mode"] == ("streams" if name == "streams" else "cpu-scheduler")
        assert set(single["tenants"]) == {"fft", "gemm"}
        assert "shared" in (tmp_path / "run" / "modes" / name / "report.html").read_text()
    again = kts("report", "run", "--no-figures", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == told
    picture = tmp_path / "run" / "plots" / "modes.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    tried = {name: [one["others"] for one in trials] for name, trials in told["machine"]["trials"].items()}
    assert tried.pop("streams") == ["not-tried"] * 3
    assert tried == {name: ["go-on", "not-tried", "go-on"] for name in "ab"}, "the kernel keeps processes apart"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "others go on" in page
    assert "which way to share" in page
    assert told["choice"]["reason"][1:] in html.unescape(page)
    chosen = kts("choose", "run", "--slo", "gemm.p99=5000", "--json", cwd=tmp_path)
    assert chosen.returncode == 0, chosen.stderr
    found = json.loads(chosen.stdout)
    assert found["basis"] == "measured"
    assert found["modes"]["choice"]["reason"].startswith("it keeps every SLO, and")
    assert found["modes"]["modes"][0]["tenants"]["gemm"]["slo_ms"] == 5000


def test_an_experiment_is_measured_before_a_mode_of_it_is_chosen(tmp_path: Path) -> None:
    """The way from an experiment to a choice by one command; which modes it measured, it says."""
    (tmp_path / "two.yaml").write_text(EXPERIMENT.replace("450", "60").replace("p99_ms: 5000", "deadline_ms: 5000"))
    done = kts("choose", "two.yaml", "--device", "cpu", "--out", "run", "--no-figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "measuring in exclusive,cpu-scheduler" in done.stderr
    text = " ".join(done.stdout.split())
    assert "Best: " in text
    assert "No tenant has an SLO" in text
    assert (tmp_path / "run" / "modes.json").exists()


def test_a_mode_that_this_device_does_not_have_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(EXPERIMENT)
    done = kts("run", "two.yaml", "--modes", "exclusive,mps", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert errors(done) == ["--modes: mps on the device cpu: a CPU core is shared by the kernel's scheduler alone"]
    assert not (tmp_path / "run").exists()
