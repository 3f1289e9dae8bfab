"""If these fail, a reader is not told what limits a figure, or is told so when nothing is wrong."""

from __future__ import annotations

import msgspec
import numpy as np
from tests.helpers_stats import Array, FakeRun, make_plan, make_run

from kts.stats import analyse
from kts.stats.cautions import trend
from kts.stats.phase import lock_strength


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


def test_sharing_that_looks_faster_is_explained() -> None:
    run = make_run(make_plan(), lambda t, s, r: calm(t, s, r, level=0.7 if s == "shared" else 1.0))
    assert "faster-when-shared" in codes(run, "fft")


def test_trend_of_noise_is_not_significant_and_of_a_line_is() -> None:
    noise = 1 + 0.01 * np.random.default_rng(1).normal(size=20)
    assert trend(noise)[1] > 0.01
    change, p_value = trend(np.linspace(1.0, 1.2, 10))
    assert abs(change - 0.2 / 1.1) < 1e-12
    assert p_value < 0.001


def starts(period_ms: float, jitter: float, n: int, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    return np.cumsum(period_ms * 1e6 * rng.uniform(1 - jitter, 1 + jitter, n)).astype(np.int64)


def test_fixed_pacing_in_a_simple_ratio_is_phase_lock() -> None:
    """100 ms beside 150 ms takes three phases, whose first harmonic cancels: it must be seen all the same."""
    fft = starts(100, 0.0, 600, 1)
    assert lock_strength(fft, fft + 4_000_000, starts(150, 0.0, 400, 2)) > 0.95


def test_jittered_pacing_is_not_phase_lock() -> None:
    fft = starts(100, 0.5, 600, 1)
    assert lock_strength(fft, fft + 4_000_000, starts(150, 0.5, 400, 2)) < 0.25


def test_a_tenant_that_is_always_busy_is_not_called_locked() -> None:
    fft = starts(100, 0.0, 600, 1)
    assert lock_strength(fft, fft + 95_000_000, starts(150, 0.0, 400, 2)) == 0.0


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
    assert gemm.response.shared.p50.estimate > 1.02 * gemm.service.shared.p50.estimate
    assert "here are worth" in gemm.response.shared.p99.refused, "a backlog makes iterations depend on each other"
    assert gemm.throughput.shared.real is not None
    assert abs(gemm.throughput.shared.real * 4.51e-3 - 1) < 0.01
