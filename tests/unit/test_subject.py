"""A run about one tenant: if these fail, its neighbours get figures that nobody asked for, or it gets none."""

from __future__ import annotations

import io

import msgspec
import numpy as np
import pytest
from rich.console import Console
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

from kts.model.plan import Condition, Kernel, Plan
from kts.report import markdown, sheet, terminal
from kts.report.sections import run_document
from kts.stats import PrecisionRule, analyse

SLOWED = {"shared-a+b": 1.0, "shared-a+c": 2.0}


def plan_about_a(precision: float | None = None) -> Plan:
    plan = make_plan(("a", "b", "c"), precision=precision)
    mixes = tuple(Condition(name=name, tenants=("a", name[-1])) for name in SLOWED)
    return msgspec.structs.replace(plan, subject="a", conditions=(plan.conditions[0], *mixes))


def measured(plan: Plan) -> FakeRun:
    def latencies(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        device = np.random.default_rng([number, ord(tenant), len(side)]).lognormal(0, 0.02, 300) * 4.0
        return device + 0.1, device

    run = make_run(plan, latencies)
    for block in run.blocks:
        records = run.data["a", block.index]
        took = (records["retire_ns"] - records["submit_ns"]) * SLOWED.get(block.condition, 1.0)
        records["retire_ns"] = records["submit_ns"] + took.astype(np.int64)
    return run


def test_only_the_subject_has_figures_alone_and_in_each_company() -> None:
    summary = analyse(measured(plan_about_a())).summary
    assert summary.subject == "a"
    assert list(summary.tenants) == ["a"]
    assert summary.mixes
    alone = summary.tenants["a"].response.solo
    for mix in summary.mixes:
        figures = mix.tenants["a"]
        assert (list(mix.tenants), mix.beside) == (["a"], (mix.condition[-1],))
        assert figures.df_p99.estimate == pytest.approx(SLOWED[mix.condition], rel=0.02)
        assert figures.response is not None
        assert figures.response.p50.estimate == pytest.approx(
            (alone.p50.estimate or 0) * SLOWED[mix.condition], rel=0.02
        )
        assert figures.response.n == figures.n
        assert figures.rate_hz == pytest.approx(1000 / 5.1, rel=0.05)


def test_a_run_goes_on_for_the_subject_alone() -> None:
    plan = plan_about_a(precision=0.05)
    run, rule = measured(plan), PrecisionRule(plan, 0.05)
    for block in run.blocks:
        for tenant in plan.condition(block.condition).tenants:
            rule.take(tenant, run.records(tenant, block.index))
        rule.end(block)
    assert list(rule.widths()) == ["a"]
    assert rule.reached()


def test_a_terminal_shows_one_table_and_one_sentence() -> None:
    run = measured(plan_about_a())
    document = run_document(analyse(run).summary, run)
    out = io.StringIO()
    terminal.render(document, Console(file=out, width=100))
    text = out.getvalue()
    rows = [line.split()[:2] for line in text.splitlines() if line.startswith(("alone", "beside"))]
    assert [row[0] for row in rows] == ["alone", "beside", "beside"]
    assert [row[1] for row in rows[1:]] == ["c", "b"]
    assert text.count("a has a p99 of") == 1
    assert "beside c 2.00x (worse), beside b 1.00x (no-change)." in text.replace("\n", " ")
    assert "done/wall" not in text


def test_files_hold_the_same_and_the_details() -> None:
    run = measured(plan_about_a())
    document = run_document(analyse(run).summary, run)
    assert "What company costs" in (page := markdown.render(document))
    assert "beside c 2.00x (worse)" in page
    assert "done/wall" in page
    assert "shared-a+c" in sheet.render(document)


def test_neighbours_are_told_as_the_plan_has_them() -> None:
    plan = plan_about_a()
    heavy = msgspec.structs.replace(plan.tenants[1], work=Kernel(workload="gemm", size=512, target_ms=20))
    run = measured(msgspec.structs.replace(plan, tenants=(plan.tenants[0], heavy, plan.tenants[2])))
    assert "b: gemm 512, about 20 ms, pauses of 1 ms; c: fft 64, pauses of 1 ms" in markdown.render(
        run_document(analyse(run).summary, run)
    )
