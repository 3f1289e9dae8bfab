"""Round trips of watched processes: those of the tracer's slower reader, however the calls come in pieces."""

from __future__ import annotations

import numpy as np
import pytest

from kts.watch.calls import CALL, FUNCTIONS, Array
from kts.watch.roundtrips import STALE_NS, WatchedTrips
from kts.worker.tracing.layout import EVENT, Flag, Kind
from kts.worker.tracing.trips import Trips

NUMBER = {function.name: number for number, function in enumerate(FUNCTIONS)}
LAUNCH, COPY, WAIT = NUMBER["cuLaunchKernel"], NUMBER["cuMemcpyDtoH_v2"], NUMBER["cuStreamSynchronize"]


def _calls(*rows: tuple[int, int, int, int, int]) -> Array:
    return np.array(list(rows), CALL)


def _events(calls: Array) -> Array:
    """One process's calls as the tracer writes them, each wait for all, in the order in which they return."""
    rows, entered = [], {}
    for ns, _, thread, number, returned in calls.tolist():
        function = FUNCTIONS[number]
        if function.waits and not returned:
            entered[thread] = ns
        else:
            flags = function.flags | (Flag.ALL if function.kind == Kind.WAIT else 0)
            rows.append((entered.pop(thread, ns), ns, function.kind, flags, thread))
    events = np.zeros(len(rows), EVENT)
    for name, column in zip(("begin_ns", "end_ns", "kind", "flags", "thread"), zip(*rows, strict=True), strict=True):
        events[name] = column
    return events


def _program(rng: np.random.Generator, process: int, threads: int, helpers: int, rounds: int) -> Array:
    """Threads that each hand over and wait, in turns; helpers that hand over to whoever waits next."""
    rows, ns = [], int(rng.integers(1, 1000))
    for _ in range(rounds):
        thread = 10 + int(rng.integers(threads))
        for _ in range(int(rng.integers(1, 5))):
            ns += int(rng.integers(1, 50))
            rows.append((ns, process, thread, int(rng.choice([LAUNCH, NUMBER["cuGraphLaunch"], 9])), 0))
        for helper in range(helpers):
            ns += int(rng.integers(1, 50))
            rows.append((ns, process, 90 + helper, LAUNCH, 0))
        last = COPY if rng.random() < 0.3 else WAIT
        rows.append((ns + 1, process, thread, last, 0))
        ns += int(rng.integers(2, 400))
        rows.append((ns, process, thread, last, 1))
        if rng.random() < 0.2:  # a wait for nothing
            rows += [(ns + 1, process, thread, WAIT, 0), (ns + 3, process, thread, WAIT, 1)]
            ns += 4
    return np.array(list(rows), CALL)


@pytest.mark.parametrize(("threads", "helpers"), [(1, 0), (3, 0), (1, 2)])
def test_round_trips_are_those_of_the_tracers_reader(threads: int, helpers: int) -> None:
    """Else the same program would have other response times watched than measured."""
    rng = np.random.default_rng(threads * 10 + helpers)
    calls = _program(rng, 1, threads, helpers, 300)
    found, expected = WatchedTrips().add(calls), Trips().add(_events(calls))
    assert len(found) == len(expected) > 200
    order = np.argsort(expected["end_ns"])
    for name in ("begin_ns", "end_ns", "launches", "copies", "waited_ns"):
        np.testing.assert_array_equal(found[name], expected[name][order], name)


@pytest.mark.parametrize(("threads", "helpers"), [(1, 0), (3, 0), (1, 2), (2, 1)])
def test_pieces_change_nothing(threads: int, helpers: int) -> None:
    """Else what is told would hang on how the kernel's buffers are emptied."""
    rng = np.random.default_rng(7)
    several = [_program(rng, process, threads, helpers, 120) for process in range(1, 6)]
    calls = np.sort(np.concatenate(several), order=["ns", "process"], kind="stable")
    # a thread that has not waited yet counts as one that helps: let all have waited once
    whole, pieces = WatchedTrips(), WatchedTrips()
    start = len(calls) // 4
    at_once = [whole.add(calls[:start]), whole.add(calls[start:])]
    cuts = np.sort(rng.integers(start, len(calls), 40))
    parts = [pieces.add(calls[:start]), *(pieces.add(part) for part in np.split(calls[start:], cuts - start))]
    keys = ["process", "end_ns", "begin_ns"]
    np.testing.assert_array_equal(
        np.sort(np.concatenate(parts), order=keys), np.sort(np.concatenate(at_once), order=keys)
    )


def test_what_is_begun_is_in_flight_until_its_wait_returns() -> None:
    """Else a neighbour in the middle of a long kernel would not count as company."""
    trips = WatchedTrips()
    trips.add(_calls((100, 1, 10, LAUNCH, 0), (110, 1, 10, WAIT, 0)))
    assert trips.in_flight(5 * STALE_NS).tolist() == [(1, 100, 5 * STALE_NS)]
    (found,) = trips.add(_calls((6 * STALE_NS, 1, 10, WAIT, 1)))
    assert (found["begin_ns"], found["end_ns"], found["waited_ns"]) == (100, 6 * STALE_NS, 6 * STALE_NS - 110)
    assert not len(trips.in_flight(6 * STALE_NS))


def test_work_that_nobody_waits_for_is_not_in_flight_for_ever() -> None:
    """Else one launch of a library that is set up beside would be company to all, for as long as it lives."""
    trips = WatchedTrips()
    trips.add(_calls((100, 1, 10, LAUNCH, 0)))
    assert trips.in_flight(9 * STALE_NS)["end_ns"].tolist() == [100 + STALE_NS]


def test_who_is_gone_or_whose_calls_are_lost_has_nothing_in_flight() -> None:
    """Else a killed neighbour would be company for ever, and a round trip would span what was lost."""
    for end in (lambda trips: trips.gone((1,)), lambda trips: trips.forget()):
        trips = WatchedTrips()
        trips.add(_calls((100, 1, 10, LAUNCH, 0), (110, 1, 10, WAIT, 0)))
        end(trips)
        assert not len(trips.in_flight(200))
        assert not len(trips.add(_calls((300, 1, 10, WAIT, 1))))


def test_a_thread_whose_work_others_wait_for_becomes_a_helper() -> None:
    """Else the work of a thread that synchronised once at its start would be in no round trip, for ever."""
    rows = [(1, 1, 90, LAUNCH, 0), (2, 1, 90, WAIT, 0), (3, 1, 90, WAIT, 1)]
    trips, ns = WatchedTrips(), 10
    trips.add(_calls(*rows))
    counts: list[int] = []
    for _ in range(70):
        found = trips.add(
            _calls(
                (ns, 1, 10, LAUNCH, 0), (ns + 1, 1, 90, LAUNCH, 0), (ns + 2, 1, 10, WAIT, 0), (ns + 3, 1, 10, WAIT, 1)
            )
        )
        counts += found["launches"].tolist()
        ns += 10
    assert counts[0] == 1
    assert counts[-1] == 2


def test_calls_of_a_later_version_are_passed_over() -> None:
    """Else a recording of a later kts would end in a traceback."""
    calls = _calls((1, 1, 1, LAUNCH, 0), (2, 1, 1, 60000, 0), (3, 1, 1, WAIT, 0), (4, 1, 1, WAIT, 1))
    found = WatchedTrips().add(calls)
    assert len(found) == 1
