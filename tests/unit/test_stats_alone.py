"""A solo that had to wait for its core is no baseline."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from tests.helpers_stats import SHARED, Array, Latencies, make_plan, make_run
from tests.helpers_telemetry import series

from kts.model.summary import Activity, ActivityMean, ActivityRole, Summary
from kts.stats import analyse
from kts.stats.alone import contended

PLAN = make_plan(rounds=10)
SPAN_NS = 10_000_000


def solo_means(**roles: float | None) -> tuple[Activity, ...]:
    """What the scheduler told of solo blocks: share of the time by role (``cpu_run``, ``cpu_wait``)."""
    none = ActivityMean(mean=None, block_mean=None, samples=0, covered=0.0)
    return tuple(
        Activity(
            metric=f"{name}_ratio",
            source="schedstat",
            scope="tenant",
            unit="ratio",
            role=_role(name),
            solo=msgspec.structs.replace(none, block_mean=share),
            shared=none,
        )
        for name, share in roles.items()
    )


def _role(name: str) -> ActivityRole:
    return "cpu-run" if name == "cpu_run" else "cpu-wait"


@pytest.mark.parametrize(
    ("ran", "waited", "expected"),
    [
        (0.59, 0.41, 0.41),
        (0.20, 0.05, 0.20),
        (0.95, 0.04, None),  # little of the time that it wanted
        (0.001, 0.002, None),  # hardly any time at all
        (None, 0.5, None),
        (0.5, None, None),
    ],
)
def test_waiting_alone_is_measured_against_what_the_thread_wanted(
    ran: float | None, waited: float | None, expected: float | None
) -> None:
    """Else a tenant that mostly sleeps looks alone while another takes half of its core."""
    share = contended(solo_means(cpu_run=ran, cpu_wait=waited))
    assert share == (None if expected is None else pytest.approx(expected))


def test_a_kernel_that_tells_nothing_accuses_nobody() -> None:
    """Else every run without telemetry would be called contended."""
    assert contended(()) is None


def steady(shared_factor: float) -> Latencies:
    """Both tenants take 3.6 ms alone, and so many times that when shared."""
    rng = np.random.default_rng(1)

    def draw(name: str, side: str, _: int) -> tuple[Array, Array]:
        del name
        values = rng.normal(3.6, 0.02, 400) * (shared_factor if side == SHARED else 1.0)
        return values, values * 0.9

    return draw


def analysed(shared_factor: float, ran: float, waited: float) -> Summary:
    """Of a run in which the scheduler told the same of all blocks."""
    run = make_run(PLAN, steady(shared_factor))
    end_ns = max(block.end_ns for block in run.blocks)
    times_ns = range(run.blocks[0].start_ns, end_ns, SPAN_NS)
    told = [
        series(
            [(t_ns, SPAN_NS, value) for t_ns in times_ns],
            source="schedstat",
            metric=metric,
            scope="tenant",
            subject=tenant.name,
        )
        for tenant in PLAN.tenants
        for metric, value in (("cpu_run_ratio", ran), ("cpu_wait_ratio", waited))
    ]
    run.samples = told
    return analyse(run).summary


def codes(summary: Summary) -> Sequence[str]:
    return [caution.code for caution in summary.warnings]


def test_no_change_against_a_contended_solo_is_not_known() -> None:
    """Else a busy machine would acquit every neighbour: alone was as bad as shared."""
    quiet, busy = analysed(1.0, ran=0.9, waited=0.001), analysed(1.0, ran=0.59, waited=0.41)
    assert quiet.tenants["fft"].verdict.kind == "no-change"
    assert "solo-not-alone" not in codes(quiet)
    verdict = busy.tenants["fft"].verdict
    assert (verdict.kind, verdict.relevant) == ("undetermined", None)
    assert "not alone in its solo blocks" in verdict.sentence
    assert "41 %" in verdict.sentence
    assert "more rounds would decide" not in verdict.sentence
    assert "solo-not-alone" in codes(busy)


def test_worse_stays_worse_and_says_against_what() -> None:
    """Else harm that shows even against a contended baseline would be lost."""
    verdict = analysed(1.5, ran=0.59, waited=0.41).tenants["fft"].verdict
    assert verdict.kind == "worse"
    assert "not alone in its solo blocks" in verdict.sentence
