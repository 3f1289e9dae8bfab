"""Whether a reader is told that calls of a program were not kept, and p99s that they could move are refused."""

from __future__ import annotations

import msgspec
import numpy as np
from tests.helpers_stats import SHARED, Array, FakeRun, make_plan, make_run

from kts.model.summary import Summary
from kts.stats import analyse


def slower(name: str, side: str, _: int) -> tuple[Array, Array]:
    del name
    values = np.random.default_rng(1).normal(3.6, 0.02, 400) * (1.5 if side == SHARED else 1.0)
    return values, values * 0.9


def analysed(events_lost: int, lost: int) -> Summary:
    """Of a run whose tenant fft lost these in each block."""
    run: FakeRun = make_run(make_plan(rounds=10), slower)
    run.blocks = [
        msgspec.structs.replace(block, events_lost={"fft": events_lost}, lost={"fft": lost}) for block in run.blocks
    ]
    return analyse(run).summary


def texts(summary: Summary, tenant: str) -> list[str]:
    return [w.text for w in summary.warnings if w.code == "trace-lost" and w.tenant == tenant]


def test_lost_calls_that_iterations_are_made_of_leave_no_p99() -> None:
    summary = analysed(events_lost=300, lost=20)
    (text,) = texts(summary, "fft")
    assert text.startswith("fft: calls to the GPU that were seen and not kept: 3000 solo, 3000 shared: 400 iterations")
    assert "slowest may be among" in text
    fft = summary.tenants["fft"]
    assert fft.verdict.kind == "refused"
    assert "could not be read" in str(fft.response.shared.p99.refused)
    assert texts(summary, "gemm") == []
    assert summary.tenants["gemm"].verdict.kind == "worse"


def test_lost_calls_beside_iterations_that_are_told_otherwise_leave_their_times() -> None:
    summary = analysed(events_lost=300, lost=0)
    (text,) = texts(summary, "fft")
    assert text.endswith("its iterations are told without these calls, and their launches and waits may be too few.")
    assert summary.tenants["fft"].verdict.kind == "worse"


def test_nothing_lost_is_nothing_said() -> None:
    assert texts(analysed(events_lost=0, lost=0), "fft") == []
