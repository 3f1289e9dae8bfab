"""A solo that had to wait for its core is no baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest
from tests.helpers_stats import SHARED, SOLO, Array, FakeRun, Latencies, make_plan, make_run
from tests.helpers_telemetry import series

from kts.model.checks import Check
from kts.model.records import record_dtype
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


def waited(side: str, wait_ms: float, *, kind: str = "cpu", every: int = 25, rounds: int = 10) -> FakeRun:
    """Two tenants of 3.6 ms. On one side every so many-th iteration also waits so long for its core, by its record."""

    def draw(name: str, here: str, number: int) -> tuple[Array, Array]:
        values = np.random.default_rng([number, len(name), len(here)]).normal(3.6, 0.02, 400)
        return values + np.where(_slow(here), wait_ms, 0.0), values * 0.99

    def _slow(here: str) -> Array:
        return (np.arange(400) % every == 0) & (here == side)

    made = make_run(make_plan(rounds=rounds), draw, kind=kind)
    for (name, index), rows in made.data.items():
        told = np.zeros(len(rows), record_dtype(("cpu_ns", "cpu_wait_ns")))
        for column in rows.dtype.names or ():
            told[column] = rows[column]
        here = SHARED if "+" in made.blocks[index].condition else SOLO
        told["cpu_ns"] = 3_500_000
        told["cpu_wait_ns"] = np.where(_slow(here), wait_ms * 1e6, 0)
        made.data[name, index] = told
    return made


def alone_check(run: FakeRun, tenant: str = "fft") -> Check:
    return next(one for one in analyse(run).summary.checks or () if (one.code, one.tenant) == ("alone", tenant))


def test_a_tail_alone_that_is_waits_for_a_core_is_no_baseline() -> None:
    """4 % of iterations wait 9 ms: a tenth of the time at most, and all of p99. Else sharing seems to cost less than it
    does, or nothing."""
    run = waited(SOLO, 9.0)
    one = alone_check(run)
    assert (one.outcome, one.lowers, one.caution) == ("failed", True, "solo-not-alone")
    assert one.off == pytest.approx(12.6 / 3.65 - 1, abs=0.03)
    assert "its p99 alone would be 3.65 ms, not 12.6 ms" in one.text
    assert one.figure == "246 % of p99"
    verdict = analyse(run).summary.tenants["fft"].verdict
    assert verdict.kind == "undetermined"
    assert "without its thread's waits for a core" in verdict.sentence


@pytest.mark.parametrize(
    "run",
    [
        lambda: waited(SOLO, 9.0, every=200),  # in half a percent of iterations: beyond p99
        lambda: waited(SOLO, 0.1),  # 2 % of its p99
        lambda: waited(SHARED, 9.0),  # in company: a matter of causes
        lambda: waited(SOLO, 0.0, kind="cuda"),
    ],
    ids=["rare", "short", "in company", "GPU"],
)
def test_waits_that_move_no_tail_alone_are_no_fault(run: Callable[[], FakeRun]) -> None:
    """Else no run of a machine that does anything besides would pass."""
    one = alone_check(run())
    assert one.outcome == "passed"
    assert "of its p99 (at most 5 %)" in one.text


def test_beside_a_gpu_a_wait_behind_its_work_costs_nothing() -> None:
    """The thread waits for a core while the GPU works: the iteration takes no longer."""
    run = waited(SOLO, 0.0, kind="cuda")
    for rows in run.data.values():
        rows["cpu_wait_ns"] = 2_000_000
    assert alone_check(run).outcome == "passed"


def test_waits_alone_are_held_against_the_asked_precision() -> None:
    """2 % of p99 are too much where 1 % is to be told."""
    run = waited(SOLO, 0.1)
    run.info = msgspec.structs.replace(run.info, plan=msgspec.structs.replace(run.info.plan, precision=0.01))
    assert alone_check(run).outcome == "failed"


def test_less_waiting_than_alone_is_told_as_that() -> None:
    """Else time that a disturbed solo took is left unexplained, below 0."""
    (house,) = analyse(waited(SOLO, 9.0)).summary.tenants["fft"].causes or ()
    (tail,) = (of for of in house.of if of.statistic == "p99")
    assert {part.cause: round(part.ms, 1) for part in tail.parts} == {"core": -9.0, "unexplained": 0.0}
    assert house.first("p99") is None, "and is no cause of what was added"
