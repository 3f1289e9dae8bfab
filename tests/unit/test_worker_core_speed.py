"""If these fail, the speed of a core is that of another, or whoever looks stays there."""

from __future__ import annotations

import os

import pytest

from kts.units import NS_PER_US
from kts.worker.core_speed import TRIES, loop_us


def test_it_comes_back_to_the_cores_on_which_it_was() -> None:
    """Else a worker would stay on its program's core, and take it from it."""
    before = os.sched_getaffinity(0)
    assert loop_us(max(before)) > 0
    assert os.sched_getaffinity(0) == before


def test_a_core_that_is_not_there_is_an_error_and_leaves_all_as_it_was() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError, match="Invalid"):
        loop_us(4000)
    assert os.sched_getaffinity(0) == before


def test_the_shortest_of_its_tries_counts() -> None:
    """Else whoever came in between, or a cold cache, makes the core slow."""
    times = iter([0, 50, 100, 110, 200, 280])
    assert TRIES == 3
    assert loop_us(clock=lambda: next(times) * NS_PER_US) == 10.0
