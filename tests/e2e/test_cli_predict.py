"""From nothing to a scored prediction on a CPU core: probe, profile, run, predict, validate.

Bars are looser than a GPU's (docs/physics.md): other programs run on the core, and Linux goes round less strictly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.helpers_cli import errors, kts

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

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
TRIES = 3


@pytest.mark.timeout(600)
def test_a_mix_on_a_cpu_core_is_predicted_from_its_tenants_alone(tmp_path: Path) -> None:
    """Else one part's files do not fit the next one's, or the model is none of what is measured.

    All tenants always have work: the mean of each must come out within 25 %, the p99 too (median), and both better
    than by N times solo or by no change. Whoever else computes on the core meanwhile moves what is measured, and no
    model can know that: so the core gets three tries. A model that is wrong is wrong in all of them.
    """
    missed = []
    for attempt in range(TRIES):
        response = _scored(tmp_path / str(attempt))
        mine, simple = response["prediction"], [response[rule]["p99"]["median"] for rule in ("df-1", "n-times-solo")]
        assert mine["mean"]["n"] == 9
        mean, tail = mine["mean"]["mean"], mine["p99"]["median"]
        if mean < MEAN_BAR and tail < min(TAIL_BAR, *simple):
            return
        missed.append(f"mean {mean:.3f}, p99 {tail:.3f}, simple rules {simple}")
    pytest.fail("; ".join(missed))


def _scored(folder: Path) -> Any:
    """The errors on the response clock, of the prediction and of the simple rules; measured anew, into ``folder``."""
    folder.mkdir()
    (folder / "x.yaml").write_text(SATURATING, encoding="utf-8")
    sources = ("--profiles", "profiles", "--from-run", "run", "--fingerprint", "fingerprint.json")
    steps = (
        ("probe", "--device", "cpu", "--out", "fingerprint.json", "--anyway"),
        ("profile", "x.yaml", "--seconds", "1.5", "--out", "profiles"),
        ("run", "x.yaml", "--out", "run", "--no-figures", "--no-telemetry"),
        ("predict", *sources, "--out", "p.json"),
        ("validate", "p.json", "run", "--json"),
    )
    for step in steps:
        done = kts(*step, cwd=folder)
        assert done.returncode == 0, f"{step[0]}: {errors(done)}"
    told = json.loads(done.stdout)
    assert any("not calibrated" in note or "model itself" in note for note in told["notes"])
    return told["errors"]["response"]
