"""The published system's input gives the published system's figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.helpers_cli import kts
from tests.helpers_store import PUBLISHED_MS, reference_logs

pytestmark = pytest.mark.e2e

PUBLISHED_DF = {"fft": {"p95": 1.61, "p99": 1.66}, "gemm": {"p95": 1.17, "p99": 1.18}}


@pytest.mark.parametrize("seed", [1, 2])
def test_logs_in_the_reference_style_give_its_quantiles_and_its_df(tmp_path: Path, seed: int) -> None:
    """Else nobody could move from the published analysis to this one and find the same numbers."""
    values = reference_logs(tmp_path / "run-1", seed=seed)
    done = kts("report", tmp_path / "run-1", "--out", tmp_path / "report", "--no-figures", "--json")
    assert done.returncode == 0, done.stderr
    tenants = json.loads(done.stdout)["tenants"]
    for (app, condition), milliseconds in values.items():
        figures = tenants[app]["reference"][condition]
        for p, published in zip((50, 95, 99), PUBLISHED_MS[app, condition], strict=True):
            assert figures[f"p{p}"] == pytest.approx(np.percentile(milliseconds, p), rel=1e-9)
            assert figures[f"p{p}"] == pytest.approx(published, rel=1e-3)
        assert figures["throughput"] == pytest.approx(1000 / milliseconds.mean(), rel=1e-9)
        assert figures["jitter"] == pytest.approx(
            PUBLISHED_MS[app, condition][2] / PUBLISHED_MS[app, condition][0], rel=2e-3
        )
    for app, ratios in PUBLISHED_DF.items():
        for p, published in ratios.items():
            assert tenants[app]["reference"]["df"][p] == pytest.approx(published, rel=5e-3)
        shared = tenants[app]["device"]["shared"]["p99"]
        assert shared["lo"] <= shared["estimate"] <= shared["hi"]
    # fft ends long before gemm: what gemm did after that was solo, and the headline must not count it as shared
    assert tenants["gemm"]["overlap"]["dropped"] > 200
