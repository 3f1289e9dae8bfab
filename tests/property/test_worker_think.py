"""Think times."""

from __future__ import annotations

from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers_worker import MS, FakeClock, MemoryOutlet, make_block

from kts.model.plan import Closed, Quota
from kts.worker.loop import think_times_ns


@settings(deadline=None)
@given(
    think_ms=st.floats(0.001, 1e4),
    jitter=st.floats(0, 1),
    seed=st.integers(0, 2**63 - 1),
)
def test_think_times_stay_in_their_bounds_and_follow_the_seed(think_ms: float, jitter: float, seed: int) -> None:
    """Otherwise the load is not the one in the plan, or a run cannot be repeated."""
    arrivals = Closed(think_ms=think_ms, jitter=jitter)
    drawn = list(islice(think_times_ns(arrivals, seed), 200))
    assert min(drawn) >= think_ms * (1 - jitter) * MS - 1
    assert max(drawn) <= think_ms * (1 + jitter) * MS + 1
    assert drawn == list(islice(think_times_ns(arrivals, seed), 200))


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
    wanted_ns = list(islice(think_times_ns(Closed(think_ms=think_ms, jitter=jitter), seed), 29))
    assert all(0 <= gap - wanted < 2000 for gap, wanted in zip(gaps_ns.tolist(), wanted_ns, strict=True))
