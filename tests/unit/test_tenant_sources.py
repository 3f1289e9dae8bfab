"""A program's iterations, made of its lines, ranges and round trips."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kts.model.records import NOT_TOLD
from kts.wire.appline import AppLine
from kts.worker.tenants.hearing import _Candidate
from kts.worker.tenants.sources import FromLines, FromRanges, FromTrips
from kts.worker.tracing.calls import Calls
from kts.worker.tracing.layout import EVENT, Kind, Level, Reason, State
from kts.worker.tracing.reader import Batch
from kts.worker.tracing.ring import TracedProcess

MS = 1_000_000
NAMES = {0: "step", 5: "other"}


def process(lost: int = 0, pid: int = 7) -> TracedProcess:
    told = {"calls": 1, "lost": lost, "held": 0, "holds": 0, "held_ns": 0, "alive": True}
    return TracedProcess(pid, 1, "program", State.RECORDING, Reason.NONE, "", 12, Level.CALLS, **told)  # type: ignore[arg-type]


def batch(calls: Sequence[tuple[Kind, int, int]], *, lost: int = 0, breaks: Sequence[int] = (), pid: int = 7) -> Batch:
    """Calls of (kind, begin, end), ms; of a range, the end of its name's number is its thread."""
    events: NDArray[np.void] = np.zeros(len(calls), EVENT)
    for k, (kind, begin, end) in enumerate(calls):
        events[k] = (k + 1, begin * MS, end * MS, kind, 0, 1, 3, 1, 0, 0, 0, 0)
    return Batch(process(lost, pid), events, np.array(breaks, np.intp), NAMES)


def iterations(first: int, count: int, *, launches: int = 2) -> list[tuple[Kind, int, int]]:
    """Each 10 ms: launches, and a wait that is over after 8."""
    calls = []
    for begin in range(first, first + 10 * count, 10):
        calls += [(Kind.LAUNCH, begin, begin)] * launches + [(Kind.WAIT, begin + 1, begin + 8)]
    return calls


@pytest.mark.parametrize(("wait", "ms"), [(Kind.WAIT, 7), (Kind.QUERY, 8)])
def test_what_the_host_waited_is_told_of_each_iteration_however_it_waits(wait: Kind, ms: int) -> None:
    """Else a program's own time, and a GPU that others have, could not be told apart."""
    calls = [(wait if kind is Kind.WAIT else kind, begin, end) for kind, begin, end in iterations(10, 4)]
    assert FromTrips(1).take([], [batch(calls)])["waited_ns"].tolist() == [ms * MS] * 4


