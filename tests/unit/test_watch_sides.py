"""Which round trips count as with company, and which as without."""

from __future__ import annotations

import numpy as np

from kts.stats.natural import KEPT, Rows
from kts.watch.sides import ALONE, LEAST, MOST, NEITHER, SHARED, Ended, Past, Pasts, Side, _room


def _second(pasts: Pasts, second: int, told: dict[Past, tuple[int, list[tuple[float, int, int]]]]) -> None:
    """``told``: of each unit the kind of the second, and round trips as (ms, second of begin, size)."""
    trips = [trip for _, those in told.values() for trip in those]
    rows = np.zeros(len(trips), KEPT)
    for name, at in (("ms", 0), ("size", 2)):
        rows[name] = [trip[at] for trip in trips]
    edges = np.cumsum([0, *(len(those) for _, those in told.values())]).tolist()
    begins = np.array([trip[1] for trip in trips], np.int64)
    kinds = np.array([kind for kind, _ in told.values()])
    pasts.second(second, list(told), kinds, Ended(rows, edges, begins, np.full(len(rows), second)))


def _sizes(rows: Rows) -> list[int]:
    return rows["size"].tolist()


def test_a_round_trip_counts_where_all_of_its_windows_are_of_one_kind() -> None:
    """Else one of which a part was beside a neighbour would count as without, or the other way round. Beside it a unit
    of long round trips, whose windows are longer, goes its own way."""
    rng = np.random.default_rng(1)
    pasts = Pasts()
    slow, unit = pasts.new(), pasts.new()
    kinds = np.repeat(rng.integers(0, 3, 40), rng.integers(1, 6, 40)).tolist()
    begun = {
        second: [second - int(back) for back in rng.integers(0, 4, 5) if back <= second] for second in range(len(kinds))
    }
    for second, kind in enumerate(kinds):
        trips = [(5.0, begin, 1000 * begin + second) for begin in begun[second]]
        _second(pasts, second, {slow: (ALONE, [(300.0, second, second)]), unit: (kind, trips)})
    settled = [
        NEITHER if kind == SHARED and (before == SHARED) != (after == SHARED) else kind
        for before, kind, after in zip([NEITHER, *kinds], kinds, kinds[1:], strict=False)
    ]
    for kind, side in ((ALONE, unit.alone), (SHARED, unit.shared)):
        wanted = [
            1000 * begin + second
            for second in range(len(settled))
            for begin in begun[second]
            if set(settled[begin : second + 1]) == {kind}
        ]
        assert wanted
        assert _sizes(side.rows()) == wanted
    assert (slow.window_s, unit.window_s) == (8, 1)
    assert not len(slow.shared.rows())
    assert _sizes(slow.alone.rows()) == list(range(len(kinds) // 8 * 8 - 8))


def test_pace_of_the_window_in_which_a_unit_comes_is_that_of_the_next() -> None:
    """Else a pod would seem to begin less without company only since it came in the middle of a second, its load to
    have risen with its neighbours', and what they cost would be refused."""
    pasts = Pasts()
    unit = pasts.new()
    counts = [0, 0, 3, 10, 12, 2, 0, 0]
    for second, count in enumerate(counts):
        _second(pasts, second, {unit: (ALONE, [(5.0, second, second)] * count)})
    rows = unit.alone.rows()
    paces = [rows["pace"][rows["size"] == second].tolist() for second in (2, 3, 4, 5)]
    assert paces == [[10.0] * 3, [10.0] * 10, [12.0] * 12, [12.0] * 2]


def test_where_very_many_are_kept_each_keeps_less_of_all_of_its_time() -> None:
    """Else a node of 64 pods that are at times alone would take more memory than may be, or forget all but the last."""
    side, rows = Side(), np.zeros(MOST, KEPT)
    rows["number"] = np.arange(len(rows))
    rows["window"] = rows["number"] // 100
    for part in np.split(rows, 64):
        side.add(part)
    assert len(side) == MOST
    late = rows[:100].copy()
    late["number"] += len(rows)
    late["window"] = rows["window"][-1] + 1
    side.add(late, MOST // 4)
    kept = side.rows()
    assert (np.diff(kept["number"].astype(int)) == 8).all()
    assert (kept["number"][0], kept["number"][-1], side._rows.nbytes) == (0, 16480, MOST // 4 * KEPT.itemsize)
    more = late.copy()
    more["number"] += 100
    side.add(more)
    assert len(side) == len(kept) + 12
    assert [_room(sides) for sides in (1, 48, 49, 96, 128, 10_000)] == [
        MOST,
        MOST,
        MOST // 2,
        MOST // 2,
        MOST // 4,
        LEAST,
    ]


def test_a_new_unit_inherits_nothing_of_one_that_is_gone() -> None:
    """Else the pod that comes next would be told what sharing cost another."""
    pasts = Pasts()
    gone = pasts.new()
    for second in range(3):
        _second(pasts, second, {gone: (SHARED, [(5.0, second, 1)])})
    pasts.forget(gone)
    new = pasts.new()
    assert new.row == gone.row
    for second in range(3, 6):
        _second(pasts, second, {new: (ALONE, [(5.0, second, 2)])})
    assert _sizes(new.alone.rows()) == [2, 2]
    assert not len(new.shared.rows())
    assert new.alone.rows()["number"].tolist() == [0, 1]
