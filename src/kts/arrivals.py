"""When iterations come: think times, due times, and where in its cycle a tenant stands when a block's window opens.

Pure; the same seed gives the same times. A block's window is a cut out of a process that has no beginning: every
tenant enters it in its stationary phase, and the window's end depends on no tenant's phase. Otherwise tenants meet at
the start of each block more often than they would by themselves, and the tail holds those meetings
(docs/measuring.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kts.model.plan import Arrivals, Closed, Poisson, Trace
from kts.units import NS_PER_MS, ms_to_ns

_DRAWS = 4096


def think_times_ns(arrivals: Closed, seed: int) -> Iterator[int]:
    """Endless think times, whole nanoseconds, uniform in ``think_ms * [1 - jitter, 1 + jitter]``."""
    rng = np.random.default_rng(seed)
    low, high = _bounds_ns(arrivals)
    while True:
        yield from rng.uniform(low, high, _DRAWS).astype(np.int64).tolist()


def due_times_ns(arrivals: Poisson | Trace, seed: int, start_ns: int) -> Iterator[int]:
    """Endless due times from ``start_ns`` on, whole nanoseconds, never falling. A trace begins at a random point."""
    rng = np.random.default_rng(seed)
    if isinstance(arrivals, Trace):
        turned = turned_by(arrivals, float(rng.uniform(0, arrivals.period_ms)))
        once = np.round(np.array(turned.due_ms) * NS_PER_MS).astype(np.int64)
        while True:
            yield from (start_ns + once).tolist()
            start_ns += ms_to_ns(turned.period_ms)
    while True:
        due = start_ns + np.cumsum(rng.exponential(arrivals.interval_ms * NS_PER_MS, _DRAWS)).astype(np.int64)
        yield from due.tolist()
        start_ns = int(due[-1])


def turned_by(trace: Trace, offset_ms: float) -> Trace:
    """The same trace, begun ``offset_ms`` later in its period: what came before that comes at the end."""
    due = np.array(trace.due_ms) - offset_ms
    return Trace(
        due_ms=tuple(np.sort(np.where(due < 0, due + trace.period_ms, due)).tolist()), period_ms=trace.period_ms
    )


def first_submission_ns(arrivals: Arrivals, service_ns: int, seed: int) -> int:
    """When a tenant that paces itself submits its first iteration, relative to the opening of the window.

    Of a process of cycles (an iteration of ``service_ns``, then a think time) that has gone on for ever, the window
    opens at a random point: within a cycle drawn in proportion to its length, anywhere (Cox 1962, section 5.1). In the
    iteration: it was submitted up to ``service_ns`` before (negative). In the think time: what is left of it. 0 for an
    open loop, whose due times come from the opening on.
    """
    if not isinstance(arrivals, Closed):
        return 0
    rng = np.random.default_rng([seed, 1])  # apart from the think times of the same seed
    low, high = _bounds_ns(arrivals)
    while True:
        cycle = service_ns + rng.uniform(low, high)
        if rng.uniform(0, service_ns + high) <= cycle:
            break
    since_submission = rng.uniform(0, cycle)
    return round(-since_submission if since_submission < service_ns else cycle - since_submission)


def closing_ns(arrivals: Arrivals, cycle_ns: float) -> int:
    """How long after its last wanted submission a tenant's window closes, so that m iterations span m mean cycles.

    A window that closed with that submission would hold m iterations in about m - 1/2 cycles, and show a tenant with
    few iterations as busier than it is. From a random point to the next submission it is E[C^2] / 2 E[C] on average
    (Cox 1962); what is missing to a whole cycle follows the last one. ``cycle_ns``: mean time from one submission to
    the next. 0 for Poisson arrivals, which forget.
    """
    if isinstance(arrivals, Poisson) or cycle_ns <= 0:
        return 0
    if isinstance(arrivals, Closed):
        variance = (arrivals.think_ms * arrivals.jitter * NS_PER_MS) ** 2 / 3
        return max(0, round(cycle_ns / 2 - variance / (2 * cycle_ns)))
    gaps = np.diff([*arrivals.due_ms, arrivals.due_ms[0] + arrivals.period_ms])
    ahead = float(np.square(gaps).sum() / gaps.sum() / 2 / gaps.mean())
    return max(0, round(cycle_ns * (1 - ahead)))


def _bounds_ns(arrivals: Closed) -> tuple[float, float]:
    think_ns = arrivals.think_ms * NS_PER_MS
    return think_ns * (1 - arrivals.jitter), think_ns * (1 + arrivals.jitter)
