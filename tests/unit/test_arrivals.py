"""The phase in which a tenant enters a block's window, and when its window may close."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from kts.arrivals import Closed, Poisson, Trace, first_submission_ns

MS = 1_000_000
SEEDS = 4000


def first_ms(arrivals: Closed, service_ms: float) -> np.ndarray:
    return np.array([first_submission_ns(arrivals, round(service_ms * MS), seed) / MS for seed in range(SEEDS)])


@pytest.mark.parametrize(("think_ms", "jitter", "service_ms"), [(100, 0.5, 3.6), (10, 1.0, 10), (30, 0.0, 60)])
def test_a_block_cuts_into_a_closed_loop_anywhere(think_ms: float, jitter: float, service_ms: float) -> None:
    """Otherwise a block starts in a phase that the tenant by itself is rarely in, and its neighbours meet it there."""
    drawn = first_ms(Closed(think_ms=think_ms, jitter=jitter), service_ms)
    cycle = think_ms + service_ms
    in_service = drawn < 0
    assert in_service.mean() == pytest.approx(service_ms / cycle, abs=0.025)
    assert drawn.min() >= -service_ms
    assert drawn.max() <= think_ms * (1 + jitter)
    # Cox (1962): the time to the next submission is E[C^2] / 2 E[C] on average.
    variance = (think_ms * jitter) ** 2 / 3
    ahead = np.where(in_service, drawn + service_ms + think_ms, drawn)
    assert ahead.mean() == pytest.approx(cycle / 2 + variance / (2 * cycle), rel=0.05)


def test_a_saturating_tenant_is_somewhere_in_its_iteration() -> None:
    """Otherwise two of them begin every block together."""
    drawn = first_ms(Closed(think_ms=0), 20.0)
    assert drawn.max() <= 0
    assert drawn.mean() == pytest.approx(-10.0, rel=0.05)


def test_the_phase_is_no_think_time() -> None:
    """Otherwise a tenant's first pause tells its next one."""
    arrivals = Closed(think_ms=100, jitter=1.0)

    first = first_ms(arrivals, 0.0)[:500]
    then = [next(arrivals.think_times_ns(seed)) for seed in range(500)]
    assert abs(np.corrcoef(first, then)[0, 1]) < 0.15


@pytest.mark.parametrize(
    "arrivals", [Closed(think_ms=100, jitter=0.5), Closed(think_ms=100, jitter=1.0), Closed(think_ms=0.0)]
)
def test_m_iterations_span_m_cycles(arrivals: Closed) -> None:
    """Otherwise whoever has few iterations per block is seen as busier than it is, in every block."""
    service_ns, wanted = 20 * MS, 3
    rng = np.random.default_rng(1)
    spans, inside = 0.0, 0
    for seed in range(SEEDS):
        submit = first_submission_ns(arrivals, service_ns, seed)
        submits = [submit]
        for _ in range(8):
            think = rng.uniform(1 - arrivals.jitter, 1 + arrivals.jitter) * arrivals.think_ms * MS
            submits.append(submits[-1] + service_ns + round(think))
        counted = [s for s in submits[1:] if s >= 0][:wanted]
        closed = counted[-1] + arrivals.closing_ns(service_ns + arrivals.think_ms * MS)
        spans += closed
        inside += sum(0 <= s <= closed for s in submits)
    cycle_ns = service_ns + arrivals.think_ms * MS
    assert inside * cycle_ns / spans == pytest.approx(1.0, abs=0.03 if arrivals.jitter < 1 else 0.04)


def test_poisson_arrivals_forget_and_traces_are_taken_as_they_are() -> None:
    """Otherwise an open loop's window is closed as if it were paced."""
    assert Poisson(rate_hz=10).closing_ns(100 * MS) == 0
    assert Trace(due_ms=(0, 50), period_ms=100).closing_ns(50 * MS) == 25 * MS
    assert Trace(due_ms=(0, 1), period_ms=100).closing_ns(50 * MS) < 1 * MS, "bursts: nearly always far ahead"


def test_a_trace_begins_anywhere_and_follows_the_seed() -> None:
    """Otherwise two traces keep the offset that they have in the file, in every block."""
    trace = Trace(due_ms=(0.0, 10.0, 30.0), period_ms=70.0)
    firsts = [next(trace.due_times_ns(seed, 0)) / MS for seed in range(300)]
    assert max(firsts) > 30
    assert min(firsts) < 2
    assert list(islice(trace.due_times_ns(3, 0), 9)) == list(islice(trace.due_times_ns(3, 0), 9))
    assert trace.turned_by(15.0).due_ms == (15.0, 55.0, 65.0)
