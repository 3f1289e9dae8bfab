"""If these fail, a gate promises to decide what it cannot, or its user waits for nothing."""

from __future__ import annotations

import numpy as np
import pytest
from bench.foretold import CutRun, foretold
from msgspec.structs import replace
from tests.helpers_stats import Array, make_run

from kts import plan as planning
from kts.model.foretold import ExpectedRatio
from kts.model.plan import Plan
from kts.plan import build
from kts.report import foretold as words
from kts.spec import load_text
from kts.stats.foretold import at_start
from kts.stats.pair_gate import PairRule

TEXT = """\
name: x
max_seconds: 300
tenants:
  api: {workload: fft, size: 64, think_ms: 1, iterations: 100}
  batch: {workload: gemm, size: 64}
"""


def pair(max_seconds: float, tolerance: float = 0.05) -> Plan:
    side = build(load_text(TEXT, source="x").experiment)
    return planning.pair(side, side, tolerance=tolerance, max_seconds=max_seconds)


def seen(rounds: int, spread: float, max_seconds: float = 16.0) -> CutRun:
    """Two versions that are alike, in blocks of about half a second."""
    plan = pair(max_seconds)

    def latencies(tenant: str, side: str, number: int) -> tuple[Array, None]:
        del side
        rng = np.random.default_rng([number, *tenant.encode()])
        return rng.lognormal(0, spread, 240) * 2.0, None

    run = make_run(replace(plan, rounds=rounds), latencies)
    workers = tuple(replace(worker, solo_ms=2.0) for worker in run.info.workers)
    blocks = [replace(block, window_ns=(block.start_ns, block.end_ns + 1)) for block in run.blocks]
    run.info = replace(run.info, plan=plan, workers=workers, blocks=tuple(blocks))
    return CutRun(run, run.info, blocks)


def solo(plan: Plan) -> dict[str, float | None]:
    return {tenant.name: 10.0 for tenant in plan.tenants}


def test_at_its_start_a_pair_says_whose_tails_its_time_cannot_decide() -> None:
    """Else a gate of 8 s would say only at its end that it was never going to have a p99."""
    plan = pair(8.0)
    told = at_start(plan, solo(plan))
    assert [(one.tenant, one.refused) for one in told.ratios] == [("api", True), ("batch", True)]
    head, api, _, enough = words.lines(told)
    assert head.startswith("foretold: at most 5 rounds in about ")
    assert api.endswith(" of 368 iterations")
    longer = pair(float(enough.split()[-1]))
    told = at_start(longer, solo(longer))
    assert not any(one.refused for one in told.ratios)
    assert "which ratio that decides, rounds must tell" in words.lines(told)[0]
    assert all(one.passes is None for one in told.ratios), "nothing tells yet how rounds differ"


def test_after_four_rounds_it_says_which_ratio_the_rest_of_its_time_decides() -> None:
    """Else nobody knew whether an inconclusive gate was to be expected, and how much longer it had to run."""
    narrow, wide = (foretold(seen(4, spread)) for spread in (0.01, 0.3))
    assert [one.after_rounds for one in narrow] == [0, 4]
    for one in narrow[-1].ratios:
        assert one.passes is not None
        assert one.fails is not None
        assert 1 < one.passes < 1.05 < one.fails < 1.1
    assert not narrow[-1].enough
    assert all((one.passes or 0) < 1 for one in wide[-1].ratios)
    assert words.lines(wide[-1])[-1].startswith("  enough for a B like A to pass: --max-seconds ")
    assert "passes, from " in words.lines(narrow[-1])[1]


@pytest.mark.parametrize("spread", [0.01, 0.03, 0.3])
def test_versions_that_are_alike_pass_where_that_was_foretold(spread: float) -> None:
    """Else what it says of its reach would not be that of the test which then decides."""
    told = foretold(seen(8, spread))[-1]
    rounds = int(told.rounds)
    run = seen(rounds, spread)
    rule = PairRule(run.info.plan)
    reached = False
    for block in run.blocks:
        for name in run.info.plan.condition(block.condition).tenants:
            rule.take(name, run.records(name, block.index))
        rule.end(block)
        if block.index % 2:
            reached = reached or rule.reached()
    assert reached is all((one.passes or 0) >= 1 for one in told.ratios)


def test_a_program_may_have_fewer_iterations_than_is_thought() -> None:
    """Else a ratio would be promised that hangs on a pace nobody has seen."""
    one = ExpectedRatio(tenant="api", n=(900, 900), open=True)
    told = replace(at_start(pair(60.0), solo(pair(60.0))), ratios=(one,))
    assert words.lines(told)[1].endswith("900 iterations, if its program keeps that pace")
