"""If these fail, summary.json says something that the records do not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.helpers_stats import Array, FakeRun, make_plan, make_records, make_run
from tests.helpers_store import app_lines, reference_logs

from kts.model.plan import Slo
from kts.model.run import BlockOutcome
from kts.model.summary import Summary
from kts.stats import analyse
from kts.stats import block as block_module
from kts.stats.series import OVER_TIME_POINTS, PLACES, TAIL_POINTS
from kts.store import open_run

SIZE = {"fft": 300, "gemm": 100}


def noisy(tenant: str, side: str, number: int, *, n: int | None = None) -> tuple[Array, Array]:
    """fft waits when shared, 10 % of the time, 4 ms; gemm is left alone."""
    rng = np.random.default_rng([number, len(tenant), len(side)])
    count = n or SIZE[tenant]
    device = rng.lognormal(0, 0.02, count) * (3.6 if tenant == "fft" else 10.8)
    wait = np.full(count, 0.1)
    if side == "shared" and tenant == "fft":
        wait = wait + 4.0 * (rng.random(count) < 0.1)
    return device + wait, device


def pooled(run: FakeRun, tenant: str, condition: str, field: str) -> Array:
    return np.concatenate([run.data[tenant, b.index][field] for b in run.blocks if b.condition == condition])


def test_injected_delay_is_reported_within_five_percent() -> None:
    """5 ms on every 50th iteration is 2 % of them: it must show in p99, and not in p95."""

    def delayed(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        service, device = noisy(tenant, "solo", number, n=1000)
        if side == "shared" and tenant == "fft":
            service = service + 5.0 * (np.arange(1000) % 50 == 49)
        return service, device

    fft = analyse(make_run(make_plan(), delayed)).summary.tenants["fft"]
    added = (fft.response.shared.p99.estimate or 0) - (fft.response.solo.p50.estimate or 0)
    assert added == pytest.approx(5.0, rel=0.05)
    assert fft.response.df.p95.estimate == pytest.approx(1.0, abs=0.01)
    assert fft.verdict.kind == "worse"
    assert fft.waiting is not None
    assert fft.waiting.wait_ms == pytest.approx(5.0, rel=0.05)
    assert fft.waiting.device_ms == pytest.approx(0.0, abs=0.2)


def test_every_block_is_read_once() -> None:
    run = make_run(make_plan(), noisy)
    analyse(run)
    assert set(run.reads.values()) == {1}
    assert len(run.reads) == 40


def test_invalid_blocks_are_neither_read_nor_counted() -> None:
    run = make_run(make_plan(), noisy)
    full = analyse(run).summary.tenants["fft"].response.solo.n
    run.blocks[0] = msgspec.structs.replace(run.blocks[0], valid=False, reason="gemm died")
    run.reads.clear()
    summary = analyse(run).summary
    assert summary.tenants["fft"].response.solo.n == full - 300
    assert ("fft", 0) not in run.reads


def test_summary_survives_json_without_nan() -> None:
    summary = analyse(make_run(make_plan(), noisy)).summary
    text = msgspec.json.encode(summary)
    assert b"NaN" not in text
    assert msgspec.json.decode(text, type=Summary) == summary


def test_same_run_gives_the_same_summary() -> None:
    run = make_run(make_plan(), noisy)
    assert analyse(run).summary == analyse(run).summary


def test_no_device_stopwatch_is_refused_and_the_rest_stands() -> None:
    run = make_run(make_plan(), lambda *which: (noisy(*which)[0], None))
    fft = analyse(run).summary.tenants["fft"]
    assert fft.device.df.p99.refused == "no device stopwatch"
    assert fft.device.solo.n == 0
    assert fft.waiting is None
    assert fft.reference is None
    assert fft.throughput.solo.proxy is None
    assert fft.response.df.p99.estimate == pytest.approx(2.08, rel=0.05)


def test_reference_table_is_numpys_over_every_sample() -> None:
    run = make_run(make_plan(design="classic", rounds=1), lambda t, s, r: noisy(t, s, r, n=800))
    summary = analyse(run).summary.tenants["fft"]
    shared = pooled(run, "fft", "shared-fft+gemm", "device_ms")
    assert summary.reference is not None
    assert summary.overlap.dropped == 0
    gemm = analyse(run).summary.tenants["gemm"]
    assert gemm.overlap.dropped > 0
    assert gemm.reference is not None
    assert gemm.reference.shared.n == 800
    for name, p in (("p50", 50), ("p95", 95), ("p99", 99)):
        assert getattr(summary.reference.shared, name) == pytest.approx(float(np.percentile(shared, p)), rel=1e-12)
    assert summary.reference.shared.throughput == pytest.approx(1000 / float(shared.mean()))


def test_shared_iterations_without_company_do_not_count() -> None:
    """gemm runs on for 400 iterations after fft has ended: those were solo, and must not dilute the tail, nor be
    painted as shared."""

    def lonely(tenant: str, side: str, _number: int) -> tuple[Array, Array]:
        n = 800 if tenant == "gemm" and side == "shared" else 400
        service = np.full(n, 4.0)
        if side == "shared":
            service[:400] = 8.0
        return service, service

    run = make_run(make_plan(design="classic", rounds=1), lonely, think_ms=0.0)
    analysed = analyse(run)
    overlap = analysed.summary.tenants["gemm"].overlap
    assert overlap.dropped == pytest.approx(400, abs=1)
    assert overlap.kept + overlap.dropped == 800
    points = analysed.series["gemm"].over_time
    picture = {place: points.service_ms[points.place == number] for number, place in enumerate(PLACES)}
    assert len(picture["not counted"]) == overlap.dropped
    assert (picture["shared"] == 8.0).sum() == 400
    assert len(picture["shared"]) == overlap.kept
    assert len(picture["solo"]) == 400


def test_a_silent_neighbour_counts_as_active_all_the_time() -> None:
    run = make_run(make_plan(), lambda t, s, r: noisy(t, s, r, n=None if t == "fft" else 100))
    for block in run.blocks:
        run.data.pop(("gemm", block.index), None)
    summary = analyse(run).summary
    assert summary.tenants["fft"].overlap.dropped == 0
    assert summary.tenants["gemm"].verdict.kind == "refused"


def test_real_throughput_counts_the_think_time() -> None:
    run = make_run(make_plan(), lambda *_: (np.full(200, 4.0), np.full(200, 4.0)), think_ms=1.0)
    solo = analyse(run).summary.tenants["fft"].throughput.solo
    assert solo.real == pytest.approx(200.0, rel=0.02)
    assert solo.proxy == pytest.approx(250.0)


def test_goodput_and_slo_follow_the_response_interval() -> None:
    plan = make_plan(slo=Slo(p99_ms=5.0, deadline_ms=5.0))
    fft = analyse(make_run(plan, noisy)).summary.tenants["fft"]
    assert fft.goodput is not None
    assert fft.goodput.solo.estimate == 1.0
    assert fft.goodput.shared.estimate == pytest.approx(0.9, abs=0.02)
    assert fft.slo is not None
    assert (fft.slo.solo, fft.slo.shared) == ("kept", "broken")


def test_response_counts_from_the_due_time() -> None:
    """With an arrival process the wait before submission belongs to the response, not to the service."""
    run = make_run(make_plan(), noisy)
    for records in run.data.values():
        records["due_ns"] -= 2_000_000
    fft = analyse(run).summary.tenants["fft"]
    assert fft.response.solo.p50.estimate == pytest.approx((fft.service.solo.p50.estimate or 0) + 2.0)


def test_large_runs_in_single_precision_give_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(make_plan(), noisy)
    exact = analyse(run).summary.tenants["fft"].response.df.p99
    monkeypatch.setattr(block_module, "SINGLE_PRECISION_FROM", 0)
    single = analyse(run).summary.tenants["fft"].response.df.p99
    assert single.estimate == pytest.approx(exact.estimate, rel=1e-6)
    assert single.hi == pytest.approx(exact.hi, rel=1e-5)


def test_a_run_with_one_tenant_or_no_blocks_is_refused_not_a_crash() -> None:
    alone = analyse(make_run(make_plan(["fft"]), noisy)).summary.tenants["fft"]
    assert alone.response.solo.p99.estimate is not None
    assert alone.verdict.sentence == "fft: no verdict: no valid shared iterations."
    empty = make_run(make_plan(), noisy)
    empty.blocks.clear()
    analysis = analyse(empty)
    assert analysis.summary.tenants["fft"].verdict.kind == "refused"
    assert analysis.spans == ()


def test_an_empty_record_array_in_a_block_is_no_crash() -> None:
    run = make_run(make_plan(), noisy)
    run.data["fft", 2] = make_records(np.empty(0))
    assert analyse(run).summary.tenants["gemm"].verdict.kind != "refused"


def test_figures_get_few_points_and_keep_the_slowest() -> None:
    run = make_run(make_plan(), lambda t, s, r: noisy(t, s, r, n=2000))
    series = analyse(run).series["fft"]
    slowest = max(float((d["retire_ns"] - d["submit_ns"]).max()) / 1e6 for (t, _), d in run.data.items() if t == "fft")
    assert len(series.over_time.t_s) <= OVER_TIME_POINTS
    assert series.over_time.service_ms.max() == pytest.approx(slowest)
    tail = series.tails["shared"]["service"]
    assert len(tail.ms) <= TAIL_POINTS
    assert tail.ms[-1] == pytest.approx(slowest)
    n = analyse(run).summary.tenants["fft"].service.shared.n
    assert tail.fraction_slower[-1] == pytest.approx(1 / n)
    assert (np.diff(tail.ms) > 0).all()
    assert (np.diff(tail.fraction_slower) < 0).all()
    at_p99 = float(np.interp(-0.01, -tail.fraction_slower, tail.ms))
    p99 = analyse(run).summary.tenants["fft"].service.shared.p99.estimate
    assert at_p99 == pytest.approx(p99, rel=0.01)


def test_the_strip_shows_all_tenants_of_one_shared_block() -> None:
    run = make_run(make_plan(), noisy)
    series = analyse(run).series
    strips = [series[name].strip for name in ("fft", "gemm")]
    for strip in strips:
        assert strip is not None
        assert 5 < len(strip.submit_s) <= 400
        assert (strip.retire_s > strip.submit_s).all()
        assert strip.retire_s.min() >= 0


def test_spans_hold_every_block() -> None:
    run = make_run(make_plan(), noisy)
    run.blocks[3] = BlockOutcome(index=3, round=1, condition="solo-fft", start_ns=1, end_ns=2, valid=False)
    spans = analyse(run).spans
    assert len(spans) == 30
    assert [span.valid for span in spans].count(False) == 1


@pytest.mark.parametrize("shared", ["nobody", "two of three"])
def test_a_tenant_that_never_had_company_has_figures_alone(tmp_path: Path, shared: str) -> None:
    """Else logs of solo runs, or of one more app than ran together, would end in a traceback."""
    reference_logs(tmp_path, iterations=100)
    if shared == "nobody":
        for log in tmp_path.glob("*-shared.log"):
            log.unlink()
    (tmp_path / "x-solo.log").write_text("\n".join(app_lines("x", [3.0] * 100, 1_700_001_000_000_000_000)))
    summary = analyse(open_run(tmp_path)).summary
    assert summary.tenants["x"].response.solo.p50.estimate == pytest.approx(3.2)
    assert summary.tenants["x"].response.df.p50.refused == "no valid shared iterations"
    assert summary.tenants["x"].causes == ()


def test_a_program_whose_iterations_were_all_left_out_did_report_some(tmp_path: Path) -> None:
    """Else its owner would look for lines that are there."""
    reference_logs(tmp_path, iterations=100)
    (tmp_path / "x-solo.log").write_text("\n".join(app_lines("x", [3.0] * 100, 1_700_000_000_000_000_000)))
    response = analyse(open_run(tmp_path)).summary.tenants["x"].response
    assert response.solo.p50.refused == "no valid solo iterations"
