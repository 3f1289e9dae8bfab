"""What a tenant did before it was steady is in no figure; what it did later is named; none of it costs a steady run."""

from __future__ import annotations

import numpy as np
import pytest
from tests.helpers_stats import SHARED, Array, FakeRun, Latencies, make_plan, make_run

from kts.physics.recorded import measured, solo
from kts.report.sections import steady
from kts.stats import analyse


def _drawn(slow: dict[str, list[float]], seed: int = 1) -> Latencies:
    """By tenant the factors of its iterations, in order of time; all others are at 1."""
    rng = np.random.default_rng(seed)
    left = {name: list(factors) for name, factors in slow.items()}

    def draw(name: str, side: str, _: int) -> tuple[Array, Array]:
        values = rng.lognormal(0, 0.05, 100) * (2.0 if side == SHARED else 1.0)
        given = left.get(name, [])
        taken, left[name] = given[:100], given[100:]
        values[: len(taken)] *= taken
        return values, values * 0.9

    return draw


def _run(slow: dict[str, list[float]], rounds: int = 10) -> FakeRun:
    return make_run(make_plan(rounds=rounds), _drawn(slow))


def _codes(run: FakeRun) -> set[str]:
    return {f"{c.tenant}:{c.code}" for c in analyse(run).summary.warnings}


def test_no_figure_holds_an_iteration_of_a_slow_start() -> None:
    """Otherwise the tail of a program is that of its warm-up: here no iteration reaches 3.5 ms once it is steady."""
    run = _run({"fft": [4.0] * 200})
    analysis = analyse(run)
    fft, gemm = (analysis.summary.tenants[name] for name in ("fft", "gemm"))
    for clock in (fft.response, fft.service, fft.device):
        for side in (clock.solo, clock.shared):
            assert side.p99.hi is not None
            assert side.p99.hi < 3.0
    slowest = [one.service_ms for side in analysis.series["fft"].slowest.values() for one in side]
    assert max(slowest) < 3.5
    assert analysis.series["fft"].over_time.service_ms.max() < 3.5
    assert fft.steadiness is not None
    assert fft.steadiness.kind == "warm-up"
    assert fft.overlap.unsteady == 200
    assert gemm.overlap.unsteady == 100  # beside it
    assert gemm.steadiness is not None
    assert gemm.steadiness.kind == "flat"
    assert _codes(run) >= {"fft:warm-up"}
    assert fft.verdict.kind == "worse"


def test_no_prediction_is_made_from_a_slow_start() -> None:
    """Otherwise a forecast from a run's solo blocks holds what the run's own figures leave out."""
    run = _run({"fft": [4.0] * 200})
    assert solo(run, "fft").service_ms.max() < 3.5
    assert all(mix["fft"].service_ms.max() < 3.5 for mix in measured(run).values())


def test_a_steady_run_is_read_once_and_loses_nothing() -> None:
    """Otherwise every report takes twice as long, or iterations go for nothing."""
    run = _run({})
    summary = analyse(run).summary
    assert set(run.reads.values()) == {1}
    assert all(tenant.overlap.unsteady == 0 for tenant in summary.tenants.values())
    assert not {"warm-up", "changes-state", "not-steady"} & {c.code for c in summary.warnings}
    assert not list(steady.unsteady(summary))


def test_what_has_no_steady_state_has_no_verdict() -> None:
    """Otherwise a growing cache is reported as the cost of sharing. Nor has a neighbour, which ran beside it."""
    run = _run({"fft": np.linspace(1, 4, 2000).tolist()})
    summary = analyse(run).summary
    fft, gemm = summary.tenants["fft"], summary.tenants["gemm"]
    assert fft.verdict.kind == gemm.verdict.kind == "not-steady"
    assert fft.verdict.sentence.startswith("fft: not steady: it was still getting slower at the end")
    assert "its neighbour fft was not" in gemm.verdict.sentence
    assert "fft:not-steady" in _codes(run)
    assert "fft is not steady" in steady.title(summary)


def test_a_level_that_comes_and_goes_is_named_and_counts() -> None:
    """Otherwise a reader takes two states for one wide distribution."""
    factors = np.repeat([1.0, 1.8, 1.0, 1.8, 1.0], 400)
    run = _run({"fft": factors.tolist()})
    summary = analyse(run).summary
    found = summary.tenants["fft"].steadiness
    assert found is not None
    assert (found.kind, found.left_out, len(found.states)) == ("changing", 0, 5)
    assert [state.level for state in found.states] == pytest.approx([1.0, 1.8, 1.0, 1.8, 1.0], abs=0.1)
    assert "fft:changes-state" in _codes(run)
    assert summary.tenants["fft"].verdict.kind != "not-steady"


@pytest.mark.parametrize("seed", range(3))
def test_levels_of_rounds_and_of_company_are_no_states(seed: int) -> None:
    """Otherwise every block with a neighbour is a state, and the slowest round a warm-up."""
    rng = np.random.default_rng(seed)
    levels = {name: np.repeat(np.sort(rng.lognormal(0, 0.05, 4))[::-1], 200).tolist() for name in ("fft", "gemm")}
    run = make_run(make_plan(rounds=4), _drawn(levels, seed))
    assert not {"warm-up", "not-steady"} & {c.code for c in analyse(run).summary.warnings}
