"""From a tracer's events to launches."""

from __future__ import annotations

import pytest
from tests.helpers_profile import EXPORTED, ISSUE_NS, Step, events, iterations

from kts.wire.recording import unpacked
from kts.worker.traced import MARK, Event, TraceError, launches_of


def test_launches_are_found_by_correlation_and_put_where_the_gpu_could_have_begun() -> None:
    """Otherwise a profile is of other launches than the tenant's, or its queue fills at the wrong time.

    Left out: the first event, behind the last iteration's copy, and that copy. The third kernel of the first iteration
    waited for the memset before it: it could have begun as long after its call as the others do, 4 us (1075 + 4), not
    when it did.
    """
    found = launches_of(events(EXPORTED), ISSUE_NS)
    assert unpacked(found.counts).tolist() == [3, 3, 1]
    us = unpacked(found.offset_ns) / 1000
    assert us[:3].tolist() == [32.0, 68.0, 79.0]
    assert us[3:6].tolist() == [20.0, 40.0, 60.0]
    assert (unpacked(found.duration_ns)[:6] / 1000).tolist() == [10.0, 50.0, 40.0, 5.0, 5.0, 5.0]


def test_a_replayed_graph_is_one_launch_from_its_first_kernel_to_its_last() -> None:
    """Otherwise its kernels count as launched by the host one by one, and it yields the GPU between them."""
    found = launches_of(events(EXPORTED), ISSUE_NS)
    us = unpacked(found.offset_ns) / 1000, unpacked(found.duration_ns) / 1000
    assert us[0][6:].tolist() == [34.0]
    assert us[1][6:].tolist() == [66.0]


BEGIN: Step = ("cudaEventRecord", 10)
KERNEL: Step = ("cudaLaunchKernel", 20, "k", 24, 10)
END: Step = ("cudaEventRecord", 40)


def copy(kind: str, returned: float, start: float) -> Step:
    return ("cudaMemcpyAsync", returned, f"Memcpy {kind}", start, 2)


def test_recorded_events_are_launches_of_no_duration() -> None:
    """Otherwise a tenant's stopwatch and its last wait are free beside neighbours, whose turns delay both.

    Handed over in 35 us, so begun 5 us after the mark; the GPU starts what it can 4 us after a call.
    """
    found = launches_of(iterations(3, BEGIN, KERNEL, END), [35_000] * 3)
    assert unpacked(found.counts).tolist() == [3, 3, 3]
    assert (unpacked(found.offset_ns) / 1000).tolist() == [9.0, 19.0, 39.0] * 3
    assert (unpacked(found.duration_ns) / 1000).tolist() == [0.0, 10.0, 0.0] * 3
    assert found.stopwatch_waits


@pytest.mark.parametrize(
    ("steps", "durations_us", "waits"),
    [
        ([BEGIN, KERNEL, copy("DtoH (Device -> Pinned)", 30, 36), END], [10.0], False),
        (
            [BEGIN, KERNEL, copy("DtoH (Device -> Pinned)", 30, 36), copy("HtoD (Pinned -> Device)", 32, 38), END],
            [10.0],
            False,
        ),
        ([BEGIN, copy("DtoH (Device -> Pinned)", 15, 19), KERNEL, END], [0.0, 2.0, 10.0, 0.0], True),
        (
            [BEGIN, copy("HtoD (Pinned -> Device)", 15, 19), ("cudaEventRecord", 17), KERNEL, END],
            [0.0, 2.0, 10.0, 0.0],
            True,
        ),
        ([BEGIN, KERNEL, copy("DtoD (Device -> Device)", 30, 36), END], [0.0, 10.0, 2.0, 0.0], True),
    ],
    ids=["last copy", "last copies", "copy between", "event behind it", "on the GPU"],
)
def test_what_the_copy_engine_does_last_takes_no_turn(
    steps: list[Step], durations_us: list[float], waits: bool
) -> None:
    """Otherwise a token's way to the host waits for neighbours, and a stopwatch that does not wait seems to.

    All iterations are alike, the first one too: its first event comes behind what ends an iteration.
    """
    found = launches_of(iterations(3, *steps), [35_000] * 3)
    assert unpacked(found.counts).tolist() == [len(durations_us)] * 3
    assert (unpacked(found.duration_ns) / 1000).tolist() == durations_us * 3
    assert found.stopwatch_waits == waits


def test_offsets_count_from_the_last_call_that_ends_an_iteration_even_if_it_is_left_out() -> None:
    """Otherwise a decoder's kernels come too late, by what its token's copy takes the host."""
    steps = (BEGIN, KERNEL, copy("DtoH (Device -> Pinned)", 30, 36), END)
    found = launches_of(iterations(3, *steps), [35_000] * 3)
    assert (unpacked(found.offset_ns) / 1000).tolist() == [19.0] * 3


def test_offsets_do_not_contain_the_marks_own_time() -> None:
    """Otherwise every kernel of a profile comes later than the tenant's, by what only the tracer does."""
    found = launches_of(events(EXPORTED), [ns - late for ns, late in zip(ISSUE_NS, (3000, 4000, 5000), strict=True)])
    assert (unpacked(found.offset_ns) / 1000).tolist() == [29.0, 65.0, 76.0, 16.0, 36.0, 56.0, 29.0]


def test_no_iteration_begins_before_its_mark() -> None:
    """Otherwise a host that was held up behind its last call, where no trace shows it, delays all of an iteration."""
    held_up = launches_of(events(EXPORTED), [ns + 500_000 for ns in ISSUE_NS])
    assert held_up == launches_of(events(EXPORTED), ISSUE_NS)


def test_a_call_between_two_iterations_belongs_to_none() -> None:
    """Otherwise housekeeping in the think time becomes part of an iteration."""
    between = [
        Event("cudaMemsetAsync", False, 1_500_000, 1_504_000, 990),
        Event("Memset (Device)", True, 1_510_000, 1_511_000, 990),
    ]
    one_in_eleven = pytest.raises(TraceError, match="1 of 11")
    with one_in_eleven:
        launches_of(events(EXPORTED) + between, ISSUE_NS)
    many = [
        event._replace(
            start_ns=event.start_ns + k * 10_000_000,
            end_ns=event.end_ns + k * 10_000_000,
            correlation=event.correlation + 10_000 * k,
        )
        for k in range(20)
        for event in events(EXPORTED)
    ]
    found = launches_of(many + between, ISSUE_NS * 20)
    assert unpacked(found.counts).tolist() == [3, 3, 1] * 20


@pytest.mark.parametrize(
    ("drop", "why"),
    [
        (lambda event: event.name == MARK and event.start_ns == 2_000_000, "2 of 3 iterations are in the trace"),
        (lambda event: event.correlation in (910, 911, 912) and event.on_device, "1 of 3 iterations have no launch"),
        (lambda event: event.correlation in (900, 901, 902) and event.on_device, "1 of 3 iterations have no launch"),
        (lambda event: event.name == "cudaLaunchKernel" and event.correlation == 911, "1 of 10 kernels"),
    ],
)
def test_a_trace_with_holes_is_refused(drop: object, why: str) -> None:
    """Otherwise a tracer that ran out of buffers makes a tenant that is faster than it is."""
    assert callable(drop)
    with pytest.raises(TraceError, match=why):
        launches_of([event for event in events(EXPORTED) if not drop(event)], ISSUE_NS)
