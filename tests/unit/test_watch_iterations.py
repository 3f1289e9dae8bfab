"""What an iteration of a watched program is: round trips that repeat, from their calls alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kts.watch.calls import Array
from kts.watch.iterations import FIRST_LOOK, LOOKED_AT, MOST_THREADS, PATIENCE, UnitIterations
from kts.watch.roundtrips import WATCHED_TRIP
from kts.worker.tracing.pattern import alike

TOOK_NS, PAUSE_NS = 1_000_000, 50_000


def _trips(launches: Sequence[int], thread: int = 1, process: int = 1, pauses_ns: Sequence[int] = (PAUSE_NS,)) -> Array:
    """Round trips of a millisecond, one after the other, ``pauses_ns`` (in turns) before each."""
    trips = np.zeros(len(launches), WATCHED_TRIP)
    pauses = np.resize(np.array(pauses_ns), len(launches))
    trips["end_ns"] = np.cumsum(pauses + TOOK_NS)
    trips["begin_ns"] = trips["end_ns"] - TOOK_NS
    trips["waited_ns"], trips["launches"], trips["copies"] = 400_000, launches, 1
    trips["process"], trips["thread"] = process, thread
    return trips


def _told(trips: Array, cuts: Sequence[int] = ()) -> tuple[UnitIterations, Array]:
    """What counts in the end, told in these pieces."""
    unit, found = UnitIterations(), []
    for part in np.split(trips, list(cuts)):
        new = unit.add(part)
        found = [new] if unit.anew else [*found, new]
    return unit, np.concatenate(found)


def _repeats_sooner(usual: list[int]) -> bool:
    """Whether it is alike after fewer than all, so that an iteration is taken to be less."""
    counts = np.array(usual)
    return any(alike(counts, np.roll(counts, k)).mean() >= 0.75 for k in range(1, len(usual)))


@settings(max_examples=40, deadline=None)
@given(
    usual=st.lists(st.integers(0, 400), min_size=2, max_size=9),
    begins=st.integers(0, 8),
    cuts=st.lists(st.integers(1, 899), max_size=12),
    spread=st.floats(0, 0.05),
    seed=st.integers(0, 99),
)
def test_iterations_of_several_waits_are_found(
    usual: list[int], begins: int, cuts: list[int], spread: float, seed: int
) -> None:
    """Else p50 of a program that waits three times in each iteration would lie between kinds of round trips."""
    if _repeats_sooner(usual):
        return
    each = len(usual)
    noise = np.random.default_rng(seed).uniform(1 - spread, 1 + spread, 900 + begins)
    launches = np.rint(np.resize(usual, 900 + begins) * noise).astype(int)[begins:]
    trips = _trips(launches)
    unit, found = _told(trips, sorted(set(cuts)))
    assert unit.each == each
    assert f"an iteration is {each} round trips" in unit.words()
    # what was told as single round trips before does not count
    assert np.unique(found["end_ns"] - found["begin_ns"]).tolist() == [each * TOOK_NS + (each - 1) * PAUSE_NS]
    assert (np.diff(found["begin_ns"]) == each * (TOOK_NS + PAUSE_NS)).mean() > 0.9
    assert len(found) > 0.6 * 900 / each
    first = int(np.searchsorted(trips["begin_ns"], found["begin_ns"][0]))
    assert found["launches"][0] == launches[first : first + each].sum()
    assert (found["waited_ns"] == each * 400_000).all()


def test_iterations_of_any_length_are_found_by_what_launches_nothing() -> None:
    """Else p50 of a program that copies each input and then works as long as that is would lie between the two."""
    rng = np.random.default_rng(4)
    works = rng.integers(20, 400, 500)
    unit, found = _told(_trips(np.stack([np.zeros_like(works), works], axis=1).ravel()), range(70, 1000, 70))
    assert unit.each == 2
    assert "2 round trips, of launches none, any" in unit.words()
    assert found["launches"].tolist() == works[-len(found) :].tolist()
    assert len(found) > 450


def test_two_kinds_of_requests_that_come_as_they_like_stay_round_trips() -> None:
    """Else a response would be of two requests of different clients, and of the time between them."""
    launches = np.random.default_rng(1).choice([40, 200], 2000)
    unit, found = _told(_trips(launches), range(50, 2000, 50))
    assert (unit.each, len(found)) == (1, 2000)
    assert "no pattern repeats" in unit.words()
    assert "single round trips" in unit.words()


def test_requests_in_turns_with_pauses_between_them_stay_round_trips() -> None:
    """Else what nobody asked for in the meantime would count as response."""
    unit, found = _told(_trips([40, 200] * 500, pauses_ns=(3_000_000, 2_900_000)))
    assert (unit.each, len(found)) == (1, 1000)
    assert "pauses longer" in unit.words()


def test_a_decoder_of_as_many_tokens_as_it_likes_stays_with_round_trips() -> None:
    """Else an iteration would end in the middle of one answer and begin in another."""
    rng = np.random.default_rng(2)
    launches = [n for _ in range(300) for n in (300, *[30] * int(rng.integers(3, 14)))]
    unit, found = _told(_trips(launches), range(64, len(launches), 64))
    assert (unit.each, len(found)) == (1, len(launches))
    assert "no pattern repeats" in unit.words()


def test_where_round_trips_are_alike_each_is_one_and_nothing_is_to_be_said() -> None:
    """Else the plainest program would come with a word of caution."""
    unit, found = _told(_trips([22] * 20_000), range(100, 20_000, 100))
    assert (unit.each, len(found), unit.words(), unit.anew) == (1, 20_000, "", False)


@pytest.mark.parametrize(
    ("before", "after"), [([22], [0, 90]), ([0, 90], [22]), ([0, 90], [0, 0, 90]), ([1, 40, 7], [0, 300])]
)
def test_where_a_pattern_changes_what_was_before_does_not_count(before: list[int], after: list[int]) -> None:
    """Else a figure would be of two kinds of iterations, and nothing would tell."""
    launches = before * (3000 // len(before)) + after * (9000 // len(after))
    unit, found = _told(_trips(launches), range(30, len(launches), 30))
    assert unit.each == len(after)
    assert (found["launches"] == sum(after)).all()
    assert len(found) > 1000 / len(after)


def test_where_a_pattern_ends_it_is_round_trips_again_and_that_is_said() -> None:
    """Else p99 would be of iterations that the program does not make any more."""
    rng = np.random.default_rng(3)
    launches = [0, 90] * 500 + rng.choice([5, 40, 200], 2000).tolist()
    trips = _trips(launches)
    unit, found = _told(trips, range(30, len(launches), 30))
    assert unit.each == 1
    assert "no pattern repeats" in unit.words()
    assert found["begin_ns"].min() >= trips["end_ns"][999]


def test_what_follows_no_pattern_now_and_then_is_left_out_and_changes_nothing() -> None:
    """Else the evaluation after each epoch would throw away all that was seen of the training."""
    epoch = [0, 90] * 1000 + [35] * 300
    unit, whole = UnitIterations(), 0
    unit.add(_trips([0, 90] * LOOKED_AT))
    for part in np.split(_trips(epoch * 5), 100):
        found = unit.add(part)
        assert not unit.anew
        assert (found["launches"] == 90).all()
        whole += len(found)
    assert whole == pytest.approx(5000, abs=20)
    assert "belong to none" in unit.words()


def test_more_launches_of_as_many_waits_are_the_same_iteration() -> None:
    """Else a batch that is larger in company would be nothing to compare with."""
    unit = UnitIterations()
    unit.add(_trips([0, 90] * 200))
    larger, anew = [], False
    for part in np.split(_trips([0, 180] * 300), 20):
        larger.append(unit.add(part))
        anew |= unit.anew
    assert not anew
    assert unit.each == 2
    assert len(np.concatenate(larger)) > 300 - LOOKED_AT


def test_two_threads_of_one_process_are_told_apart() -> None:
    """Else an iteration would be made of the round trips of two threads, as they happen to end."""
    one, other = _trips([0, 90] * 400, thread=1), _trips([7, 3, 300] * 300, thread=2)
    both = np.concatenate([one, other])
    unit, found = _told(both[np.argsort(both["end_ns"], kind="stable")], range(100, 1700, 100))
    assert set(found["launches"][found["thread"] == 1].tolist()) == {90}
    assert set(found["launches"][found["thread"] == 2].tolist()) == {310}
    assert "of other threads" in unit.words()


def test_threads_that_launch_nothing_do_not_count_where_others_of_their_process_do() -> None:
    """Else half of a training's responses would be those of the thread that copies batches, unlike in a traced run."""
    loading = _trips([0] * 100)
    train, copies = _trips([22] * 5000), _trips([0] * 5000, thread=2)
    both = np.concatenate([train, copies])
    both["begin_ns"] += loading["end_ns"][-1]
    both["end_ns"] += loading["end_ns"][-1]
    both = np.concatenate([loading, both[np.argsort(both["end_ns"], kind="stable")]])
    unit, found = _told(both, range(50, len(both), 50))
    assert found["launches"].tolist() == [22] * 5000
    assert unit.words() == ""
    assert unit.each == 1
    other, found = _told(_trips([0] * 5000, thread=2), range(50, 5000, 50))
    assert (len(found), other.words()) == (5000, "")


