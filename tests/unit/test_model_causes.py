"""Which cause a report puts first."""

from __future__ import annotations

from kts.model.causes import CAUSES, CauseName, Causes, Decomposition, Part
from kts.report.cause_words import SHORT


def part(cause: CauseName, ms: float, lo: float | None) -> Part:
    return Part(cause=cause, ms=ms, lo=lo, hi=None if lo is None else 2 * ms - lo, data="")


def first(lo: float | None, *parts: Part) -> Part | None:
    hi = None if lo is None else 6 - lo
    of = Decomposition(statistic="mean", alone_ms=1, added_ms=3, lo=lo, hi=hi, parts=parts)
    return Causes(condition="shared-a+b", of=(of,)).first()


CORE, QUOTA, REST = part("core", 2, 1), part("quota", 3, -1), part("unexplained", 5, 4)


def test_the_largest_part_that_surely_added_time_is_first() -> None:
    """Else what may be chance would be named before what was shown."""
    assert first(1, QUOTA, CORE, part("turns", 1.5, 1), REST) == CORE
    assert first(1, part("hidden", -4, -5), CORE) == CORE


def test_no_cause_is_first_where_it_is_not_sure_that_time_was_added_or_by_what() -> None:
    """Else one clean run in four would be given a cause."""
    assert first(-0.1, CORE, REST) is None
    assert first(None, CORE) is None
    assert first(1, QUOTA, REST) is None
    assert first(1, part("core", 2, None)) is None


def test_every_cause_has_words() -> None:
    """Else a run that was measured could not be reported."""
    assert set(SHORT) == set(CAUSES)
