"""Beginnings of blocks in the tail."""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace
from tests.helpers_stats import SHARED, Array, Latencies, make_plan, make_run

from kts.stats import analyse


def latencies(slow_first: float) -> Latencies:
    rng = np.random.default_rng(3)

    def draw(name: str, side: str, _: int) -> tuple[Array, Array]:
        values = rng.normal(3.6, 0.05, 80)
        if side == SHARED and name == "fft":
            values[0] += slow_first
        return values, values * 0.9

    return draw


def codes(slow_first: float, schema: int = 2) -> set[str]:
    run = make_run(make_plan(rounds=10), latencies(slow_first))
    run.info = replace(run.info, schema=schema)
    return {f"{c.tenant}:{c.code}" for c in analyse(run).summary.warnings}


def test_blocks_that_begin_with_the_tail_are_told() -> None:
    """Otherwise a p99 that holds the beginnings of ten blocks looks like one of sharing."""
    assert "fft:block-starts" in codes(4.0)
    assert "gemm:block-starts" not in codes(4.0)


def test_calm_blocks_are_not() -> None:
    """Otherwise the caution is on every page and nobody reads it."""
    assert not [code for code in codes(0.0) if "block-starts" in code]


def test_runs_whose_tenants_began_together_say_so() -> None:
    """Otherwise an old run's figures stand beside new ones as if they were measured alike."""
    assert ":started-together" in codes(0.0, schema=1)
    assert ":started-together" not in codes(0.0)
