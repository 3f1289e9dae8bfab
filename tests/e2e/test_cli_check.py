"""`kts check --pair` as a user calls it: two versions measured in turns by real processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.helpers_cli import errors, kts, kts_here, start

pytestmark = pytest.mark.e2e

EXPERIMENT = """\
name: {name}
device: cpu
max_seconds: 60
tenants:
  fft: {{workload: fft, target_ms: 0.5, think_ms: 1}}
  gemm: {{workload: gemm, size: {size}, think_ms: 1}}
"""


def versions(folder: Path, size: int = 48) -> tuple[Path, Path]:
    for name, edge in (("old", 48), ("new", size)):
        (folder / f"{name}.yaml").write_text(EXPERIMENT.format(name=name, size=edge))
    return folder / "old.yaml", folder / "new.yaml"


def test_a_version_whose_work_is_many_times_as_long_fails_and_the_run_keeps_why(tmp_path: Path) -> None:
    """The plan, the rule that ends the run, the answer, its code, and the same from the records afterwards."""
    old, new = versions(tmp_path, size=256)
    done = kts("check", "--pair", old, new, "--out", tmp_path / "run", "--junit", tmp_path / "j.xml", "--json")
    assert done.returncode == 8, done.stderr
    gate = json.loads(done.stdout)
    assert gate["judgement"] == "fail"
    by_tenant = {one["tenant"]: one for one in gate["criteria"]}
    assert by_tenant["gemm"]["judgement"] == "fail"
    ratio = by_tenant["gemm"]["measured"]
    least = ratio["lo"] or by_tenant["gemm"]["why"].removeprefix("B / A is at least ")  # few iterations have no most
    assert float(least) > 1.05, by_tenant["gemm"]
    assert gate["measured_s"] < 60, "it goes on though it is decided"
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["outcome"]["kind"] == "complete"
    sizes = {one["name"]: one["work"]["size"] for one in run["plan"]["tenants"]}
    assert sizes["fft-a"] == sizes["fft-b"], "two calibrations are two programs"
    assert "worse than tolerated" in (tmp_path / "j.xml").read_text()
    again = kts("check", tmp_path / "run", "--json")
    assert (again.returncode, json.loads(again.stdout)["criteria"]) == (8, gate["criteria"])
    assert kts("report", tmp_path / "run").returncode == 0
    assert json.loads((tmp_path / "run" / "gate.json").read_text())["judgement"] == "fail"
    assert "shared p99" in (tmp_path / "run" / "report.html").read_text()


def test_stopped_by_the_user_it_is_inconclusive_and_keeps_what_was_measured(tmp_path: Path) -> None:
    process = start("check", "--pair", *versions(tmp_path), "--out", tmp_path / "run")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("measuring: round 1"):
            break
    os.kill(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=180)
    assert process.returncode == 130, said
    assert "inconclusive: fft, gemm: not decided" in out
    assert "error: stopped by the user" in said
    assert (tmp_path / "run" / "records.parquet").exists()
    assert kts("check", tmp_path / "run").returncode == 9


@pytest.mark.parametrize(
    ("change", "code", "what"),
    [
        (("gemm:", "other:"), 2, "A and B do not have the same tenants: fft, gemm against fft, other"),
        (("size: 48", "size: no"), 3, "new.yaml:6: tenants.gemm.size"),
        (("device: cpu", "device: cuda"), 2, "A asks for device cpu, B for cuda"),
    ],
)
def test_what_is_no_version_of_the_other_is_refused_before_anything_is_measured(
    tmp_path: Path, change: tuple[str, str], code: int, what: str
) -> None:
    old, new = versions(tmp_path)
    new.write_text(new.read_text().replace(*change))
    done = kts_here("check", "--pair", old, new, "--out", tmp_path / "run")
    assert done.returncode == code
    assert errors(done)[0].replace(f"{tmp_path}/", "").startswith(what)
    assert not (tmp_path / "run").exists()