def test_a_round_trip_that_reaches_over_lost_calls_is_no_iteration() -> None:
    """Else two iterations, the wait between them lost, would be told as one slow one."""
    calls = iterations(10, 4)
    del calls[5]  # the wait of the second
    source = FromTrips(1)
    records = source.take([], [batch(calls, lost=1, breaks=[5])])
    assert (records["submit_ns"] // MS).tolist() == [10, 30, 40]
    assert source.unread == 1
    assert source.left_out == 1


def test_ranges_are_counted_as_missing_in_proportion_to_what_was_lost() -> None:
    """Else lost ranges would leave no trace in the figures that they could move."""
    ranges = [(Kind.RANGE, at, at + 5) for at in range(10, 50, 10)]
    source = FromRanges("step")
    assert len(source.take([], [batch(ranges)])) == 4
    assert source.unread == 0
    source.take([], [batch(ranges, lost=3, breaks=[2])])
    assert source.unread == 3
    assert list(source.others) == ["other"]


def test_launches_of_a_line_are_those_of_its_time_and_none_where_some_are_lost() -> None:
    """Else a count would be told that nobody has made."""
    ahead_ns = time.time_ns() - time.monotonic_ns()
    source = FromLines()
    source.take([], [batch(iterations(10, 4), lost=1, breaks=[6])])
    lines = [
        AppLine(
            app="A",
            i=k,
            start_ns=ahead_ns + (9 + 10 * k) * MS,
            end_ns=ahead_ns + (19 + 10 * k) * MS,
            device_ms=math.nan,
        )
        for k in range(4)
    ]
    records = source.take(lines, [])
    assert records["launches"].tolist() == [2, 0, 0, 2]
    assert records["waits"].tolist() == [1, 0, 0, 1]
    assert [waited > 0 for waited in records["waited_ns"]] == [True, False, False, True]
    assert records["waited_ns"][1:3].tolist() == [NOT_TOLD, NOT_TOLD]


def test_calls_are_counted_by_their_begin_and_the_oldest_are_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an iteration of more calls than are kept would be told to have made fewer."""
    monkeypatch.setattr("kts.worker.tracing.calls._KEPT", 8)
    calls = Calls()
    for first in range(0, 100, 10):
        calls.add(batch(iterations(first, 1)).events)
    begins = np.array([0, 60, 70, 90]) * MS
    assert calls.within(begins, begins + 9 * MS)["launches"].tolist() == [0, 2, 2, 2]
    assert calls.within(begins, begins + 9 * MS)["waits"].tolist() == [0, 1, 1, 1]
    assert calls.within(begins, begins + 9 * MS)["waited_ns"][0] == NOT_TOLD


def test_where_several_threads_wait_their_waits_are_not_added_up() -> None:
    """Else an iteration would be told to have waited for longer than it took, or to have computed nothing."""
    calls = Calls()
    events = batch(iterations(0, 2)).events
    calls.add(events)
    assert calls.within(np.array([0]), np.array([9 * MS]))["waited_ns"][0] > 0
    events["thread"] += 1
    calls.add(events)
    assert calls.within(np.array([0]), np.array([9 * MS]))["waited_ns"][0] == NOT_TOLD


def test_without_calls_lines_have_no_counts() -> None:
    """Else every run of an untraced program would carry columns of zeros."""
    line = AppLine(app="A", i=0, start_ns=time.time_ns(), end_ns=time.time_ns(), device_ms=1.0)
    assert FromLines().take([line], []).dtype.names == ("i", "due_ns", "submit_ns", "retire_ns", "device_ms")


def test_copies_of_a_program_that_loads_its_data_are_no_iterations() -> None:
    """Else an iteration would be what a program does before its first one."""
    loading = [call for at in range(0, 300, 10) for call in ((Kind.COPY, at, at), (Kind.WAIT, at + 1, at + 2))]
    source = FromTrips(None)
    source.take([], [batch([*loading, *iterations(400, 20)])])
    assert source.settle()
    assert (source.again()["submit_ns"] // MS).tolist() == list(range(400, 600, 10))
    assert source.words() == "an iteration is a round trip: 2 launches"


def test_a_program_that_never_waits_for_all_is_known_by_that() -> None:
    """Else its owner would be told of no iterations, and not why."""
    told = batch(iterations(10, 20))
    told.events["stream"][::3] = 4  # its other launch, which nothing waits for
    source = FromTrips(None)
    assert len(source.take([], [told])) == 0
    assert source.unfinished
    assert not FromTrips(None).unfinished


def test_a_program_that_only_copies_has_round_trips_all_the_same() -> None:
    """Else a tenant that feeds a GPU would have no figures."""
    source = FromTrips(None)
    calls = [call for at in range(0, 300, 10) for call in ((Kind.COPY, at, at), (Kind.WAIT, at + 1, at + 2))]
    assert len(source.take([], [batch(calls)])) == 30
    assert source.speaks


@pytest.mark.parametrize("asked", [None, 2])
def test_processes_have_iterations_of_their_own(asked: int | None) -> None:
    """Else the halves of two processes' iterations would make one."""
    source = FromTrips(asked)
    for pid in (7, 8):
        source.take([], [batch(iterations(10, 36), pid=pid)])
    source.settle()
    records = source.take([], [batch(iterations(1000 + pid, 2), pid=pid) for pid in (7, 8)])
    assert (records["submit_ns"] // MS).tolist() == sorted(records["submit_ns"] // MS)
    assert len(records) == (4 if asked is None else 2)


def _trips(counts: Sequence[int], first: int = 10) -> list[tuple[Kind, int, int]]:
    """Round trips of so many launches each, 10 ms apart."""
    return [call for k, count in enumerate(counts) for call in iterations(first + 10 * k, 1, launches=count)]


NINE = (1, 22, 1, 3, 1, 40, 5, 1, 7)


def test_no_program_is_settled_before_its_pattern_is_sure_or_its_limit_over() -> None:
    """Else a run would measure single round trips, none like the one before, and call them iterations."""
    counts = [1, 9, 80, 2, 30, 200, 5, 1000, 14, 50, 3, 400] * 50
    random.Random(4).shuffle(counts)
    candidate = _Candidate(FromTrips(None), 0, 5.0)
    for k in range(0, 600, 10):
        candidate.take([], [batch(_trips(counts[k : k + 10], 10 + 10 * k))])
        assert candidate.settling.took_s >= 5.0 or not candidate.over
    assert candidate.over  # at its limit, though 400 iterations were there long before


def test_a_pattern_behind_what_was_loaded_is_waited_for_and_found() -> None:
    """Else the load of a model would decide what an iteration is, and loading would count as such."""
    rng = random.Random(5)
    counts = [rng.choice((1, 2, 5, 10, 100, 300)) for _ in range(300)] + list(NINE) * 600
    source = FromTrips(None)
    candidate = _Candidate(source, 0, 120.0)
    for k in range(0, len(counts), 9):
        candidate.take([], [batch(_trips(counts[k : k + 9], 10 + 10 * k))])
        if candidate.over:
            break
    assert source.sure
    assert source.words().startswith("an iteration is 9 round trips: ")
    assert 30 <= candidate.settling.took_s < 45
    assert set(np.round(candidate.settling.steady_ms[-200:]).tolist()) == {88.0}


def test_a_second_look_that_finds_the_same_keeps_its_place() -> None:
    """Else each look would cost an iteration, and the next ones would begin at another round trip."""
    source = FromTrips(None)
    counts = list(NINE) * 40
    source.take([], [batch(_trips(counts))])
    source.settle()
    source.again()
    begins = []
    for k in range(0, 360, 4):
        begins += source.take([], [batch(_trips(counts[k : k + 4], 3610 + 10 * k))])["submit_ns"].tolist()
        assert not source.settle()
    assert set(np.diff(begins).tolist()) == {90 * MS}
    assert len(begins) >= 39


@pytest.mark.parametrize("by_s", [-3600, -0.02, 0.02, 3600])
def test_iterations_of_a_moment_in_which_the_clock_was_set_count_as_unread(
    by_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would be moved out of their block, or become an hour long, unsaid."""
    ahead = [10**18]
    monkeypatch.setattr("kts.worker.tenants.sources.epoch_offset_ns", lambda: ahead[0])
    source = FromLines()

    def line(k: int, begun_by_ns: int = 0) -> AppLine:
        start_ns = time.monotonic_ns() + ahead[0] - begun_by_ns
        return AppLine(app="A", i=k, start_ns=start_ns, end_ns=time.monotonic_ns() + ahead[0], device_ms=math.nan)

    assert len(source.take([line(0)], [])) == 1
    before = [line(1), line(2)]
    ahead[0] += int(by_s * 1e9)
    assert len(source.take([*before, line(3)], [])) == 0
    assert source.unread == 3
    assert len(source.take([line(4, begun_by_ns=10**9)], [])) == 0  # it was in flight then
    assert len(source.take([line(5)], [])) == 1
    assert source.unread == 4
    assert "CLOCK_REALTIME was set by" in source.notes[0]
