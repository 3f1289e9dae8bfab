"""If these fail, a run stops before its answer is as precise as asked, or never."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from bench.verdicts import Noise, classic, stopped
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

from kts.model.plan import Plan, Program
from kts.model.summary import Estimate
from kts.stats import PrecisionRule, analyse, responses
from kts.stats.verdict import half_width, judge, settled


def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
    rng = np.random.default_rng([number, len(tenant), len(side)])
    device = rng.lognormal(0, 0.02, 300 if tenant == "fft" else 280) * 4.0
    return device + 0.1, device


def fed(run: FakeRun, precision: float, rounds: int = 99) -> PrecisionRule:
    plan = run.info.plan
    rule = PrecisionRule(plan, precision)
    for block in run.blocks:
        if block.round < rounds:
            for tenant in plan.condition(block.condition).tenants:
                rule.take(tenant, run.records(tenant, block.index))
            rule.end(block)
    return rule


def test_what_stops_the_run_is_what_the_report_prints() -> None:
    run = make_run(make_plan(), latencies)
    widths = fed(run, 0.05).widths()
    for name, tenant in analyse(run).summary.tenants.items():
        assert widths[name] == pytest.approx(half_width(tenant.response.df.p99), rel=1e-3)


def test_not_reached_while_df_is_refused() -> None:
    rule = fed(make_run(make_plan(), latencies), 0.5, rounds=1)
    assert rule.widths() == {"fft": None, "gemm": None}
    assert not rule.reached()


def as_programs(plan: Plan, *names: str) -> Plan:
    """The plan with these tenants as programs of the user's."""
    work = Program(command=("true",))
    return msgspec.structs.replace(
        plan,
        tenants=tuple(msgspec.structs.replace(t, work=work) if t.name in names else t for t in plan.tenants),
    )


