"""Launches and waits of each iteration, from events whose truth is known."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.helpers_traced import USUAL_NS, Traced

from kts.wire.recording import NO_WAIT, Launches, unpacked
from kts.worker.tracing.layout import EVENT, Flag, Kind
from kts.worker.tracing.listed import ListingError, listed, owners

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["launch", "nested", "graph", "set", "up", "down", "item", "record", "wait", "poll", "host"]),
        st.integers(1, 400),
    ),
    max_size=12,
)


def done(program: Traced, steps: list[tuple[str, int]]) -> None:
    """One iteration of these steps, microseconds each; it ends when the GPU has done all."""
    program.begin()
    apart = False
    for what, us in steps:
        ns = 1000 * us
        match what:
            case "launch" | "nested":
                program.launch(ns, nested=what == "nested")
            case "graph":
                program.launch(ns, Kind.GRAPH, nodes=3)
            case "set":
                program.launch(ns, Kind.SET)
            case "up":
                program.launch(ns, Kind.COPY, flags=Flag.TO_DEVICE)
            case "down":
                program.launch(ns, Kind.COPY, flags=Flag.TO_HOST | Flag.WAITED, blocks=True)
            case "item":  # pageable: the driver waits in the copy, and the wait after it finds nothing
                program.launch(ns, Kind.COPY, flags=Flag.TO_HOST, blocks=True)
                program.wait()
            case "record":
                program.record(counts=not apart)
            case "wait" | "poll":
                program.wait(Kind.QUERY if what == "poll" else Kind.WAIT)
            case _:
                program.host(ns)
        if what not in ("record", "wait", "poll", "host"):
            apart = what in ("up", "down", "item")
    program.launch(5000)
    program.wait()
    program.end()
    program.host(20_000)


def columns(launches: Launches) -> tuple[NDArray[np.int64], ...]:
    names = ("counts", "offset_ns", "duration_ns", "wait_ns", "waited_ns", "apart", "lane")
    return tuple(unpacked(getattr(launches, name)) for name in names)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_what_a_program_did_is_what_is_listed(iterations: list[list[tuple[str, int]]], random: Random) -> None:
    """Otherwise a prediction is of another program: launches at other times, waits that are none, or none that are."""
    program = Traced()
    for steps in [[("launch", 10)], *iterations]:
        done(program, steps)
    events = program.events
    order = np.random.default_rng(random.randrange(2**32)).permutation(len(events))
    found = listed([events[order]], program.records)
    counts, offset, duration, wait, waited, apart, lane = columns(found.launches)
    assert counts.tolist() == program.counts
    assert duration.tolist() == program.duration
    assert np.where(wait == NO_WAIT, -1, waited).tolist() == program.waited
    assert found.usual_ns == USUAL_NS
    assert offset.tolist() == program.offset
    assert not lane.any()
    assert (found.lost, found.unfinished, found.empty, found.early) == (0, 0, 0, 0)
    first = np.concatenate([[0], np.cumsum(counts)])
    spent = np.add.reduceat(np.where(wait == NO_WAIT, 0, waited), first[:-1])
    rows = program.records
    assert (offset[first[1:] - 1] + spent <= rows["retire_ns"] - rows["submit_ns"]).all()
    assert (wait[wait != NO_WAIT] >= offset[wait != NO_WAIT]).all()
    kinds = events["kind"]
    copies = [(a, b) for a, b in zip(apart.tolist(), duration.tolist(), strict=True) if a]
    assert len(copies) == np.count_nonzero(kinds == Kind.COPIED)


@settings(max_examples=50, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=4))
def test_calls_alone_give_the_same_but_for_durations(iterations: list[list[tuple[str, int]]]) -> None:
    """Otherwise the host's times without a tracer of kernels cannot be held against those with one."""
    programs = [Traced(activity=activity) for activity in (True, False)]
    for program in programs:
        for steps in [[("launch", 10)], *iterations]:
            done(program, steps)
    seen, calls = (listed([one.events], one.records, usual_ns=USUAL_NS).launches for one in programs)
    for a, b, name in zip(columns(seen), columns(calls), ("counts", "offset", "duration", *"wwal"), strict=True):
        assert name == "duration" or (a == b).all()


def program(n: int) -> Traced:
    """``n`` iterations: one launch, a wait, two launches, a wait."""
    one = Traced()
    for _ in range(n):
        one.begin()
        one.launch(50_000)
        one.wait()
        one.host(10_000)
        one.launch(20_000)
        one.launch(30_000)
        one.wait()
        one.end()
        one.host(100_000)
    return one


def changed(events: NDArray[np.void], where: NDArray[np.bool_], **values: int) -> NDArray[np.void]:
    events = events.copy()
    for name, value in values.items():
        events[name][where] = value
    return events