def test_a_new_process_is_taken_to_do_as_the_one_before() -> None:
    """Else the first iterations after each restart would be told as round trips, beside those of before."""
    unit = UnitIterations()
    unit.add(_trips([0, 90] * 100))
    unit.gone(1)
    found = unit.add(_trips([90, 0, 90, 0], process=2))
    assert (found["launches"].tolist(), unit.anew, unit.each) == ([90], False, 2)


def test_a_new_thread_that_does_otherwise_is_not_told_as_one_that_does_not() -> None:
    """Else its round trips would be joined to iterations that it does not make, or throw away what others were."""
    unit = UnitIterations()
    unit.add(_trips([0, 90] * 100))
    told = [unit.add(_trips([12] * 30, thread=2, process=2)) for _ in range(8)]
    assert not unit.anew
    assert [len(one) for one in told][:2] == [0, 0]
    assert set(np.concatenate(told)["launches"].tolist()) == {12}


def test_what_comes_after_missing_calls_begins_anew() -> None:
    """Else an iteration would be made of the halves of two."""
    unit = UnitIterations()
    unit.add(_trips([0, 90] * 100 + [0]))
    unit.forget()
    assert len(unit.add(_trips([90]))) == 0


def test_it_is_bounded() -> None:
    """Else a server with a thread for each request would take more memory each day."""
    unit = UnitIterations()
    for thread in range(10 * MOST_THREADS):
        unit.add(_trips([5] * (FIRST_LOOK + 1), thread=thread))
        unit.add(_trips([5, 9, 70] * PATIENCE[0], thread=10**6))
    assert len(unit._threads) <= MOST_THREADS
    assert all(sum(map(len, one.history)) <= 2 * LOOKED_AT for one in unit._threads.values())
