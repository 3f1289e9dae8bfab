"""From nothing to a scored prediction on a CPU core: probe, profile, run, predict, validate.

Bars are looser than a GPU's (docs/physics.md): other programs run on the core, and Linux goes round less strictly.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.helpers_cli import errors, kts

pytestmark = pytest.mark.e2e

SATURATING = """\
rounds: 3
precision: null
device: cpu
library: numpy
mixes: pairs
tenants:
  long: {workload: fft, size: 640, seconds: 3}
  middle: {workload: gemm, size: 384, seconds: 3}
  short: {workload: fft, size: 320, seconds: 3}
"""
MEAN_BAR = 0.25
TAIL_BAR = 0.25


def test_a_mix_on_a_cpu_core_is_predicted_from_its_tenants_alone(tmp_path: Path) -> None:
    """Else one part's files do not fit the next one's, or the model is none of what is measured.

    All tenants always have work: the mean of each must come out within 25 %, the p99 too (median), and both better than
    by N times solo or by no change.
    """
    (tmp_path / "x.yaml").write_text(SATURATING, encoding="utf-8")
    steps = (
        ("probe", "--device", "cpu", "--out", "fingerprint.json", "--anyway"),
        ("profile", "x.yaml", "--seconds", "1.5", "--out", "profiles"),
        ("run", "x.yaml", "--out", "run", "--no-figures", "--no-telemetry"),
        (
            "predict",
            "--profiles",
            "profiles",
            "--from-run",
            "run",
            "--fingerprint",
            "fingerprint.json",
            "--out",
            "p.json",
        ),
        ("validate", "p.json", "run", "--json"),
    )
    for step in steps:
        done = kts(*step, cwd=tmp_path)
        assert done.returncode == 0, f"{step[0]}: {errors(done)}"
    found = json.loads(done.stdout)
    response = found["errors"]["response"]
    mine = response["prediction"]
    assert mine["mean"]["n"] == 9
    assert mine["mean"]["mean"] < MEAN_BAR
    assert mine["p99"]["median"] < TAIL_BAR
    for rule in ("df-1", "n-times-solo"):
        assert mine["p99"]["median"] < response[rule]["p99"]["median"]
    assert any("not calibrated" in note or "model itself" in note for note in found["notes"])