def test_iterations_of_which_something_is_missing_are_left_out_and_counted() -> None:
    """Otherwise half of an iteration passes for a fast one."""
    one = program(10)
    rows, events = one.records, one.events
    gap = (int(rows["submit_ns"][3]) + 1, int(rows["submit_ns"][4]) + 1)
    kernels = np.flatnonzero(events["kind"] == Kind.KERNEL)
    without = np.delete(events, kernels[-1])
    found = listed([without], rows, gaps=[gap])
    assert (found.lost, found.unfinished, found.empty) == (2, 1, 0)
    assert unpacked(found.launches.of).tolist() == [0, 1, 2, 5, 6, 7, 8]
    of_fifth = (events["begin_ns"] >= rows["submit_ns"][5]) & (events["begin_ns"] <= rows["retire_ns"][5])
    found = listed([events[~of_fifth]], rows)
    assert (found.lost, found.unfinished, found.empty) == (0, 0, 1)
    with pytest.raises(ListingError, match="10 iterations 10 lost events"):
        listed([events], rows, gaps=[(0, 2**62)])
    with pytest.raises(ListingError, match="3 of 30 kernels and copies belong to no call"):
        listed([events[(events["kind"] >= Kind.KERNEL) | ~of_fifth]], rows)
    with pytest.raises(ListingError, match="10 launched nothing"):
        listed([], rows)


def test_calls_that_failed_did_nothing() -> None:
    """Otherwise a program that tries, and is refused, launches what never ran."""
    one = program(4)
    events = one.events
    second = np.flatnonzero(events["kind"] == Kind.LAUNCH)[1]
    refused = np.arange(len(events)) == second
    mine = (events["kind"] == Kind.KERNEL) & (events["correlation"] == events["correlation"][second])
    found = listed([changed(events, refused, flags=Flag.FAILED)[~mine]], one.records)
    assert unpacked(found.launches.counts).tolist() == [2, 3, 3, 3]


def test_work_outside_of_iterations_is_told_and_iterations_that_do_not_wait() -> None:
    """Otherwise a neighbour's load is less than it was, and nobody knows."""
    one = program(5)
    one.begin()
    one.launch(100_000)
    rows = one.records
    one.wait()
    one.end()
    later = one.records
    found = listed([one.events], later)
    assert found.outside == 0
    later["retire_ns"][4] = later["submit_ns"][4] + 60_000  # all but its first launch come after its end
    found = listed([one.events], later)
    assert found.outside == pytest.approx(50 / 600)
    assert len(rows) == 5
    short = one.records
    short["retire_ns"] = np.minimum(short["retire_ns"], short["submit_ns"] + 90_000)
    assert listed([one.events], short).early == pytest.approx(5 / 6)


def test_streams_are_lanes_only_where_their_work_ran_at_the_same_time() -> None:
    """Otherwise a copy that hides behind kernels makes an iteration longer, or streams that only alternate overlap."""
    lanes = []
    for wait in (True, False):
        one = Traced()
        for _ in range(5):
            one.begin()
            for stream in (0x7F00, 0x10, 0x7F00):
                one.launch(50_000, stream=stream)
                if wait:
                    one.wait()
            one.wait()
            one.end()
        lanes.append(unpacked(listed([one.events], one.records).launches.lane)[:3].tolist())
    assert lanes == [[0, 0, 0], [0, 1, 0]]


def test_a_wait_of_one_thread_does_not_hold_another_that_launches_meanwhile() -> None:
    """Otherwise the model stops a host that went on."""
    one = program(3)
    rows, events = one.records, one.events
    other = np.zeros(len(rows), EVENT)
    first = [int(ns) for ns in rows["submit_ns"]]
    other["begin_ns"], other["end_ns"] = [ns + 4100 for ns in first], [ns + 100_000 for ns in first]
    other["kind"], other["thread"], other["seq"] = Kind.WAIT, 8, 10**6
    found = listed([np.concatenate([events, other])], rows)
    assert columns(found.launches)[3].tolist() == columns(listed([events], rows).launches)[3].tolist()
    _, offset, _, wait, *_ = columns(
        listed([np.concatenate([events[events["kind"] != Kind.WAIT], other])], rows).launches
    )
    assert (wait == NO_WAIT).all()
    assert (np.diff(offset.reshape(-1, 3))[:, 0] > 50_000).all(), "it is time of the host"


def test_only_a_query_of_the_last_work_is_a_wait() -> None:
    """Otherwise a library that asks whether a buffer is free makes the model's host wait for the GPU in the middle."""
    one = Traced()
    for _ in range(4):
        one.begin()
        one.launch(50_000)
        one.record(event=5)
        one.ask(5)
        one.launch(50_000)
        one.ask(5)
        one.ask(77)
        one.launch(20_000)
        one.wait()
        one.end()
        one.host(9_000)
    _, _, _, wait, *_ = columns(listed([one.events], one.records).launches)
    assert (wait.reshape(4, -1) != NO_WAIT).tolist() == [[False, True, False, False]] * 4


