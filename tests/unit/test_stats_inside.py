"""Threads of one process that stand still for each other: how much that is, and what it makes of a tail."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

from kts.model.mode import STREAMS, Evidence
from kts.model.records import CPU_TIMES, NOT_TOLD, Records, record_dtype
from kts.plan import in_modes
from kts.sharing import parse
from kts.stats import analyse
from kts.stats.choosing import modes_summary
from kts.stats.inside import stood_still
from kts.stats.modes import views

MS = 1e6


def with_cpu(records: Records, cpu_ms: Array, wait_ms: Array) -> Records:
    found = np.zeros(len(records), record_dtype(CPU_TIMES))
    for name in records.dtype.names or ():
        found[name] = records[name]
    found["cpu_ns"], found["cpu_wait_ns"] = cpu_ms * MS, wait_ms * MS
    return found


def run_of(still: dict[str, float], *, asleep_alone: float = 0.0, waits: bool = True) -> FakeRun:
    """Iterations of 10 ms on the core; each waits 1 ms for it, and stands still so long, ms, in the mix."""
    plan = in_modes(make_plan(rounds=6), parse("streams"))
    rng = np.random.default_rng(5)

    def times(tenant: str, side: str, _: int) -> tuple[Array, Array | None]:
        more = still[tenant.partition("@")[0]] if side != "solo" else asleep_alone
        return 11 + more * rng.uniform(0.9, 1.1, 100), None

    run = make_run(plan, times)
    for (tenant, block), records in run.data.items():
        service_ms = (records["retire_ns"] - records["submit_ns"]) / MS
        wait_ms = np.full(len(records), 1.0 if waits else NOT_TOLD / MS)
        side_still = service_ms - 11
        run.data[tenant, block] = with_cpu(records, service_ms - 1 - side_still, wait_ms)
    evidence: Any = (Evidence(mode=STREAMS, seen="x", by="t", at_ns=1),)
    workers = tuple(msgspec.structs.replace(worker, sharing=evidence, pid=7) for worker in run.info.workers)
    run.info = msgspec.structs.replace(run.info, workers=workers)
    return run


def test_a_tenant_that_stands_still_is_named_with_its_tail_without_it() -> None:
    """Else what Python's lock costs would be taken for what sharing the GPU costs."""
    found = stood_still(views(run_of({"fft": 4.0, "gemm": 0.1}))["streams"])
    assert found["fft"].share == pytest.approx(4 / 15, abs=0.01)
    assert "its p99 would be 11 ms, not 15.4 ms" in found["fft"].doubt
    assert found["gemm"].share == pytest.approx(0.1 / 11.1, abs=0.002)
    assert not found["gemm"].doubt


def test_the_mode_has_it_in_its_data_and_among_its_doubts() -> None:
    """Else only a reader of the code would know of it."""
    run = run_of({"fft": 4.0, "gemm": 0.1})
    summary = modes_summary(run, {name: analyse(view).summary for name, view in views(run).items()})
    streams = summary.mode("streams")
    assert streams.tenants["fft"].stood_still == pytest.approx(4 / 15, abs=0.01)
    assert [text for text in streams.doubts if "stood still" in text and text.startswith("fft:")]


@pytest.mark.parametrize("case", ["asleep alone", "no waits told", "no telemetry"])
def test_nothing_is_told_where_nothing_can_be(case: str) -> None:
    """Else a thread that sleeps while the GPU computes would be said to wait for a lock."""
    run = run_of({"fft": 4.0, "gemm": 4.0}, asleep_alone=3.0 if case == "asleep alone" else 0.0, waits=case[:2] != "no")
    if case == "no telemetry":
        run.data = {key: records[list(records.dtype.names or ())[:5]].copy() for key, records in run.data.items()}
    assert stood_still(views(run)["streams"]) == {}
