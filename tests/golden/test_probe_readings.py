"""What the probe saw on two real H200s, and the fingerprints made of it then. Golden: read changes like code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tests.helpers_cli import kts_here

KEPT = Path(__file__).parents[2] / "examples" / "fingerprints"


@pytest.mark.parametrize("name", ["h200-1", "h200-2"])
def test_the_same_readings_give_the_same_fingerprint(name: str, tmp_path: Path) -> None:
    """Else a change of the analysis could move every prediction unseen."""
    done = kts_here("probe", "--from", KEPT / f"{name}.readings.json", "--out", tmp_path / "fingerprint.json")
    assert done.returncode == 0, done.stderr
    made, kept = (json.loads(path.read_text()) for path in (tmp_path / "fingerprint.json", KEPT / f"{name}.json"))
    (seen,) = made.pop("provenance")["made_from"]
    assert seen["sha256"] == hashlib.sha256((KEPT / f"{name}.readings.json").read_bytes()).hexdigest()
    kept.pop("provenance", None)
    assert made == kept


def test_two_machines_agree_about_the_slice() -> None:
    """Else one machine's fingerprint would say nothing about another of its kind."""
    first, second = (json.loads((KEPT / f"h200-{i}.json").read_text()) for i in (1, 2))
    assert first["gpu"]["uuid"] != second["gpu"]["uuid"]
    assert first["slice_ms"]["value"] == pytest.approx(second["slice_ms"]["value"], rel=0.02)
    assert first["preempt_ms"][0]["value"] == pytest.approx(second["preempt_ms"][0]["value"], rel=0.02)