def test_processes_have_correlations_of_their_own() -> None:
    """Otherwise a server's second worker gets the kernels of its first."""
    a, b = program(4), Traced()
    for _ in range(4):
        b.begin()
        b.launch(7_000)
        b.host(int(a.records["retire_ns"][0] - a.records["submit_ns"][0]) + 96_000)
        b.end()
    found = listed([a.events, b.events], a.records)
    counts, _, duration, *_ = columns(found.launches)
    assert counts.tolist() == [4] * 4
    assert sorted(duration[:4].tolist()) == [7_000, 20_000, 30_000, 50_000]


def two_threads(n: int, *, streams: tuple[int, int] = (0x7F00, 0x7F10), shift_ns: int = 30_000) -> tuple[Traced, ...]:
    """Two threads of a process, at the same time, each with iterations as `program` makes."""
    made = []
    for thread, stream in zip((7, 8), streams, strict=True):
        one = Traced(now=1_000_000_000 + shift_ns * (thread - 7), thread=thread)
        for _ in range(n):
            one.begin()
            one.launch(50_000, stream=stream)
            one.wait()
            one.host(10_000 * (thread - 6))
            one.launch(20_000, stream=stream)
            one.launch(30_000, stream=stream)
            one.wait()
            one.end()
            one.host(100_000)
        made.append(one)
    return tuple(made)


def events_of(threads: tuple[Traced, ...]) -> NDArray[np.void]:
    """As one ring has them: correlations are the process's."""
    parts = [one.events for one in threads]
    for number, part in enumerate(parts):
        for name in ("correlation", "inner"):
            part[name] += np.where(part[name] > 0, 1_000_000 * number, 0).astype(np.uint32)
    whole = np.concatenate(parts)
    whole.sort(order="end_ns")
    whole["seq"] = np.arange(1, len(whole) + 1)
    return whole


def test_iterations_of_two_threads_are_made_of_the_calls_of_each() -> None:
    """Otherwise one thread's wait stops the other's iteration, and one iteration holds the work of both."""
    threads = two_threads(20)
    events = events_of(threads)
    rows = np.concatenate([one.records for one in threads])
    order = np.argsort(rows["submit_ns"], kind="stable")
    rows = rows[order]
    whose = owners([events], rows)
    assert whose is not None
    assert whose.of.tolist() == np.repeat([7, 8], 20)[order].tolist()
    found = listed([events], rows, threads=whose)
    counts, offset, duration, wait, waited, _, lane = columns(found.launches)
    assert counts.tolist() == [3] * 40
    for number, one in enumerate(threads):
        mine = np.repeat(whose.of == 7 + number, 3)
        assert offset[mine].tolist() == one.offset
        assert duration[mine].tolist() == one.duration
        assert np.where(wait == NO_WAIT, -1, waited)[mine].tolist() == one.waited
        assert len(set(lane[mine].tolist())) == 1
    assert len(set(lane.tolist())) == 2
    assert (found.lost, found.unfinished, found.empty, found.early, found.outside) == (0, 0, 0, 0, 0)
    assert owners([threads[0].events], threads[0].records) is None, "of one thread"
    lines = rows.copy()
    lines["retire_ns"] += 700
    assert owners([events], lines) is None, "nothing tells whose line it is"


def test_a_thread_that_waits_for_itself_is_in_no_other_threads_iterations() -> None:
    """Otherwise a thread of which no iteration is told fills those of another with its launches and waits."""
    threads = two_threads(20)
    events, rows = events_of(threads), threads[0].records
    whose = owners([events], rows)
    assert whose is not None
    assert whose.others == (8,)
    found = listed([events], rows, threads=whose)
    assert columns(found.launches)[0].tolist() == [3] * 20
    assert found.outside > 0.3
    helper = events.copy()
    helper = helper[~((helper["thread"] == 8) & (helper["kind"] == Kind.WAIT))]
    assert owners([helper], rows) is None, "who never waits works for whoever does"
    ranges = np.zeros(len(rows), EVENT)
    ranges["begin_ns"], ranges["end_ns"], ranges["kind"], ranges["thread"] = rows["submit_ns"], rows["retire_ns"], 9, 3
    ranges["seq"] = np.arange(len(rows)) + 10**6
    waited = events[(events["thread"] != 7) | (events["kind"] != Kind.WAIT)]
    assert owners([np.concatenate([waited, ranges])], rows) is None, "a range may be the work of others"


def test_threads_with_one_stream_have_one_lane() -> None:
    """Otherwise a stream does two things at once."""
    threads = two_threads(20, streams=(0, 0))
    events = events_of(threads)
    rows = np.concatenate([one.records for one in threads])
    rows = rows[np.argsort(rows["submit_ns"], kind="stable")]
    found = listed([events], rows, threads=owners([events], rows))
    assert not columns(found.launches)[-1].any()
