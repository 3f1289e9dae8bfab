"""If these fail, a reader is not told what limits a figure, or is told so when nothing is wrong."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from bench.verdicts import Draw, Starts, alarms, closed, found_lock, pacings, periodic
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

from kts.arrivals import Poisson
from kts.stats import PrecisionRule, analyse
from kts.stats.checks.drift import trend
from kts.stats.verdict import half_width


def calm(tenant: str, side: str, number: int, *, level: float = 1.0, n: int | None = None) -> tuple[Array, Array]:
    rng = np.random.default_rng([number, len(tenant), len(side)])
    count = n or (400 if tenant == "fft" else 360)
    device = level * rng.lognormal(0, 0.02, count) * (4.0 if tenant == "fft" else 4.4)
    return device + 0.1, device


def codes(run: FakeRun, tenant: str | None = None) -> set[str]:
    return {c.code for c in analyse(run).summary.warnings if tenant is None or c.tenant == tenant}


def test_a_calm_run_warns_of_nothing_but_lost_overlap() -> None:
    assert codes(make_run(make_plan(), calm)) <= {"overlap-dropped"}


def test_few_samples_name_what_is_missing() -> None:
    run = make_run(make_plan(), lambda t, s, r: calm(t, s, r, n=12))
    texts = [c.text for c in analyse(run).summary.warnings if c.code == "few-samples"]
    assert texts
    assert "solo p99 needs 368 iterations, have" in texts[0]
    assert "shared p99 needs 368 iterations, have" in texts[0]


def test_dropped_overlap_is_told_from_five_percent_on() -> None:
    run = make_run(make_plan(), lambda t, s, r: calm(t, s, r, n=400 if t == "fft" else 800))
    assert "overlap-dropped" in codes(run, "gemm")
    assert "overlap-dropped" not in codes(run, "fft")


def test_cpu_is_never_taken_for_a_gpu() -> None:
    analysis = analyse(make_run(make_plan(), calm, kind="cpu"))
    assert not analysis.summary.is_gpu
    assert "not-a-gpu" in {c.code for c in analysis.summary.warnings}
    assert "not a GPU" in analysis.summary.device


def test_classic_design_says_what_it_cannot_see() -> None:
    assert "classic-one-block" in codes(make_run(make_plan(design="classic", rounds=1), calm))


def test_two_rounds_are_called_few() -> None:
    assert "few-rounds" in codes(make_run(make_plan(rounds=2), calm))


def test_invalid_blocks_and_damage_are_named() -> None:
    run = make_run(make_plan(), calm)
    run.blocks[1] = msgspec.structs.replace(run.blocks[1], valid=False, reason="gemm sent no heartbeat")
    run.info = msgspec.structs.replace(run.info, blocks=tuple(run.blocks))
    run.damage = ["records.journal: torn tail of 12 bytes"]
    texts = {c.code: c.text for c in analyse(run).summary.warnings}
    assert texts["invalid-blocks"] == "1 block left out as invalid: gemm sent no heartbeat."
    assert "torn tail" in texts["damage"]


def test_precision_not_reached_gives_both_numbers() -> None:
    run = make_run(make_plan(precision=0.001), calm)
    text = next(c.text for c in analyse(run).summary.warnings if c.code == "precision-not-reached")
    assert "+-0.1 %" in text


def test_drift_of_the_solo_level_is_seen() -> None:
    run = make_run(make_plan(), lambda t, s, r: calm(t, s, r, level=1 + 0.012 * r))
    assert "drift" in codes(run, "fft")
    assert "solo-varies" not in codes(run)


def test_an_unstable_baseline_is_seen() -> None:
    run = make_run(make_plan(), lambda t, s, r: calm(t, s, r, level=1.3 if r % 2 else 1.0))
    assert "solo-varies" in codes(run, "fft")
    assert "drift" not in codes(run)


def test_sharing_that_looks_faster_is_told_by_the_parts_alone() -> None:
    """A caution beside them would be a second word on one thing."""
    summary = analyse(make_run(make_plan(), lambda t, s, r: calm(t, s, r, level=0.7 if s == "shared" else 1.0))).summary
    assert {caution.code for caution in summary.warnings} == set()
    (house,) = summary.tenants["fft"].causes or ()
    (median,) = (of for of in house.of if of.statistic == "p50")
    assert median.added_ms < 0
    assert sum(part.ms for part in median.parts) == pytest.approx(median.added_ms)


def test_trend_of_noise_is_not_significant_and_of_a_line_is() -> None:
    noise = 1 + 0.01 * np.random.default_rng(1).normal(size=20)
    assert trend(noise)[1] > 0.01
    change, p_value = trend(np.linspace(1.0, 1.2, 10))
    assert abs(change - 0.2 / 1.1) < 1e-12
    assert p_value < 0.001


@pytest.mark.parametrize(
    ("own_ms", "other_ms", "points"), [(100, 150, 3), (50, 70, 7), (70, 50, 5), (80, 80, 1), (70, 80, 8), (30, 80, 8)]
)
@pytest.mark.parametrize(("blocks", "length_ms"), [(10, 700), (1, 6000), (30, 500)])
def test_fixed_pacing_in_a_simple_ratio_is_phase_lock(
    own_ms: float, other_ms: float, points: int, blocks: int, length_ms: float
) -> None:
    """5:7 gives DF 1.07 or 1.65 by its offset. Blocks of 7 starts must add up, each with an offset of its own."""

    def closed_loop(period_ms: float) -> Draw:
        return lambda rng: closed(rng, period_ms - 4, 0.0, 4.0, length_ms)

    found = found_lock(closed_loop(own_ms), closed_loop(other_ms), blocks, 1)
    assert found is not None
    assert found.points == points
    assert found.strength > 0.85
    assert found.blocks == blocks


@pytest.mark.parametrize(("blocks", "length_ms"), [(10, 700), (1, 6000), (30, 500)])
def test_random_pacing_is_not_phase_lock(blocks: int, length_ms: float) -> None:
    """Else the default pacing would be called locked: under 1 % of runs may be, over all harmonics."""
    for name, (own, other) in pacings(length_ms).items():
        share = alarms(own, other, blocks, repetitions=60)
        assert share > 0.95 if name.startswith("trace") else share <= 0.02


def test_a_tenant_that_is_always_busy_is_not_called_locked() -> None:
    def own(rng: np.random.Generator) -> Starts:
        return periodic(rng, 100, 6000)

    assert found_lock(own, own, 3, 1) is not None
    assert found_lock(own, own, 3, 1, busy_ms=95.0) is None


def test_a_lock_is_told_with_what_the_interval_knows() -> None:
    """Ten blocks are ten phases, however many iterations they hold."""
    run = make_run(make_plan(), lambda *_: (np.full(60, 4.0), np.full(60, 3.9)))
    for (tenant, block), rows in run.data.items():
        period_ns = 50_000_000 if tenant == "fft" else 70_000_000
        offset_ns = int(np.random.default_rng([block, len(tenant)]).uniform(0, 70e6))
        rows["submit_ns"] = run.blocks[block].start_ns + offset_ns + np.arange(60) * period_ns
        rows["due_ns"], rows["retire_ns"] = rows["submit_ns"], rows["submit_ns"] + 4_000_000
    text = next(c.text for c in analyse(run).summary.warnings if c.code == "phase-lock" and c.tenant == "fft")
    assert "7 fixed points of gemm's cycle" in text
    assert "know 10 blocks rather than the iterations" in text


def test_a_closed_loop_says_what_it_leaves_out() -> None:
    """Else its response would be taken for what open traffic sees."""
    run = make_run(make_plan(), calm)
    (line,) = (note for note in analyse(run).summary.notes if "closed loop" in note)
    assert line.startswith("fft, gemm: closed loop: a user who waits does not send the next request")
    gemm = msgspec.structs.replace(run.info.plan.tenants[1], arrivals=Poisson(rate_hz=5.0))
    plan = msgspec.structs.replace(run.info.plan, tenants=(run.info.plan.tenants[0], gemm))
    run.info = msgspec.structs.replace(run.info, plan=plan)
    assert [note.split(":")[0] for note in analyse(run).summary.notes] == ["fft"]


def test_negative_latencies_are_damage_and_in_no_figure() -> None:
    """A clock that was set back must not make a p50 of minus an hour."""
    run = make_run(make_plan(), calm)
    before = analyse(run).summary.tenants["fft"].response.solo
    rows = run.data["fft", 0]
    rows["retire_ns"][[3, 50, 200]] = rows["submit_ns"][[3, 50, 200]] - 3_600_000_000_000
    summary = analyse(run).summary
    after = summary.tenants["fft"].response.solo
    assert after.n == before.n - 3
    assert after.mean == pytest.approx(before.mean, rel=1e-3)
    (text,) = (c.text for c in summary.warnings if c.code == "damage")
    assert text.startswith("fft: left out: 3 iterations with a latency below zero")


def test_the_stop_rule_leaves_negative_latencies_out_as_the_report_does() -> None:
    run = make_run(make_plan(), calm)
    run.data["fft", 0]["retire_ns"][3] -= 3_600_000_000_000
    rule = PrecisionRule(run.info.plan, 0.05)
    for block in run.blocks:
        for tenant in run.info.plan.condition(block.condition).tenants:
            rule.take(tenant, run.records(tenant, block.index))
        rule.end(block)
    df = analyse(run).summary.tenants["fft"].response.df.p99
    assert rule.widths()["fft"] == pytest.approx(half_width(df), rel=1e-3)


def without_device(run: FakeRun, tenant: str, every: int) -> FakeRun:
    for (name, _), rows in run.data.items():
        if name == tenant:
            rows["device_ms"][::every] = np.nan
    return run


def test_a_part_of_the_device_times_never_stands_for_the_whole() -> None:
    """Half of them missing could be the slow half."""
    summary = analyse(without_device(make_run(make_plan(), calm), "fft", 2)).summary
    fft = summary.tenants["fft"]
    assert fft.device.df.p99.refused == "2000 of 4000 solo iterations have no device time"
    assert fft.device.shared.p99.refused.endswith("shared iterations have no device time")
    assert fft.throughput.solo.proxy is None
    assert fft.reference is None
    assert fft.response.df.p99.estimate is not None
    (text,) = (c.text for c in summary.warnings if c.code == "device-clock-gaps")
    assert text.startswith("fft: iterations without a device time: 2000 of 4000 solo, ")


def test_a_few_missing_device_times_are_counted_and_leave_the_figures() -> None:
    summary = analyse(without_device(make_run(make_plan(), calm), "fft", 200)).summary
    assert summary.tenants["fft"].device.df.p99.estimate is not None
    assert any("20 of 4000 solo" in c.text for c in summary.warnings if c.code == "device-clock-gaps")
    assert "device-clock-gaps" not in codes(make_run(make_plan(), lambda t, s, r: (calm(t, s, r)[0], None)))


def test_zeros_among_the_latencies_make_no_interval_of_billions() -> None:
    """A stopwatch of whole milliseconds shows zero for most: a ratio to zero has no upper end."""

    def coarse(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        service, _ = calm(tenant, side, number)
        slow = np.random.default_rng([number, len(side)]).random(len(service)) < 0.0115
        return service, np.where(slow, 1.0, 0.0)

    df = analyse(make_run(make_plan(), coarse)).summary.tenants["fft"].device.df.p99
    assert df.estimate is None
    assert "zero" in df.refused


def open_loop(run: FakeRun, interval_ms: float) -> FakeRun:
    """The run's iterations as if they had been due every ``interval_ms``: each starts when due and free."""
    for (tenant, block), rows in list(run.data.items()):
        opened = rows.copy()
        service = rows["retire_ns"] - rows["submit_ns"]
        free_ns = start_ns = int(rows["submit_ns"][0])
        for i, taken in enumerate(service.tolist()):
            due_ns = start_ns + round(i * interval_ms * 1e6)
            submit_ns = max(due_ns, free_ns)
            free_ns = submit_ns + taken
            opened["due_ns"][i], opened["submit_ns"][i], opened["retire_ns"][i] = due_ns, submit_ns, free_ns
        run.data[tenant, block] = opened
    return run


def test_an_open_loop_that_falls_behind_is_told() -> None:
    """4.5 ms of work every 4 ms: a response time that only says how long the block was."""
    run = open_loop(make_run(make_plan(), calm), 4.0)
    texts = [c.text for c in analyse(run).summary.warnings if c.code == "overload" and c.tenant == "gemm"]
    assert len(texts) == 2
    assert "due 250 times a second and served 22" in texts[0]
    assert "overload" not in codes(open_loop(make_run(make_plan(), calm), 8.0))


def test_an_open_loops_response_holds_the_wait_for_its_own_backlog() -> None:
    """Else the headline of an open loop would be that of a closed one."""
    summary = analyse(open_loop(make_run(make_plan(), calm), 4.51)).summary
    gemm = summary.tenants["gemm"]
    shared, service = gemm.response.shared, gemm.service.shared
    assert (shared.p50.estimate or 0) > 1.02 * (service.p50.estimate or 9)
    assert (shared.p99.hi or 0) - (shared.p99.lo or 9) > 0.2 * (shared.p99.estimate or 9), "and knows its tail badly"
    assert gemm.throughput.shared.real is not None
    assert abs(gemm.throughput.shared.real * 4.51e-3 - 1) < 0.01
