"""What sharing costs by windows that nobody arranged: figures, refusals, and what is not claimed."""

from __future__ import annotations

import numpy as np
import pytest

from kts.stats.natural import KEPT, Rows, compared


def _side(
    rng: np.random.Generator,
    ms: float,
    *,
    windows: int = 200,
    each: int = 20,
    first: int = 0,
    size: int = 3,
    beside: float | None = None,
    cost: float = 0.0,
) -> Rows:
    """Round trips of ``ms``, ``cost`` ms longer where one begins with a neighbour in flight; ``beside``: how often."""
    rows = np.zeros(windows * each, KEPT)
    rows["window"] = np.repeat(first + np.arange(windows), each)
    rows["visit"] = rows["window"] // 40
    rows["pace"], rows["size"], rows["number"] = each, size, np.arange(len(rows))
    hit = rng.random(len(rows)) < (beside or 0.0)
    rows["beside"] = hit
    rows["ms"] = ms * rng.lognormal(0, 0.05, len(rows)) + cost * hit
    return rows


def test_what_neighbours_cost_is_measured() -> None:
    """Else `kts watch` would not answer what it is for."""
    rng = np.random.default_rng(1)
    found = compared(_side(rng, 4), _side(rng, 4, first=300, beside=0.6, cost=2))
    assert found.sure
    assert found.doubt == ""
    assert found.added_ms == pytest.approx(1.2, abs=0.1)
    for figure, true in ((found.df50, 1.42), (found.df99, 1.40)):
        assert figure.lo is not None
        assert figure.hi is not None
        assert figure.lo - 0.03 < true < figure.hi + 0.03


def test_nothing_is_claimed_where_neighbours_cost_nothing() -> None:
    """Else every pod with a neighbour would be told to suffer."""
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(40):
        found = compared(_side(rng, 4), _side(rng, 4, first=300, beside=0.6))
        wrong += bool(found.df99.lo and found.df99.lo > 1) + bool(found.df50.lo and found.df50.lo > 1)
    assert wrong <= 6


def test_own_load_that_rises_with_neighbours_is_not_called_their_cost() -> None:
    """Else a service that works on larger batches when its neighbours are busy would blame them."""
    rng = np.random.default_rng(3)
    found = compared(_side(rng, 4), _side(rng, 6, first=300, beside=0.5))
    assert "its own load rose with theirs" in found.df99.refused
    assert not found.sure


def test_where_nothing_tells_the_two_apart_it_is_said() -> None:
    """Else a neighbour that always has work in flight would be blamed for what may be own load, without a word."""
    rng = np.random.default_rng(4)
    found = compared(_side(rng, 4), _side(rng, 6, first=300, beside=1.0))
    assert found.df99.estimate == pytest.approx(1.5, abs=0.05)
    assert "nothing tells what neighbours add" in found.doubt


def test_round_trips_are_compared_with_their_like() -> None:
    """Else more of the large ones in company would count as a cost of sharing."""
    rng = np.random.default_rng(5)
    alone = np.concatenate([_side(rng, 4, size=3, each=18), _side(rng, 12, size=40, each=6)])
    shared = np.concatenate(
        [_side(rng, 4, size=3, each=8, first=300, beside=0.5), _side(rng, 12, size=40, each=16, first=300, beside=0.5)]
    )
    alone["pace"] = shared["pace"] = 24
    found = compared(*(np.sort(rows, order=["window", "number"]) for rows in (alone, shared)))
    assert found.df50.estimate == pytest.approx(1.0, abs=0.05)
    only_large = compared(_side(rng, 4, size=3), _side(rng, 12, size=40, first=300, beside=0.5))
    assert only_large.df99.refused == "what it does in company it was not seen to do without"


def test_a_pace_that_rises_with_company_is_compared_with_the_same_pace() -> None:
    """Else a pod that is slower under its own load would blame neighbours that come at the same hours."""
    rng = np.random.default_rng(6)
    slow, fast = _side(rng, 4, each=10), _side(rng, 6, each=30, first=1000)
    alone = np.concatenate([slow, fast[: len(fast) // 4]])
    shared = np.concatenate([_side(rng, 4, each=10, first=2000, windows=40), _side(rng, 6, each=30, first=3000)])
    shared["beside"] = rng.random(len(shared)) < 0.5
    found = compared(alone, shared)
    assert found.df50.refused or found.df50.estimate == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("alone", "shared", "why"),
    [
        (0, 200, "never seen without a neighbour's work in flight"),
        (200, 0, "no neighbour had work in flight"),
        (1, 200, "p99 needs 368 iterations, have 20"),
    ],
)
def test_too_little_is_refused_with_the_reason(alone: int, shared: int, why: str) -> None:
    """Else a second without company would pass for a baseline."""
    rng = np.random.default_rng(7)
    found = compared(_side(rng, 4, windows=alone), _side(rng, 4, windows=shared, first=300, beside=0.5))
    assert found.df99.estimate is None
    assert why in found.df99.refused


def test_visits_that_differ_make_a_tail_wide_and_not_wrong() -> None:
    """Else a pod that jobs visit a few times would never hear of its tail, or hear what the next visit contradicts."""
    rng = np.random.default_rng(3)

    def visits(factor: float, each: int) -> Rows:
        """Three, which differ in level by a tenth and in the length of their tails by a third."""
        rows = np.zeros(3 * each, KEPT)
        rows["visit"] = np.repeat(np.arange(3), each)
        rows["window"], rows["number"] = np.arange(3 * each) // 100 + 100 * rows["visit"], np.arange(3 * each)
        level, spread = rng.normal(0, 0.1, 3)[rows["visit"]], 0.1 * rng.lognormal(0, 0.4, 3)[rows["visit"]]
        slow = np.where(rng.random(3 * each) < 0.1, 2.5, 1)
        rows["ms"], rows["beside"] = 8 * factor * np.exp(level + spread * slow * abs(rng.normal(size=3 * each))), np.nan
        return rows

    told = [compared(visits(1, 450), visits(1.2, 330)).df99 for _ in range(40)]
    inside = [figure.lo <= 1.2 <= figure.hi for figure in told if figure.lo is not None and figure.hi is not None]
    assert len(inside) >= 38
    assert sum(inside) >= 0.9 * len(inside)
