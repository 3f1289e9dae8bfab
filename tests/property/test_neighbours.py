"""Looks add up to watches and presences: whatever comes when, nobody is made up, and nobody who was seen is lost."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kts.model.neighbours import MISSED, Look, Neighbours, Seen
from kts.stats.neighbours import union, unwatched

EVERY = 10
WHO = ("a", "b", "c")


@st.composite
def looks(draw: st.DrawFn) -> list[Look]:
    """Of up to two watchers, each in order of time, mixed."""
    found = []
    for by in ("x", "y"):
        at = 1000
        for pause in draw(st.lists(st.integers(1, 100), max_size=12)):
            at += pause
            others = tuple(Seen(who=who) for who in sorted(draw(st.sets(st.sampled_from(WHO)))))
            found.append(Look(by=by, every_ns=EVERY, at_ns=at, others=others, whole=by == "x"))
    return sorted(found, key=lambda look: look.at_ns)


def added(of: list[Look]) -> Neighbours:
    """All of them."""
    known = Neighbours()
    for look in of:
        known = known.after(look)
    return known


@given(looks())
def test_a_presence_holds_exactly_the_looks_that_saw_it(of: list[Look]) -> None:
    """Else a neighbour would be said to be there when it was seen to be gone, or the other way round."""
    known = added(of)
    known.check()
    for look in of:
        names = {one.who for one in look.others}
        for who in WHO:
            holding = [
                p for p in known.others if (p.by, p.who) == (look.by, who) and p.from_ns <= look.at_ns <= p.to_ns
            ]
            assert len(holding) == (who in names)


@given(looks())
def test_a_watch_has_no_hole_and_holds_every_look(of: list[Look]) -> None:
    """Else a time in which nobody looked would count as one in which nobody was there."""
    known = added(of)
    times: dict[str, list[int]] = defaultdict(list)
    for look in of:
        times[look.by].append(look.at_ns)
    for by, ats in times.items():
        mine = [watch for watch in known.watches if watch.by == by]
        assert all(sum(watch.from_ns <= at <= watch.to_ns for watch in mine) == 1 for at in ats)
        for watch in mine:
            inside = [at for at in ats if watch.from_ns <= at <= watch.to_ns]
            assert all(b - a <= MISSED * EVERY for a, b in pairwise(inside))


@given(looks(), st.integers(900, 1500), st.integers(1, 600))
def test_watched_and_unwatched_times_make_up_the_whole(of: list[Look], start: int, length: int) -> None:
    """Else the report would name more, or less, unwatched time than there was."""
    known, whole = added(of), (start, start + length)
    gaps = unwatched(known, whole)
    assert gaps == union(gaps)
    watched = [(w.from_ns - EVERY, w.to_ns + EVERY) for w in known.watches if w.whole]
    for at in range(*whole):
        seen = any(a <= at < b for a, b in watched)
        assert any(a <= at < b for a, b in gaps) == (not seen)


@given(looks())
def test_a_look_that_failed_proves_nothing(of: list[Look]) -> None:
    """Else an API server that refuses would count as a watch."""
    known = added(of)
    failed = known.after(Look(by="x", every_ns=EVERY, at_ns=5000, problem="refused"))
    assert (failed.watches, failed.others) == (known.watches, known.others)
    assert failed.problems == ("x: refused",)
