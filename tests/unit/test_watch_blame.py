"""Whose a unit's waits are, where what each neighbour really costs is known."""

from __future__ import annotations

import numpy as np
import pytest

from kts.watch.blame import MOST, Blame


def _taught(blame: Blame, costs_ms: dict[str, float], seconds: int = 300) -> None:
    """Each neighbour is there in half of the seconds, and a priori the unit waits as long for one as for the other."""
    rng = np.random.default_rng(3)
    for _ in range(seconds):
        there = [name for name in costs_ms if rng.random() < 0.5]
        shares = rng.uniform(0.2, 1, (len(there), 40))
        ms = (
            4
            + sum((shares[at] * costs_ms[name] for at, name in enumerate(there)), np.zeros(40))
            + rng.normal(0, 0.2, 40)
        )
        blame.second(there, 0.1 * shares.mean(axis=1), shares, ms, 40)
    blame.learn()


def test_who_has_work_in_flight_and_costs_little_is_blamed_little() -> None:
    """Else a neighbour that mostly waits for its own host would come before the one that holds the GPU."""
    blame = Blame(60)
    _taught(blame, {"holds": 3.0, "waits": 0.3, "idle": 0.0})
    weights = blame.blamed().weights
    assert weights["holds"] / sum(weights.values()) == pytest.approx(3.0 / 3.3, abs=0.1)
    assert weights["holds"] > weights["waits"] > weights.get("idle", 0.0)


def test_who_costs_most_is_told_apart_where_round_trips_tell() -> None:
    """Else nobody would ever be named alone, or one by chance."""
    blame = Blame(60)
    _taught(blame, {"idle": 0.0, "holds": 3.0, "waits": 0.3})
    assert blame.blamed().first == ("holds",)


def test_neighbours_between_whom_nothing_tells_are_both_named() -> None:
    """Else the one would be blamed alone for what may be the other's."""
    blame, rng = Blame(60), np.random.default_rng(4)
    for second in range(300):
        share = np.full((2, 40), float(second % 2))
        turns = np.array([0.10, 0.13]) * (second % 2)
        blame.second(["a", "b"], turns, share, 4 + share[0] + rng.normal(0, 0.2, 40), 40)
    blame.learn()
    assert blame.blamed().first == ("b", "a")


def test_nobody_is_named_where_nobody_is_waited_for() -> None:
    """Else an idle neighbour would be blamed."""
    blame = Blame(5)
    blame.second(["a"], np.array([0.0]), np.zeros((1, 4)), np.full(4, 5.0), 4)
    blame.learn()
    assert blame.blamed().first == ()


def test_before_anything_is_learnt_the_turns_say_whose_it_is() -> None:
    """Else in the first minute blame would be at random."""
    blame = Blame(10)
    blame.second(["a", "b"], np.array([0.1, 0.3]), np.zeros((2, 0)), np.zeros(0), 0)
    assert blame.blamed().weights == pytest.approx({"a": 100.0, "b": 300.0})


def test_neighbours_that_are_always_there_together_keep_what_turns_say() -> None:
    """Else chance would share out what nothing tells apart."""
    blame, rng = Blame(60), np.random.default_rng(4)
    for second in range(300):
        share = np.full((2, 40), float(second % 2))
        blame.second(["a", "b"], np.array([0.1, 0.2]) * (second % 2), share, 4 + share[0] + rng.normal(0, 0.2, 40), 40)
    blame.learn()
    weights = blame.blamed().weights
    assert weights["b"] / weights["a"] == pytest.approx(2, rel=0.1)


def test_neighbours_without_end_take_no_more_room() -> None:
    """Else jobs that start all day would fill the watcher's memory."""
    blame = Blame(5)
    for number in range(3 * MOST):
        names = [f"job-{number}", "stays"]
        blame.second(names, np.array([0.1, 0.1]), np.ones((2, 4)), np.full(4, 5.0), 4)
        blame.learn()
    assert len(blame.blamed().weights) <= MOST
    assert blame.blamed().weights["stays"] == pytest.approx(100, rel=0.5)
