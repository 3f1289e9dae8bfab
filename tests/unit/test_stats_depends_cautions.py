"""If these fail, a reader is not told that iterations are worth less than their number, or what would help."""

from __future__ import annotations

import re

import numpy as np
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

from kts.model.plan import Slo
from kts.stats import analyse


def told(run: FakeRun) -> list[str]:
    return [c.text for c in analyse(run).summary.warnings if c.code == "dependent"]


def with_levels(tenant: str, side: str, number: int) -> tuple[Array, Array]:
    rng = np.random.default_rng([number, len(tenant), len(side)])
    device = rng.lognormal(0, 0.05, 300) * np.exp(rng.normal(0, 0.15)) * 4.0
    return device + 0.1, device


def in_runs(tenant: str, side: str, number: int) -> tuple[Array, Array]:
    """Two runs of ten slow iterations in every block: 3 % of them, and worth a tenth."""
    rng = np.random.default_rng([number, len(tenant), len(side)])
    device = rng.lognormal(0, 0.02, 300) * 4.0
    for begin in rng.choice(14, 1 + number % 2, replace=False) * 20:
        device[begin : begin + 10] += rng.uniform(2.0, 2.5)
    return device + 0.1, device


def test_levels_of_rounds_are_told_with_the_rounds_that_would_do() -> None:
    texts = told(make_run(make_plan(), with_levels))
    assert texts
    pattern = (
        r"\w+: of (solo|shared) p99, \d+ iterations are worth \d+ independent ones: rounds differ in level by \d+ %\. "
        r"It takes some (\d+) rounds instead of 10 for \+-5 %\."
    )
    found = [re.fullmatch(pattern, text) for text in texts]
    assert all(found)
    assert all(20 < int(match[2]) < 1000 for match in found if match)


def test_runs_of_slow_iterations_are_told_and_widen_the_interval() -> None:
    run = make_run(make_plan(rounds=6), in_runs)
    texts = told(run)
    assert any("slow ones come in runs. It takes some" in text for text in texts)
    solo = analyse(run).summary.tenants["fft"].response.solo.p99
    assert (solo.hi or 0) > 1.1 * (solo.estimate or 9)


def test_independent_iterations_are_told_nothing() -> None:
    def calm(tenant: str, side: str, number: int) -> tuple[Array, Array]:
        device = np.random.default_rng([number, len(tenant), len(side)]).lognormal(0, 0.2, 60) * 4.0
        return device + 0.1, device

    assert told(make_run(make_plan(), calm)) == []


def test_an_slo_is_not_called_kept_by_rounds_that_differ() -> None:
    """p99 lies under the limit in most rounds and over it in some: ten rounds do not settle it."""
    run = make_run(make_plan(slo=Slo(p99_ms=6.0)), with_levels)
    slo = analyse(run).summary.tenants["fft"].slo
    assert slo is not None
    assert slo.solo == "undetermined"
