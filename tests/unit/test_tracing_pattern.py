"""How many round trips an iteration is."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kts.worker.tracing.pattern import SURE, Grouping, Pattern, pattern
from kts.worker.tracing.trips import TRIP


def trips_of(launches: Sequence[int], pause_ns: Sequence[int] = (10,)) -> NDArray[np.void]:
    """Round trips of 100 ns, ``pause_ns`` (in turns) before each."""
    trips = np.zeros(len(launches), TRIP)
    at = 0
    for k, count in enumerate(launches):
        at += pause_ns[k % len(pause_ns)]
        trips[k] = (at, at + 100, 1, count, 0, 1, 50)
        at += 100
    return trips


@pytest.mark.parametrize(
    ("launches", "expected", "words"),
    [
        ([1, 22] * 40, (1, 22), "an iteration is 2 round trips: 1 launch, then 22"),
        ([22] * 40, (22,), "an iteration is a round trip: 22 launches"),
        ([1, 91, 1, 97] * 5 + [1, 97] * 30, (1, 97), "an iteration is 2 round trips: 1 launch, then 97"),
        ([516] * 9 + [530] + [516] * 30, (516,), "an iteration is a round trip: 516 launches"),
        ([0] * 30, (0,), "an iteration is a round trip: 0 launches"),
        ([3, 3, 40] * 20, (3, 3, 40), "an iteration is 3 round trips: 3 launches, then 3, then 40"),
        ([7], (7,), "an iteration is a round trip: 7 launches"),
    ],
)
def test_the_smallest_number_after_which_they_repeat(
    launches: list[int], expected: tuple[int, ...], words: str
) -> None:
    """Else two iterations would be told as one, or one as two."""
    found = pattern(trips_of(launches))
    assert (found.launches, found.words()) == (expected, words)


def test_lengths_that_come_in_turns_are_no_pattern_of_their_own() -> None:
    """Else a server's eight requests of eight lengths would count as one iteration."""
    assert pattern(trips_of([n for _ in range(20) for k in range(8) for n in (1, 90 + k)])).each == 2


def test_without_a_pattern_each_is_an_iteration_and_that_is_said() -> None:
    """Else a figure would be of iterations that nobody has, and nothing would tell."""
    rng = random.Random(1)
    found = pattern(trips_of([rng.choice((1, 10, 100, 1000)) for _ in range(200)]))
    assert found.each == 1
    assert "no pattern repeats: 18% of them launch as the one before" in found.words()


def test_a_slip_now_and_then_does_not_hide_a_pattern_and_is_said() -> None:
    """Else a program that logs its loss every hundredth step would have no iterations."""
    launches = ([1, 22] * 30 + [5]) * 6
    found = pattern(trips_of(launches))
    assert found.launches == (1, 22)
    assert found.words().endswith("then 22 (96% of them follow it)")


NINE = ([1, 22, 1, 3, 1, 40, 5, 1, 7], [1] * 8 + [22], [1, 22, 3, 40, 5, 60, 7, 80, 9])


@pytest.mark.parametrize("nine", NINE)
def test_what_a_program_does_before_its_first_iteration_does_not_hide_their_pattern(nine: list[int]) -> None:
    """Else a program that loads a model would be measured by single round trips for its first thousand."""
    rng = random.Random(3)
    loading = [rng.choice((1, 2, 5, 10, 100, 1000)) for _ in range(300)]
    assert pattern(trips_of(loading)).sure < SURE
    found = pattern(trips_of(loading + nine * 34))
    assert (found.each, found.sure >= SURE) == (9, True)
    assert pattern(trips_of(loading + nine * 200)).sure == 1.0


@pytest.mark.parametrize("nine", NINE)
@pytest.mark.parametrize("begins", range(9))
def test_iterations_begin_at_the_same_place_wherever_one_begins_to_look(nine: list[int], begins: int) -> None:
    """Else an iteration would be the end of one and the begin of the next, with the pause between these in it."""
    of = pattern(trips_of((nine * 40)[begins:]))
    assert of.launches == pattern(trips_of(nine * 40)).launches
    trips = trips_of((nine * 40)[begins:])
    grouping = Grouping(of)
    whole = grouping.add(trips)
    places = (np.searchsorted(trips["begin_ns"], whole["begin_ns"]) + begins) % 9
    assert len(set(places.tolist())) == 1
    assert grouping.left_out < 9
    assert len(whole) >= 38


def test_a_slip_among_many_like_ones_is_made_good() -> None:
    """Else one extra round trip would shift all later iterations of a program whose first one is like others."""
    grouping = Grouping(Pattern(tuple([1] * 8 + [22])))
    whole = grouping.add(trips_of([*[1] * 8, 22, 1, *[1] * 8, 22, *([1] * 8 + [22]) * 5]))
    assert whole["launches"].tolist()[-5:] == [30] * 5
    assert whole["end_ns"].tolist()[-1] == trips_of([1] * 64)["end_ns"][-1]


@pytest.mark.parametrize(("pauses", "first"), [((1000, 10), (22, 1)), ((10, 1000), (1, 22)), ((10, 12), (1, 22))])
def test_an_iteration_begins_where_the_program_pauses_longest(pauses: tuple[int, int], first: tuple[int, int]) -> None:
    """Else the think time of a program would count as part of its iterations."""
    assert pattern(trips_of([22, 1] * 30, pauses)).launches == first


def test_a_number_that_was_asked_for_is_taken() -> None:
    """Else the owner of a program could not correct a guess."""
    found = pattern(trips_of([5] * 30), 3)
    assert found.words() == "an iteration is 3 round trips: 5 launches, then 5, then 5 (as asked)"
    assert "(as asked; 0% of them follow it)" in pattern(trips_of([1, 30] * 30), 3).words()


def test_iterations_go_from_the_first_call_to_the_last_wait() -> None:
    """Else an iteration would lose the host time between its round trips, or its counts."""
    trips = trips_of([1, 22] * 4)
    whole = Grouping(Pattern((1, 22))).add(trips)
    assert whole["begin_ns"].tolist() == trips["begin_ns"][::2].tolist()
    assert whole["end_ns"].tolist() == trips["end_ns"][1::2].tolist()
    assert (whole["launches"].tolist(), whole["waits"].tolist()) == ([23] * 4, [2] * 4)
    assert whole["waited_ns"].tolist() == [100] * 4


@pytest.mark.parametrize("cut", range(9))
def test_it_finds_its_step_again(cut: int) -> None:
    """Else one extra round trip would shift all iterations that follow it by half of one."""
    trips = trips_of([22, 1, 22, 1, 1, 22, 1, 300, 7])
    grouping = Grouping(Pattern((1, 22)))
    whole = np.concatenate([grouping.add(trips[:cut]), grouping.add(trips[cut:])])
    assert whole["launches"].tolist() == [23, 23, 301]
    assert grouping.left_out == 2


def test_what_comes_after_missing_calls_begins_anew() -> None:
    """Else an iteration would be made of the halves of two."""
    grouping = Grouping(Pattern((5, 5)))
    assert len(grouping.add(trips_of([5]))) == 0
    grouping.forget()
    assert len(grouping.add(trips_of([5]))) == 0
    assert grouping.left_out == 1
