"""Telemetry joined to iterations, against means computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from msgspec import UNSET
from tests.helpers_stats import make_info, make_plan, make_run
from tests.helpers_telemetry import MS, UUID, S, series

from kts.model.plan import Program
from kts.model.run import BlockOutcome, DeviceInfo, RunInfo, WorkerInfo
from kts.model.summary import Activity
from kts.model.telemetry import SampleSeries, SourceState
from kts.stats import analyse
from kts.stats.activity import HOLD_NS, Busy, Join, traces
from kts.stats.series import Side

PLAN = make_plan(rounds=1)
GPU = DeviceInfo(kind="cuda", uuid=UUID, name="GPU", label="GPU", library="torch")
FFT = PLAN.tenants[0].name
OTHER = PLAN.tenants[1].name


def info(uuid: str = UUID) -> RunInfo:
    """Both tenants on the device of the samples."""
    of = make_info(PLAN, [])
    device = msgspec.structs.replace(GPU, uuid=uuid)
    workers = tuple(WorkerInfo(tenant=t.name, pid=1, hostname="h", device=device) for t in PLAN.tenants)
    return msgspec.structs.replace(of, workers=workers)


def block(index: int = 0, start_ms: int = 1000, end_ms: int = 2000) -> BlockOutcome:
    """A block of one second."""
    return BlockOutcome(
        index=index,
        round=0,
        condition=PLAN.conditions[0].name,
        start_ns=start_ms * MS,
        end_ns=end_ms * MS,
        valid=True,
    )


def joined(
    found: Sequence[SampleSeries],
    iterations_ms: Sequence[tuple[float, float]],
    of: BlockOutcome | None = None,
    side: Side = "solo",
    *,
    uuid: str = UUID,
) -> tuple[Activity, ...]:
    """The activity of the first tenant after one block with these iterations (submit, retire)."""
    join = Join(found, info(uuid))
    submit, retire = (np.array(column) for column in zip(*iterations_ms, strict=True))
    join.add(FFT, of or block(), side, (submit * MS).astype(np.int64), (retire * MS).astype(np.int64))
    return join.activity(FFT)


def test_spans_are_weighted_with_the_time_of_the_iterations_they_overlap() -> None:
    """Else a sample taken while the tenant slept would count as much as one taken while it worked."""
    samples = series([(1200 * MS, 200 * MS, 0.2), (1400 * MS, 200 * MS, 0.8)])
    (found,) = joined([samples], [(1100, 1150), (1200, 1350)])
    assert found.solo.mean == pytest.approx((50 * 0.2 + 150 * 0.8) / 200)
    assert found.solo.block_mean == pytest.approx(0.5)
    assert (found.solo.samples, found.solo.covered) == (2, 1.0)
    assert found.shared.mean is None
    (of_block,) = found.blocks
    assert (of_block.block, of_block.samples) == (0, 2)
    assert of_block.mean == pytest.approx(0.65)


def test_momentary_values_hold_until_the_next_but_not_for_ever() -> None:
    """Else the last clock before a gap would stand for the gap."""
    samples = series(
        [(1000 * MS, 0, 100.0), (1100 * MS, 0, 200.0), (1900 * MS, 0, 300.0)], source="nvml", metric="sm_clock_mhz"
    )
    (found,) = joined([samples], [(1000, 2000)])
    hold_ms = HOLD_NS // MS
    covered = 100 + hold_ms + 100
    assert found.solo.mean == pytest.approx((100 * 100 + hold_ms * 200 + 100 * 300) / covered)
    assert found.solo.covered == pytest.approx(covered / 1000)
    assert found.unit == "MHz"


@pytest.mark.parametrize(
    ("t_ms", "span_ms", "counts"),
    [
        (1100, 200, True),
        (1099, 200, False),
        (2100, 200, True),
        (2101, 200, False),
        (2500, 30_000, False),
        (2200, 1400, True),
    ],
)
def test_a_sample_counts_where_most_of_its_span_lies(t_ms: int, span_ms: int, counts: bool) -> None:
    """Else a mean over half a minute, or mostly of the block before, would be this block's activity."""
    found = joined([series([(t_ms * MS, span_ms * MS, 0.7)])], [(1000, 2000)])
    assert bool(found) == counts