def test_a_neighbour_without_iterations_does_not_keep_the_run_going() -> None:
    def silent(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        service, device = latencies(tenant, side, number)
        return (service[:0], device[:0]) if tenant == "gemm" else (service, device)

    rule = fed(make_run(as_programs(make_plan(), "gemm"), silent), 0.05)
    assert list(rule.widths()) == ["fft"]
    assert rule.reached()
    assert not fed(make_run(make_plan(), silent), 0.05).reached()
    assert not fed(make_run(as_programs(make_plan(), "gemm", "fft"), latencies), 0.05, rounds=0).reached()


def test_reached_when_narrow_and_not_when_more_is_asked() -> None:
    run = make_run(make_plan(), latencies)
    assert fed(run, 0.05).reached()
    assert not fed(run, 0.0001).reached()


def test_more_rounds_narrow_the_interval() -> None:
    run = make_run(make_plan(rounds=12), latencies)
    few, many = fed(run, 0.05, rounds=3).widths()["fft"], fed(run, 0.05).widths()["fft"]
    assert few is not None
    assert many is not None
    assert many < few


def test_invalid_blocks_do_not_count() -> None:
    run = make_run(make_plan(), latencies)
    run.blocks = [msgspec.structs.replace(block, valid=False) for block in run.blocks]
    assert fed(run, 0.5).widths() == {"fft": None, "gemm": None}


def test_blocks_beside_a_tenant_that_was_still_starting_do_not_count() -> None:
    """Else a run would stop by shared blocks in which its neighbour loaded, which its report leaves out."""
    run = make_run(make_plan(), latencies)
    rule, later = fed(run, 0.05, 3), fed(run, 0.05, 0)
    rule.forget("gemm")
    assert rule.widths()["fft"] is None
    for block in run.blocks:
        if block.round >= 3 or block.condition == "solo-fft":
            for name in block.counts:
                later.take(name, run.records(name, block.index))
            later.end(block)
        if block.round >= 3:
            for name in block.counts:
                rule.take(name, run.records(name, block.index))
            rule.end(block)
    assert rule.widths() == later.widths()


def scaled(factor: float, noise: float) -> FakeRun:
    """Three rounds whose shared iterations take ``factor`` times as long."""

    def latency(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        rng = np.random.default_rng([number, len(tenant), len(side)])
        service = rng.lognormal(0, noise, 300) * 4.0 * (factor if side == "shared" else 1.0)
        return service, service

    return make_run(make_plan(rounds=3), latency)


@pytest.mark.parametrize(
    ("factor", "noise", "kind"), [(1.0, 0.05, "no-change"), (1.02, 0.08, "undetermined"), (1.07, 0.08, "worse")]
)
def test_an_interval_that_decides_nothing_does_not_end_a_run(factor: float, noise: float, kind: str) -> None:
    """Narrow enough, but on both sides of 1 and beyond 1+X: the verdict would be undetermined."""
    run = scaled(factor, noise)
    for tenant in analyse(run).summary.tenants.values():
        assert (tenant.verdict.kind, tenant.verdict.precise) == (kind, True)
    assert fed(run, 0.05).reached() == (kind != "undetermined")


def test_a_run_at_the_very_edge_ends() -> None:
    """At half the asked width the run ends, whatever the interval holds: else one at the edge would never."""
    edge = Estimate(estimate=1.0255, lo=0.9999, hi=1.0501)
    assert judge(edge, 0.05) == ("undetermined", True)
    assert settled(edge, 0.05)
    assert not settled(msgspec.structs.replace(edge, hi=1.0525), 0.05)


def test_no_change_is_seldom_said_of_a_change_and_mostly_of_none() -> None:
    """At DF 1 + 1.2 X in under 5 % of runs, through the stop rule; at DF 1 in most; beyond X is claimed of neither."""
    changed = stopped(1.06, Noise(0.1), 0.05, repetitions=25)
    assert changed.kinds["no-change"] <= 1
    same = stopped(1.0, Noise(0.1), 0.05, repetitions=25)
    assert same.kinds["no-change"] >= 21
    assert same.relevant == 0


def test_most_verdicts_of_one_block_per_condition_are_false_where_blocks_differ() -> None:
    """Why they are dimmed; without differences they are as good as others."""
    assert sum(classic(0.0, repetitions=25)[kind] for kind in ("worse", "better")) <= 3
    assert sum(classic(0.15, repetitions=25)[kind] for kind in ("worse", "better")) >= 12


def test_a_verdict_without_room_to_spare_does_not_end_a_run() -> None:
    """Looked at after every round, one that just excludes 1, or just lies within X, would come up too often."""
    just_worse = Estimate(estimate=1.043, lo=1.003, hi=1.084)
    assert judge(just_worse, 0.05) == ("worse", True)
    assert not settled(just_worse, 0.05)
    just_none = Estimate(estimate=1.01, lo=0.975, hi=1.047)
    assert judge(just_none, 0.05) == ("no-change", True)
    assert not settled(just_none, 0.05)
    assert settled(Estimate(estimate=1.06, lo=1.03, hi=1.09), 0.05)
    assert settled(Estimate(estimate=1.0, lo=0.97, hi=1.03), 0.05)


def test_a_block_too_large_to_keep_counts_by_its_first_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what a run that goes on holds in memory has no bound."""
    run = make_run(make_plan(), latencies)
    exact = fed(run, 0.05).widths()["fft"]
    monkeypatch.setattr(responses, "BLOCK_KEPT", 100)
    rule = fed(run, 0.05)
    assert all(len(ms) <= 100 for side in rule._kept.values() for _, ms in side)
    fewer = rule.widths()["fft"]
    assert exact is not None
    assert fewer is not None
    assert fewer > exact


def test_chunks_of_an_invalid_block_do_not_count_with_the_next() -> None:
    """Else half a block that failed would be taken for the beginning of the one that follows it."""
    run = make_run(make_plan(), latencies)
    rule, clean = PrecisionRule(run.info.plan, 0.05), fed(run, 0.05)
    for block in run.blocks:
        for valid in (False, True):
            for tenant in run.info.plan.condition(block.condition).tenants:
                records = run.records(tenant, block.index)
                rule.take(tenant, records[:50])
                if valid:
                    rule.take(tenant, records[50:])
            rule.end(msgspec.structs.replace(block, valid=valid))
    assert rule.widths() == clean.widths()
