"""Where each simulated iteration's time went, for any mix and where it is known on paper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bench.watched import PARTS, SWITCHES, truth
from hypothesis import given, settings
from tests.helpers_physics import due_at, free_of_cost, launches, mixes, saturating, sharings

from kts.model.causes import CAUSES
from kts.physics.simulate import SharingModel, Stream, simulate

Q, C, Y = 2.0, 0.125, 0.0625
COSTS = SharingModel(slice_ms=Q, preempt_ms=(C,), yield_ms=(Y,), wake_ms=(0.03125,))


@settings(max_examples=150, deadline=None)
@given(mix=mixes, sharing=sharings())
def test_the_parts_add_up_to_each_response_to_the_bit(mix: list[Stream], sharing: SharingModel) -> None:
    """Else a decomposition would be held against a truth that lacks something. Times on a grid have no rounding."""
    outcome = simulate(mix, sharing)
    for stream, done, found in zip(mix, outcome.tenants, truth(mix, sharing), strict=True):
        np.testing.assert_array_equal(found.rows[:, 4], done.retire_ms)
        np.testing.assert_array_equal(sum(found.parts[part] for part in PARTS), done.retire_ms - done.due_ms)
        for kind in ("first-turn", "turns"):
            np.testing.assert_array_equal(
                sum(found.by[kind].values(), start=np.zeros(len(done.retire_ms))), found.parts[kind]
            )
            assert all((part >= 0).all() for part in found.by[kind].values())
        assert min(found.parts[part].min(initial=0) for part in ("queue", "launch", "own", "host")) >= 0
        them = stream.iterations
        if them.lane is None and them.apart is None and not sharing.launch_gap_ms:
            busy = them.busy_ms[stream.pick[: len(done.retire_ms)]]
            if stream.process is None:
                np.testing.assert_array_equal(found.parts["own"], busy)
            assert (found.parts["hidden"] <= 0).all()
            assert (found.parts["back-to-back"] <= 0).all()


def test_a_host_that_launches_behind_anothers_turn_is_hidden_on_the_stopwatch() -> None:
    """Four kernels of 0.125 ms, launched every 0.5 ms from 0.25 ms on, and a retire delay of 0.75 ms, beside one that
    always has work: they queue up behind its slice, and run back to back. Alone the GPU waits 3 times for 0.375 ms."""
    them = launches([0.25, 0.75, 1.25, 1.75], [0.125] * 4, 0.75)
    mine = Stream(them, np.zeros(20, np.int64), think_ms=np.zeros(20))
    found, _ = truth([mine, saturating(5.0, 10**4)], COSTS, names=("mine", "heavy"))
    first = found.parts["first-turn"][1:]
    alone = truth([mine], COSTS)[0]
    assert set(alone.parts["host"]) == {3 * 0.375 + 0.75}
    assert not any(alone.parts[part].any() for part in ("first-turn", "turns", "hidden", "back-to-back"))
    for part, ms in (("queue", 0.0), ("launch", 0.25), ("own", 0.5), ("host", 1.875), ("hidden", 0.0)):
        assert set(found.parts[part]) == {ms}, part
    waited = Q + C - (0.25 + 0.75 - Y)  # the neighbour's turn began with the switch behind the last kernel
    np.testing.assert_array_equal(first, waited)
    np.testing.assert_array_equal(found.by["first-turn"]["heavy"][1:] + found.by["first-turn"][SWITCHES][1:], waited)
    assert set(found.by["first-turn"][SWITCHES][1:]) == {C}
    assert set(found.parts["back-to-back"][1:]) == {-3 * 0.375}
    np.testing.assert_array_equal(found.rows[1:, 4] - found.rows[1:, 0], 0.25 + waited + 0.5 + 0.75)


def test_turns_in_between_are_told_by_neighbour() -> None:
    """A kernel of two slices and a half beside two that always have work loses two rounds of both."""
    mine = replace(saturating(2.5 * Q, 1), start_ms=0.0)
    found, *_ = truth([mine, saturating(50.0, 9), saturating(50.0, 9)], free_of_cost(Q, C), names=("mine", "a", "b"))
    assert found.parts["own"] == 2.5 * Q
    assert found.by["turns"]["a"] == found.by["turns"]["b"] == 2 * Q
    assert found.by["turns"][SWITCHES] == 2 * 3 * C
    assert found.parts["first-turn"] == 0


def test_what_is_due_while_an_earlier_one_runs_waits_for_that() -> None:
    """It is no neighbour's turn."""
    found = truth([due_at(3.0, [0.0, 1.0, 10.0])], COSTS)[0]
    assert found.parts["queue"].tolist() == [0.0, 2.0, 0.0]


def test_a_wait_behind_anothers_turn_hides_what_the_host_does_meanwhile() -> None:
    """The host computes for 1 ms behind its launch, then waits: alone 0.75 ms of that show, behind a slice nothing."""
    them = replace(launches([0.0], [0.25], 0.125), wait_ms=np.array([1.0]), notice_ms=np.array([0.0]))
    mine = Stream(them, np.zeros(20, np.int64), think_ms=np.zeros(20))
    found, _ = truth([mine, saturating(5.0, 10**4)], COSTS)
    assert set(found.parts["host"]) == {0.875}
    assert set(found.parts["hidden"][1:]) == {-0.75}


def test_a_thread_of_the_same_process_is_told_by_its_name() -> None:
    """In one lane it is before the other, in nobody else's turn."""
    pair = [replace(saturating(1.0, 5), process="p"), replace(saturating(3.0, 5), process="p")]
    short, long = truth(pair, COSTS, names=("short", "long"))
    assert set(short.by["first-turn"]["long"][1:]) == {3.0}
    assert long.by["first-turn"]["short"][0] == 1.0


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_called_as_causes_are(part: str) -> None:
    """But for the host's time that is there alone, too: that causes nothing."""
    assert part in (*CAUSES, "host")