@pytest.mark.parametrize(("t_ms", "counts"), [(999, False), (1000, True), (1999, True), (2000, False)])
def test_a_momentary_value_counts_in_the_block_in_which_it_was_read(t_ms: int, counts: bool) -> None:
    """Else the clock of the block before would be counted in this one."""
    found = joined([series([(t_ms * MS, 0, 0.7)], source="nvml", metric="gpu_busy_ratio")], [(1000, 2000)])
    assert bool(found) == counts


def test_samples_of_another_device_or_tenant_are_not_this_tenants() -> None:
    """Else a tenant on another GPU, or the neighbour's wait, would be reported for this one."""
    device = series([(1200 * MS, 200 * MS, 0.5)])
    other = series(
        [(1200 * MS, 200 * MS, 0.5)], source="schedstat", metric="cpu_wait_ratio", scope="tenant", subject=OTHER
    )
    own = series([(1200 * MS, 200 * MS, 0.5)], source="schedstat", metric="cpu_wait_ratio", scope="tenant", subject=FFT)
    assert joined([device, other], [(1000, 2000)], uuid="GPU-else") == ()
    assert [a.role for a in joined([device, other, own], [(1000, 2000)])] == ["sm", "cpu-wait"]


def on_its_core(*choices: tuple[str, str]) -> list[SampleSeries]:
    """Of the first tenant; each (source, metric)."""
    return [
        series([(1200 * MS, 200 * MS, 0.5)], source=source, metric=metric, scope="tenant", subject=FFT)
        for source, metric in choices
    ]


def test_what_the_host_tells_of_a_tenant_of_ours_is_its_use_of_the_core_unless_the_run_is_older() -> None:
    """Else an older run's figures would change, or a newer run would not say whether its tenants waited."""
    new = on_its_core(("host", "waiting_threads"), ("host", "running_threads"))
    old = on_its_core(("schedstat", "cpu_wait_ratio"), ("schedstat", "cpu_run_ratio"))
    for found, source in ((new, "host"), (new + old, "schedstat")):
        told = {a.role: a.source for a in joined(found, [(1000, 2000)]) if a.role}
        assert told == {"cpu-run": source, "cpu-wait": source}


def test_a_program_whose_threads_wait_for_each_other_is_not_said_to_want_a_core() -> None:
    """Else its own threads would pass for a stranger on its core, in the table and in the picture."""
    program = msgspec.structs.replace(PLAN.tenants[0], work=Program(command=("x",)))
    of = info()
    of = msgspec.structs.replace(of, plan=msgspec.structs.replace(of.plan, tenants=(program, *PLAN.tenants[1:])))
    of_program = on_its_core(("host", "waiting_threads"))
    of_ours = [replace(of_program[0], subject=OTHER)]
    join = Join(of_program + of_ours, of)
    times_ns = np.array([1000 * MS]), np.array([2000 * MS])
    for tenant in (FFT, OTHER):
        join.add(tenant, block(), "solo", *times_ns)
    figures = {tenant: join.activity(tenant) for tenant in (FFT, OTHER)}
    assert [a.role for a in figures[FFT]] == [""]
    assert [a.role for a in figures[OTHER]] == ["cpu-wait"]
    assert [t.subject for t in traces(of_program + of_ours, figures, 0, 2000 * MS)] == [OTHER]


