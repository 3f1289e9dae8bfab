"""From a tracer's events to launches."""

from __future__ import annotations

import pytest
from tests.helpers_profile import EXPORTED, events

from kts.wire.recording import unpacked
from kts.worker.traced import MARK, Event, TraceError, launches_of


def test_launches_are_found_by_correlation_and_put_where_the_gpu_could_have_begun() -> None:
    """Otherwise a profile is of other launches than the tenant's, or its queue fills at the wrong time.

    The third kernel of the first iteration waited for the memset before it: it could have begun as long after its call
    as the others do, 4 us (1075 + 4), not when it did.
    """
    found = launches_of(events(EXPORTED), 3)
    assert unpacked(found.counts).tolist() == [3, 3, 2]
    us = unpacked(found.offset_ns) / 1000
    assert us[:3].tolist() == [32.0, 68.0, 79.0]
    assert us[3:6].tolist() == [20.0, 40.0, 60.0]
    assert (unpacked(found.duration_ns)[:6] / 1000).tolist() == [10.0, 50.0, 40.0, 5.0, 5.0, 5.0]


def test_a_replayed_graph_is_one_launch_from_its_first_kernel_to_its_last() -> None:
    """Otherwise its kernels count as launched by the host one by one, and it yields the GPU between them."""
    found = launches_of(events(EXPORTED), 3)
    us = unpacked(found.offset_ns) / 1000, unpacked(found.duration_ns) / 1000
    assert us[0][6:].tolist() == [34.0, 49.0]
    assert us[1][6:].tolist() == [66.0, 2.0]


def test_a_call_between_two_iterations_belongs_to_none() -> None:
    """Otherwise housekeeping in the think time becomes part of an iteration."""
    between = [
        Event("cudaMemsetAsync", False, 1_500_000, 1_504_000, 990),
        Event("Memset (Device)", True, 1_510_000, 1_511_000, 990),
    ]
    one_in_eleven = pytest.raises(TraceError, match="1 of 11")
    with one_in_eleven:
        launches_of(events(EXPORTED) + between, 3)
    many = [
        event._replace(
            start_ns=event.start_ns + k * 10_000_000,
            end_ns=event.end_ns + k * 10_000_000,
            correlation=event.correlation + 10_000 * k,
        )
        for k in range(20)
        for event in events(EXPORTED)
    ]
    found = launches_of(many + between, 60)
    assert unpacked(found.counts).tolist() == [3, 3, 2] * 20


@pytest.mark.parametrize(
    ("drop", "why"),
    [
        (lambda event: event.name == MARK and event.start_ns == 2_000_000, "2 of 3 iterations are in the trace"),
        (lambda event: event.correlation in (910, 911, 912) and event.on_device, "1 of 3 iterations have no launch"),
        (lambda event: event.name == "cudaLaunchKernel" and event.correlation == 911, "1 of 10 kernels"),
    ],
)
def test_a_trace_with_holes_is_refused(drop: object, why: str) -> None:
    """Otherwise a tracer that ran out of buffers makes a tenant that is faster than it is."""
    assert callable(drop)
    with pytest.raises(TraceError, match=why):
        launches_of([event for event in events(EXPORTED) if not drop(event)], 3)
