"""On any simulated GPU: the slice comes back, neighbours are counted, bursts are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers_probe import comes_and_goes, looks_of, readings, sharing, watch_beside, watched, watching

from kts.physics.probe import findings
from kts.worker.probe.gaps import SliceCosts, count, turns, usual
from kts.worker.probe.traces import GapTrace

SEEDS = 200
BAR = 0.95
_SIMULATED = settings(max_examples=25, deadline=None)

slices = st.floats(0.5, 6.0)
relative_costs = st.floats(0.005, 0.1)


@_SIMULATED
@given(slices, relative_costs, st.sampled_from([0.0, 32e-6, 1024e-6]), st.integers(0, 2**31))
def test_the_slice_comes_back_within_two_percent(slice_ms: float, cost: float, step_ms: float, seed: int) -> None:
    """Else a fingerprint depends on the GPU's slice, its timer, or chance."""
    shared = sharing(slice_ms, (cost * slice_ms,), cost * slice_ms / 2)
    noise = {"jitter_ms": 0.002 * slice_ms, "dropped": 0.01, "step_ms": step_ms}
    mark = findings(readings(shared, ms=60 * slice_ms, most=2, seed=seed, **noise)).fingerprint
    assert mark.slice_ms.value == pytest.approx(slice_ms, rel=0.02)
    for found in mark.preempt_ms:
        assert found.value == pytest.approx(cost * slice_ms, abs=0.01 * slice_ms)


def _some(seed: int) -> tuple[int, GapTrace, SliceCosts, float]:
    """A GPU, 0 to 4 saturating neighbours, perhaps one with bursts, and what a watcher sees: noisy."""
    rng = np.random.default_rng(seed)
    n = seed % 5
    slice_ms = float(rng.uniform(0.8, 4.0))
    costs = float(rng.uniform(0.01, 0.09)) * slice_ms
    shared = sharing(slice_ms, (costs,), costs * 0.6)
    ms = 20 * slice_ms * (n + 1)
    others = [watching(ms)] * n
    if seed % 3 == 0:
        others.append(comes_and_goes(float(rng.uniform(0.1, 0.9)) * slice_ms, 8 * slice_ms * (n + 1), ms, rng, 0.3))
    noise = {"jitter_ms": 0.003 * slice_ms, "dropped": 0.02, "step_ms": 1024e-6}
    trace = watch_beside(others, shared, ms, **noise)
    return n, trace, SliceCosts(slice_ms=slice_ms, switch_ms=(costs,), yield_ms=costs * 0.6), ms


def test_neighbours_are_counted_right_in_nearly_all_of_200_probes() -> None:
    """Else "who is on my GPU" is a guess. Watches and looks, with a fingerprint and without."""
    right = dict.fromkeys(("watch known", "watch", "looks known", "looks"), 0)
    for seed in range(SEEDS):
        n, trace, known, ms = _some(seed)
        rng = np.random.default_rng(seed)
        looks = looks_of(trace, 1.5 * known.slice_ms, np.sort(rng.uniform(0.05, 0.7, 5)) * ms)
        right["watch known"] += count(watched(trace), known).neighbours == n
        right["watch"] += count(watched(trace)).neighbours == n
        right["looks known"] += count(looks, known).neighbours == n
        right["looks"] += count(looks).neighbours == n
    assert {way: hits for way, hits in right.items() if hits < BAR * SEEDS} == {}


@_SIMULATED
@given(st.floats(0.1, 3.0), st.floats(12.0, 40.0), st.integers(0, 1), st.integers(0, 2**31))
def test_bursts_are_found_with_length_and_period(burst: float, period: float, saturating: int, seed: int) -> None:
    """Else a neighbour that pauses is described as another one."""
    rng = np.random.default_rng(seed)
    ms = 40 * period
    burst = burst - 0.15 if burst % 1.0 > 0.85 else burst  # close to whole slices two answers are right
    others = [comes_and_goes(burst * 2.0, period * 2.0, 2 * ms, rng, 0.02), *[watching(2 * ms)] * saturating]
    trace = watch_beside(others, sharing(2.0, (0.1,), 0.06), 2 * ms)
    found = count(watched(trace), SliceCosts(slice_ms=2.0, switch_ms=(0.1,), yield_ms=0.06))
    assert found.neighbours == saturating
    assert found.pattern is not None
    assert found.pattern.burst_ms == pytest.approx(burst * 2.0, rel=0.1, abs=0.25)
    assert found.pattern.period_ms == pytest.approx(period * 2.0, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 10**8)), max_size=40), st.integers(0, 10**7))
def test_any_trace_can_be_read(steps: list[tuple[int, int]], blip: int) -> None:
    """Else some pattern of gaps ends in a traceback or in time from nowhere."""
    now, gaps = 0, []
    for on, off in steps:
        gaps.append((now + on, off))
        now += on + off
    trace = GapTrace(start_ns=0, end_ns=now + 5, gaps=tuple(gaps))
    found = turns(trace, blip)
    total = found.on.sum() + found.off.sum() + found.last
    assert total == pytest.approx((now + 5) / 1e6)
    counted = count(watched(trace, blip))
    assert counted.neighbours >= 0
    assert 0 <= counted.sure <= 1
    assert 0 <= counted.share <= 1


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_the_usual_value_is_one_that_can_be(values: list[float]) -> None:
    """Else an estimate lies outside of all that was seen."""
    assert min(values) <= usual(np.array(values)) <= max(values)