def test_the_best_source_stands_for_sm_and_dram_activity() -> None:
    """Else NVML's "any kernel ran" would be shown as SM activity where GPM measured it."""

    def one(source: str, metric: str) -> SampleSeries:
        return series([(1200 * MS, 200 * MS, 0.5)], source=source, metric=metric)

    nvml = [one("nvml", "gpu_busy_ratio"), one("nvml", "memory_busy_ratio")]
    dcgm = [one("dcgm", "sm_active_ratio"), one("dcgm", "gpu_busy_ratio")]
    gpm = [one("gpm", "sm_active_ratio"), one("gpm", "dram_active_ratio")]

    def roles(found: list[SampleSeries]) -> dict[str, tuple[str, str]]:
        return {a.role: (a.source, a.metric) for a in joined(found, [(1000, 2000)]) if a.role}

    assert roles(nvml) == {"sm": ("nvml", "gpu_busy_ratio"), "dram": ("nvml", "memory_busy_ratio")}
    assert roles(nvml + dcgm) == {"sm": ("dcgm", "sm_active_ratio"), "dram": ("nvml", "memory_busy_ratio")}
    assert roles(nvml + dcgm + gpm) == {"sm": ("gpm", "sm_active_ratio"), "dram": ("gpm", "dram_active_ratio")}


def test_a_neighbour_without_records_still_has_the_block() -> None:
    """Else a silent program would have no activity, or end the analysis."""
    join = Join([series([(1200 * MS, 200 * MS, 0.5)])], info())
    nothing = np.zeros(0, np.int64)
    join.add(FFT, block(), "shared", nothing, nothing)
    (found,) = join.activity(FFT)
    assert (found.shared.mean, found.shared.block_mean, found.shared.covered) == (None, 0.5, 0.0)


def test_overlapping_iterations_count_their_time_once() -> None:
    """Else several requests at once would weigh a sample several times."""
    busy = Busy(np.array([30, 0, 10, 25]), np.array([40, 20, 15, 50]), 45)
    assert busy.total_ns == 40
    assert busy.within(np.array([0, 18, 44]), np.array([20, 30, 60])).tolist() == [20, 7, 1]


def test_a_run_has_activity_solo_and_shared_its_trace_and_its_sources() -> None:
    """Else what was sampled would not reach the summary."""
    run = make_run(make_plan(rounds=4), lambda *_: (np.full(300, 2.0), np.full(300, 1.9)), think_ms=0.0)
    assert analyse(run).summary.tenants[FFT].activity is UNSET
    points = []
    for outcome in run.blocks:
        shared = len(outcome.counts) > 1
        ends = range(outcome.start_ns + 50 * MS, outcome.end_ns, 50 * MS)
        points += [(end, 50 * MS, 0.9 if shared else 0.4) for end in ends]
    run.samples = [series(points, subject="x")]
    run.info = msgspec.structs.replace(run.info, telemetry=(SourceState(source="gpm", metrics=("sm_active_ratio",)),))
    found = analyse(run)
    for tenant in found.summary.tenants.values():
        assert tenant.activity
        (activity,) = tenant.activity
        assert activity.solo.mean == pytest.approx(0.4)
        assert activity.shared.mean == pytest.approx(0.9)
        assert 0.9 < activity.shared.covered <= 1
        assert len(activity.blocks) == 8
    assert found.summary.telemetry == run.info.telemetry
    (trace,) = found.activity
    assert (trace.role, trace.scope) == ("sm", "device")
    assert set(np.round(trace.value, 6)) <= {0.4, 0.9} or len(trace.value) > 2


def test_a_trace_is_thinned_to_means_and_shows_gaps() -> None:
    """Else a long run's picture would hold a point per sample, or draw a line where nothing was sampled."""
    points = [(k * 100 * MS, 100 * MS, float(k % 2)) for k in range(1, 20_001) if not 5000 < k <= 10_000]
    found = series(points)
    figures = {FFT: joined([found], [(1000, 2000)])}
    (trace,) = traces([found], figures, 0, 2000 * S)
    assert len(trace.t_s) <= 600
    assert np.allclose(trace.value, 0.5, atol=0.02)
    assert not np.any((trace.t_s > 505) & (trace.t_s < 995))
