"""If these fail, an error of the GPU is called a neighbour's turn, or is blamed for what was slow without it."""

from __future__ import annotations

import numpy as np
import pytest
from tests.helpers_stats import Array, FakeRun, make_plan, make_run
from tests.helpers_telemetry import series

from kts.model.causes import Causes, Decomposition
from kts.model.telemetry import SampleSeries
from kts.stats import analyse

MS = 1_000_000
N, OFTEN, STALL_MS, LOOK_MS = 200, 4, 50.0, 100.0
"""Iterations of a block; how many of them an error meets, how long it stops these; every so often NVML is asked."""


def stalled() -> FakeRun:
    """fft takes 3.7 ms, with gemm 1 ms more; in company every 50th iteration stands still."""

    def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        rng = np.random.default_rng([number, len(tenant), len(side)])
        if tenant == "gemm":
            return np.full(20, 70.0 if side == "shared" else 10.0), np.full(20, 9.9)
        device = 3.6 * rng.lognormal(0, 0.005, N)
        if side == "shared":
            device += rng.exponential(1.0, N)
            device[:: N // OFTEN] += STALL_MS
        return device + 0.1, device

    return make_run(make_plan(rounds=6), latencies)


def errors(run: FakeRun, every: int, first: int, side: str) -> SampleSeries:
    """NVML's word of Xid 31, at the first look after every so many-th iteration of fft has ended."""
    blocks = [block for block in run.blocks if block.condition.startswith(side) and "fft" in block.condition]
    ends = [int(ns) for block in blocks for ns in run.data["fft", block.index]["retire_ns"][first::every]]
    look_ns = int(LOOK_MS * MS)
    samples = [(ns // look_ns * look_ns + look_ns, look_ns, 31.0) for ns in ends]
    return series(samples, source="nvml-xid", metric="xid_code", subject="x")


def told(run: FakeRun, statistic: str) -> Decomposition:
    causes = analyse(run).summary.tenants["fft"].causes
    assert isinstance(causes, tuple)
    (of,) = (one for one in last(causes).of if one.statistic == statistic)
    assert sum(part.ms for part in of.parts) == pytest.approx(of.added_ms)
    return of


def last(causes: tuple[Causes, ...]) -> Causes:
    return causes[-1]


@pytest.mark.parametrize("statistic", ["mean", "p99"])
def test_iterations_that_met_an_error_of_the_gpu_are_told_to_have(statistic: str) -> None:
    """Else 50 ms in which the GPU recovered would be gemm's, who was in flight meanwhile."""
    run = stalled()
    assert "xid" not in {part.cause for part in told(run, statistic).parts}
    run.samples = [errors(run, N // OFTEN, 0, "shared")]
    (xid,) = (part for part in told(run, statistic).parts if part.cause == "xid")
    assert xid.ms == pytest.approx(STALL_MS * OFTEN / N if statistic == "mean" else STALL_MS, rel=0.15)
    assert xid.lo is not None
    assert xid.lo > 0
    assert xid.data == "Xid 31: 25 that met it took 48.2 ms longer than others; alone 0 did"
    assert not xid.by


@pytest.mark.parametrize(("every", "first", "side"), [(50, 25, "shared"), (17, 5, "shared"), (50, 0, "solo")])
@pytest.mark.parametrize("statistic", ["mean", "p99"])
def test_errors_at_other_times_are_no_cause(statistic: str, every: int, first: int, side: str) -> None:
    """Else whatever is slow in a run with an error would be the error's."""
    run = stalled()
    run.samples = [errors(run, every, first, side)]
    assert "xid" not in {part.cause for part in told(run, statistic).parts}
