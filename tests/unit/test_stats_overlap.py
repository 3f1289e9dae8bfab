"""Which iterations of a block count, and which met a neighbour's."""

from __future__ import annotations

import numpy as np

from kts.model.run import BlockOutcome
from kts.stats.overlap import Span, collided, counted


def span(*pairs: tuple[int, int]) -> Span:
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Span(array[:, 0], array[:, 1])


def block(window: tuple[int, int] | None) -> BlockOutcome:
    return BlockOutcome(index=0, round=0, condition="shared-a+b", start_ns=0, end_ns=100, valid=True, window_ns=window)


def test_in_a_window_counts_what_is_submitted_in_it_but_the_first() -> None:
    """Otherwise the start of a block, or what a tenant did after its neighbours were stopped, is in the tail."""
    mine = span((2, 4), (8, 12), (20, 30), (48, 60), (51, 70))
    found = counted(block((10, 50)), {"a": mine, "b": span((30, 31))})
    assert mine.submit_ns[found["a"].keep].tolist() == [20, 48]
    assert (found["a"].lead, found["a"].alone) == (3, 0)
    assert found["b"].lead == 1, "its only one is its first"


def test_a_neighbour_that_pauses_is_still_there() -> None:
    """Otherwise shared means while the neighbour computes, and a seldom neighbour looks like a constant one."""
    mine = span(*((k * 10, k * 10 + 1) for k in range(1, 30)))
    seldom = span((5, 6), (250, 260))
    assert len(mine.submit_ns[counted(block((0, 300)), {"a": mine, "b": seldom})["a"].keep]) == 28


def test_without_a_window_the_neighbour_was_there_for_whole_cycles() -> None:
    """Otherwise m iterations span m - 1 cycles, and hit more often than they do."""
    seldom = span((0, 10), (100, 110), (200, 210))
    assert seldom.active_ns() == (0, 300)
    mine = span(*((k, k + 1) for k in range(5, 400, 10)))
    kept = counted(block(None), {"a": mine, "b": seldom})["a"]
    assert mine.submit_ns[kept.keep].tolist() == list(range(5, 300, 10))
    assert kept.alone == 10
    assert collided({"a": mine, "b": seldom}, "a")[kept.keep].mean() == 3 / 30


def test_collided_is_what_had_a_neighbours_iteration_in_flight() -> None:
    """Otherwise the row that shows what a collision costs shows something else."""
    mine = span((0, 5), (10, 15), (20, 25), (30, 35))
    other = span((5, 6), (12, 13), (24, 40))
    assert collided({"a": mine, "b": other}, "a").tolist() == [False, True, True, True]
    assert collided({"a": mine, "b": span()}, "a").tolist() == [False] * 4


def test_iterations_of_a_neighbour_may_overlap_and_retire_in_another_order() -> None:
    """Else a served model, which has many requests in flight, would seem to meet nobody."""
    rng = np.random.default_rng(5)
    submit = np.sort(rng.integers(0, 10**6, 200))
    other = Span(submit, submit + rng.integers(1, 60_000, 200))
    starts = np.sort(rng.integers(0, 10**6, 300))
    mine = Span(starts, starts + rng.integers(1, 2_000, 300))
    met = [
        bool(((other.submit_ns < b) & (other.retire_ns > a)).any())
        for a, b in zip(mine.submit_ns, mine.retire_ns, strict=True)
    ]
    assert 0 < sum(met) < 300
    assert collided({"a": mine, "b": other}, "a").tolist() == met
