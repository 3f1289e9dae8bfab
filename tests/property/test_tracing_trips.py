"""Round trips by vector clocks against the same by sets of work, however the calls come in pieces."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kts.worker.tracing.layout import EVENT, Flag, Kind
from kts.worker.tracing.trips import FORGOTTEN, HELPED, TRIP, Trips

Stream = tuple[int, int, int]
Work = tuple[Stream, int]
HANDS = {Kind.LAUNCH, Kind.GRAPH, Kind.COPY, Kind.SET, Kind.HOST}


def calls_of(rng: random.Random, count: int, threads: int, streams: int) -> NDArray[np.void]:
    """Calls of a program, as they return: each thread makes one after the other, all are told in order of their end."""
    free = dict.fromkeys(range(1, threads + 1), 0)
    made = []
    for _ in range(count):
        thread = rng.choice(list(free))
        begin = free[thread] + rng.randint(1, 4)
        free[thread] = end = begin + rng.choice((1, 2, 30))
        kind = rng.choice((*HANDS, Kind.LAUNCH, Kind.WAIT, Kind.WAIT, Kind.QUERY, Kind.RECORD, Kind.STREAM_WAIT))
        stream = rng.choice(range(streams))
        flags = Flag.LEGACY if stream == 0 and rng.random() < 0.7 else Flag(0)
        if kind is Kind.COPY and rng.random() < 0.4:
            flags |= Flag.WAITED
        if rng.random() < 0.05:
            flags |= Flag.FAILED
        detail = rng.randint(1, 2) if kind in {Kind.RECORD, Kind.STREAM_WAIT} else 0
        if kind in {Kind.WAIT, Kind.QUERY} and rng.random() < 0.4:
            detail = rng.randint(1, 3)
        elif kind is Kind.WAIT and rng.random() < 0.3:
            flags |= Flag.ALL
        context = rng.randint(1, 2) if rng.random() < 0.2 else 1
        made.append((end, begin, kind, flags, thread, stream, context, detail))
    calls = np.zeros(count, EVENT)
    for k, (end, begin, kind, flags, thread, stream, context, detail) in enumerate(sorted(made)):
        calls[k] = (k + 1, begin, end, kind, flags, thread, stream, context, 0, 0, 0, detail)
    return calls


class Sets:
    """The definition, taken literally: work is a set, and so is what a wait covers."""

    def __init__(self) -> None:
        self.handed: dict[Stream, list[tuple[int, int]]] = defaultdict(list)  # stream -> (number, begin)
        self.reached: dict[Stream, set[Work]] = defaultdict(set)  # all before a stream's next work
        self.recorded: dict[int, set[Work]] = {}
        self.done: set[Work] = set()
        self.open: dict[int, list[tuple[Work, int, int, int]]] = defaultdict(list)
        self.waits: dict[int, int] = defaultdict(int)
        self.waiting: dict[int, int] = defaultdict(int)
        self.handed_end: dict[int, int] = defaultdict(int)
        self.itself: dict[int, bool] = defaultdict(bool)
        self.helped: dict[int, int] = defaultdict(int)
        self.found: list[tuple[int, ...]] = []

    def all_before(self, ns: int) -> set[Work]:
        kept = set()
        for stream, works in self.handed.items():
            n = len(works)
            while n and works[n - 1][1] > ns:
                n -= 1
            kept |= {(stream, number) for number, _ in works[:n]}
        return kept

    def take(self, call: np.void) -> None:
        kind, flags, thread, detail = Kind(call["kind"]), int(call["flags"]), int(call["thread"]), int(call["detail"])
        if flags & Flag.FAILED or kind is Kind.RANGE:
            return
        context = int(call["context"])
        stream = (context, int(call["stream"]), thread if call["stream"] == 2 else 0)
        begin, end = int(call["begin_ns"]), int(call["end_ns"])
        if flags & Flag.LEGACY and kind in HANDS | {Kind.RECORD}:
            for other in list(self.reached):
                if other[0] == context:
                    self.reached[stream] |= self.reached[other]
        if kind in HANDS:
            work = (stream, len(self.handed[stream]))
            self.handed[stream].append((work[1], begin))
            self.reached[stream].add(work)
            launches, copies = kind in {Kind.LAUNCH, Kind.GRAPH}, kind is Kind.COPY
            self.open[thread].append((work, begin, launches, copies))
            self.handed_end[thread] = end
            if flags & Flag.WAITED:
                self.waited(thread, self.reached[stream] & (self.all_before(begin) | {work}), begin, end, kind)
        elif kind is Kind.RECORD:
            self.recorded[detail] = set(self.reached[stream])
        elif kind is Kind.STREAM_WAIT:
            self.reached[stream] |= self.recorded.get(detail, set())
        else:
            covered = set(self.reached[stream])
            if flags & Flag.ALL:
                covered = set[Work]().union(*(r for s, r in self.reached.items() if s[0] == context))
            elif detail:
                covered = self.recorded.get(detail, set())
            self.waited(thread, covered & self.all_before(begin), begin, end, kind)

    def waited(self, thread: int, covered: set[Work], begin: int, end: int, kind: Kind) -> None:
        self.done |= covered
        over = []
        if self.open[thread]:
            self.waits[thread] += kind is not Kind.QUERY
            if kind is not Kind.QUERY:
                self.waiting[thread] += end - begin
            elif all(work in self.done for work, *_ in self.open[thread]):
                self.waiting[thread] += end - self.handed_end[thread]
            self.itself[thread], self.helped[thread] = True, 0
        for other in [thread, *(o for o in self.open if o != thread)]:
            works = self.open[other]
            if not works or not all(work in self.done for work, *_ in works):
                continue
            if other == thread or not self.itself[other]:
                over.append(other)
            if other != thread:
                self.helped[other] += 1
                self.itself[other] &= self.helped[other] < HELPED
        if over:
            works = [one for other in over for one in self.open[other]]
            whose = thread if thread in over else min(over, key=lambda other: self.open[other][0][1])
            waits = sum(self.waits[other] for other in over)
            launches, copies = sum(one[2] for one in works), sum(one[3] for one in works)
            first = min(one[1] for one in works)
            waiting = min(self.waiting[thread] if whose == thread else end - begin, end - first)
            self.found.append((first, end, whose, launches, copies, max(1, waits), waiting))
            for other in over:
                self.open[other], self.waits[other], self.waiting[other] = [], 0, 0


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 4))
def test_round_trips_are_what_their_definition_says(seed: int, threads: int, streams: int) -> None:
    """Else an iteration would end before its work, or swallow the next one."""
    calls = calls_of(random.Random(seed), 60, threads, streams)
    sets = Sets()
    for call in calls:
        sets.take(call)
    assert Trips().add(calls).tolist() == sets.found


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2), st.lists(st.integers(0, 60), max_size=3))
def test_the_shorter_way_of_a_plain_program_is_the_same(seed: int, stream: int, cuts: list[int]) -> None:
    """Else a program of one thread and one stream, as most are, would have other round trips."""
    rng = random.Random(seed)
    calls = calls_of(rng, 60, 1, 1)
    kinds = [*HANDS, Kind.WAIT, Kind.WAIT, Kind.QUERY]
    calls["kind"] = [rng.choice(kinds) for _ in calls]
    calls["flags"] = [rng.choice((0, 0, Flag.WAITED, Flag.ALL)) for _ in calls]
    calls["context"], calls["detail"], calls["stream"] = 1, 0, stream
    calls["stream"][calls["flags"] == Flag.ALL] = 0
    calls["flags"][calls["kind"] == Kind.QUERY] = 0
    calls["stream"][calls["kind"] == Kind.QUERY] = stream
    sets, trips = Sets(), Trips()
    for call in calls:
        sets.take(call)
    assert [row for piece in np.split(calls, sorted(cuts)) for row in trips.add(piece).tolist()] == sets.found


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 80), max_size=8))
def test_pieces_make_no_difference(seed: int, cuts: list[int]) -> None:
    """Else what an iteration is would depend on when the worker looked."""
    calls = calls_of(random.Random(seed), 80, 2, 3)
    pieces = Trips()
    found = [pieces.add(piece) for piece in np.split(calls, sorted(cuts))]
    assert np.concatenate([np.empty(0, TRIP), *found]).tolist() == Trips().add(calls).tolist()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_after_missing_calls_it_begins_anew(seed: int) -> None:
    """Else one lost wait would join all iterations that follow."""
    rng = random.Random(seed)
    trips = Trips()
    before = trips.add(calls_of(rng, 40, 2, 3))
    trips.forget()
    assert trips.unfinished == 0
    after = calls_of(rng, 2, 1, 1)
    after["kind"], after["flags"], after["detail"], after["context"], after["stream"] = 0, 0, 0, 1, 0
    after["kind"] = (Kind.LAUNCH, Kind.WAIT)
    assert [row[3] for row in trips.add(after).tolist()] == [1], before


def test_work_that_nobody_waits_for_does_not_hold_up_all_round_trips() -> None:
    """Otherwise a library that is set up on a stream of its own hides all iterations of its thread; and two batches in
    turn, of which one is always in flight, are still no round trips."""

    def program(strays: int) -> NDArray[np.void]:
        made, now = [], 0
        for k in range(300):
            for stream, kind in [(0x20, Kind.LAUNCH)] * (k < strays) + [(0x10, Kind.LAUNCH), (0x10, Kind.WAIT)]:
                made.append((len(made) + 1, now, now + 2, kind, 0, 7, stream, 1, 0, 0, 0, 0))
                now += 5
        return np.array(made, EVENT)

    trips = Trips()
    found = np.concatenate([trips.add(part) for part in np.array_split(program(1), 20)])
    assert len(found) == 300 - FORGOTTEN + 1
    assert set(found["launches"][1:].tolist()) == {1}
    assert set(found["waits"][1:].tolist()) == {1}
    assert not len(Trips().add(program(300)))
