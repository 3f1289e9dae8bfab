"""Think times and due times."""

from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers_worker import MS, FakeClock, MemoryOutlet, make_block

from kts.arrivals import Closed, Poisson, Trace
from kts.model.plan import Quota


@settings(deadline=None)
@given(
    think_ms=st.floats(0.001, 1e4),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 2**63 - 1),
)
def test_think_times_stay_in_their_bounds_and_follow_the_seed(think_ms: float, jitter: float, seed: int) -> None:
    """Otherwise the load is not the one in the plan, or a run cannot be repeated."""
    arrivals = Closed(think_ms=think_ms, jitter=jitter)
    drawn = list(islice(arrivals.think_times_ns(seed), 200))
    assert min(drawn) >= think_ms * (1 - jitter) * MS - 1
    assert max(drawn) <= think_ms * (1 + jitter) * MS + 1
    assert drawn == list(islice(arrivals.think_times_ns(seed), 200))


@settings(deadline=None, max_examples=30)
@given(think_ms=st.floats(0.1, 50), jitter=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_the_gap_between_iterations_is_the_think_time(think_ms: float, jitter: float, seed: int) -> None:
    """Otherwise sending and listening lengthen the pause, and the duty cycle is not the asked one."""
    outlet = MemoryOutlet()
    make_block(
        FakeClock(),
        outlet,
        quota=Quota(iterations=30, linger=False),
        arrivals=Closed(think_ms=think_ms, jitter=jitter),
        seed=seed,
    ).run()
    records = outlet.all
    gaps_ns = records["submit_ns"][1:] - records["retire_ns"][:-1]
    wanted_ns = list(islice(Closed(think_ms=think_ms, jitter=jitter).think_times_ns(seed), 29))
    assert all(0 <= gap - wanted < 2000 for gap, wanted in zip(gaps_ns.tolist(), wanted_ns, strict=True))


@settings(deadline=None, max_examples=30)
@given(rate_hz=st.floats(0.1, 1e5), seed=st.integers(0, 2**63 - 1))
def test_poisson_arrivals_come_at_their_rate_and_follow_the_seed(rate_hz: float, seed: int) -> None:
    """Otherwise the offered load is not the one in the plan, or a run cannot be repeated."""
    due = list(islice(Poisson(rate_hz=rate_hz).due_times_ns(seed, 10**12), 10_000))
    assert due == list(islice(Poisson(rate_hz=rate_hz).due_times_ns(seed, 10**12), 10_000))
    assert min(due) >= 10**12
    assert due == sorted(due)
    assert 0.94 < (due[-1] - 10**12) * rate_hz / 1e9 / 10_000 < 1.06  # six standard deviations


@settings(deadline=None, max_examples=30)
@given(
    due_ms=st.lists(st.floats(0, 1e4), min_size=1, max_size=20).map(sorted).map(tuple),
    beyond_ms=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**32),
)
def test_a_trace_comes_again_after_its_period(due_ms: tuple[float, ...], beyond_ms: float, seed: int) -> None:
    """Otherwise a trace drifts, or its second pass overlaps the first."""
    trace = Trace(due_ms=due_ms, period_ms=due_ms[-1] + beyond_ms)
    n = len(due_ms)
    due = list(islice(trace.due_times_ns(seed, 0), 3 * n))
    assert due == sorted(due)
    period_ns = round(trace.period_ms * MS)
    assert all(due[i + n] - due[i] == period_ns for i in range(2 * n))
    assert 0 <= due[0] <= due[n - 1] <= period_ns
    gaps = np.diff([*due_ms, due_ms[0] + trace.period_ms])
    turned = np.diff(due[: n + 1]) / MS
    assert any(np.allclose(np.roll(gaps, -k), turned, atol=1e-5) for k in range(n)), "begun at any point of it"


@settings(deadline=None, max_examples=30)
@given(rate_hz=st.floats(20, 2000), seed=st.integers(0, 2**32))
def test_no_iteration_starts_before_it_is_due_or_while_another_runs(rate_hz: float, seed: int) -> None:
    """Otherwise the open loop is none: one iteration is in flight, and none comes early."""
    outlet = MemoryOutlet()
    quota = Quota(iterations=50, linger=False)
    make_block(FakeClock(), outlet, quota=quota, arrivals=Poisson(rate_hz=rate_hz), seed=seed).run()
    records = outlet.all
    assert (records["submit_ns"] >= records["due_ns"]).all()
    free_ns = [0, *records["retire_ns"][:-1].tolist()]
    late_ns = records["submit_ns"] - [max(pair) for pair in zip(records["due_ns"].tolist(), free_ns, strict=True)]
    assert ((late_ns >= 0) & (late_ns < 2000)).all()
