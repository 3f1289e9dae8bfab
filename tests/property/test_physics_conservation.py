"""Work, switches and idleness add up to the wall clock, and each is what the simulation says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kts.physics.conservation import HELD, OnGpu, account
from kts.physics.simulate import SharingModel, Simulated, Stream, simulate
from kts.physics.values import bursts

SHARING = SharingModel(slice_ms=2.087, preempt_ms=(0.178,), yield_ms=(0.1,), wake_ms=(0.1,))


def mix(seed: int, shapes: list[tuple[float, float]], n: int = 400) -> tuple[Simulated, dict[str, OnGpu]]:
    """Tenants of one kernel and a think time (means, ms), side by side, and what a tracer sees of them."""
    rng = np.random.default_rng(seed)
    streams, work = [], []
    for busy, think in shapes:
        work.append(busy * rng.lognormal(0, 0.2, n))
        pick = np.arange(n)
        streams.append(Stream(bursts(work[-1], 0.01), pick, think_ms=think * rng.uniform(0.5, 1.5, n)))
    ran = simulate(streams, SHARING, stop_at_first=False)
    seen = {}
    for k, done in enumerate(ran.tenants):
        seen[f"t{k}"] = OnGpu(done.begin_ms, done.end_ms, work[k][: len(done.end_ms)])
    return ran, seen


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    shapes=st.lists(st.tuples(st.floats(0.02, 30), st.floats(0.05, 40)), min_size=1, max_size=4),
)
def test_it_adds_up_and_each_part_is_the_simulations(seed: int, shapes: list[tuple[float, float]]) -> None:
    """Otherwise a term that the model leaves out cannot be told from one that it has."""
    ran, seen = mix(seed, shapes)
    found = account(seen, SHARING)
    assert found.holds, found
    whole = ran.end_ms
    assert found.switch_ms == pytest.approx(ran.switch_ms, abs=HELD * whole)
    assert found.idle_ms == pytest.approx(ran.idle_ms, abs=HELD * whole)


def test_work_that_nobody_accounts_for_is_seen() -> None:
    """Otherwise the check holds whatever happens."""
    _, seen = mix(1, [(4.0, 3.0), (1.0, 2.0)])
    short = OnGpu(seen["t0"].begin_ms, seen["t0"].end_ms, 0.9 * seen["t0"].work_ms)
    assert account(seen, SHARING).holds
    assert account(seen | {"t0": short}, SHARING).excess < -HELD
    assert not account(seen | {"t1": OnGpu(*(np.empty(0),) * 3)}, SHARING).holds
    with pytest.raises(ValueError, match="no tenant"):
        account({"t": OnGpu(*(np.empty(0),) * 3)}, SHARING)


def in_kernels(whole: OnGpu, count: int, gap_ms: float) -> OnGpu:
    """Its uninterrupted stays as so many kernels each, a little apart, which do that much less."""
    begin, end, work = [], [], []
    for b, e, w in zip(whole.begin_ms, whole.end_ms, whole.work_ms, strict=True):
        n = count if abs(e - b - w) < 1e-9 and w > 2 * count * gap_ms else 1
        each = (w - (n - 1) * gap_ms) / n
        begin.extend(b + k * (each + gap_ms) for k in range(n))
        end.extend([b + k * (each + gap_ms) + each for k in range(n - 1)] + [e])
        work.extend([each] * n)
    return OnGpu(np.array(begin), np.array(end), np.array(work))


def test_what_lies_between_the_kernels_of_a_launch_is_idle() -> None:
    """Otherwise a program of graphs, whose kernels a tracer keeps apart, misses a tenth of the GPU's time."""
    ran, seen = mix(2, [(4.0, 3.0), (1.0, 2.0)])
    cut = {name: in_kernels(one, 20, 0.015) for name, one in seen.items()}
    before, found = account(seen, SHARING), account(cut, SHARING)
    less = sum(before.gpu_ms.values()) - sum(found.gpu_ms.values())
    assert less > HELD * ran.end_ms
    assert found.excess == pytest.approx(before.excess, abs=1e-6)
    assert found.idle_ms == pytest.approx(before.idle_ms + less)
